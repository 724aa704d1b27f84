"""The loss scale changes no number, gives way to an overflow, and never hides a step that is bad for another reason."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from mindaudio_ds2.config import PrecisionConfig
from tests.training.compiled.test_step import ALL, OPTIMIZER, Training, make_batch, spoil_features

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

WINDOW = 3
DYNAMIC = PrecisionConfig("fp32", loss_scale=4096.0, loss_scale_window=WINDOW)
HUGE = 2.0**100  # the gradient's square overflows, the loss does not


@pytest.fixture(scope="module")
def shared_training(mindspore_cpu: None) -> Training:
    return Training(OPTIMIZER.max_gradient_norm, DYNAMIC)


@pytest.fixture
def training(shared_training: Training) -> Iterator[Training]:
    shared_training.reset()
    yield shared_training
    assert len(shared_training.step.compile_cache) <= 1, "a change of the scale must not compile the step anew"


def set_scale(training: Training, scale: float) -> None:
    from tests import cells

    cells.write(training.step, {"gradients.loss_scale.scale": np.array(scale, np.float32)})


def find_scale(training: Training) -> float:
    return float(training.step.update.loss_scale.scale.asnumpy())


def test_a_dynamic_scale_gives_the_losses_norms_and_weights_of_a_step_without(training: Training) -> None:
    from tests import cells

    plain = Training(OPTIMIZER.max_gradient_norm)
    cells.write(plain.step, {name: array for name, array in training.start.items() if "loss_scale" not in name})
    for rows in (ALL, [0, 3], [5, 1, 2], ALL):
        assert training.take(make_batch(rows)) == pytest.approx(plain.take(make_batch(rows)), rel=1e-6)
    assert find_scale(training) == 8192, "it was used, and doubled once on the way"
    expected = plain.read()
    for name, array in training.read().items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_an_overflow_changes_nothing_but_the_scale_which_is_halved(training: Training) -> None:
    good = make_batch([0, 3, 5])
    training.take(good)
    set_scale(training, HUGE)
    before = training.read()
    loss, norm, is_finite = training.take(good)
    assert math.isfinite(loss)
    assert not math.isfinite(norm)
    assert (is_finite, training.has_overflowed) == (False, True)
    assert find_scale(training) == HUGE / 2
    for name, array in training.read().items():
        assert np.array_equal(array, before[name]), name


def test_after_some_halvings_the_step_is_made(training: Training) -> None:
    set_scale(training, HUGE)
    made: list[bool] = []
    while not made or not made[-1]:
        made.append(training.take(make_batch([0, 3, 5]))[2])
        assert len(made) < 100
    assert len(made) > 2
    assert find_scale(training) == HUGE / 2 ** (len(made) - 1)


@pytest.mark.parametrize("value", [np.nan, 3e38, 1e30])
def test_what_is_not_finite_before_the_gradient_is_no_overflow(training: Training, value: float) -> None:
    training.take(make_batch(ALL))
    assert training.take(spoil_features(make_batch(ALL), value))[2] is False
    assert training.has_overflowed is False
    assert find_scale(training) == DYNAMIC.loss_scale
    assert float(training.step.update.loss_scale.num_finite.asnumpy()) == 1


# The rule by itself ---------------------------------------------------------------------------------------------------


def follow(scale: float, outcomes: str) -> Iterator[tuple[float, bool]]:
    """The rule once more: g good, o overflow, b bad for another reason. Yields the next scale and what is said."""
    num_good = 0
    for outcome in outcomes:
        overflowed = outcome == "o" and scale > 1
        if outcome == "g":
            num_good += 1
        if overflowed:
            scale, num_good = scale / 2, 0
        elif num_good == WINDOW:
            scale, num_good = min(scale * 2, 2.0**24), 0
        yield scale, overflowed


INPUTS = {"g": (True, True), "o": (True, False), "b": (False, False)}  # loss and statistics finite; all finite


@pytest.mark.parametrize(
    ("start", "outcomes"),
    [(8.0, "ggggogggbggbgoo"), (2.0, "ooooggg"), (2.0**23, "g" * 10), (64.0, "ggoggoggobbbggg")],
)
def test_the_scale_follows_its_rule(start: float, outcomes: str) -> None:
    from mindaudio_ds2.training.compiled.loss_scale import LossScale
    from tests import cells

    scale = LossScale(PrecisionConfig("fp16", start, WINDOW))
    for outcome, (expected, overflowed) in zip(outcomes, follow(start, outcomes), strict=True):
        (said,) = cells.run(scale, *map(np.bool_, INPUTS[outcome]))
        assert (float(scale.scale.asnumpy()), said.item()) == (expected, overflowed), outcome


@pytest.mark.parametrize("outcome", INPUTS)
def test_a_scale_that_stays_stays_and_calls_nothing_an_overflow(outcome: str) -> None:
    from mindaudio_ds2.training.compiled.loss_scale import LossScale
    from tests import cells

    scale = LossScale(PrecisionConfig("fp16", 1024.0, 0))
    (said,) = cells.run(scale, *map(np.bool_, INPUTS[outcome]))
    assert said.item() is False
    assert float(scale.scale.asnumpy()) == 1024
    assert scale.state() == {}, "nothing to save"
