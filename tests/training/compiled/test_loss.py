"""The CTC loss against the sum over every path there is."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.machine.backend import Backend
from tests import reference

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

SIZE = 4  # V
PRECISION = 5e-6  # MindSpore's log_softmax on the CPU is a little less exact than float32
BLANKS = pytest.mark.parametrize("blank_id", [0, SIZE - 1], ids=["blank first", "blank last"])

# Frames and labels of each utterance; the labels are for a blank that comes first, `shift` moves them.
EXAMPLES: list[tuple[int, list[int]]] = [
    (6, [1, 2, 3]),
    (5, [2, 2]),
    (3, [1, 1]),
    (4, [3, 1, 3, 1]),
    (1, [2]),
    (6, [3, 3, 3]),
    (2, []),
    (4, [1]),
]
LENGTHS = np.array([num_frames for num_frames, _ in EXAMPLES], np.int32)
LABEL_LENGTHS = np.array([len(labels) for _, labels in EXAMPLES], np.int32)
LOGITS = 2 * np.random.default_rng(1).normal(size=(6, len(EXAMPLES), SIZE)).astype(np.float32)


class Losses:
    """The loss for any shapes, with and without its gradient, compiled once for each place of the blank."""

    def __init__(self) -> None:
        from mindaudio_ds2.training.compiled.loss import CTCLoss
        from tests import cells

        inputs = [*cells.floats((None, None, SIZE)), cells.integers(None), cells.integers(None, None)]
        self.plain = {blank_id: CTCLoss(blank_id) for blank_id in (0, SIZE - 1)}
        self.with_gradient = {blank_id: cells.GradientOf(loss) for blank_id, loss in self.plain.items()}
        for loss in self.plain.values():
            loss.set_inputs(*inputs, cells.integers(None))
        for cell in self.with_gradient.values():
            cell.set_inputs(inputs[0], cells.floats(())[0], *inputs[1:], cells.integers(None))

    def compute(self, blank_id: int, logits: NDArray[Any], *others: NDArray[Any]) -> float:
        from tests import cells

        loss = cells.run(self.plain[blank_id], logits, *others)[0]
        assert loss.shape == ()
        assert loss.dtype == np.float32
        return float(loss)

    def differentiate(self, blank_id: int, logits: NDArray[Any], *others: NDArray[Any]) -> NDArray[np.float32]:
        from tests import cells

        return cells.run(self.with_gradient[blank_id], logits, np.float32(1), *others)[1]


@pytest.fixture(scope="module")
def losses(mindspore_cpu: None) -> Losses:
    return Losses()


def shift(labels: list[int], blank_id: int) -> list[int]:
    return [label if blank_id == 0 else label - 1 for label in labels]


def lay_out(blank_id: int, padding: int, width: int = 5) -> NDArray[np.int32]:
    """Labels (B, width) of the examples."""
    rows = [shift(labels, blank_id) for _, labels in EXAMPLES]
    return np.array([row + [padding] * (width - len(row)) for row in rows], np.int32)


def enumerate_mean(logits: NDArray[Any], blank_id: int) -> float:
    log_probs = reference.log_softmax(logits.astype(np.float64))
    single = [
        reference.enumerate_ctc_loss(log_probs[:num_frames, row], shift(labels, blank_id), blank_id)
        for row, (num_frames, labels) in enumerate(EXAMPLES)
    ]
    return sum(single) / len(single)


@BLANKS
def test_the_loss_is_the_mean_over_utterances_of_the_sum_over_all_paths(losses: Losses, blank_id: int) -> None:
    actual = losses.compute(blank_id, LOGITS, LENGTHS, lay_out(blank_id, blank_id), LABEL_LENGTHS)
    assert actual == pytest.approx(enumerate_mean(LOGITS, blank_id), rel=PRECISION)


@BLANKS
@pytest.mark.parametrize("row", range(len(EXAMPLES)), ids=[f"{labels} in {n}" for n, labels in EXAMPLES])
def test_each_utterance_alone_has_the_sum_over_all_paths(losses: Losses, row: int, blank_id: int) -> None:
    num_frames, labels = EXAMPLES[row]
    logits = LOGITS[:num_frames, row : row + 1]
    rows = slice(row, row + 1)
    actual = losses.compute(
        blank_id, logits, LENGTHS[rows], lay_out(blank_id, blank_id)[rows, : max(1, len(labels))], LABEL_LENGTHS[rows]
    )
    log_probs = reference.log_softmax(logits[:, 0].astype(np.float64))
    expected = reference.enumerate_ctc_loss(log_probs, shift(labels, blank_id), blank_id)
    assert actual == pytest.approx(expected, rel=PRECISION)


@BLANKS
@pytest.mark.parametrize("padding", [-1, 0, 2, SIZE - 1, 1000])
@pytest.mark.parametrize("width", [4, 9])
def test_what_stands_beyond_the_labels_does_not_matter(losses: Losses, padding: int, width: int, blank_id: int) -> None:
    others = (LENGTHS, lay_out(blank_id, padding, width), LABEL_LENGTHS)
    expected = (LENGTHS, lay_out(blank_id, blank_id), LABEL_LENGTHS)
    assert losses.compute(blank_id, LOGITS, *others) == losses.compute(blank_id, LOGITS, *expected)
    gradient = losses.differentiate(blank_id, LOGITS, *others)
    assert np.array_equal(gradient, losses.differentiate(blank_id, LOGITS, *expected))


@BLANKS
def test_rows_without_a_frame_are_no_utterances(losses: Losses, blank_id: int) -> None:
    rows = [2, 0, 7]
    real = (LENGTHS[rows], lay_out(blank_id, blank_id)[rows], LABEL_LENGTHS[rows])
    filled = tuple(np.concatenate([part, np.zeros_like(part[:2])]) for part in real)
    logits = np.concatenate([LOGITS[:, rows], LOGITS[:, :2]], 1)
    assert losses.compute(blank_id, logits, *filled) == losses.compute(blank_id, LOGITS[:, rows], *real)
    gradient = losses.differentiate(blank_id, logits, *filled)
    assert np.array_equal(gradient[:, :3], losses.differentiate(blank_id, LOGITS[:, rows], *real))
    assert not gradient[:, 3:].any()


@BLANKS
def test_what_stands_beyond_the_logits_does_not_matter(losses: Losses, blank_id: int) -> None:
    noise = 1e3 * np.random.default_rng(7).normal(size=(9, len(EXAMPLES), SIZE)).astype(np.float32)
    is_real = np.arange(9)[:, None] < LENGTHS
    noise[is_real] = np.concatenate([LOGITS, noise[6:]])[is_real]
    others = (LENGTHS, lay_out(blank_id, blank_id), LABEL_LENGTHS)
    assert losses.compute(blank_id, noise, *others) == losses.compute(blank_id, LOGITS, *others)
    gradient = losses.differentiate(blank_id, noise, *others)
    assert np.array_equal(gradient[:6], losses.differentiate(blank_id, LOGITS, *others))
    assert not gradient[~is_real].any()


@BLANKS
def test_the_gradient_is_the_slope_of_the_sum_over_all_paths(losses: Losses, blank_id: int) -> None:
    row = slice(1, 2)  # two equal labels in five frames
    logits = LOGITS[:5, row]
    actual = losses.differentiate(blank_id, logits, LENGTHS[row], lay_out(blank_id, 0)[row], LABEL_LENGTHS[row])
    exact = logits.astype(np.float64)
    labels = shift(EXAMPLES[1][1], blank_id)
    slopes = reference.find_slopes(
        lambda: reference.enumerate_ctc_loss(reference.log_softmax(exact[:, 0]), labels, blank_id), exact
    )
    np.testing.assert_allclose(actual, slopes, atol=2e-6)


def test_each_utterance_has_its_share_of_the_gradient(losses: Losses) -> None:
    together = losses.differentiate(0, LOGITS, LENGTHS, lay_out(0, 0), LABEL_LENGTHS)
    alone = losses.differentiate(0, LOGITS[:, :1], LENGTHS[:1], lay_out(0, 0)[:1], LABEL_LENGTHS[:1])
    np.testing.assert_allclose(together[:, :1] * len(EXAMPLES), alone, atol=1e-6)


@BLANKS
@pytest.mark.parametrize(
    ("num_frames", "labels"),
    [(2, [1, 2, 3]), (2, [1, 1]), (4, [2, 2, 1, 1]), (1, [1, 2])],
    ids=["more labels than frames", "a repeat without room", "two repeats without room", "two labels in one frame"],
)
def test_labels_that_cannot_be_aligned_cost_infinity(
    losses: Losses, num_frames: int, labels: list[int], blank_id: int
) -> None:
    """So the training step sees that it is not finite, whatever stands beside them in the batch."""
    rows = [shift(labels, blank_id) + [0] * (5 - len(labels)), lay_out(blank_id, 0)[0].tolist()]
    loss = losses.compute(
        blank_id,
        LOGITS[:, :2],
        np.array([num_frames, 6], np.int32),
        np.array(rows, np.int32),
        np.array([len(labels), 3], np.int32),
    )
    assert loss == math.inf


def test_long_utterances_of_sure_predictions_lose_no_precision(losses: Losses) -> None:
    """2000 frames that all but spell the labels: the loss is what these frames leave to doubt."""
    labels = np.tile([1, 2, 3], 200)[None].astype(np.int32)
    path = np.zeros(2000, np.int64)
    path[: 3 * labels.size : 3] = labels[0]
    logits = np.full((2000, 1, SIZE), -40.0, np.float32)
    logits[np.arange(2000), 0, path] = 0
    lengths = np.array([2000], np.int32), np.array([labels.size], np.int32)
    assert losses.compute(0, logits, lengths[0], labels, lengths[1]) == pytest.approx(0, abs=1e-3)
    assert math.isfinite(losses.compute(0, -logits, lengths[0], labels, lengths[1]))


def test_the_loss_of_half_precision_logits_is_computed_in_float32() -> None:
    from mindaudio_ds2.training.compiled.loss import CTCLoss
    from tests import cells

    logits = LOGITS.astype(np.float16)
    loss = cells.run(CTCLoss(0), logits, LENGTHS, lay_out(0, 0), LABEL_LENGTHS)[0]
    assert loss.dtype == np.float32
    assert float(loss) == pytest.approx(enumerate_mean(logits, 0), rel=PRECISION)


# Label smoothing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_native", [False, True], ids=["stock", "native"])
def test_smoothing_adds_the_distance_of_every_real_frame_from_equal_probabilities(
    is_native: bool, losses: Losses, request: pytest.FixtureRequest
) -> None:
    """Value by every path there is, gradient by finite differences; nothing comes from, or goes to, padding."""
    from mindaudio_ds2.training.compiled.loss import CTCLoss
    from tests import cells

    share = 0.2
    kernels = request.getfixturevalue("kernels") if is_native else None
    cell = cells.GradientOf(CTCLoss(0, Backend(kernels), share))
    inputs = [*cells.floats((None, None, SIZE), ()), cells.integers(None), cells.integers(None, None)]
    cell.set_inputs(*inputs, cells.integers(None))
    loss, gradient = cells.run(cell, LOGITS, np.float32(1), LENGTHS, lay_out(0, 0), LABEL_LENGTHS)[:2]

    def measure(logits: NDArray[Any]) -> float:
        uniform, log_probs = np.full(SIZE, 1 / SIZE), reference.log_softmax(logits.astype(np.float64))
        distances = [
            (uniform * (np.log(uniform) - log_probs[frame, row])).sum()
            for row, num_frames in enumerate(LENGTHS)
            for frame in range(num_frames)
        ]
        assert min(distances) > 0
        return float(sum(distances)) / len(LENGTHS)

    plain = enumerate_mean(LOGITS, 0)
    assert loss == pytest.approx((1 - share) * plain + share * measure(LOGITS), rel=1e-5)
    ctc_gradient = losses.differentiate(0, LOGITS, LENGTHS, lay_out(0, 0), LABEL_LENGTHS)
    array = LOGITS.astype(np.float64)
    slopes = reference.find_slopes(lambda: measure(array), array)
    np.testing.assert_allclose(gradient, (1 - share) * ctc_gradient + share * slopes, atol=2e-5)
    for row, num_frames in enumerate(LENGTHS):
        assert not gradient[num_frames:, row].any()


# Consistency between two views ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_native", [False, True], ids=["stock", "native"])
def test_consistency_adds_each_views_divergence_from_the_other_which_counts_as_given(
    is_native: bool, losses: Losses, request: pytest.FixtureRequest
) -> None:
    """Value and gradient by loops over frames, in float64; nothing comes from, or goes to, padding or empty rows."""
    from mindaudio_ds2.training.compiled.loss import CTCLoss
    from tests import cells

    weight, rows = 0.3, [0, 1, 0, 1]
    kernels = request.getfixturevalue("kernels") if is_native else None
    cell = cells.GradientOf(CTCLoss(0, Backend(kernels), consistency_weight=weight))
    inputs = [*cells.floats((None, None, SIZE), ()), cells.integers(None), cells.integers(None, None)]
    cell.set_inputs(*inputs, cells.integers(None))
    logits = 2 * np.random.default_rng(2).normal(size=(6, 6, SIZE)).astype(np.float32)
    lengths, label_lengths = (np.insert(array[rows], [2, 4], 0) for array in (LENGTHS, LABEL_LENGTHS))
    labels = np.insert(lay_out(0, 0)[rows], [2, 4], 0, axis=0)
    loss, gradient = cells.run(cell, logits, np.float32(1), lengths, labels, label_lengths)[:2]

    plain = losses.compute(0, logits, lengths, labels, label_lengths)
    expected_gradient = losses.differentiate(0, logits, lengths, labels, label_lengths).astype(np.float64)
    divergence = 0.0
    for row in (0, 1, 3, 4):
        for frame in range(lengths[row]):
            mine, others = (
                reference.log_softmax(logits[frame, which].astype(np.float64)) for which in (row, (row + 3) % 6)
            )
            divergence += (np.exp(others) * (others - mine)).sum()
            expected_gradient[frame, row] += weight * (np.exp(mine) - np.exp(others)) / 4
    assert divergence > 1
    assert loss == pytest.approx(plain + weight * divergence / 4, rel=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-5)


def test_equal_views_have_the_loss_of_one() -> None:
    from mindaudio_ds2.training.compiled.loss import CTCLoss
    from tests import cells

    twice = [np.concatenate([array, array], axis) for array, axis in ((LOGITS, 1), (LENGTHS, 0), (lay_out(0, 0), 0))]
    loss = cells.run(CTCLoss(0, consistency_weight=10.0), *twice, np.concatenate([LABEL_LENGTHS, LABEL_LENGTHS]))[0]
    assert loss == pytest.approx(enumerate_mean(LOGITS, 0), rel=1e-5)


# A teacher ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consistency_weight", [0.0, 0.3], ids=["one view", "two views"])
def test_a_teacher_takes_its_share_of_the_loss_and_counts_as_given(consistency_weight: float, losses: Losses) -> None:
    """Value and gradient by loops over frames, in float64; nothing comes from, or goes to, padding or empty rows.

    The divergence between two views comes on top, for both terms of the loss alike.
    """
    from mindaudio_ds2.training.compiled.loss import CTCLoss
    from tests import cells

    share, num_rows = 0.4, 6
    cell = cells.GradientOf(CTCLoss(0, consistency_weight=consistency_weight, teacher_weight=share))
    inputs = [*cells.floats((None, None, SIZE), ()), cells.integers(None), cells.integers(None, None)]
    cell.set_inputs(*inputs, cells.integers(None), inputs[0])
    logits, taught = 2 * np.random.default_rng(4).normal(size=(2, 6, num_rows, SIZE)).astype(np.float32)
    lengths, label_lengths = (np.insert(array[[0, 1, 0, 1]], [2, 4], 0) for array in (LENGTHS, LABEL_LENGTHS))
    labels = np.insert(lay_out(0, 0)[[0, 1, 0, 1]], [2, 4], 0, axis=0)
    loss, gradient = cells.run(cell, logits, np.float32(1), lengths, labels, label_lengths, taught)[:2]

    given, mine = (reference.log_softmax(each.astype(np.float64)) for each in (taught, logits))
    expected = (1 - share) * losses.compute(0, logits, lengths, labels, label_lengths)
    slopes = (1 - share) * losses.differentiate(0, logits, lengths, labels, label_lengths).astype(np.float64)
    for row in (0, 1, 3, 4):
        for frame in range(lengths[row]):
            here = (frame, row)
            for weight, source in ((share, given[here]), (consistency_weight, mine[frame, (row + 3) % num_rows])):
                expected += weight * (np.exp(source) * (source - mine[here])).sum() / 4
                slopes[here] += weight * (np.exp(mine[here]) - np.exp(source)) / 4
    assert loss == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient, slopes, atol=2e-5)
