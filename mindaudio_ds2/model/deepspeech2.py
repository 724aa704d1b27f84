"""DeepSpeech2 (Amodei et al. 2015, arXiv:1512.02595): convolutions, recurrent layers, one linear layer, CTC.

Shapes: B batch, T input frames, S output frames, F frequency bins, C channels, H hidden units, V alphabet with blank.
"""

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from numpy.typing import NDArray

from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.model.layers import Head, Lookahead, MaskedConv, Recurrent
from mindaudio_ds2.model.masked_norm import MaskedBatchNorm, make_mask
from mindaudio_ds2.network_config import ModelConfig
from mindaudio_ds2.ops.native import NativeLines, NativeSequence


class DeepSpeech2(nn.Cell):
    """From features to logits.

    Weights start as in PyTorch: uniform in +-1 / sqrt(fan in) for convolutions and the output layer, +-1 / sqrt(H) for
    recurrent layers, see also `Recurrent.make_orthogonal`; batch norm starts at gamma 1, beta 0.

    Has run on the CPU only.

    Args:
        config: sizes and switches.
        num_bins: F of the features.
        alphabet_size: V.
        backend: how this process computes, from `runtime.start`. Weights are the same with every one.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_bins: int,
        alphabet_size: int,
        backend: Backend = STOCK,
    ) -> None:
        super().__init__()
        momentum, epsilon = config.batch_norm_momentum, config.batch_norm_epsilon
        hidden = config.rnn_hidden_size
        is_rolled = (
            config.rnn_type == "lstm" or backend.kernels is not None
        )  # a stock GRU is unrolled over time on the CPU
        self.takes_open_shapes = is_rolled and backend.takes_open_shapes
        self.to_lines = NativeLines(backend.kernels) if backend.kernels else None
        self.to_sequence = NativeSequence(backend.kernels) if backend.kernels else None
        channels = [1, *config.conv_channels]
        sizes = zip(config.conv_kernel_frequency, config.conv_kernel_time, strict=True)
        strides = zip(config.conv_stride_frequency, config.conv_stride_time, strict=True)
        self.convs = nn.CellList(
            [
                MaskedConv(
                    channels[i],
                    channels[i + 1],
                    size,
                    stride,
                    config.conv_bias,
                    config.activation,
                    momentum,
                    epsilon,
                    backend,
                )
                for i, (size, stride) in enumerate(zip(sizes, strides, strict=True))
            ]
        )
        self.rnn_input_size = config.conv_channels[-1] * config.num_output_bins(num_bins)
        layers = range(config.rnn_num_layers)
        self.rnns = nn.CellList(
            [
                Recurrent(config.rnn_type, hidden if i else self.rnn_input_size, hidden, config.bidirectional, backend)
                for i in layers
            ]
        )
        if config.rnn_initialization == "orthogonal":
            for rnn in self.rnns:
                rnn.make_orthogonal()
        self.rnn_batch_norms = (
            nn.CellList([_sequence_batch_norm(hidden, momentum, epsilon, backend) for _ in layers[1:]])
            if config.rnn_batch_norm
            else None
        )
        self.lookahead = None if config.bidirectional else Lookahead(hidden, config.lookahead_frames, backend)
        self.head_batch_norm = (
            _sequence_batch_norm(hidden, momentum, epsilon, backend) if config.head_batch_norm else None
        )
        self.head = Head(hidden, alphabet_size, config.head_bias, backend)

    def construct(self, features: Tensor, lengths: Tensor, dropout: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Recognise.

        Dropout acts on what a recurrent layer hands on, never on its own recurrence, with the same mask at all frames
        (Gal and Ghahramani 2016, arXiv:1512.05287); and after the batch norm, whose running variance would else be that
        of a network with dropout and not that of the network without, which recognises (Li et al. 2018,
        arXiv:1801.05134).

        Args:
            features: (B, T, F) float32; anything finite may stand beyond the lengths.
            lengths: (B,) int32, real frames of each utterance.
            dropout: (N, B, H) float32 for N recurrent layers, factors of their outputs, see `draw_dropout`; None drops
                nothing.

        Returns:
            Logits (S, B, V) float32, arbitrary finite values beyond the lengths; and the lengths (B,) int32 in output
            frames, `ModelConfig.num_output_frames` of the input's.
        """
        x, lengths = self.convolve(features, lengths)
        mask = make_sequence_mask(lengths, x.shape[0])
        num_valid = mask.sum()
        for i, rnn in enumerate(self.rnns):
            if self.rnn_batch_norms is not None and i > 0:
                x = self.rnn_batch_norms[i - 1](x, lengths, mask, num_valid)
            if dropout is not None and i > 0:
                x = x * dropout[i - 1]
            x = rnn(x, lengths)
        if self.lookahead is not None:
            x = self.lookahead(x, lengths, mask)
        if self.head_batch_norm is not None:
            x = self.head_batch_norm(x, lengths, mask, num_valid)
        if dropout is not None:
            x = x * dropout[-1]
        return self.head(x), lengths

    def convolve(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, F) and lengths (B,) to the recurrent layers' input (S, B, C * F) and its lengths (B,)."""
        if self.to_lines is not None:
            x = self.to_lines(features, lengths)
        else:
            x = features * make_mask(lengths, features.shape[1]).expand_dims(2)
            x = ops.transpose(x, (0, 2, 1)).expand_dims(1)  # (B, T, F) -> (B, 1, F, T)
        for conv in self.convs:
            x, lengths = conv(x, lengths)
        if self.to_sequence is not None:
            return self.to_sequence(x), lengths
        x = ops.transpose(x, (3, 0, 1, 2))  # (B, C, F, S) -> (S, B, C, F)
        return x.reshape((x.shape[0], x.shape[1], self.rnn_input_size)), lengths

    def quantize(self, kernels: Path) -> None:
        """Recognise with recurrent layers in eight bits: see `ops.quantized`. Call it on trained weights.

        Args:
            kernels: the shared library.
        """
        for rnn in self.rnns:
            rnn.quantize(kernels)

    def batch_norms(self) -> list[MaskedBatchNorm]:
        """All batch norms, from input to output."""
        return [cell for _, cell in self.cells_and_names() if isinstance(cell, MaskedBatchNorm)]

    def weights(self) -> dict[str, Parameter]:
        """What a checkpoint holds: trainable weights and running statistics, by their place in the network.

        `Parameter.name` is no use for that: MindSpore 2.10 changes it when the network becomes part of another Cell.
        """
        passing = {id(p) for norm in self.batch_norms() for p in (norm.next_mean, norm.next_variance)}
        return {name: p for name, p in self.parameters_and_names() if id(p) not in passing}


