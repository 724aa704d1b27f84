"""A training step: it learns, changes what it should, and changes nothing where something is not finite."""

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import PrecisionConfig
from mindaudio_ds2.decoding.greedy import decode_greedy
from mindaudio_ds2.decoding.metrics import ErrorCounts, count_errors
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.training_config import OptimizerConfig
from tests import reference

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

TOKENIZER = Tokenizer(TextConfig("ABC ", "first", "upper", "error"))
TRANSCRIPTS = ["AB", "BA C", "CCA", "ABBA", "C", "B AB", "AA", "CAB"]
OPTIMIZER = OptimizerConfig(
    "adamw", betas=(0.9, 0.99), momentum=0.9, epsilon=1e-8, weight_decay=1e-2, max_gradient_norm=1e6
)
UNSCALED = PrecisionConfig("fp32", loss_scale=1.0, loss_scale_window=0)
Batch = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


class Training:
    """A step with a small network; `reset` takes both back to where they began."""

    def __init__(self, max_gradient_norm: float, precision: PrecisionConfig = UNSCALED) -> None:
        from mindaudio_ds2.training.compiled.loss import CTCLoss
        from mindaudio_ds2.training.compiled.loss_scale import LossScale
        from mindaudio_ds2.training.compiled.optimizer import Adam
        from mindaudio_ds2.training.compiled.step import TrainStep
        from tests import cells

        gc.collect()  # MindSpore forgets what it compiled for equal shapes when an older Cell is freed
        self.network = cells.make_network(rnn_hidden_size=16)
        self.optimizer = Adam(self.network.trainable_params(), OPTIMIZER)
        loss = CTCLoss(TOKENIZER.blank_id)
        self.step = TrainStep(self.network, loss, self.optimizer, max_gradient_norm, LossScale(precision))
        self.step.open_shapes(cells.NUM_BINS)
        self.step.set_train(True)
        self.start = cells.read(self.step)

    def reset(self) -> None:
        from tests import cells

        cells.write(self.step, self.start)

    def take(self, batch: Batch, rate: float = 1e-3) -> tuple[float, float, bool]:
        """Loss, gradient norm and whether the step was made."""
        from tests import cells

        outputs = cells.run(self.step, *batch, np.float32(rate))
        loss, norm, is_finite, self.has_overflowed = (output.item() for output in outputs)
        return loss, norm, is_finite

    def read(self) -> dict[str, NDArray[np.float32]]:
        """Weights, running statistics and the optimiser's state; not what is only passed on within a step."""
        parts = {**self.network.weights(), **self.optimizer.state()}
        return {name: parameter.asnumpy().copy() for name, parameter in parts.items()}


@pytest.fixture(scope="module")
def shared_training(mindspore_cpu: None) -> Training:
    return Training(OPTIMIZER.max_gradient_norm)


@pytest.fixture
def training(shared_training: Training) -> Iterator[Training]:
    shared_training.reset()
    yield shared_training
    assert len(shared_training.step.compile_cache) <= 1, "a step must be compiled once, whatever the shapes"


def make_batch(rows: list[int], num_frames: int = 0, noise: float = 0.1) -> Batch:
    """Some of eight utterances in which each character is a pattern of its own, four frames long, after two of hush."""
    generator = np.random.default_rng(0)
    patterns = generator.normal(size=(TOKENIZER.size, 9)).astype(np.float32)
    labels = [TOKENIZER.encode(transcript) for transcript in TRANSCRIPTS]
    spoken = []
    for ids in labels:
        frames = np.repeat([0, *[each for label in ids for each in (label, 0)]], 4)
        spoken.append(patterns[frames] + noise * generator.normal(size=(len(frames), 9)).astype(np.float32))
    spoken, labels = [spoken[row] for row in rows], [labels[row] for row in rows]
    features = np.zeros((len(rows), max(num_frames, *map(len, spoken)), 9), np.float32)
    padded = np.zeros((len(rows), max(map(len, labels))), np.int32)
    for row, (utterance, ids) in enumerate(zip(spoken, labels, strict=True)):
        features[row, : len(utterance)] = utterance
        padded[row, : len(ids)] = ids
    lengths = ([len(each) for each in many] for many in (spoken, labels))
    feature_lengths, label_lengths = (np.array(each, np.int32) for each in lengths)
    return features, feature_lengths, padded, label_lengths


ALL = list(range(len(TRANSCRIPTS)))


