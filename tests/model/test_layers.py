"""The layers against NumPy, against PyTorch's stored numbers, and against themselves with more padding."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.machine.backend import Backend
from tests import reference

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

TORCH = np.load(Path(__file__).resolve().parent.parent / "data" / "torch_numbers.npz")


def make_rows(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return generator.normal(size=shape).astype(np.float32)


def test_the_mask_is_one_up_to_each_length() -> None:
    from mindspore import Tensor

    from mindaudio_ds2.model.masked_norm import make_mask

    mask = make_mask(Tensor(np.array([3, 0, 5], np.int32)), 5).asnumpy()
    assert mask.dtype == np.float32
    assert mask.tolist() == [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]


# Convolutions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strides", [(1, 2), (2, 1), (2, 2), (3, 1)])
def test_output_lengths_are_those_of_the_real_convolutions_for_1_to_200_frames(strides: tuple[int, int]) -> None:
    from tests import cells

    config = dataclasses.replace(cells.SMALL, conv_stride_time=list(strides))
    convolutions = cells.Convolutions(cells.make_network(conv_stride_time=list(strides)))
    convolutions.set_train(False)
    convolutions.set_inputs(*cells.floats((None, 1, cells.NUM_BINS, None)), cells.integers(None))
    lengths = np.arange(1, 201, dtype=np.int32)
    for num_frames in lengths:
        x = np.zeros((1, 1, cells.NUM_BINS, num_frames), np.float32)
        output, output_lengths = cells.run(convolutions, x, lengths[num_frames - 1 : num_frames])
        assert output.shape[2] == config.num_output_bins(cells.NUM_BINS)
        assert output.shape[3] == output_lengths[0] == config.num_output_frames(int(num_frames))
    _, output_lengths = cells.run(convolutions, np.zeros((200, 1, cells.NUM_BINS, 200), np.float32), lengths)
    assert output_lengths.tolist() == [config.num_output_frames(int(length)) for length in lengths]


def test_convolutions_leave_nothing_beyond_a_length() -> None:
    from tests import cells

    convolutions = cells.Convolutions(cells.make_network())
    convolutions.set_train(False)
    x = make_rows(np.random.default_rng(0), (3, 1, cells.NUM_BINS, 21))
    output, lengths = cells.run(convolutions, x, np.array([21, 8, 1], np.int32))
    for row, length in zip(output, lengths, strict=True):
        assert not row[:, :, length:].any()
        assert row[:, :, :length].any()


# Batch norm -----------------------------------------------------------------------------------------------------------

LAYOUTS = pytest.mark.parametrize("features_last", [True, False], ids=["(S, B, H)", "(B, C, F, S)"])


class NormCase:
    """Three utterances of 6, 1 and 4 frames in one of the two layouts, with something else beyond the lengths."""

    def __init__(self, features_last: bool) -> None:
        from tests import cells

        generator = np.random.default_rng(3)
        self.features_last = features_last
        self.axis = 2 if features_last else 1
        self.lengths = np.array([6, 1, 4], np.int32)
        self.x = 2 + 3 * make_rows(generator, (6, 3, 4) if features_last else (3, 4, 2, 6))
        self.mask = np.zeros((6, 3, 1) if features_last else (3, 1, 1, 6), np.float32)
        for row in range(3):
            self.utterance(self.mask, row)[...] = 1
        self.num_valid = np.float32(sum(self.lengths) * (1 if features_last else 2))
        self.weights = {
            "gamma": generator.uniform(0.5, 1.5, 4).astype(np.float32),
            "beta": make_rows(generator, (4,)),
            "moving_mean": make_rows(generator, (4,)),
            "moving_variance": generator.uniform(0.5, 2, 4).astype(np.float32),
            "next_mean": np.full(4, np.nan, np.float32),
            "next_variance": np.full(4, np.nan, np.float32),
        }
        from mindaudio_ds2.model.masked_norm import MaskedBatchNorm

        self.norm = MaskedBatchNorm(4, features_last, 0.75, 1e-3)
        cells.write(self.norm, self.weights)

    def utterance(self, array: NDArray[Any], row: int) -> NDArray[Any]:
        """The real part of one utterance, as a view: (S, H) or (C, F, S)."""
        length = self.lengths[row]
        return array[:length, row] if self.features_last else array[row, :, :, :length]

    def run(self, in_training: bool) -> NDArray[np.float32]:
        from tests import cells

        self.norm.set_train(in_training)
        return cells.run(self.norm, self.x, self.lengths, self.mask, self.num_valid)[0]

    def expect(self, in_training: bool) -> tuple[list[reference.Array], reference.Statistics]:
        weights = {f"norm.{name}": array for name, array in self.weights.items()}
        normalise = reference.Normaliser(weights, 1e-3, in_training)
        utterances = [self.utterance(self.x, row).astype(np.float64) for row in range(3)]
        return normalise(utterances, "norm", 1 if self.features_last else 0), normalise.statistics


@LAYOUTS
@pytest.mark.parametrize("in_training", [True, False], ids=["training", "evaluation"])
def test_batch_norm_sees_the_real_frames_only(features_last: bool, in_training: bool) -> None:
    case = NormCase(features_last)
    output = case.run(in_training)
    for row, expected in enumerate(case.expect(in_training)[0]):
        np.testing.assert_allclose(case.utterance(output, row), expected, atol=2e-6)
    assert not (output * (1 - case.mask)).any()


@LAYOUTS
def test_batch_norm_leaves_new_running_statistics_aside(features_last: bool) -> None:
    from tests import cells

    case = NormCase(features_last)
    case.run(in_training=True)
    mean, variance = case.expect(in_training=True)[1][0]
    after = cells.read(case.norm)
    np.testing.assert_allclose(after["next_mean"], 0.75 * case.weights["moving_mean"] + 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(
        after["next_variance"], 0.75 * case.weights["moving_variance"] + 0.25 * variance, rtol=1e-5
    )
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        assert np.array_equal(after[name], case.weights[name])


@LAYOUTS
def test_the_gradient_of_batch_norm_is_the_slope(features_last: bool) -> None:
    """By finite differences of the NumPy implementation, for the input and for gamma and beta."""
    from tests import cells

    case = NormCase(features_last)
    cotangent = make_rows(np.random.default_rng(4), case.x.shape)
    gradient_of = cells.GradientOf(case.norm)
    gradient_of.set_train()
    actual = cells.run(gradient_of, case.x, cotangent, case.lengths, case.mask, case.num_valid)[1:]

    def score() -> float:
        normalised = case.expect(in_training=True)[0]
        return sum(float((case.utterance(cotangent, row) * x).sum()) for row, x in enumerate(normalised))

    case.x, case.weights = case.x.astype(np.float64), {k: v.astype(np.float64) for k, v in case.weights.items()}
    arrays = (case.x, case.weights["gamma"], case.weights["beta"])
    for gradient, array in zip(actual, arrays, strict=True):
        np.testing.assert_allclose(gradient, reference.find_slopes(score, array), atol=1e-4)
    assert not (actual[0] * (1 - case.mask)).any()


# Recurrent layers -----------------------------------------------------------------------------------------------------


def make_recurrent(kind: str, bidirectional: bool) -> Any:
    """A layer of 3 inputs and H = 4 with the weights of PyTorch's; PyTorch stacks the gates in the same order."""
    from mindaudio_ds2.model.layers import Recurrent
    from tests import cells

    layer = Recurrent(kind, 3, 4, bidirectional)
    weights = {f"forward_rnn.{name}_l0": TORCH[f"{kind}_{name}_l0"] for name in RNN_WEIGHTS}
    if bidirectional:
        weights |= {f"backward_rnn.{name}_l0": TORCH[f"{kind}_{name}_l0_reverse"] for name in RNN_WEIGHTS}
    cells.write(layer, weights)
    return layer


