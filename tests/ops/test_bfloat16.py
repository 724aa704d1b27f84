"""Products in bfloat16 against float64 ones of the same rounded numbers.

What recurrent layers have in common in both precisions is in test_recurrent.py, convolutions in test_convolution.py.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ops.native_library import BFLOAT16_ISAS, NativeLibrary, round_to_bfloat16
from tests.ops.test_matmul import FORMS, PRODUCTS, draw_factors, multiply
from tests.ops.test_recurrent import SIZES, Case, sigmoid


@pytest.fixture(autouse=True, params=BFLOAT16_ISAS)
def _needed_instructions(library: NativeLibrary, request: pytest.FixtureRequest) -> Iterator[None]:
    with library.use_bfloat16(request.param) as is_there:
        if not is_there:
            pytest.skip(f"no {request.param} here: the processor, the system or the compiler lacks it")
        yield


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", PRODUCTS, ids=str)
def test_products_of_matrices_are_those_of_the_rounded_numbers(
    library: NativeLibrary, form: str, size: tuple[int, int, int]
) -> None:
    a, b = draw_factors(form, size)
    expected = multiply(form, *(round_to_bfloat16(x).astype(np.float64) for x in (a, b)))
    results = []
    for num_threads in (1, 2, 5, 1):
        with library.use(num_threads=num_threads):
            results.append(library.call(f"Bf16MatMul{form}", [a, b], [size[:2]])[0])
    np.testing.assert_allclose(results[0], expected, rtol=1e-5, atol=1e-6 * size[2] ** 0.5)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    unrounded = multiply(form, a.astype(np.float64), b.astype(np.float64))
    assert np.abs(results[0] - unrounded).max() < 0.02 * size[2] ** 0.5


def test_numbers_are_rounded_to_the_nearest_and_ties_to_even(library: NativeLibrary) -> None:
    step = 2.0**-7  # of bfloat16 between 1 and 2
    numbers = np.array([1 + step / 2, 1 + 1.5 * step, 1 + 0.51 * step, -1 - step / 2, 3e38, np.inf, 0.0], np.float32)
    one = np.ones((1, 1), np.float32)
    rounded = library.call("Bf16MatMulNN", [numbers[:, None], one], [(len(numbers), 1)])[0][:, 0]
    np.testing.assert_array_equal(rounded[:4], np.array([1, 1 + 2 * step, 1 + step, -1], np.float32))
    np.testing.assert_array_equal(rounded[4:], round_to_bfloat16(numbers[4:]))


# Recurrent layers -----------------------------------------------------------------------------------------------------


def shift(values: NDArray, direction: int) -> NDArray:
    """At each frame (S, ...) what stands at the frame read before it."""
    moved = np.zeros_like(values)
    moved[1:] = values[:-1]
    if direction:
        moved = np.zeros_like(values)
        moved[:-1] = values[1:]
    return moved


def step_forward(case: Case, d: int, previous: NDArray, cells: NDArray) -> list[NDArray]:
    """Gates, what comes after each frame, and cells, in float64, from what the kernel said comes before it.

    So every step begins with the numbers that the kernel rounded, and differences cannot grow from step to step.
    """
    projected, w, bias_ih, bias_hh = (arrays[d] for arrays in case.arrays)
    w = round_to_bfloat16(w).astype(np.float64)
    product = round_to_bfloat16(previous).astype(np.float64) @ w.T + bias_hh
    if case.kind == "Lstm":
        i, f, g, o = np.split(projected + bias_ih + product, 4, 2)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * shift(cells, d) + i * g
        return [o * np.tanh(c), np.concatenate([i, f, g, o], 2), c]
    x, hidden = np.split(projected + bias_ih, 3, 2), np.split(product, 3, 2)
    r, z = sigmoid(x[0] + hidden[0]), sigmoid(x[1] + hidden[1])
    n = np.tanh(x[2] + r * hidden[2])
    return [(1 - z) * n + z * previous, np.concatenate([r, z, n, hidden[2]], 2)]


@pytest.mark.parametrize("kind", ["Lstm", "Gru"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_each_step_is_that_of_the_reference_with_rounded_products(
    library: NativeLibrary, kind: str, size: tuple[int, int, int]
) -> None:
    case = Case(f"Bf16{kind}", 2, *size)
    outputs = [output.astype(np.float64) for output in case.forward(library)]
    is_real = (np.arange(size[0])[:, None] < case.lengths)[:, :, None]
    y = np.zeros(case.shape)
    for d in range(2):
        previous, saved = outputs[-2 + d], outputs[1 + d : 5 : 2]
        h, *expected = step_forward(case, d, previous, saved[-1])
        for one, other in zip(saved, expected, strict=False):
            np.testing.assert_allclose(one, other * is_real, rtol=2e-5, atol=5e-6)
        np.testing.assert_allclose(previous, shift(h * is_real, d) * is_real, rtol=2e-5, atol=5e-6)
        y += h * is_real
    np.testing.assert_allclose(outputs[0], y, rtol=2e-5, atol=5e-6)


def step_back(case: Case, d: int, gates: NDArray, memory: NDArray, d_hidden: NDArray) -> list[NDArray]:
    """Gradients of the input's part, of a GRU also of the state's, from what the kernel said of the latter."""
    w = round_to_bfloat16(case.w[d]).astype(np.float64)
    through = shift(round_to_bfloat16(d_hidden).astype(np.float64) @ w, 1 - d)
    before = shift(memory, d)
    results = np.zeros((2, *d_hidden.shape))
    carried = np.zeros(case.shape[1:])  # of an LSTM for the cell
    for t in range(case.shape[0])[:: 1 if d else -1]:
        dh = case.dy[t] + through[t]
        first, second, third, last = np.split(gates[t], 4, 1)
        if case.kind == "Lstm":
            c = np.tanh(memory[t])
            dc = carried + dh * last * (1 - c**2)
            of_gates = (
                dc * third * first * (1 - first),
                dc * before[t] * second * (1 - second),
                dc * first * (1 - third**2),
                dh * c * last * (1 - last),
            )
            results[:, t], carried = np.concatenate(of_gates, 1), dc * second
        else:
            dh = dh + carried
            dn = dh * (1 - second) * (1 - third**2)
            dr, dz = dn * last * first * (1 - first), dh * (memory[t] - third) * second * (1 - second)
            results[:, t] = np.concatenate([dr, dz, dn], 1), np.concatenate([dr, dz, dn * first], 1)
            carried = dh * second
        is_real = (t < case.lengths)[:, None]
        results[:, t], carried = results[:, t] * is_real, carried * is_real
    return list(results)


@pytest.mark.parametrize("kind", ["Lstm", "Gru"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_each_step_back_is_that_of_the_reference_with_rounded_products(
    library: NativeLibrary, kind: str, size: tuple[int, int, int]
) -> None:
    case = Case(f"Bf16{kind}", 2, *size)
    outputs = case.forward(library)
    gradients = [gradient.astype(np.float64) for gradient in case.backward(library, outputs)]
    for d in range(2):
        gates, memory = outputs[1 + d].astype(np.float64), outputs[3 + d].astype(np.float64)
        d_input, d_hidden = step_back(case, d, gates, memory, gradients[-2 + d])
        np.testing.assert_allclose(gradients[d], d_input, rtol=5e-5, atol=1e-5)
        np.testing.assert_allclose(gradients[-2 + d], d_hidden, rtol=5e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["Lstm", "Gru"])
def test_results_are_near_those_of_float32_and_not_the_same(library: NativeLibrary, kind: str) -> None:
    expected = Case(kind, 2, 30, 5, 100).run(library)
    for one, other in zip(Case(f"Bf16{kind}", 2, 30, 5, 100).run(library), expected, strict=True):
        assert 1e-5 < np.abs(one - other).max() / np.abs(other).max() < 0.02
