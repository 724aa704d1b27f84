"""The whole network against a second implementation that takes utterances one by one, so that it knows no padding."""

import dataclasses
import gc
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.network_config import ModelConfig
from tests import reference

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

DEFAULT_YAML = Path(__file__).resolve().parent.parent.parent / "hparams" / "deepspeech2.yaml"

# MindSpore unrolls a GRU into the graph, so it gets short utterances and a network of few parts.
VARIANTS: dict[str, dict[str, Any]] = {
    "lstm, both directions": {},
    "lstm, lookahead, tanh, biases": {
        "bidirectional": False,
        "activation": "tanh",
        "conv_bias": True,
        "head_bias": True,
    },
    "lstm, no norms, other strides": {
        "rnn_batch_norm": False,
        "head_batch_norm": False,
        "rnn_num_layers": 3,
        "conv_stride_time": [1, 3],
    },
    "gru, both directions": {"rnn_type": "gru", "rnn_num_layers": 1},
    "gru, lookahead": {"rnn_type": "gru", "rnn_num_layers": 1, "bidirectional": False, "conv_stride_time": [2, 2]},
}
NUM_FRAMES = {"lstm": [34, 21, 26], "gru": [9, 5, 7]}


class Case:
    """A network of one kind, a batch for it, and the same batch with more padding, which is noise in either."""

    def __init__(self, changes: dict[str, Any]) -> None:
        from mindaudio_ds2.model.deepspeech2 import feature_signature
        from tests import cells

        gc.collect()  # MindSpore forgets what it compiled for equal shapes when an older Cell is freed
        generator = np.random.default_rng(8)
        self.config = dataclasses.replace(cells.SMALL, **changes)
        self.network = cells.make_network(**changes)
        self.weights = cells.read(self.network)
        self.trained = cells.LossAndGradients(self.network)
        if self.config.rnn_type == "lstm":
            self.network.set_inputs(*feature_signature(cells.NUM_BINS))
            self.trained.set_inputs(
                *feature_signature(cells.NUM_BINS), cells.integers(None, None), cells.integers(None)
            )
        num_frames = NUM_FRAMES[self.config.rnn_type]
        self.utterances = [generator.normal(size=(n, cells.NUM_BINS)).astype(np.float32) for n in num_frames]
        self.labels = np.array([[1, 2, 2], [3, 0, 0], [4, 3, 0]], np.int32)
        self.label_lengths = np.array([2, 1, 2], np.int32)

    def pad(self, num_frames: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Features (B, num_frames, F) with loud noise beyond the lengths, and the lengths."""
        generator = np.random.default_rng(num_frames)
        features = 100 * generator.normal(size=(3, num_frames, self.utterances[0].shape[1])).astype(np.float32)
        for row, utterance in enumerate(self.utterances):
            features[row, : len(utterance)] = utterance
        return features, np.array([len(utterance) for utterance in self.utterances], np.int32)

    @property
    def longest(self) -> int:
        return max(map(len, self.utterances))

    def recognise(self, features: NDArray[np.float32], lengths: NDArray[np.int32]) -> list[NDArray[np.float32]]:
        """Logits (S, V) of each utterance, without what stands beyond its length."""
        from tests import cells

        self.network.set_train(False)
        logits, logit_lengths = cells.run(self.network, features, lengths)
        expected = [self.config.num_output_frames(int(length)) for length in lengths]
        assert logit_lengths.tolist() == expected
        return [logits[:length, row] for row, length in enumerate(logit_lengths)]

    def differentiate(self, num_frames: int) -> tuple[list[NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """Loss and gradients of the padded batch; and everything in the network after it."""
        from tests import cells

        self.trained.set_train(True)
        outputs = cells.run(self.trained, *self.pad(num_frames), self.labels, self.label_lengths)
        return outputs, cells.read(self.network)

    def gradient_names(self) -> list[str]:
        return [name for name, parameter in self.network.parameters_and_names() if parameter.requires_grad]


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=list(VARIANTS))
def case(request: pytest.FixtureRequest, mindspore_cpu: None) -> Case:
    return Case(request.param)


def test_logits_are_those_of_the_second_implementation(case: Case) -> None:
    expected, _ = reference.recognise(case.weights, case.config, case.utterances, in_training=False)
    actual = case.recognise(*case.pad(case.longest))
    for logits, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_padding_does_not_change_logits(case: Case) -> None:
    features, lengths = case.pad(case.longest)
    longer, _ = case.pad(case.longest + 4)
    for logits, wanted in zip(case.recognise(longer, lengths), case.recognise(features, lengths), strict=True):
        np.testing.assert_allclose(logits, wanted, atol=1e-6)


def test_batch_mates_do_not_change_logits(case: Case) -> None:
    features, lengths = case.pad(case.longest)
    together = case.recognise(features, lengths)
    alone = case.recognise(case.utterances[0][None], lengths[:1])
    np.testing.assert_allclose(together[0], alone[0], atol=1e-6)


def test_training_statistics_are_those_of_the_second_implementation(case: Case) -> None:
    """That of the last norm depends on all layers before it, so the forward pass of training is right up to there."""
    _, statistics = reference.recognise(case.weights, case.config, case.utterances, in_training=True)
    _, after = case.differentiate(case.longest)
    prefixes = [name.removesuffix("next_mean") for name in after if name.endswith("next_mean")]
    order = sorted(prefixes, key=lambda prefix: (["convs", "rnn_b", "head_"].index(prefix[:5]), prefix))
    for prefix, (mean, variance) in zip(order, statistics, strict=True):
        for kind, statistic in (("mean", mean), ("variance", variance)):
            expected = 0.9 * case.weights[f"{prefix}moving_{kind}"] + 0.1 * statistic
            np.testing.assert_allclose(after[f"{prefix}next_{kind}"], expected, atol=1e-5, err_msg=prefix + kind)


def test_padding_changes_neither_loss_nor_gradients_nor_training_statistics(case: Case) -> None:
    outputs, after = case.differentiate(case.longest)
    longer_outputs, longer_after = case.differentiate(case.longest + 4)
    assert len(outputs) == 1 + len(case.gradient_names())
    for name, longer, wanted in zip(["loss", *case.gradient_names()], longer_outputs, outputs, strict=True):
        np.testing.assert_allclose(longer, wanted, atol=1e-5, rtol=1e-4, err_msg=name)
    for name, wanted in after.items():
        np.testing.assert_allclose(longer_after[name], wanted, atol=1e-5, err_msg=name)


def test_the_gradient_reaches_every_parameter_but_a_bias_that_a_norm_subtracts(case: Case) -> None:
    outputs, _ = case.differentiate(case.longest)
    for name, gradient in zip(case.gradient_names(), outputs[1:], strict=True):
        if name.endswith("conv.bias"):
            assert np.abs(gradient).max() < 1e-4
        else:
            assert np.abs(gradient).max() > 1e-4, name


def test_gradients_are_slopes_of_the_loss(case: Case) -> None:
    """Along one random direction in the space of all weights, by the network's own loss a little to both sides."""
    from tests import cells

    outputs, _ = case.differentiate(case.longest)
    generator = np.random.default_rng(2)
    gradients = dict(zip(case.gradient_names(), outputs[1:], strict=True))
    steps = {
        name: np.sign(gradient) * generator.uniform(0.5, 1.5, gradient.shape) for name, gradient in gradients.items()
    }
    distance = 1e-4
    losses = []
    for side in (distance, -distance):
        cells.write(case.network, {name: case.weights[name] + side * step for name, step in steps.items()})
        losses.append(float(case.differentiate(case.longest)[0][0]))
    cells.write(case.network, case.weights)
    slope = sum(float((steps[name] * gradient).sum()) for name, gradient in gradients.items())
    assert (losses[0] - losses[1]) / (2 * distance) == pytest.approx(slope, rel=0.02)


def test_a_recognizer_gives_log_probabilities_with_the_batch_first(mindspore_cpu: None) -> None:
    from mindaudio_ds2.model.deepspeech2 import Recognizer
    from tests import cells

    case = Case({})
    features, lengths = case.pad(case.longest)
    logits = case.recognise(features, lengths)
    recognizer = Recognizer(case.network)
    recognizer.set_train(False)
    log_probs, log_prob_lengths = cells.run(recognizer, features, lengths)
    assert log_probs.shape == (3, case.config.num_output_frames(case.longest), cells.ALPHABET_SIZE)
    for row, length in enumerate(log_prob_lengths):
        wanted = reference.log_softmax(logits[row].astype(np.float64))
        np.testing.assert_allclose(log_probs[row, :length], wanted, atol=1e-5)


# What it is made of ---------------------------------------------------------------------------------------------------


def make(config: ModelConfig, num_bins: int = 161, alphabet_size: int = 29) -> Any:
    from mindaudio_ds2.model.deepspeech2 import DeepSpeech2

    return DeepSpeech2(config, num_bins, alphabet_size)


NORM = ("gamma", "beta", "moving_mean", "moving_variance")
RNN = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def test_the_names_of_weights_stay_as_they_are() -> None:
    """Checkpoints are read by these names: whoever changes one must also change the checkpoint's format version."""
    from tests import cells

    expected = {f"convs.{i}.conv.weight" for i in range(2)} | {"head.weight"}
    expected |= {f"convs.{i}.batch_norm.{name}" for i in range(2) for name in NORM}
    expected |= {f"rnns.{i}.{way}_rnn.{name}" for i in range(2) for way in ("forward", "backward") for name in RNN}
    expected |= {f"rnn_batch_norms.0.{name}" for name in NORM} | {f"head_batch_norm.{name}" for name in NORM}
    network = make(cells.SMALL)
    assert set(network.weights()) == expected
    switched = make(dataclasses.replace(cells.SMALL, conv_bias=True, head_bias=True, bidirectional=False))
    expected = {name for name in expected if "backward" not in name}
    expected |= {"convs.0.conv.bias", "convs.1.conv.bias", "head.bias", "lookahead.conv.weight"}
    assert set(switched.weights()) == expected


@pytest.mark.parametrize("rnn_type", ["lstm", "gru"])
def test_recurrent_weights_begin_as_they_are_told(rnn_type: str) -> None:
    from tests import cells

    size, num_gates = 24, 4 if rnn_type == "lstm" else 3
    shape: dict[str, Any] = {"rnn_type": rnn_type, "rnn_hidden_size": size}
    uniform = cells.read(make(dataclasses.replace(cells.SMALL, **shape)))
    orthogonal = cells.read(make(dataclasses.replace(cells.SMALL, **shape, rnn_initialization="orthogonal")))
    names = [name for name in uniform if name.startswith("rnns.")]
    assert len(names) == 16
    for name in names:
        before, now, kind = uniform[name], orthogonal[name], name.split(".")[-1]
        assert 0.8 / np.sqrt(size) < np.abs(before).max() <= 1 / np.sqrt(size)
        assert now.shape == before.shape
        assert now.dtype == np.float32
        gates = now.reshape(num_gates, size, *now.shape[1:])
        if kind == "weight_hh_l0":
            for gate in gates:
                np.testing.assert_allclose(gate @ gate.T, np.eye(size), atol=1e-5)
            assert not np.allclose(gates[0], gates[1])
        elif kind == "weight_ih_l0":
            limit = np.sqrt(6 / (size + now.shape[1]))
            assert 0.9 * limit < np.abs(now).max() <= limit
            assert abs(now.mean()) < 0.1 * limit
        elif kind == "bias_ih_l0" and rnn_type == "lstm":
            assert [set(gate.tolist()) for gate in gates] == [{0.0}, {1.0}, {0.0}, {0.0}], "the forget gate is open"
        else:
            assert not now.any()


def test_weights_keep_their_names_inside_other_cells() -> None:
    from mindaudio_ds2.model.deepspeech2 import Recognizer
    from tests import cells

    network = make(cells.SMALL)
    before = list(network.weights())
    wrapped = (Recognizer(network), cells.LossAndGradients(network))
    assert list(network.weights()) == before
    assert wrapped


def test_the_network_for_librispeech_has_the_size_it_should_have() -> None:
    from mindaudio_ds2.model.deepspeech2 import count_parameters

    config = read_config(DEFAULT_YAML).model
    hidden, rnn_input = 1024, 32 * 41
    convolutions = 32 * 41 * 11 + 32 * 32 * 21 * 11 + 2 * 2 * 32
    first, later = (2 * 4 * hidden * (size + hidden + 2) for size in (rnn_input, hidden))
    head = 2 * hidden + 29 * hidden
    expected = convolutions + first + 4 * (later + 2 * hidden) + head
    assert expected == 86_618_336
    assert count_parameters(make(config)) == expected


def test_weights_start_where_the_documentation_says() -> None:
    from tests import cells

    config = dataclasses.replace(cells.SMALL, conv_channels=[8, 8], rnn_hidden_size=16, bidirectional=False)
    arrays = cells.read(make(config))
    fan_in = {"convs.0.conv.weight": 25, "convs.1.conv.weight": 8 * 9, "head.weight": 16, "lookahead.conv.weight": 3}
    fan_in |= {name: 16 for name in arrays if name.startswith("rnns.")}
    for name, size in fan_in.items():
        limit = 1 / math.sqrt(size)
        assert 0.8 * limit < np.abs(arrays[name]).max() <= limit, name
        assert arrays[name].std() == pytest.approx(limit / math.sqrt(3), rel=0.25), name
    for name, start in (("gamma", 1), ("beta", 0), ("moving_mean", 0), ("moving_variance", 1)):
        assert all((array == start).all() for key, array in arrays.items() if key.endswith(f".{name}"))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    import mindspore as ms

    from tests import cells

    def draw(seed: int) -> dict[str, NDArray[np.float32]]:
        ms.set_seed(seed)
        return cells.read(make(cells.SMALL))

    first, again, other = draw(3), draw(3), draw(4)
    drawn = [name for name in first if "conv.weight" in name or "rnns." in name or name == "head.weight"]
    assert len(drawn) == 2 + 16 + 1
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in drawn)
