"""The learning rate against lists worked out by hand."""

import dataclasses
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.training.schedule import learning_rate
from mindaudio_ds2.training_config import ScheduleConfig

WARMED_UP = ["constant", "exponential", "cosine", "plateau"]
NAMES = pytest.mark.parametrize("name", WARMED_UP)
BASE = ScheduleConfig(
    "constant",
    peak_learning_rate=0.8,
    final_learning_rate=0.1,
    warmup_epochs=2.0,
    decay_per_epoch=0.5,
    plateau_patience_epochs=2,
    plateau_factor=0.5,
)


def make(name: Any, warmup_epochs: float = 2.0, **changes: Any) -> ScheduleConfig:
    return dataclasses.replace(BASE, name=name, warmup_epochs=warmup_epochs, **changes)


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
    name=st.sampled_from(WARMED_UP),
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
    name=st.sampled_from(WARMED_UP),
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


# One cycle ------------------------------------------------------------------------------------------------------------


def test_one_cycle_rises_falls_and_falls_on() -> None:
    """From a tenth of the peak over two epochs, back in as many, then to the final rate in the two that are left."""
    config = make("one_cycle", final_learning_rate=0.0)
    rates = [learning_rate(config, (step + 1) / 2, 6) for step in range(12)]
    rise, fall_on = [0.26, 0.44, 0.62, 0.8], [0.06, 0.04, 0.02, 0.0]
    assert rates == pytest.approx([*rise, 0.62, 0.44, 0.26, 0.08, *fall_on])


def test_one_cycle_may_be_all_of_a_training() -> None:
    rates = [learning_rate(make("one_cycle", final_learning_rate=0.01), epochs, 4) for epochs in (1, 2, 3, 3.999, 4)]
    assert rates == pytest.approx([0.44, 0.8, 0.44, 0.08036, 0.01])


@pytest.mark.parametrize(("name", "value"), [("final_learning_rate", 0.081), ("warmup_epochs", 0.0)])
def test_a_one_cycle_that_cannot_fall_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"schedule.{name} is {value}, which is impossible: one_cycle"):
        make("one_cycle", **{"final_learning_rate": 0.01, "warmup_epochs": 2.0, name: value})


# Plateau --------------------------------------------------------------------------------------------------------------


def test_plateau_halves_the_rate_after_two_epochs_without_a_lower_wer() -> None:
    """The history of one training; the rate of the epoch after each, a warm-up of half an epoch long past."""
    config = make("plateau", warmup_epochs=0.5)
    wers = [0.9, 0.5, 0.5, 0.6, 0.4, 0.45, 0.3, 0.3, 0.35, 0.4, 0.31, 0.3, 0.29, 0.9, 0.9]
    rates = [learning_rate(config, num + 1.0, 99, wers[:num]) for num in range(len(wers) + 1)]
    # 0.5 and 0.6 are the first plateau, 0.3 and 0.35 the second, 0.4 and 0.31 the third: there the rate is the final
    assert rates == pytest.approx([0.8] * 4 + [0.4] * 5 + [0.2] * 2 + [0.1] * 5)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_plateaus_are_those_of_pytorch(patience: int) -> None:
    """Its patience is how many epochs without a lower WER are let pass, ours after how many the rate falls."""
    torch = pytest.importorskip("torch")
    generator = random.Random(patience)
    for _ in range(20):
        wers = [round(generator.random(), 1) for _ in range(30)]  # rounded, so that some are equal
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.5, patience=patience - 1, threshold=0.0, eps=0.0
        )
        config = make("plateau", 0.0, peak_learning_rate=1.0, final_learning_rate=0.0, plateau_patience_epochs=patience)
        for num, wer in enumerate(wers, start=1):
            torchs.step(wer)
            assert learning_rate(config, num + 1, 99, wers[:num]) == optimizer.param_groups[0]["lr"]


@NAMES
def test_only_plateau_looks_at_the_dev_wer(name: str) -> None:
    stalled = learning_rate(make(name), 8.0, 10, [0.5] * 7) != learning_rate(make(name), 8.0, 10)
    assert stalled is (name == "plateau")
