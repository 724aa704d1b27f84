"""Recurrent layers in eight bits: whole numbers exactly, what is made of them against a float64 reference."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ops.native_library import AVX2, AVX512, GENERIC, NativeLibrary
from tests.ops.test_recurrent import NUM_GATES, SIZES, Case, sigmoid

KINDS = ["Lstm", "Gru"]
# S, B, K, H: single ones, odd ones, more rows than a block, more inputs than a chunk of any instruction set.
PRODUCTS = [(1, 1, 1, 1), (3, 2, 5, 7), (33, 1, 64, 16), (5, 9, 130, 33), (70, 1, 640, 20), (2, 3, 1030, 48)]


@pytest.fixture(params=[GENERIC, AVX2, AVX512], ids=["generic", "avx2", "avx512"])
def each_isa(request: pytest.FixtureRequest, library: NativeLibrary) -> Iterator[None]:
    with library.use(isa=request.param) as is_there:
        if not is_there:
            pytest.skip("this processor lacks the instruction set")
        yield


def find_scales(rows: NDArray) -> NDArray[np.float32]:
    """Of each row, (..., 1): what one stands for."""
    largest = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), np.float32(1e-12))
    return np.asarray(largest / np.float32(127), np.float32)


def quantize_weights(rows: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(n, k) as whole numbers, and scales (n, 1)."""
    scales = find_scales(rows)
    return np.rint(rows / scales).astype(np.int64), scales


