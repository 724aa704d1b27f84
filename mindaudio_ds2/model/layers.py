"""The layers of DeepSpeech2, exact under padding.

Shapes: B batch, T input frames, S output frames, F frequency bins, C channels, H hidden units.

The promise of this file: what stands beyond an utterance's length never reaches a frame inside it, neither directly nor
through the statistics of batch norm. So logits and training do not depend on how much a batch was padded.

All layers have run on the CPU. GPU and Ascend have not been run; only operators documented for all three are used.
"""

from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Orthogonal, XavierUniform, initializer

from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.model.masked_norm import CLIP, MaskedBatchNorm, make_mask
from mindaudio_ds2.ops.native import NativeConv, NativeLookahead
from mindaudio_ds2.ops.quantized import Int8Recurrence
from mindaudio_ds2.ops.recurrence import NativeBidirectionalRecurrence, NativeRecurrence, Projection


class MaskedConv(nn.Cell):
    """Convolution over frequency and time, batch norm, activation, mask (paper, sections 3.1 and 3.5).

    The kernel is padded by half its size on both sides, so that n frames become (n - 1) // stride + 1. Weights start
    from U(-k, k), k = 1 / sqrt(fan in), as in PyTorch.

    Args:
        in_channels, out_channels: C before and after.
        kernel: odd sizes over (frequency, time).
        stride: over (frequency, time).
        has_bias: whether the convolution adds a bias.
        activation: "clipped_relu" or "tanh".
        momentum, epsilon: of the batch norm.
        backend: how this process computes. With native kernels, channels come last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        has_bias: bool,
        activation: str,
        momentum: float,
        epsilon: float,
        backend: Backend = STOCK,
    ) -> None:
        super().__init__()
        top, left = kernel[0] // 2, kernel[1] // 2
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            pad_mode="pad",
            padding=(top, top, left, left),
            has_bias=has_bias,
        )
        self.native_conv = NativeConv(backend.kernels, stride, backend.is_bfloat16) if backend.kernels else None
        self.is_tanh = activation == "tanh"
        self.batch_norm = MaskedBatchNorm(out_channels, False, momentum, epsilon, not self.is_tanh, backend)
        self.time_stride = stride[1]

    def construct(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve.

        Args:
            x: (B, C, F, T) float32, with native kernels (B, F, T, C); zero beyond the lengths.
            lengths: (B,) int32, in frames.

        Returns:
            (B, C', F', S) or (B, F', S, C') float32, zero beyond the new lengths; and those lengths (B,) int32.
        """
        lengths = (lengths - 1) // self.time_stride + 1
        if self.native_conv is not None:
            x = self.native_conv(x, self.conv.weight)
            if self.conv.has_bias:
                x = x + self.conv.bias.reshape((1, 1, 1, -1))  # without it MindSpore 2.10 fails on open shapes
            mask = make_mask(lengths, x.shape[2])
            num_valid = mask.sum() * x.shape[1]
            mask = mask.expand_dims(1).expand_dims(3)  # (B, S) -> (B, 1, S, 1)
        else:
            x = self.conv(x).astype(ms.float32)  # see precision.py; nothing to do in fp32
            mask = make_mask(lengths, x.shape[3])
            num_valid = mask.sum() * x.shape[2]
            mask = mask.expand_dims(1).expand_dims(1)  # (B, S) -> (B, 1, 1, S)
        x = self.batch_norm(x, lengths, mask, num_valid)  # zero at padded positions, and so after either activation
        return ops.tanh(x) if self.is_tanh else x, lengths


