"""A native recurrent layer whose weights are whole numbers of eight bits, for recognising alone: it has no gradient.

Shapes: B batch, S output frames, H hidden units, G gates, K inputs. Each row of weights has a scale, each frame of
inputs another; hidden states, which are from -1 to 1, have 1/127. Sums of products are exact; gates, states and all
else are float32. Has run on x86-64 CPUs.
"""

from collections.abc import Sequence
from pathlib import Path

from mindspore import Tensor, nn

from mindaudio_ds2.ops.native import load_op

Direction = tuple[Tensor, Tensor, Tensor, Tensor]
"""Weights (G * H, K) and (G * H, H), rows in PyTorch's order of gates; both biases (G * H,)."""


class Int8Recurrence(nn.Cell):
    """A recurrent layer of one direction or, summed, of two (paper, section 3.1).

    Args:
        kernels: the shared library.
        rnn_type: "lstm" or "gru".
        directions: forwards, and backwards if there is such a one; rounded here, once.

    Attributes:
        recurrent: the rounded recurrent weights of the first direction, for `resume`.
    """

    def __init__(self, kernels: Path, rnn_type: str, directions: Sequence[Direction]) -> None:
        super().__init__()
        is_lstm, kind, n = rnn_type == "lstm", f"Int8{rnn_type.title()}", len(directions)
        self.run_pack = load_op(kernels, f"{kind}Pack", "f", 2)
        self.run_projection = load_op(kernels, f"{kind}Projection", "fff", 1)
        inputs, states = ("ffff", "ff") if is_lstm else ("fffff", "f")
        self.run = load_op(kernels, f"{kind}{n}Inference", inputs * n + "i", 1)
        self.run_resuming = load_op(kernels, f"{kind}Resume", f"{inputs}i{states}", 1 + len(states))
        self.num_states = len(states)
        self.input_weights = tuple(self._pack(w_ih) for w_ih, _, _, _ in directions)
        packed = [self._pack(w_hh) for _, w_hh, _, _ in directions]
        self.recurrent = packed[0][0]
        biases = [(_copy(b_ih + b_hh),) if is_lstm else (_copy(b_ih), _copy(b_hh)) for _, _, b_ih, b_hh in directions]
        self.packed = tuple(weights for weights, _ in packed)
        kinds = zip(*([scales, *each] for (_, scales), each in zip(packed, biases, strict=True)), strict=True)
        self.scales_and_biases = tuple(array for kind in kinds for array in kind)

    def construct(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(S, B, K) and (B,) int32 -> (S, B, H), zero beyond the lengths."""
        projected = [self.run_projection(x, packed, scales) for packed, scales in self.input_weights]
        return self.run(*projected, *self.packed, *self.scales_and_biases, lengths)

    def resume(self, x: Tensor, lengths: Tensor, states: Tensor, recurrent: Tensor) -> tuple[Tensor, ...]:
        """Go on from where a chunk before ended; see `NativeRecurrence.resume`."""
        packed, scales = self.input_weights[0]
        inputs = (self.run_projection(x, packed, scales), recurrent, *self.scales_and_biases, lengths)
        outputs: tuple[Tensor, ...]
        if self.num_states == 2:
            outputs = self.run_resuming(*inputs, states[0], states[1])
        else:
            outputs = self.run_resuming(*inputs, states[0])
        return outputs

    def _pack(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        packed, scales = self.run_pack(weights)
        return _copy(packed), _copy(scales)


def _copy(values: Tensor) -> Tensor:
    """A constant of the graph, and not a place that MindSpore may use again."""
    return Tensor(values.asnumpy().copy())
