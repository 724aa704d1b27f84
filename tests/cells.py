"""Networks that compile in seconds, and Cells that only tests need. Import it after `runtime.start`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops
from numpy.typing import NDArray

from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
from mindaudio_ds2.network_config import ModelConfig
from mindaudio_ds2.training.compiled.loss import CTCLoss

SMALL = ModelConfig(
    conv_channels=[2, 3],
    conv_kernel_frequency=[5, 3],
    conv_kernel_time=[5, 3],
    conv_stride_frequency=[2, 2],
    conv_stride_time=[2, 1],
    conv_bias=False,
    activation="clipped_relu",
    rnn_type="lstm",
    rnn_num_layers=2,
    rnn_hidden_size=8,
    bidirectional=True,
    lookahead_frames=3,
    rnn_initialization="uniform",
    rnn_dropout=0.0,
    rnn_batch_norm=True,
    head_batch_norm=True,
    head_bias=False,
    batch_norm_momentum=0.9,
    batch_norm_epsilon=1e-5,
)
NUM_BINS = 9
ALPHABET_SIZE = 5
BLANK_ID = 0


def make_network(backend: Backend = STOCK, **changes: Any) -> DeepSpeech2:
    """A small network, always with the same weights, whose running statistics and norms are not those of a new one."""
    ms.set_seed(5)
    network = DeepSpeech2(dataclasses.replace(SMALL, **changes), NUM_BINS, ALPHABET_SIZE, backend)
    generator = np.random.default_rng(5)
    for norm in network.batch_norms():
        for parameter, low, high in (
            (norm.gamma, 0.5, 1.5),
            (norm.beta, -0.5, 0.5),
            (norm.moving_mean, -0.5, 0.5),
            (norm.moving_variance, 0.5, 2.0),
        ):
            parameter.set_data(Tensor(generator.uniform(low, high, parameter.shape).astype(np.float32)))
    return network


def run(cell: nn.Cell, *arrays: Any) -> list[NDArray[Any]]:
    """Call a Cell with arrays; its outputs as arrays, nested tuples laid out flat."""
    return [tensor.asnumpy().copy() for tensor in _flatten(cell(*(Tensor(array) for array in arrays)))]


def _flatten(outputs: Any) -> list[Tensor]:
    return [t for item in outputs for t in _flatten(item)] if isinstance(outputs, (tuple, list)) else [outputs]


def read(network: nn.Cell) -> dict[str, NDArray[np.float32]]:
    """All parameters as arrays of their own, by their place in the network."""
    return {name: parameter.asnumpy().copy() for name, parameter in network.parameters_and_names()}


def write(network: nn.Cell, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Set the parameters that `arrays` names, by their place in the network.

    MindSpore 2.10's `set_data` is lost on the optimiser's state once the step is compiled.
    """
    places = dict(network.parameters_and_names())
    for name, array in arrays.items():
        ops.assign(places[name], Tensor(array.astype(np.float32)))


def floats(*shapes: tuple[int | None, ...]) -> list[Tensor]:
    """Symbolic float32 inputs for `set_inputs`; None is an open dimension."""
    return [Tensor(shape=list(shape), dtype=ms.float32) for shape in shapes]


def integers(*shape: int | None) -> Tensor:
    """One symbolic int32 input."""
    return Tensor(shape=list(shape), dtype=ms.int32)


class LossAndGradients(nn.Cell):
    """The training loss of a network and its gradient by every trainable parameter, without any update."""

    def __init__(self, network: DeepSpeech2, backend: Backend = STOCK) -> None:
        super().__init__()
        self.network = network
        self.loss = CTCLoss(BLANK_ID, backend)
        self.value_and_grad = ops.value_and_grad(self.forward, None, ParameterTuple(network.trainable_params()))

    def forward(self, features: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
        logits, logit_lengths = self.network(features, lengths)
        return self.loss(logits, logit_lengths, labels, label_lengths)

    def construct(self, features: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Any:
        return self.value_and_grad(features, lengths, labels, label_lengths)


class Convolutions(nn.Cell):
    """The convolutions of a network alone."""

    def __init__(self, network: DeepSpeech2) -> None:
        super().__init__()
        self.convs = network.convs

    def construct(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        for conv in self.convs:
            x, lengths = conv(x, lengths)
        return x, lengths


class GradientOf(nn.Cell):
    """Sum of a Cell's first output times a weight for each of its values; gradients by first input and parameters.

    Args:
        cell: takes (x, ...) and gives one tensor.
    """

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__()
        self.cell = cell
        self.value_and_grad = ops.value_and_grad(self.forward, 0, ParameterTuple(cell.trainable_params()))

    def forward(self, x: Tensor, weights: Tensor, *others: Tensor) -> Tensor:
        return (self.cell(x, *others) * weights).sum()

    def construct(self, x: Tensor, weights: Tensor, *others: Tensor) -> Any:
        return self.value_and_grad(x, weights, *others)