def test_eight_utterances_are_learned_by_heart(training: Training) -> None:
    from mindaudio_ds2.model.deepspeech2 import Recognizer, feature_signature
    from tests import cells

    batch = make_batch(ALL)
    first = training.take(batch, rate=0.02)[0]
    for _ in range(80):
        last = training.take(batch, rate=0.02)[0]
    assert last < 0.05 < 5 < first
    recognizer = Recognizer(training.network)
    recognizer.set_inputs(*feature_signature(cells.NUM_BINS))
    recognizer.set_train(False)
    log_probs, lengths = cells.run(recognizer, *batch[:2])
    counts = ErrorCounts()
    for hypothesis, transcript in zip(decode_greedy(log_probs, lengths, TOKENIZER, 0.02), TRANSCRIPTS, strict=True):
        counts += count_errors(transcript, hypothesis.text)
    assert counts.num_characters == sum(map(len, TRANSCRIPTS))
    assert counts.cer == 0


def test_one_step_changes_every_weight_and_statistic(training: Training) -> None:
    before = training.read()
    _, _, is_finite = training.take(make_batch(ALL))
    assert is_finite is True
    after = training.read()
    assert len(after) == len(training.network.weights()) + 2 * len(training.network.trainable_params()) + 2
    for name, array in after.items():
        assert not np.array_equal(array, before[name]), name
        assert np.isfinite(array).all(), name


def test_the_loss_is_that_before_the_update_and_falls_with_it(training: Training) -> None:
    batch = make_batch(ALL)
    first, _, _ = training.take(batch, rate=0.0)
    again, _, _ = training.take(batch, rate=1e-4)
    later, _, _ = training.take(batch, rate=0.0)
    assert first == again
    assert later < again


def test_the_running_statistics_are_those_of_the_second_implementation(training: Training) -> None:
    """After two steps, since a statistic that is taken over too early or too late would only then show."""
    from tests import cells

    batches = [make_batch([0, 3, 5]), make_batch([1, 2], noise=0.5)]
    expected = cells.read(training.network)
    for batch in batches:
        training.take(batch, rate=0.0)
        utterances = [features[:length] for features, length in zip(batch[0], batch[1], strict=True)]
        _, statistics = reference.recognise(expected, cells.SMALL, utterances, in_training=True)
        prefixes = ["convs.0.batch_norm", "convs.1.batch_norm", "rnn_batch_norms.0", "head_batch_norm"]
        for prefix, pair in zip(prefixes, statistics, strict=True):
            for kind, statistic in zip(("mean", "variance"), pair, strict=True):
                old = expected[f"{prefix}.moving_{kind}"]
                expected[f"{prefix}.moving_{kind}"] = (0.9 * old + 0.1 * statistic).astype(np.float32)
    after = training.read()
    for name in training.network.weights():
        np.testing.assert_allclose(after[name], expected[name], atol=1e-5, err_msg=name)


def spoil_features(batch: Batch, value: float) -> Batch:
    features = batch[0].copy()
    features[1, 2, 3] = value
    return features, *batch[1:]


def spoil_labels(batch: Batch) -> Batch:
    """More labels than the second utterance has output frames."""
    lengths = batch[1].copy()
    lengths[1] = 2
    return batch[0], lengths, *batch[2:]


def spoil_repeats(batch: Batch) -> Batch:
    """Four equal labels in four output frames: none is left for the blanks between them."""
    lengths, labels, label_lengths = batch[1].copy(), batch[2].copy(), batch[3].copy()
    lengths[1], labels[1], label_lengths[1] = 8, 1, 4
    return batch[0], lengths, labels, label_lengths


@pytest.mark.parametrize(
    "spoil",
    [
        lambda batch: spoil_features(batch, np.nan),
        lambda batch: spoil_features(batch, np.inf),
        lambda batch: spoil_features(batch, 3e38),
        lambda batch: spoil_features(batch, 1e30),
        spoil_labels,
        spoil_repeats,
    ],
    ids=["NaN", "infinity", "overflow", "overflow of a variance", "more labels than frames", "repeats without room"],
)
def test_a_step_that_is_not_finite_says_so_and_changes_nothing(training: Training, spoil: Any) -> None:
    good = make_batch([0, 3, 5])
    training.take(good)
    before = training.read()
    _, _, is_finite = training.take(spoil(good))
    assert is_finite is False
    for name, array in training.read().items():
        assert np.array_equal(array, before[name]), name


def test_a_step_after_one_that_was_not_finite_is_as_if_that_had_never_been(training: Training) -> None:
    good, other = make_batch([0, 3, 5]), make_batch([1, 2])
    for batch in (good, other):
        training.take(batch)
    expected = training.read()
    training.reset()
    for batch in (good, spoil_features(good, np.nan), other):
        training.take(batch)
    for name, array in training.read().items():
        assert np.array_equal(array, expected[name]), name


