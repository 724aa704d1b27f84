"""The learning rate against lists worked out by hand."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.config import ScheduleConfig
from mindaudio_ds2.training.schedule import learning_rate

NAMES = pytest.mark.parametrize("name", ["constant", "exponential", "cosine"])
BASE = ScheduleConfig(
    "constant", peak_learning_rate=0.8, final_learning_rate=0.1, warmup_epochs=2.0, decay_per_epoch=0.5
)


def make(name: Any, warmup_epochs: float = 2.0) -> ScheduleConfig:
    return dataclasses.replace(BASE, name=name, warmup_epochs=warmup_epochs)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]),
        ("exponential", [0.2, 0.4, 0.6, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1, 0.1]),
        (
            "cosine",  # 0.45 + 0.35 cos of 0, 22.5, 45, ... 180 degrees
            [0.2, 0.4, 0.6, 0.8, 0.7733578, 0.6974874, 0.5839392, 0.45, 0.3160608, 0.2025126, 0.1266422, 0.1],
        ),
    ],
)
def test_six_epochs_of_two_steps_have_these_rates(name: str, expected: list[float]) -> None:
    """Two epochs of warm-up; step n has its rate when it is done, so the first is above 0 and the last is the end's."""
    rates = [learning_rate(make(name), (step + 1) / 2, 6) for step in range(12)]
    assert rates == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.8, 0.8, 0.8, 0.8]),
        ("exponential", [0.8, 0.4, 0.4, 0.2]),
        ("cosine", [0.6974874, 0.45, 0.2025126, 0.1]),
    ],
)
def test_without_a_warm_up_the_curve_begins_at_once(name: str, expected: list[float]) -> None:
    rates = [learning_rate(make(name, warmup_epochs=0.0), (step + 1) / 2, 2) for step in range(4)]
    assert rates == pytest.approx(expected, abs=1e-7)


@NAMES
def test_the_warm_up_ends_at_the_peak_without_a_jump(name: str) -> None:
    before, at, after = (learning_rate(make(name), 2.0 + offset, 6) for offset in (-1e-9, 0.0, 1e-9))
    assert at == 0.8
    assert before == pytest.approx(0.8)
    assert after == pytest.approx(0.8)


@NAMES
def test_a_training_that_ends_within_the_warm_up_only_rises(name: str) -> None:
    assert [learning_rate(make(name), epochs, 1) for epochs in (0.5, 1.0)] == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize(("name", "last"), [("constant", 0.8), ("exponential", 0.1), ("cosine", 0.1)])
def test_the_last_step_has_the_rate_the_name_promises(name: str, last: float) -> None:
    assert learning_rate(make(name), 40.0, 40) == pytest.approx(last)


@given(
    name=st.sampled_from(["constant", "exponential", "cosine"]),
    warmup_epochs=st.floats(0, 5),
    progress=st.floats(1e-6, 1),
    num_epochs=st.integers(1, 50),
)
def test_no_rate_is_above_the_peak_or_at_zero(
    name: str, warmup_epochs: float, progress: float, num_epochs: int
) -> None:
    rate = learning_rate(make(name, warmup_epochs), progress * num_epochs, num_epochs)
    assert 0 < rate <= 0.8 * (1 + 1e-12)
    if progress * num_epochs >= warmup_epochs:
        assert rate >= 0.1 * (1 - 1e-12)


@given(
    name=st.sampled_from(["constant", "exponential", "cosine"]),
    progress=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_after_the_warm_up_the_rate_never_rises(name: str, progress: list[float]) -> None:
    earlier, later = (learning_rate(make(name), 2 + 8 * share, 10) for share in progress)
    assert later <= earlier * (1 + 1e-12)


def test_the_exponential_falls_at_whole_epochs_after_the_warm_up() -> None:
    config = dataclasses.replace(make("exponential", warmup_epochs=0.25), final_learning_rate=0.0)
    for epochs, expected in ((1.24, 0.8), (1.26, 0.4), (2.24, 0.4), (2.26, 0.2)):
        assert learning_rate(config, epochs, 20) == pytest.approx(expected)
    assert learning_rate(config, 20.0, 20) == pytest.approx(0.8 * 0.5**19)
    assert math.isfinite(learning_rate(config, 1e6, 20))
