from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ops.native_library import AVX2, AVX512, GENERIC, NativeLibrary

EPSILON, LOW, HIGH = 1e-3, 0.0, 1.5
CONVOLUTION, SEQUENCE = (3, 5, 11, 33), (11, 3, 33)


@pytest.fixture(params=[(GENERIC, 1), (AVX2, 2), (AVX512, 4)], ids=["generic", "avx2", "avx512"])
def settings(request: pytest.FixtureRequest, library: NativeLibrary) -> Iterator[None]:
    isa, num_threads = request.param
    with library.use(isa=isa, num_threads=num_threads) as is_there:
        if not is_there:
            pytest.skip("this processor lacks the instruction set")
        yield


class Case:
    """A batch with padding full of NaN, and its norm in float64."""

    def __init__(self, shape: tuple[int, ...], lengths: tuple[int, ...] = (11, 4, 1), mean: float = 100) -> None:
        generator = np.random.default_rng(1)
        self.shape = shape
        self.lengths = np.array(lengths, np.int32)
        inside = np.arange(11)[None, :] < self.lengths[:, None]  # (B, T)
        self.is_real = np.broadcast_to(inside[:, None, :] if len(shape) == 4 else inside.T, shape[:-1])
        self.x = (mean + 3 * generator.standard_normal(shape)).astype(np.float32)
        self.dy = generator.standard_normal(shape).astype(np.float32)
        self.x[~self.is_real] = self.dy[~self.is_real] = np.nan
        self.gamma, self.beta = generator.uniform(0.5, 1.5, (2, shape[-1])).astype(np.float32)
        self.settings = np.array([EPSILON, LOW, HIGH], np.float32)

    def expect(self) -> tuple[NDArray, NDArray, NDArray]:
        rows = self.x[self.is_real].astype(np.float64)
        mean, variance = rows.mean(0), rows.var(0)
        y = np.zeros(self.shape)
        y[self.is_real] = np.clip((rows - mean) / np.sqrt(variance + EPSILON) * self.gamma + self.beta, LOW, HIGH)
        return y, mean, variance

    def run(self, library: NativeLibrary) -> list[NDArray]:
        channels = self.shape[-1:]
        inputs = [self.x, self.lengths, self.gamma, self.beta, self.settings]
        return library.call("NormForward", inputs, [self.shape, channels, channels])


@pytest.mark.parametrize("shape", [CONVOLUTION, SEQUENCE], ids=str)
@pytest.mark.usefixtures("settings")
def test_the_norm_is_over_real_positions_and_clipped(shape: tuple[int, ...], library: NativeLibrary) -> None:
    case = Case(shape)
    for actual, expected in zip(case.run(library), case.expect(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [CONVOLUTION, SEQUENCE], ids=str)
@pytest.mark.usefixtures("settings")
def test_gradients_are_slopes(shape: tuple[int, ...], library: NativeLibrary) -> None:
    case = Case(shape)
    y, mean, variance = case.run(library)
    inputs = [case.dy, case.x, y, case.lengths, case.gamma, mean, variance, case.settings]
    dx, dgamma, dbeta = library.call("NormBackward", inputs, [shape, shape[-1:], shape[-1:]])
    assert not dx[~case.is_real].any()

    def score() -> float:
        return float((case.expect()[0] * np.nan_to_num(case.dy.astype(np.float64))).sum())

    case.x = case.x.astype(np.float64)
    case.gamma, case.beta = case.gamma.astype(np.float64), case.beta.astype(np.float64)
    places = [tuple(place) for place in np.argwhere(case.is_real)[::5]]
    for array, gradient, where in (
        (case.x, dx, [(*place, i % shape[-1]) for i, place in enumerate(places)]),
        (case.gamma, dgamma, [(0,), (7,), (32,)]),
        (case.beta, dbeta, [(0,), (7,), (32,)]),
    ):
        for place in where:
            kept = array[place]
            values = []
            for step in (1e-6, -1e-6):
                array[place] = kept + step
                values.append(score())
            array[place] = kept
            assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-6, abs=2e-4), place


@pytest.mark.parametrize("shape", [CONVOLUTION, SEQUENCE], ids=str)
@pytest.mark.usefixtures("settings")
def test_no_digit_is_lost_where_the_mean_is_large(shape: tuple[int, ...], library: NativeLibrary) -> None:
    case = Case(shape, mean=1e6)
    y, mean, variance = case.run(library)
    for actual, expected in zip((y, mean, variance), case.expect(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)
    inputs = [case.dy, case.x, y, case.lengths, case.gamma, mean, variance, case.settings]
    dx, dgamma, dbeta = library.call("NormBackward", inputs, [shape, shape[-1:], shape[-1:]])
    passed = np.where((y > LOW) & (y < HIGH), case.dy, 0)[case.is_real].astype(np.float64)
    rows = case.x[case.is_real].astype(np.float64)
    normed = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + EPSILON)
    np.testing.assert_allclose(dgamma, (passed * normed).sum(0), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(dbeta, passed.sum(0), rtol=2e-5, atol=2e-5)
    expected = passed - passed.mean(0) - normed * (passed * normed).mean(0)
    scaled = case.gamma / np.sqrt(rows.var(0) + EPSILON) * expected
    np.testing.assert_allclose(dx[case.is_real], scaled, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [CONVOLUTION, SEQUENCE], ids=str)
@pytest.mark.usefixtures("settings")
def test_a_constant_channel_becomes_its_shift_exactly(shape: tuple[int, ...], library: NativeLibrary) -> None:
    case = Case(shape)
    constants = (10.0 ** np.linspace(-6, 7, shape[-1]) / 3).astype(np.float32)
    case.x = np.where(case.is_real[..., None], constants, np.float32(np.nan))
    y, mean, variance = case.run(library)
    np.testing.assert_array_equal(y[case.is_real], np.broadcast_to(np.clip(case.beta, LOW, HIGH), shape)[case.is_real])
    np.testing.assert_array_equal(mean, constants)
    assert not variance.any()


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_fixed_statistics_scale_and_shift(offset: float, library: NativeLibrary) -> None:
    case = Case(SEQUENCE, mean=offset)
    mean, variance = np.full(SEQUENCE[-1], offset + 1, np.float32), np.full(SEQUENCE[-1], 0.3, np.float32)
    settings = np.array([1e-2, -np.inf, np.inf], np.float32)
    y = library.call(
        "NormScale", [case.x, case.lengths, case.gamma, case.beta, settings, mean, variance], [case.shape]
    )[0]
    expected = (case.x.astype(np.float64) - mean) * case.gamma / np.sqrt(0.31) + case.beta
    np.testing.assert_allclose(y[case.is_real], expected[case.is_real], rtol=1e-6, atol=1e-6)
    assert not y[~case.is_real].any()


def test_results_do_not_depend_on_the_number_of_threads(library: NativeLibrary) -> None:
    results = []
    for num_threads in (1, 3):
        with library.use(num_threads=num_threads):
            results.append(Case(CONVOLUTION).run(library))
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


def test_a_batch_without_a_real_frame_gives_zeros(library: NativeLibrary) -> None:
    y, mean, variance = Case(SEQUENCE, lengths=(0, 0, 0)).run(library)
    assert not y.any()
    assert not mean.any()
    assert not variance.any()