def test_the_order_of_a_batch_does_not_matter(training: Training) -> None:
    numbers, states = [], []
    for rows in (ALL, ALL[::-1]):
        training.reset()
        numbers.append(training.take(make_batch(rows)))
        states.append(training.read())
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)
    for name, array in states[0].items():
        if "moment" not in name:
            continue
        np.testing.assert_allclose(states[1][name], array, atol=1e-5, rtol=1e-3, err_msg=name)


def test_padding_does_not_change_a_step(training: Training) -> None:
    numbers, states = [], []
    for num_frames in (0, 75):
        training.reset()
        numbers.append(training.take(make_batch(ALL, num_frames)))
        states.append(training.read())
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, atol=2e-5, rtol=1e-3, err_msg=name)


def test_empty_rows_do_not_change_a_step(training: Training) -> None:
    """As a batch of a fixed shape has them; its frames and labels reach further, too."""
    features, lengths, labels, label_lengths = make_batch([0, 3, 5])
    padded = (
        np.pad(features, ((0, 4), (0, 9), (0, 0))),
        np.pad(lengths, (0, 4)),
        np.pad(labels, ((0, 4), (0, 3))),
        np.pad(label_lengths, (0, 4)),
    )
    numbers, states = [], []
    for batch in ((features, lengths, labels, label_lengths), padded):
        training.reset()
        numbers.append(training.take(batch))
        states.append(training.read())
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)
    for name, array in states[0].items():
        np.testing.assert_allclose(states[1][name], array, atol=2e-5, rtol=1e-3, err_msg=name)


def test_any_shape_runs_without_compiling_again(training: Training) -> None:
    for rows, num_frames in (([0], 0), ([3, 1], 41), (ALL, 60), ([2, 5, 7], 0), ([6] * 12, 33)):
        assert training.take(make_batch(rows, num_frames))[2]
        assert len(training.step.compile_cache) == 1


def test_without_open_shapes_each_shape_is_compiled() -> None:
    """Else the count of the test above would mean nothing."""
    from tests import cells

    norm = cells.make_network().head_batch_norm
    assert norm is not None
    norm.set_train(False)
    for num_frames in (3, 4):
        x, mask = np.ones((num_frames, 1, 8), np.float32), np.ones((num_frames, 1, 1), np.float32)
        cells.run(norm, x, np.array([num_frames], np.int32), mask, np.float32(num_frames))
    assert len(norm.compile_cache) == 2


# Clipping -------------------------------------------------------------------------------------------------------------


def find_gradients(training: Training) -> dict[str, NDArray[np.float32]]:
    """What a first step handed to the optimiser: its running mean, which began at 0, holds a tenth of it."""
    return {name: array / 0.1 for name, array in training.read().items() if name.startswith("moment1.")}


def norm_of(gradients: dict[str, NDArray[np.float32]]) -> float:
    return float(np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in gradients.values())))


def test_a_large_gradient_is_scaled_to_the_largest_norm_and_a_small_one_left_alone(training: Training) -> None:
    from tests import cells

    batch = make_batch(ALL)
    _, norm, _ = training.take(batch)
    plain = find_gradients(training)
    assert norm_of(plain) == pytest.approx(norm, rel=1e-5)

    clipping = Training(max_gradient_norm=norm / 50)
    cells.write(clipping.step, training.start)
    assert clipping.take(batch)[1] == pytest.approx(norm, rel=1e-6)
    clipped = find_gradients(clipping)
    assert norm_of(clipped) == pytest.approx(norm / 50, rel=1e-5)
    for name, array in clipped.items():
        np.testing.assert_allclose(array, plain[name] / 50, atol=1e-5 * norm, rtol=1e-4, err_msg=name)


def test_decay_and_rate_of_a_step_are_those_of_the_optimizer(training: Training) -> None:
    """The new weights follow from the old ones and the gradient by the second implementation of AdamW."""
    before, rate = training.read(), 3e-3
    training.take(make_batch(ALL), rate)
    after, gradients = training.read(), find_gradients(training)
    names = [name for name, weight in training.network.weights().items() if weight.requires_grad]
    second = reference.Adam([before[name].astype(np.float64) for name in names], OPTIMIZER.betas, 1e-8, 1e-2, True)
    second.step([gradients[f"moment1.{i}"].astype(np.float64) for i in range(len(names))], rate)
    for name, expected in zip(names, second.weights, strict=True):
        np.testing.assert_allclose(after[name], expected, atol=2e-6, rtol=1e-5, err_msg=name)
