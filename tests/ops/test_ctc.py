import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ops.native_library import NativeLibrary

Array = NDArray[np.float64]
Result = tuple[float, Array]


def compute(
    library: NativeLibrary, logits: NDArray, labels: Sequence[Sequence[int]], num_frames: Sequence[int], blank: int = 0
) -> tuple[NDArray, NDArray]:
    """Losses (B,) and gradients (S, B, V); labels are padded with nonsense."""
    padded = np.full((len(labels), max(len(row) for row in labels) + 1), -7, np.int32)
    for row, to in zip(labels, padded, strict=True):
        to[: len(row)] = row
    lengths = np.array([len(row) for row in labels], np.int32)
    inputs = [logits.astype(np.float32), np.array(num_frames, np.int32), padded, lengths, np.array([blank], np.int32)]
    losses, gradients = library.call("CtcLoss", inputs, [(len(labels),), logits.shape])
    return losses, gradients


def log_softmax(logits: NDArray) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_probs: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return log_probs


def collapse(path: Sequence[int], blank: int) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != blank]


def enumerate_paths(logits: NDArray, labels: Sequence[int], blank: int) -> Result:
    """Loss and gradient from all paths there are: the definition itself. logits (T, V)."""
    log_probs = log_softmax(logits)
    num_frames, num_classes = logits.shape
    total, posteriors = 0.0, np.zeros(logits.shape)
    for path in itertools.product(range(num_classes), repeat=num_frames):
        if collapse(path, blank) == list(labels):
            probability = np.exp(log_probs[range(num_frames), path].sum())
            total += probability
            posteriors[range(num_frames), path] += probability
    return -np.log(total), np.exp(log_probs) - posteriors / total


def sum_over_states(logits: NDArray, labels: Sequence[int], blank: int) -> Result:
    """Loss and gradient by the forward and backward recursions on logarithms, a state at a time."""
    log_probs = log_softmax(logits)
    states = [blank, *itertools.chain.from_iterable((label, blank) for label in labels)]
    num_frames, num_states = len(logits), len(states)

    def sweep(log_probs: Array, states: Sequence[int]) -> Array:
        table = np.full((num_frames, num_states), -np.inf)
        for t, s in itertools.product(range(num_frames), range(num_states)):
            if t == 0:
                entering = 0.0 if s < 2 else -np.inf
            else:
                skips = s > 1 and states[s] not in (blank, states[s - 2])
                entering = np.logaddexp.reduce(table[t - 1, max(0, s - 1 - skips) : s + 1])
            table[t, s] = entering + log_probs[t, states[s]]
        return table

    forward = sweep(log_probs, states)
    backward = sweep(log_probs[::-1], states[::-1])[::-1, ::-1]
    total = np.logaddexp.reduce(forward[-1, -2:])
    posteriors = np.zeros(logits.shape)
    for s, label in enumerate(states):
        posteriors[:, label] += np.exp(forward[:, s] + backward[:, s] - log_probs[:, label] - total)
    return -total, np.exp(log_probs) - posteriors


def expect_same(actual_loss: float, actual_gradient: NDArray, expected: Result) -> None:
    loss, gradient = expected
    assert actual_loss == pytest.approx(loss, rel=1e-5)
    assert np.abs(actual_gradient - gradient).max() < 1e-5


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("labels", [[], [1], [1, 1], [1, 3], [3, 1, 3], [1, 1, 3]], ids=str)
def test_loss_and_gradient_are_those_of_all_paths(labels: list[int], blank: int, library: NativeLibrary) -> None:
    logits = 3 * np.random.default_rng(len(labels)).standard_normal((5, 1, 4))
    losses, gradients = compute(library, logits, [labels], [5], blank)
    expected = enumerate_paths(logits[:, 0].astype(np.float32), labels, blank)
    expect_same(losses[0], gradients[:, 0], expected)
    expect_same(*sum_over_states(logits[:, 0].astype(np.float32), labels, blank), expected)


@pytest.fixture
def batch() -> tuple[NDArray, list[list[int]], list[int]]:
    """Logits (S, B, V) with labels and frames of very different numbers."""
    generator = np.random.default_rng(3)
    num_frames = [60, 1, 37, 59, 24, 60, 8]
    num_labels = [20, 0, 18, 1, 12, 29, 4]
    labels = [[int(label) for label in generator.integers(1, 29, count)] for count in num_labels]
    return (4 * generator.standard_normal((60, 7, 29))).astype(np.float32), labels, num_frames


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_each_utterance_of_a_batch_counts_by_itself(
    batch: tuple[NDArray, list[list[int]], list[int]], num_threads: int, library: NativeLibrary
) -> None:
    logits, labels, num_frames = batch
    with library.use(num_threads=num_threads):
        losses, gradients = compute(library, logits, labels, num_frames)
    for b, frames in enumerate(num_frames):
        expect_same(losses[b], gradients[:frames, b], sum_over_states(logits[:frames, b], labels[b], 0))
        assert not gradients[frames:, b].any()


