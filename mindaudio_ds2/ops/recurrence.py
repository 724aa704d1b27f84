"""MindSpore Cells around the native recurrent layers, with their gradients.

Shapes: B batch, S output frames, H hidden units, G gates. All arrays are float32 unless said otherwise. They have run
on x86-64 CPUs.
"""

from pathlib import Path

from mindspore import Tensor, nn, ops

from mindaudio_ds2.ops.native import load_op, name_operator


class Packing(nn.Cell):
    """Recurrent weights (G * H, H) as the kernels of this processor read them, (P,).

    Args:
        kernels: the shared library.
        kind: "Lstm" or "Gru".
    """

    def __init__(self, kernels: Path, kind: str) -> None:
        super().__init__()
        self.run = load_op(kernels, f"{kind}Pack", "f", 1)

    def construct(self, w_hh: Tensor) -> Tensor:
        """Once, before the first chunk."""
        return self.run(w_hh)


class Projection(nn.Cell):
    """The product of a layer's input and its weights, summed in float32; the gradients likewise.

    Args:
        kernels: the shared library.
        is_bfloat16: multiply in bfloat16.
    """

    def __init__(self, kernels: Path, is_bfloat16: bool = False) -> None:
        super().__init__()
        name = name_operator("MatMul", is_bfloat16)
        self.run = load_op(kernels, f"{name}NT", "ff", 1)
        self.run_back_to_input = load_op(kernels, f"{name}NN", "ff", 1)
        self.run_back_to_weight = load_op(kernels, f"{name}TN", "ff", 1)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        """(S, B, K) and (N, K) -> (S, B, N)."""
        return self.run(x, weight)

    def bprop(self, x: Tensor, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both inputs."""
        return self.run_back_to_input(dout, weight), self.run_back_to_weight(dout, x)


class WeightGradient(nn.Cell):
    """Gradients of recurrent weights and biases from those of what they gave at each step.

    Args:
        kernels: the shared library.
        is_bfloat16: multiply in bfloat16.
    """

    def __init__(self, kernels: Path, is_bfloat16: bool) -> None:
        super().__init__()
        self.run = load_op(kernels, name_operator("MatMulTN", is_bfloat16), "ff", 1)

    def construct(self, d_hidden: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """(S, B, G * H) and the hidden states before each step, (S, B, H) -> (G * H, H) and (G * H,)."""
        return self.run(d_hidden, previous), _sum_rows(d_hidden)


class NativeRecurrence(nn.Cell):
    """The part of a recurrent layer that goes step by step, for one direction (paper, section 3.1).

    Args:
        kernels: the shared library.
        rnn_type: "lstm" or "gru".
        is_bfloat16: multiply in bfloat16; states, gates and sums are float32. `resume` never does.
    """

    def __init__(self, kernels: Path, rnn_type: str, is_bfloat16: bool = False) -> None:
        super().__init__()
        self.is_lstm = rnn_type == "lstm"
        name = name_operator(f"{rnn_type.title()}1", is_bfloat16)
        inputs, num_saved = "ffffi", 3 if self.is_lstm else 2
        self.run_saving = load_op(kernels, f"{name}Forward", inputs, 1 + num_saved)
        self.run_only = load_op(kernels, f"{name}Inference", inputs, 1)
        self.run_back = load_op(kernels, f"{name}Backward", "ffffi", 1 if self.is_lstm else 2)
        self.differentiate = WeightGradient(kernels, is_bfloat16)
        states, kind = ("ff", "Lstm") if self.is_lstm else ("f", "Gru")
        self.pack = Packing(kernels, kind)
        self.run_resuming = load_op(kernels, f"{kind}Resume", inputs + states, 1 + len(states))

    def resume(
        self, projected: Tensor, packed: Tensor, bias_ih: Tensor, bias_hh: Tensor, lengths: Tensor, states: Tensor
    ) -> tuple[Tensor, ...]:
        """Go on from where a chunk before ended; without gradient.

        Args:
            projected, bias_ih, bias_hh, lengths: as in `construct`.
            packed: what `pack` makes of w_hh; `construct` does that anew for each call, which takes as long as some
                frames do.
            states: (K, B, H), of an LSTM hidden and cell states, of a GRU hidden ones; zeros at first.

        Returns:
            Hidden states (S, B, H), zero beyond the lengths; K states (B, H) after the last frame of each utterance.
        """
        if self.is_lstm:
            return self.run_resuming(projected, packed, bias_ih, bias_hh, lengths, states[0], states[1])
        return self.run_resuming(projected, packed, bias_ih, bias_hh, lengths, states[0])

    def construct(
        self, projected: Tensor, w_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor, lengths: Tensor
    ) -> tuple[Tensor, ...]:
        """Run over time.

        Args:
            projected: (S, B, G * H), the input times the input weights, without bias.
            w_hh: (G * H, H), rows in PyTorch's order of gates.
            bias_ih: (G * H,).
            bias_hh: (G * H,).
            lengths: (B,) int32.

        Returns:
            Hidden states (S, B, H), zero beyond the lengths; in training also what the gradient needs.
        """
        if self.training:
            return self.run_saving(projected, w_hh, bias_ih, bias_hh, lengths)
        return (self.run_only(projected, w_hh, bias_ih, bias_hh, lengths),)

    def bprop(
        self,
        projected: Tensor,
        w_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        lengths: Tensor,
        out: tuple[Tensor, ...],
        dout: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        """Gradients of all inputs. Only the hidden states are used further on, so only `dout[0]` counts."""
        previous = out[-1]
        if self.is_lstm:
            d_projected = self.run_back(dout[0], w_hh, out[1], out[2], lengths)
            d_hidden = d_projected
        else:
            d_projected, d_hidden = self.run_back(dout[0], w_hh, out[1], previous, lengths)
        d_w_hh, d_bias_hh = self.differentiate(d_hidden, previous)
        d_bias_ih = d_bias_hh if self.is_lstm else _sum_rows(d_projected)
        return d_projected, d_w_hh, d_bias_ih, d_bias_hh, ops.zeros_like(lengths)


class NativeBidirectionalRecurrence(nn.Cell):
    """`NativeRecurrence` in both directions, shared by threads as csrc/split.h says; the second reads backwards.

    Args:
        kernels: the shared library.
        rnn_type: "lstm" or "gru".
        is_bfloat16: multiply in bfloat16; states, gates and sums are float32.
    """

    def __init__(self, kernels: Path, rnn_type: str, is_bfloat16: bool = False) -> None:
        super().__init__()
        self.is_lstm = rnn_type == "lstm"
        name = name_operator(f"{rnn_type.title()}2", is_bfloat16)
        inputs, num_saved = "ffffffffi", 6 if self.is_lstm else 4
        self.run_saving = load_op(kernels, f"{name}Forward", inputs, 1 + num_saved)
        self.run_only = load_op(kernels, f"{name}Inference", inputs, 1)
        self.run_back = load_op(kernels, f"{name}Backward", "fffffffi", 2 if self.is_lstm else 4)
        self.differentiate = WeightGradient(kernels, is_bfloat16)

    def construct(
        self,
        projected: Tensor,
        projected_back: Tensor,
        w_hh: Tensor,
        w_hh_back: Tensor,
        bias_ih: Tensor,
        bias_ih_back: Tensor,
        bias_hh: Tensor,
        bias_hh_back: Tensor,
        lengths: Tensor,
    ) -> tuple[Tensor, ...]:
        """As `NativeRecurrence.construct`, two of each; the hidden states of both directions are summed."""
        biases = (bias_ih, bias_ih_back, bias_hh, bias_hh_back)
        if self.training:
            return self.run_saving(projected, projected_back, w_hh, w_hh_back, *biases, lengths)
        return (self.run_only(projected, projected_back, w_hh, w_hh_back, *biases, lengths),)

    def bprop(
        self,
        projected: Tensor,
        projected_back: Tensor,
        w_hh: Tensor,
        w_hh_back: Tensor,
        bias_ih: Tensor,
        bias_ih_back: Tensor,
        bias_hh: Tensor,
        bias_hh_back: Tensor,
        lengths: Tensor,
        out: tuple[Tensor, ...],
        dout: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        """Gradients of all inputs. Only the hidden states are used further on, so only `dout[0]` counts."""
        previous, previous_back = out[-2], out[-1]
        saved = (out[1], out[2], out[3], out[4])  # gates; cells of an LSTM, previous states of a GRU
        d_all = self.run_back(dout[0], w_hh, w_hh_back, *saved, lengths)
        d_projected, d_projected_back, d_hidden, d_hidden_back = d_all[0], d_all[1], d_all[-2], d_all[-1]
        d_w_hh, d_bias_hh = self.differentiate(d_hidden, previous)
        d_w_hh_back, d_bias_hh_back = self.differentiate(d_hidden_back, previous_back)
        d_bias_ih = d_bias_hh if self.is_lstm else _sum_rows(d_projected)
        d_bias_ih_back = d_bias_hh_back if self.is_lstm else _sum_rows(d_projected_back)
        d_weights = (d_w_hh, d_w_hh_back, d_bias_ih, d_bias_ih_back, d_bias_hh, d_bias_hh_back)
        return d_projected, d_projected_back, *d_weights, ops.zeros_like(lengths)


def _sum_rows(gradient: Tensor) -> Tensor:
    return ops.reduce_sum(gradient.reshape((-1, gradient.shape[2])), 0)
