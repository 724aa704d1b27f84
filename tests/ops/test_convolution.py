from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ops.native_library import AVX2, AVX512, BFLOAT16_ISAS, GENERIC, NativeLibrary, round_to_bfloat16

Array = NDArray[np.float64]

# B, F, T, Ci, Co, KF, KT, stride over frequency and time
CASES = [
    (2, 161, 60, 1, 32, 41, 11, 2, 2),
    (1, 81, 40, 32, 32, 21, 11, 2, 1),
    (3, 20, 53, 32, 32, 11, 11, 2, 2),
    (2, 9, 14, 2, 3, 5, 3, 2, 1),
    (2, 7, 31, 3, 33, 3, 5, 1, 3),
    (1, 5, 1, 2, 4, 3, 11, 2, 2),
    (2, 6, 29, 5, 16, 1, 1, 1, 1),
    (1, 8, 50, 4, 70, 3, 3, 3, 4),
    (2, 4, 12, 17, 1, 7, 1, 2, 4),  # taps fewer than the stride: some frames reach nothing
]


@pytest.fixture(
    params=[(GENERIC, 1), (AVX2, 2), (AVX512, 1), (AVX512, 4)], ids=["generic", "avx2", "avx512", "4 threads"]
)
def settings(request: pytest.FixtureRequest, library: NativeLibrary) -> Iterator[None]:
    isa, num_threads = request.param
    with library.use(isa=isa, num_threads=num_threads) as is_there:
        if not is_there:
            pytest.skip("this processor lacks the instruction set")
        yield