class Recognizer(nn.Cell):
    """A network as evaluation, transcription and export see it: features in, log-probabilities out.

    Whoever wants to know what a network hears calls `prepare` once, and `hear` for each batch.

    Args:
        network: a trained `DeepSpeech2`.
    """

    def __init__(self, network: DeepSpeech2) -> None:
        super().__init__()
        self.network = network

    def construct(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Recognise.

        Args:
            features: (B, T, F) float32.
            lengths: (B,) int32.

        Returns:
            Log-probabilities (B, S, V) float32 and their lengths (B,) int32.
        """
        logits, lengths = self.network(features, lengths)
        return ops.transpose(ops.log_softmax(logits, -1), (1, 0, 2)), lengths  # (S, B, V) -> (B, S, V)

    def prepare(self, num_bins: int) -> "Recognizer":
        """Normalise as in evaluation, and be compiled once for all shapes where the network can.

        Args:
            num_bins: F of its features.
        """
        self.set_train(False)
        if self.network.takes_open_shapes:
            self.set_inputs(*feature_signature(num_bins))
        return self

    def hear(
        self, features: Tensor, lengths: Tensor, num_utterances: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """What is heard in a batch.

        Args:
            features: (B, T, F) float32.
            lengths: (B,) int32.
            num_utterances: rows that are utterances; those behind only fill up a shape.

        Returns:
            Log-probabilities (num_utterances, S, V), of which only the frames within the lengths mean something, and
            those lengths (num_utterances,).
        """
        log_probs, output_lengths = (output.asnumpy()[:num_utterances] for output in self(features, lengths))
        return log_probs, output_lengths


def make_sequence_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """`make_mask` for what the recurrent layers take: (S, B, 1)."""
    return ops.transpose(make_mask(lengths, num_frames), (1, 0)).expand_dims(2)


def count_parameters(network: nn.Cell) -> int:
    """Trainable weights of a network."""
    return sum(parameter.size for parameter in network.trainable_params())


def _sequence_batch_norm(hidden: int, momentum: float, epsilon: float, backend: Backend) -> MaskedBatchNorm:
    return MaskedBatchNorm(hidden, True, momentum, epsilon, False, backend)


def feature_signature(num_bins: int) -> tuple[Tensor, Tensor]:
    """Symbolic inputs (B, T, F) and (B,) with open batch and time, for `set_inputs` and export."""
    return Tensor(shape=[None, None, num_bins], dtype=ms.float32), Tensor(shape=[None], dtype=ms.int32)