def test_what_stands_beyond_the_lengths_does_not_count(
    batch: tuple[NDArray, list[list[int]], list[int]], library: NativeLibrary
) -> None:
    logits, labels, num_frames = batch
    expected = compute(library, logits, labels, num_frames)
    for b, frames in enumerate(num_frames):
        logits[frames:, b] = np.nan
    for actual, clean in zip(compute(library, logits, labels, num_frames), expected, strict=True):
        np.testing.assert_array_equal(actual, clean)


def make_confidently_wrong(num_frames: int) -> tuple[NDArray, list[int]]:
    """Logits (T, 1, 3) that are certain of blanks where many labels must stand, until too few frames are left."""
    logits = np.zeros((num_frames, 1, 3), np.float32)
    logits[:, 0, 0] = 60.0
    return logits, [1, 2] * (num_frames // 2 - 2)


def make_catching_up(num_frames: int) -> tuple[NDArray, list[int]]:
    """In the first half only class 1 is likely, in the second only class 2, by far; the labels are the other way."""
    logits = np.zeros((num_frames, 1, 3), np.float32)
    logits[: num_frames // 2, 0, 1] = 90.0
    logits[num_frames // 2 :, 0, 2] = 90.0
    return logits, [2, 1]


@pytest.mark.parametrize("make", [make_confidently_wrong, make_catching_up])
def test_probabilities_too_small_for_a_float_still_give_the_loss(
    make: Callable[[int], tuple[NDArray, list[int]]], library: NativeLibrary
) -> None:
    logits, labels = make(80)
    losses, gradients = compute(library, logits, [labels], [80])
    loss, gradient = sum_over_states(logits[:, 0], labels, 0)
    assert loss > 1000  # far beyond what a probability in double precision holds
    expect_same(losses[0], gradients[:, 0], (loss, gradient))


@pytest.mark.parametrize("certainty", [5.0, 12.0, 30.0])
def test_a_network_that_is_certain_of_blanks_gets_its_loss(certainty: float, library: NativeLibrary) -> None:
    """So are all networks after their first steps."""
    generator = np.random.default_rng(2)
    logits = generator.standard_normal((90, 1, 29)).astype(np.float32)
    logits[:, :, 0] += certainty
    labels = [int(label) for label in generator.integers(1, 29, 40)]
    losses, gradients = compute(library, logits, [labels], [90])
    expect_same(losses[0], gradients[:, 0], sum_over_states(logits[:, 0], labels, 0))


@pytest.mark.parametrize(
    ("labels", "frames"),
    [([1, 2, 3], 2), ([1, 1], 2), ([1], 0), ([4], 5), ([-1], 5), ([0], 5)],
    ids=["more labels than frames", "no frame for the blank", "no frame", "no such class", "below zero", "the blank"],
)
def test_labels_that_cannot_be_aligned_cost_infinitely_much(
    labels: list[int], frames: int, library: NativeLibrary
) -> None:
    logits = np.random.default_rng(0).standard_normal((5, 2, 4))
    losses, gradients = compute(library, logits, [labels, [1]], [frames, 5])
    assert losses[0] == np.inf
    assert not gradients[:, 0].any()
    assert np.isfinite(losses[1])
    assert gradients[:, 1].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_told(value: float, library: NativeLibrary) -> None:
    logits = np.random.default_rng(0).standard_normal((5, 1, 4))
    logits[2, 0, 1] = value
    losses, gradients = compute(library, logits, [[1]], [5])
    assert np.isnan(losses[0])
    assert not gradients.any()


def test_no_labels_and_no_frames_cost_nothing(library: NativeLibrary) -> None:
    losses, gradients = compute(library, np.ones((3, 1, 4)), [[]], [0])
    assert losses[0] == 0
    assert not gradients.any()


@pytest.mark.parametrize(("num_frames", "num_labels"), [(6, 1), (-1, 1), (5, 3), (5, -1)])
def test_lengths_outside_the_arrays_are_not_followed(num_frames: int, num_labels: int, library: NativeLibrary) -> None:
    inputs = [
        np.zeros((5, 1, 4), np.float32),
        np.array([num_frames], np.int32),
        np.array([[1, 2]], np.int32),
        np.array([num_labels], np.int32),
        np.array([0], np.int32),
    ]
    losses, gradients = library.call("CtcLoss", inputs, [(1,), (5, 1, 4)])
    assert losses[0] == np.inf
    assert not gradients.any()