RNN_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
KINDS = pytest.mark.parametrize("kind", ["lstm", "gru"])


def is_real(lengths: NDArray[Any]) -> NDArray[np.bool_]:
    """(S, B), S as in PyTorch's example."""
    return np.arange(len(TORCH["rnn_x"]))[:, None] < lengths


@KINDS
def test_both_directions_summed_give_pytorchs_outputs_and_gradients(kind: str) -> None:
    """PyTorch ran on a packed sequence, so it never saw the padding; here there is noise."""
    from tests import cells

    layer = make_recurrent(kind, bidirectional=True)
    lengths = TORCH["rnn_lengths"].astype(np.int32)
    valid = is_real(lengths)
    x = np.where(valid[..., None], TORCH["rnn_x"], 50).astype(np.float32)
    gradient_of = cells.GradientOf(layer)
    gradient_of.set_train()
    value, *gradients = cells.run(gradient_of, x, TORCH["rnn_cotangent"], lengths)
    np.testing.assert_allclose(value, (TORCH[f"{kind}_output"] * TORCH["rnn_cotangent"]).sum(), rtol=1e-5)
    names = [f"{kind}_{name}_l0{suffix}_gradient" for suffix in ("", "_reverse") for name in RNN_WEIGHTS]
    for gradient, name in zip(gradients, [f"{kind}_x_gradient", *names], strict=True):
        np.testing.assert_allclose(gradient, TORCH[name], atol=2e-6, err_msg=name)
    layer.set_train(False)
    output = cells.run(layer, x, lengths)[0]
    np.testing.assert_allclose(output[valid], TORCH[f"{kind}_output"][valid], atol=2e-6)


