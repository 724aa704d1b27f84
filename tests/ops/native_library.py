"""The native kernels called as MindSpore calls them, but from NumPy; for tests that need no MindSpore."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GENERIC, AVX2, AVX512 = range(3)
BFLOAT16_ISAS = ("avx512_bf16", "amx")


def round_to_bfloat16(x: NDArray) -> NDArray[np.float32]:
    """The nearest bfloat16 of finite numbers, ties to even; a second implementation, on the bits."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


class NativeLibrary:
    """The shared library of the kernels.

    Args:
        path: the library, as `mindaudio_ds2.ops.library` finds or compiles it.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.ds2_isa.restype = self._library.ds2_bfloat16_isa.restype = ctypes.c_char_p
        self._library.ds2_count_int8.restype = ctypes.c_int64

    @property
    def has_bfloat16(self) -> bool:
        """Whether the operators whose names begin with Bf16 run on this processor."""
        return bool(self._library.ds2_has_bfloat16())

    def count_int8(self, num_hidden: int, num_inputs: int, num_gates: int) -> int:
        """How many floats the weights of a layer take in eight bits, packed."""
        sizes = map(ctypes.c_int64, (num_hidden, num_inputs, num_gates))
        return int(self._library.ds2_count_int8(*sizes))

    def try_call(
        self, name: str, inputs: Sequence[NDArray], output_shapes: Sequence[Sequence[int]]
    ) -> tuple[int, list[NDArray]]:
        """Run an operator on outputs full of NaN.

        Returns:
            What the operator returned (0: success), and its float32 outputs.
        """
        inputs = [np.ascontiguousarray(array) for array in inputs]
        assert all(array.dtype in (np.float32, np.int32) for array in inputs)
        outputs = [np.full(shape, np.nan, np.float32) for shape in output_shapes]
        arrays = [*inputs, *outputs]
        num = len(arrays)
        shapes = [(ctypes.c_int64 * max(1, array.ndim))(*array.shape) for array in arrays]
        status = getattr(self._library, name)(
            ctypes.c_int(num),
            (ctypes.c_void_p * num)(*[array.ctypes.data for array in arrays]),
            (ctypes.c_int * num)(*[array.ndim for array in arrays]),
            (ctypes.POINTER(ctypes.c_int64) * num)(*[ctypes.cast(s, ctypes.POINTER(ctypes.c_int64)) for s in shapes]),
            (ctypes.c_char_p * num)(*[str(array.dtype).encode() for array in arrays]),
            ctypes.c_void_p(),
            ctypes.c_void_p(),
        )
        return status, outputs

    def call(self, name: str, inputs: Sequence[NDArray], output_shapes: Sequence[Sequence[int]]) -> list[NDArray]:
        """Run an operator that must succeed; see `try_call`."""
        status, outputs = self.try_call(name, inputs, output_shapes)
        assert status == 0, f"{name} returned {status}"
        return outputs

    @contextmanager
    def use(self, *, isa: int | None = None, num_threads: int | None = None, num_teams: int = 0) -> Iterator[bool]:
        """Run with another instruction set, number of threads or of their teams (0: as the rule says).

        Yields:
            False where the processor lacks the instruction set.
        """
        levels = {b"generic": GENERIC, b"avx2": AVX2, b"avx512": AVX512}
        isa_before, threads_before = levels[self._library.ds2_isa()], self._library.omp_get_max_threads()
        try:
            self._library.omp_set_num_threads(num_threads or threads_before)
            self._library.ds2_set_teams(num_teams)
            yield self._library.ds2_set_isa(isa_before if isa is None else isa) == 0
        finally:
            self._library.ds2_set_isa(isa_before)
            self._library.omp_set_num_threads(threads_before)
            self._library.ds2_set_teams(0)

    @contextmanager
    def use_bfloat16(self, isa: str) -> Iterator[bool]:
        """Multiply in bfloat16 with another of `BFLOAT16_ISAS`.

        Yields:
            False where the processor, the system or the compiler lacks it.
        """
        before = self._library.ds2_bfloat16_isa().decode()
        try:
            yield self._library.ds2_set_bfloat16(BFLOAT16_ISAS.index(isa)) == 0
        finally:
            if before:
                self._library.ds2_set_bfloat16(BFLOAT16_ISAS.index(before))

    def choose_split(
        self, size: tuple[int, int, int], layout: tuple[int, int], threads: int, cache: int
    ) -> tuple[int, int]:
        """The rule for sharing a recurrent layer.

        Args:
            size: S, B, H.
            layout: directions, gates.
            threads: there are.
            cache: bytes of the last level.

        Returns:
            Teams, threads of each.
        """
        sizes, layout_arguments = map(ctypes.c_int64, size), map(ctypes.c_int, layout)
        answer = self._library.ds2_choose_split(*sizes, *layout_arguments, ctypes.c_int(threads), ctypes.c_int64(cache))
        return answer // 1000, answer % 1000
