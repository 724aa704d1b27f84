"""Products of matrices in float32 against float64 ones; test_bfloat16.py has those in bfloat16."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ops.native_library import AVX2, AVX512, GENERIC, NativeLibrary

# M, N, K: single ones, odd ones, what fills no vector, tile or block, several blocks in each direction.
PRODUCTS = [(1, 1, 1), (5, 3, 7), (12, 32, 32), (13, 33, 31), (1, 40, 1025), (25, 1100, 70), (60, 65, 2100)]
FORMS = {"NN": (False, False), "NT": (False, True), "TN": (True, False)}


def draw_factors(form: str, size: Sequence[int]) -> tuple[NDArray, NDArray]:
    """Both factors (M, K) and (K, N) as the operator of this form takes them."""
    M, N, K = size
    rng = np.random.default_rng(size)
    shapes = [(K, M) if FORMS[form][0] else (M, K), (N, K) if FORMS[form][1] else (K, N)]
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return a, b


def multiply(form: str, a: NDArray, b: NDArray) -> NDArray:
    """In the precision of the arguments."""
    return np.asarray((a.T if FORMS[form][0] else a) @ (b.T if FORMS[form][1] else b))


@pytest.mark.parametrize("isa", [GENERIC, AVX2, AVX512])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", PRODUCTS, ids=str)
def test_products_are_those_of_the_reference_with_any_number_of_threads(
    library: NativeLibrary, form: str, size: tuple[int, int, int], isa: int
) -> None:
    a, b = draw_factors(form, size)
    expected = multiply(form, a.astype(np.float64), b.astype(np.float64))
    results = []
    for num_threads in (1, 2, 5, 1):
        with library.use(isa=isa, num_threads=num_threads) as is_there:
            if not is_there:
                pytest.skip("this processor lacks the instructions")
            results.append(library.call(f"MatMul{form}", [a, b], [size[:2]])[0])
    np.testing.assert_allclose(results[0], expected, rtol=1e-5, atol=2e-6 * size[2] ** 0.5)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_a_row_does_not_depend_on_the_others(library: NativeLibrary) -> None:
    a, b = draw_factors("NT", (30, 70, 600))
    (together,) = library.call("MatMulNT", [a, b], [(30, 70)])
    for row in (0, 11, 29):
        (alone,) = library.call("MatMulNT", [a[row : row + 1], b], [(1, 70)])
        np.testing.assert_array_equal(alone[0], together[row])


def test_frames_and_utterances_are_rows(library: NativeLibrary) -> None:
    rng = np.random.default_rng(0)
    x, weight, dy = (rng.standard_normal(s).astype(np.float32) for s in ((7, 3, 10), (20, 10), (7, 3, 20)))
    (y,) = library.call("MatMulNT", [x, weight], [(7, 3, 20)])
    np.testing.assert_allclose(y, x @ weight.T, rtol=1e-5, atol=1e-5)
    (dx,) = library.call("MatMulNN", [dy, weight], [(7, 3, 10)])
    np.testing.assert_allclose(dx, dy @ weight, rtol=1e-5, atol=1e-5)
    (dw,) = library.call("MatMulTN", [dy, x], [(20, 10)])
    np.testing.assert_allclose(dw, np.einsum("sbn,sbk->nk", dy, x), rtol=1e-5, atol=2e-5)


def test_what_is_no_number_is_not_lost(library: NativeLibrary) -> None:
    a, b = draw_factors("NT", (5, 20, 40))
    a[2, 7] = np.nan
    is_spoiled = np.isnan(library.call("MatMulNT", [a, b], [(5, 20)])[0])
    assert is_spoiled[2].all()
    assert is_spoiled.sum() == 20


def test_shapes_that_do_not_fit_are_refused(library: NativeLibrary) -> None:
    a, b = draw_factors("NN", (5, 20, 40))
    for shape in ((5, 21), (6, 20), (100,)):
        assert library.try_call("MatMulNN", [a, b], [shape])[0] != 0
    assert library.try_call("MatMulNT", [a, b], [(5, 20)])[0] != 0
    (zeros,) = library.call("MatMulNN", [a[:, :0], b[:0]], [(5, 20)])
    assert not zeros.any()