class Reference:
    """A convolution in float64, as a sum over the places of its kernel, each a strided slice of the padded input."""

    def __init__(self, case: tuple[int, ...]) -> None:
        B, F, T, Ci, Co, self.KF, self.KT, self.SF, self.ST = case
        self.out = (B, (F - 1) // self.SF + 1, (T - 1) // self.ST + 1, Co)
        generator = np.random.default_rng(sum(case))
        self.x = generator.standard_normal((B, F, T, Ci)).astype(np.float32)
        self.w = generator.standard_normal((Co, Ci, self.KF, self.KT)).astype(np.float32)
        self.dy = generator.standard_normal(self.out).astype(np.float32)
        self.stride = np.zeros((self.SF, self.ST), np.float32)

    def _places(self, padded: Array) -> Iterator[tuple[int, int, Array]]:
        for kf in range(self.KF):
            for kt in range(self.KT):
                rows = slice(kf, kf + (self.out[1] - 1) * self.SF + 1, self.SF)
                frames = slice(kt, kt + (self.out[2] - 1) * self.ST + 1, self.ST)
                yield kf, kt, padded[:, rows, frames]

    def _pad(self, x: NDArray) -> Array:
        return np.pad(x.astype(np.float64), ((0, 0), (self.KF // 2,) * 2, (self.KT // 2,) * 2, (0, 0)))

    def forward(self) -> Array:
        y = np.zeros(self.out)
        for kf, kt, seen in self._places(self._pad(self.x)):
            y += seen @ self.w[:, :, kf, kt].T.astype(np.float64)
        return y

    def input_gradient(self) -> Array:
        padded = self._pad(np.zeros_like(self.x))
        for kf, kt, seen in self._places(padded):
            seen += self.dy.astype(np.float64) @ self.w[:, :, kf, kt]
        F, T = self.x.shape[1:3]
        return padded[:, self.KF // 2 : self.KF // 2 + F, self.KT // 2 : self.KT // 2 + T]

    def weight_gradient(self) -> Array:
        gradient = np.zeros(self.w.shape)
        for kf, kt, seen in self._places(self._pad(self.x)):
            gradient[:, :, kf, kt] = np.einsum("bftc,bftd->dc", seen, self.dy.astype(np.float64))
        return gradient


def expect_close(actual: NDArray, expected: Array) -> None:
    assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("settings")
def test_a_convolution_and_its_gradients_are_those_of_the_reference(
    case: tuple[int, ...], library: NativeLibrary
) -> None:
    r = Reference(case)
    expect_close(library.call("ConvForward", [r.x, r.w, r.stride], [r.out])[0], r.forward())
    dx = library.call("ConvInputGradient", [r.dy, r.w, r.x, r.stride], [r.x.shape])[0]
    expect_close(dx, r.input_gradient())
    dw = library.call("ConvWeightGradient", [r.dy, r.x, r.w, r.stride], [r.w.shape])[0]
    expect_close(dw, r.weight_gradient())


@pytest.fixture(params=BFLOAT16_ISAS)
def bfloat16_library(library: NativeLibrary, request: pytest.FixtureRequest) -> Iterator[NativeLibrary]:
    with library.use_bfloat16(request.param) as is_there:
        if not is_there:
            pytest.skip(f"no {request.param} here: the processor, the system or the compiler lacks it")
        yield library


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_bfloat16_they_are_those_of_the_reference_with_rounded_inputs(
    case: tuple[int, ...], bfloat16_library: NativeLibrary
) -> None:
    r, library = Reference(case), bfloat16_library
    results = []
    for num_threads in (1, 3):
        with library.use(num_threads=num_threads):
            y = library.call("Bf16ConvForward", [r.x, r.w, r.stride], [r.out])[0]
            dx = library.call("Bf16ConvInputGradient", [r.dy, r.w, r.x, r.stride], [r.x.shape])[0]
            dw = library.call("Bf16ConvWeightGradient", [r.dy, r.x, r.w, r.stride], [r.w.shape])[0]
        results.append((y, dx, dw))
    near = [r.forward(), r.input_gradient(), r.weight_gradient()]
    r.x, r.w, r.dy = map(round_to_bfloat16, (r.x, r.w, r.dy))
    expected = [r.forward(), r.input_gradient(), r.weight_gradient()]
    for one, other, exact, unrounded in zip(*results, expected, near, strict=True):
        np.testing.assert_array_equal(one, other)
        expect_close(one, exact)
        assert np.abs(one - unrounded).max() < 0.02 * np.abs(unrounded).max()


def test_the_reference_has_the_right_slope() -> None:
    r = Reference(CASES[3])
    for name, gradient in (("x", r.input_gradient()), ("w", r.weight_gradient())):
        array = getattr(r, name).astype(np.float64)
        place = tuple(size // 2 for size in array.shape)
        values = []
        for step in (0.5, -0.5):  # the sum is linear in each of them
            moved = array.copy()
            moved[place] += step
            setattr(r, name, moved)
            values.append((r.forward() * r.dy).sum())
        setattr(r, name, array)
        assert values[0] - values[1] == pytest.approx(gradient[place], rel=1e-9)


def test_results_do_not_depend_on_the_number_of_threads(library: NativeLibrary) -> None:
    r = Reference(CASES[2])
    calls = [
        ("ConvInputGradient", [r.dy, r.w, r.x, r.stride], r.x.shape),
        ("ConvWeightGradient", [r.dy, r.x, r.w, r.stride], r.w.shape),
    ]
    for name, inputs, shape in calls:
        results = []
        for num_threads in (1, 2, 3):
            with library.use(num_threads=num_threads):
                results.append(library.call(name, inputs, [shape])[0])
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])


def test_wrong_shapes_are_refused(library: NativeLibrary) -> None:
    r = Reference(CASES[3])
    too_many_channels = np.zeros((3, 3, 5, 3), np.float32)
    even = np.zeros((3, 2, 4, 3), np.float32)
    assert library.try_call("ConvForward", [r.x, too_many_channels, r.stride], [r.out])[0] != 0
    assert library.try_call("ConvForward", [r.x, even, r.stride], [r.out])[0] != 0
    assert library.try_call("ConvForward", [r.x, r.w, r.stride], [(2, 5, 13, 3)])[0] != 0