class Recurrent(nn.Cell):
    """One recurrent layer; both directions are summed (paper, section 3.1), or there is only the forward one.

    MindSpore's `seq_length` argument unrolls time into the graph on the CPU (one minute to compile at T = 200). So
    each direction is a plain layer on its fused kernel, and the backward one reads every utterance reversed within its
    own length. Weights start from U(-1 / sqrt(H), 1 / sqrt(H)), as in PyTorch.

    Without native kernels `gru` has no fused kernel on the CPU: it is unrolled and needs static shapes there.

    Args:
        rnn_type: "lstm" or "gru".
        input_size: features of a frame.
        hidden_size: H.
        bidirectional: whether there is a backward direction.
        backend: how this process computes.
    """

    def __init__(
        self, rnn_type: str, input_size: int, hidden_size: int, bidirectional: bool, backend: Backend = STOCK
    ) -> None:
        super().__init__()
        layer = nn.LSTM if rnn_type == "lstm" else nn.GRU
        self.is_lstm = rnn_type == "lstm"
        self.hidden_size = hidden_size
        self.forward_rnn = layer(input_size, hidden_size)
        self.backward_rnn = layer(input_size, hidden_size) if bidirectional else None
        self.reverse = ops.ReverseSequence(seq_dim=0, batch_dim=1)
        native = NativeBidirectionalRecurrence if bidirectional else NativeRecurrence
        self.native: Any = native(backend.kernels, rnn_type, backend.is_bfloat16) if backend.kernels else None
        self.int8: Any = None
        self.project: Any = Projection(backend.kernels, backend.is_bfloat16) if backend.kernels else None

    def construct(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Run over time.

        Args:
            x: (S, B, input_size) float32.
            lengths: (B,) int32.

        Returns:
            (S, B, H) float32; arbitrary finite values beyond the lengths.
        """
        if self.int8 is not None:
            return self.int8(x, lengths)
        if self.native is not None:
            return self._run_natively(x, lengths)
        start = ops.zeros((1, x.shape[1], self.hidden_size), ms.float32)
        state = (start, start) if self.is_lstm else start
        output, _ = self.forward_rnn(x, state)
        output = output.astype(ms.float32)
        if self.backward_rnn is not None:
            backward, _ = self.backward_rnn(self.reverse(x, lengths), state)
            output = output + self.reverse(backward.astype(ms.float32), lengths)
        return output

    def quantize(self, kernels: Path) -> None:
        """From now on recognise with the weights as they are, rounded to eight bits. Call it before compiling.

        Args:
            kernels: the shared library.
        """
        rnns = [rnn for rnn in (self.forward_rnn, self.backward_rnn) if rnn is not None]
        directions = [(rnn.w_ih_list[0], *_recurrent_weights(rnn)) for rnn in rnns]
        self.int8 = Int8Recurrence(kernels, "lstm" if self.is_lstm else "gru", directions)

    def pack(self) -> Tensor:
        """The recurrent weights in the form in which `resume` wants them."""
        if self.int8 is not None:
            return self.int8.recurrent
        w_hh = self.forward_rnn.w_hh_list[0]
        return Tensor((w_hh if self.native is None else self.native.pack(w_hh)).asnumpy())

    def resume(self, x: Tensor, lengths: Tensor, states: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
        """Go on from where a chunk before ended: a layer without a backward direction.

        Args:
            x: (S, B, input_size) float32.
            lengths: (B,) int32; without native kernels all must be S.
            states: (K, B, H), K = 2 for LSTM (hidden, cell), 1 for GRU; zeros at first.
            packed: from `pack`.

        Returns:
            (S, B, H) float32, arbitrary finite values beyond the lengths; and the states for the next chunk.
        """
        if self.int8 is not None:
            output, *ends = self.int8.resume(x, lengths, states, packed)
            return output, ops.stack(ends)
        if self.native is not None:
            _, bias_ih, bias_hh = _recurrent_weights(self.forward_rnn)
            projected = self.project(x, self.forward_rnn.w_ih_list[0])
            output, *ends = self.native.resume(projected, packed, bias_ih, bias_hh, lengths, states)
            return output, ops.stack(ends)
        if self.is_lstm:
            output, (hidden, cell) = self.forward_rnn(x, (states[:1], states[1:]))
            return output.astype(ms.float32), ops.concat((hidden, cell)).astype(ms.float32)
        output, hidden = self.forward_rnn(x, states)
        return output.astype(ms.float32), hidden.astype(ms.float32)

    def make_orthogonal(self) -> None:
        """Begin with other weights.

        For each gate, Xavier uniform ones from the input (Glorot and Bengio 2010) and orthogonal ones from the state,
        which keep the length of what goes round (Saxe et al. 2014, arXiv:1312.6120). Biases are 0, but 1 at the forget
        gate of an LSTM (Jozefowicz et al. 2015).
        """
        size, is_lstm = self.hidden_size, self.is_lstm
        for rnn in filter(None, (self.forward_rnn, self.backward_rnn)):
            w_ih, (w_hh, bias_ih, bias_hh) = rnn.w_ih_list[0], _recurrent_weights(rnn)
            num_gates = w_ih.shape[0] // size
            for weight, scheme in ((w_ih, XavierUniform()), (w_hh, Orthogonal())):
                gates = [initializer(scheme, (size, weight.shape[1])).init_data().asnumpy() for _ in range(num_gates)]
                weight.set_data(Tensor(np.concatenate(gates)))
            forget = np.repeat(np.arange(num_gates) == 1, size) if is_lstm else np.zeros(num_gates * size)  # i, f, g, o
            bias_ih.set_data(Tensor(forget, ms.float32))
            bias_hh.set_data(initializer("zeros", bias_hh.shape))

    def _run_natively(self, x: Tensor, lengths: Tensor) -> Tensor:
        projected = self.project(x, self.forward_rnn.w_ih_list[0])
        w_hh, bias_ih, bias_hh = _recurrent_weights(self.forward_rnn)
        if self.backward_rnn is None:
            return self.native(projected, w_hh, bias_ih, bias_hh, lengths)[0]
        projected_back = self.project(x, self.backward_rnn.w_ih_list[0])
        w_hh_back, bias_ih_back, bias_hh_back = _recurrent_weights(self.backward_rnn)
        return self.native(
            projected, projected_back, w_hh, w_hh_back, bias_ih, bias_ih_back, bias_hh, bias_hh_back, lengths
        )[0]


def _recurrent_weights(rnn: nn.Cell) -> tuple[Tensor, Tensor, Tensor]:
    return rnn.w_hh_list[0], rnn.b_ih_list[0], rnn.b_hh_list[0]


class Lookahead(nn.Cell):
    """Row convolution: each feature looks a few frames ahead (paper, section 3.7), then a clipped ReLU.

    The place of the ReLU follows deepspeech.pytorch. Weights start from U(-k, k), k = 1 / sqrt(num_frames).

    Args:
        num_features: H.
        num_frames: frames seen from each frame, its own included.
        backend: how this process computes.
    """

    def __init__(self, num_features: int, num_frames: int, backend: Backend = STOCK) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            num_features,
            num_features,
            (1, num_frames),
            pad_mode="pad",
            padding=(0, 0, 0, num_frames - 1),
            group=num_features,
        )
        self.native = NativeLookahead(backend.kernels) if backend.kernels else None

    def construct(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """Mix each frame with those that follow it.

        Args:
            x: (S, B, H) float32.
            lengths: (B,) int32.
            mask: (S, B, 1), 1 at real frames.

        Returns:
            (S, B, H) float32; arbitrary finite values beyond the lengths.
        """
        if self.native is not None:
            return ops.hardtanh(self.native(x, self.conv.weight, lengths), 0.0, CLIP)
        x = ops.transpose(x * mask, (1, 2, 0)).expand_dims(2)  # (S, B, H) -> (B, H, 1, S)
        x = ops.hardtanh(self.conv(x).astype(ms.float32), 0.0, CLIP)
        return ops.transpose(x.squeeze(2), (2, 0, 1))  # (B, H, S) -> (S, B, H)


class Head(nn.Dense):
    """The output layer, float32 whatever is multiplied in.

    Args:
        num_features: H.
        alphabet_size: V.
        has_bias: whether a bias is added.
        backend: how this process computes.
    """

    def __init__(self, num_features: int, alphabet_size: int, has_bias: bool, backend: Backend = STOCK) -> None:
        super().__init__(num_features, alphabet_size, has_bias=has_bias)
        self.project = Projection(backend.kernels) if backend.kernels else None

    def construct(self, x: Tensor) -> Tensor:
        """(S, B, H) -> logits (S, B, V)."""
        if self.project is None:
            return super().construct(x).astype(ms.float32)
        logits = self.project(x, self.weight)
        return logits + self.bias if self.has_bias else logits
