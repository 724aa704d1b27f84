from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ops.native_library import AVX2, AVX512, GENERIC, NativeLibrary


@pytest.fixture(params=[(GENERIC, 1), (AVX2, 2), (AVX512, 4)], ids=["generic", "avx2", "avx512"])
def settings(request: pytest.FixtureRequest, library: NativeLibrary) -> Iterator[None]:
    isa, num_threads = request.param
    with library.use(isa=isa, num_threads=num_threads) as is_there:
        if not is_there:
            pytest.skip("this processor lacks the instruction set")
        yield


class Case:
    """A batch with padding full of NaN, its lookahead and gradients in float64, frame by frame."""

    def __init__(self, num_frames: int, lengths: tuple[int, ...], hidden: int, reach: int) -> None:
        generator = np.random.default_rng(num_frames)
        self.shape, self.reach = (num_frames, len(lengths), hidden), reach
        self.lengths = np.array(lengths, np.int32)
        self.x, self.dy = generator.standard_normal((2, *self.shape)).astype(np.float32)
        self.weight = generator.standard_normal((hidden, 1, 1, reach)).astype(np.float32)
        is_padding = np.arange(num_frames)[:, None] >= self.lengths
        self.x[is_padding] = self.dy[is_padding] = np.nan

    def expect(self) -> list[NDArray]:
        y, dx, dweight = np.zeros(self.shape), np.zeros(self.shape), np.zeros(self.weight.shape)
        x, dy, weight = (array.astype(np.float64) for array in (self.x, self.dy, self.weight))
        for b, length in enumerate(self.lengths):
            for s in range(length):
                for k in range(min(self.reach, length - s)):
                    y[s, b] += weight[:, 0, 0, k] * x[s + k, b]
                    dx[s + k, b] += weight[:, 0, 0, k] * dy[s, b]
                    dweight[:, 0, 0, k] += dy[s, b] * x[s + k, b]
        return [y, dx, dweight]

    def run(self, library: NativeLibrary) -> list[NDArray]:
        (y,) = library.call("LookaheadForward", [self.x, self.weight, self.lengths], [self.shape])
        inputs = [self.dy, self.x, self.weight, self.lengths]
        return [y, *library.call("LookaheadBackward", inputs, [self.shape, self.weight.shape])]


CASES = [
    (9, (9, 4, 1), 33, 4),
    (5, (5, 3), 16, 20),  # sees farther than there are frames
    (1, (1,), 1, 1),
    (150, (150, 149, 64, 65), 70, 3),  # longer than a stretch of frames that is summed in float
    (4, (0, 4), 5, 2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("settings")
def test_lookahead_and_gradients_are_those_of_a_loop(
    case: tuple[int, tuple[int, ...], int, int], library: NativeLibrary
) -> None:
    made = Case(*case)
    for name, actual, expected in zip(("y", "dx", "dweight"), made.run(library), made.expect(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_the_number_of_threads_changes_nothing(library: NativeLibrary) -> None:
    made, results = Case(150, (150, 149, 64, 65), 70, 3), []
    for num_threads in (1, 2, 4):
        with library.use(num_threads=num_threads):
            results.append(made.run(library))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_arrays_that_do_not_fit_are_refused(library: NativeLibrary) -> None:
    made = Case(9, (9, 4), 8, 4)
    lengths = np.array([9, 4, 1], np.int32)
    assert library.try_call("LookaheadForward", [made.x, made.weight, lengths], [made.shape])[0] != 0
    inputs = [made.dy[1:], made.x, made.weight, made.lengths]
    assert library.try_call("LookaheadBackward", inputs, [made.shape, made.weight.shape])[0] != 0