@KINDS
def test_one_direction_is_the_textbooks_recurrence(kind: str) -> None:
    from tests import cells

    layer = make_recurrent(kind, bidirectional=False)
    layer.set_train(False)
    output = cells.run(layer, TORCH["rnn_x"], np.full(3, 7, np.int32))[0]
    weight_ih, weight_hh, bias_ih, bias_hh = (TORCH[f"{kind}_{name}_l0"] for name in RNN_WEIGHTS)
    for row in range(3):
        x = TORCH["rnn_x"][:, row].astype(np.float64)
        if kind == "lstm":
            expected = reference.run_lstm(x, weight_ih, weight_hh, bias_ih + bias_hh)
        else:
            expected = reference.run_gru(x, weight_ih, weight_hh, bias_ih, bias_hh)
        np.testing.assert_allclose(output[:, row], expected, atol=2e-6)


# Lookahead ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_native", [False, True], ids=["stock", "native"])
def test_lookahead_sees_its_own_frame_and_those_that_follow_but_no_padding(
    is_native: bool, request: pytest.FixtureRequest
) -> None:
    from mindaudio_ds2.model.layers import Lookahead
    from tests import cells

    generator = np.random.default_rng(6)
    layer = Lookahead(4, 3, Backend(request.getfixturevalue("kernels") if is_native else None))
    x, lengths = 4 * make_rows(generator, (7, 3, 4)), np.array([7, 2, 4], np.int32)
    mask = (np.arange(7)[:, None, None] < lengths[None, :, None]).astype(np.float32)
    kernels = 3 * make_rows(generator, (4, 1, 1, 3))
    cells.write(layer, {"conv.weight": kernels})
    layer.set_train(False)
    output = cells.run(layer, x, lengths, mask)[0]
    for row, length in enumerate(lengths):
        expected = reference.look_ahead(x[:length, row].astype(np.float64), kernels[:, 0, 0])
        np.testing.assert_allclose(output[:length, row], expected, atol=1e-5)
    assert output.min() == 0, "the example should reach both ends of the clipped ReLU"
    assert output.max() == 20