def quantize_inputs(rows: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """As the kernels do, which multiply where weights are divided."""
    scales = find_scales(rows)
    factors = np.float32(127) / np.maximum(np.abs(rows).max(axis=-1, keepdims=True), np.float32(1e-12))
    return np.rint(rows * factors).astype(np.int64), scales


def pack(library: NativeLibrary, kind: str, weights: NDArray) -> list[NDArray]:
    """Packed weights and scales."""
    num_rows, num_inputs = weights.shape
    size = library.count_int8(num_rows // NUM_GATES[kind], num_inputs, NUM_GATES[kind])
    return library.call(f"Int8{kind}Pack", [weights], [(size,), (num_rows,)])


def project(library: NativeLibrary, kind: str, x: NDArray, weights: NDArray) -> NDArray:
    shape = (*x.shape[:2], len(weights))
    return library.call(f"Int8{kind}Projection", [x, *pack(library, kind, weights)], [shape])[0]


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", PRODUCTS, ids=str)
def test_projections_are_those_of_the_whole_numbers_to_the_bit(
    library: NativeLibrary, kind: str, size: tuple[int, int, int, int]
) -> None:
    S, B, K, H = size
    rng = np.random.default_rng(size)
    x = (rng.standard_normal((S, B, K)) * rng.choice([1e-3, 1, 50], (S, B, 1))).astype(np.float32)
    x[0, 0] = 0
    weights = rng.standard_normal((NUM_GATES[kind] * H, K)).astype(np.float32)
    weights[-1] = 0
    (numbers, scales), (w, w_scales) = quantize_inputs(x), quantize_weights(weights)
    expected = (numbers @ w.T).astype(np.float32) * (w_scales[:, 0] * scales)
    results = []
    for num_threads in (1, 2, 5):
        with library.use(num_threads=num_threads):
            results.append(project(library, kind, x, weights))
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.usefixtures("each_isa")
def test_the_largest_numbers_do_not_saturate(library: NativeLibrary) -> None:
    x = np.ones((2, 1, 4096), np.float32) * np.array([1, -1], np.float32)[:, None, None]
    weights = np.ones((4 * 20, 4096), np.float32) * np.resize([1, -1], 80).astype(np.float32)[:, None]
    np.testing.assert_allclose(project(library, "Lstm", x, weights)[:, 0], x[:, 0] @ weights.T, rtol=1e-6)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_spoils_its_row_and_no_other(library: NativeLibrary, wrong: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, 1, 40)).astype(np.float32)
    x[2, 0, 37] = wrong
    weights = rng.standard_normal((3 * 17, 40)).astype(np.float32)
    is_spoiled = np.isnan(project(library, "Gru", x, weights))
    assert is_spoiled[2].all()
    assert is_spoiled.sum() == 51


# Recurrent layers -----------------------------------------------------------------------------------------------------


def run_layer(library: NativeLibrary, case: Case) -> NDArray:
    """Hidden states (S, B, H), of two directions their sum."""
    packed = [pack(library, case.kind, w) for w in case.w]
    if case.kind == "Lstm":
        biases = [[one + other for one, other in zip(case.bias_ih, case.bias_hh, strict=True)]]
    else:
        biases = [case.bias_ih, case.bias_hh]
    arrays = [case.projected, *zip(*packed, strict=True), *biases]
    inputs = [array for kind in arrays for array in kind]
    return library.call(f"Int8{case.name}Inference", [*inputs, case.lengths], [case.shape])[0]


def split_directions(case: Case) -> list[Case]:
    """Each direction as a layer of its own that reads forwards: the second's utterances turned round."""
    ones = []
    for d in range(case.n):
        one = Case(case.kind, 1, *case.shape)
        one.w, one.bias_ih, one.bias_hh = [case.w[d]], [case.bias_ih[d]], [case.bias_hh[d]]
        one.projected = [turn(case.projected[d], case.lengths) if d else case.projected[d]]
        one.lengths = case.lengths
        ones.append(one)
    return ones


def turn(values: NDArray, lengths: NDArray) -> NDArray:
    """Each utterance (S, b, ...) from its end to its beginning."""
    turned = np.zeros_like(values)
    for b, length in enumerate(lengths):
        turned[:length, b] = values[:length, b][::-1]
    return turned


def step(case: Case, before: NDArray, cells: NDArray) -> tuple[NDArray, NDArray]:
    """States (B, H) and cells after a frame in float64, `case` being of one frame."""
    w, scales = quantize_weights(case.w[0])
    numbers = np.rint(before.astype(np.float32) * np.float32(127)).astype(np.int64)
    product = (numbers @ w.T) * scales[:, 0].astype(np.float64) / 127
    projected, bias_ih, bias_hh = case.projected[0][0], case.bias_ih[0], case.bias_hh[0]
    if case.kind == "Lstm":
        i, f, g, o = np.split(projected + bias_ih + bias_hh + product, 4, 1)
        cells = sigmoid(f) * cells + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(cells), cells
    x, hidden = np.split(projected + bias_ih, 3, 1), np.split(product + bias_hh, 3, 1)
    r, z = sigmoid(x[0] + hidden[0]), sigmoid(x[1] + hidden[1])
    n = np.tanh(x[2] + r * hidden[2])
    return (1 - z) * n + z * before, cells


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_each_step_is_that_of_the_reference(library: NativeLibrary, kind: str, size: tuple[int, int, int]) -> None:
    case = Case(kind, 1, *size)
    y = run_layer(library, case)
    before, cells = np.zeros(case.shape[1:]), np.zeros(case.shape[1:])
    for t in range(size[0]):
        frame = Case(kind, 1, 1, *size[1:])
        frame.w, frame.bias_ih, frame.bias_hh = case.w, case.bias_ih, case.bias_hh
        frame.projected = [case.projected[0][t : t + 1]]
        expected, cells = step(frame, before, cells)
        is_real = (t < case.lengths)[:, None]
        np.testing.assert_allclose(y[t], expected * is_real, rtol=2e-5, atol=5e-6)
        before = y[t].astype(np.float64)  # so that no difference grows


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_both_directions_are_the_sum_of_each(library: NativeLibrary, kind: str, size: tuple[int, int, int]) -> None:
    case = Case(kind, 2, *size)
    ahead, back = (run_layer(library, one) for one in split_directions(case))
    expected = ahead + turn(back, case.lengths)
    for num_threads, num_teams in ((1, 1), (2, 1), (2, 2), (4, 2)):
        with library.use(num_threads=num_threads, num_teams=num_teams):
            np.testing.assert_array_equal(run_layer(library, case), expected)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_are_the_whole(library: NativeLibrary, kind: str) -> None:
    case = Case(kind, 1, 12, 1, 33)
    expected = run_layer(library, case)
    packed, scales = pack(library, kind, case.w[0])
    biases = [case.bias_ih[0] + case.bias_hh[0]] if kind == "Lstm" else [case.bias_ih[0], case.bias_hh[0]]
    states = [np.zeros((1, 33), np.float32)] * (2 if kind == "Lstm" else 1)
    for begin, end in ((0, 5), (5, 6), (6, 12)):
        inputs = [case.projected[0][begin:end], packed, scales, *biases, np.array([end - begin], np.int32), *states]
        shapes = [(end - begin, 1, 33), *[(1, 33)] * len(states)]
        y, *states = library.call(f"Int8{kind}Resume", inputs, shapes)
        np.testing.assert_array_equal(y, expected[begin:end])


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_near_those_of_float32(library: NativeLibrary, kind: str) -> None:
    case = Case(kind, 2, 30, 5, 100)
    expected = case.forward(library)[0]
    assert 1e-4 < np.abs(run_layer(library, case) - expected).max() / np.abs(expected).max() < 0.05


def test_shapes_that_do_not_fit_are_refused(library: NativeLibrary) -> None:
    weights = np.ones((80, 30), np.float32)
    packed, scales = pack(library, "Lstm", weights)
    x = np.ones((2, 1, 30), np.float32)
    refused: list[tuple[str, list[NDArray], list[tuple[int, ...]]]] = [
        ("Int8LstmPack", [np.ones((81, 30), np.float32)], [packed.shape, (81,)]),
        ("Int8LstmPack", [weights], [(len(packed) + 1,), (80,)]),
        ("Int8LstmProjection", [x[:, :, :29], packed[:-1], scales], [(2, 1, 80)]),
        ("Int8LstmProjection", [x, packed, scales], [(2, 1, 60)]),
        ("Int8GruProjection", [x, packed, scales[:-20]], [(2, 1, 60)]),
    ]
    for name, inputs, shapes in refused:
        assert library.try_call(name, inputs, shapes)[0] != 0
