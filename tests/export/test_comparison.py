"""What counts as the same output of two networks."""

import math

import numpy as np
import pytest

from mindaudio_ds2.export.comparison import find_largest_difference


def compare(expected: list[list[float]], actual: list[list[float]]) -> float:
    waveforms = [np.zeros(10, np.float32)]
    return find_largest_difference(lambda _: [np.array(expected)], lambda _: [np.array(actual)], waveforms)


def test_likely_labels_are_compared_as_they_are() -> None:
    assert compare([[-0.5, -3.0], [-9.0, -10.0]], [[-0.5, -3.0], [-9.0, -10.5]]) == pytest.approx(0.5)


def test_unlikely_labels_are_compared_by_the_digits_that_float32_has() -> None:
    assert compare([[-1e-9, -40.0]], [[-1e-9, -40.0002]]) == pytest.approx(0.00005)
    assert compare([[-1e-9, -40.0]], [[-0.0002, -40.0]]) == pytest.approx(0.0002, rel=1e-4)


def test_other_lengths_and_what_is_no_number_never_pass() -> None:
    assert compare([[-0.5, -3.0]], [[-0.5, -3.0], [-0.5, -3.0]]) == math.inf
    for where in (0, 1):
        row = [-0.5, -3.0]
        row[where] = math.nan
        assert math.isnan(compare([[-0.5, -3.0]], [row]))
        assert math.isnan(compare([row], [[-0.5, -3.0]]))
