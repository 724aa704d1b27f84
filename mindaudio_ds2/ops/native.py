"""MindSpore Cells around the native CPU kernels, with their gradients.

Shapes: B batch, S output frames, T input frames, F frequency bins, C channels, H hidden units, G gates, V alphabet with
blank, L labels. All arrays are float32 unless said otherwise. They have run on x86-64 CPUs.
"""

from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops import CustomRegOp, DataType

_TYPES = {"f": DataType.F32_Default, "i": DataType.I32_Default}


def load_op(kernels: Path, name: str, inputs: str, num_outputs: int) -> ops.Custom:
    """One function of the library as a MindSpore operator; its outputs are float32.

    Shapes and types of outputs are inferred in C++ and the registration is given, because MindSpore 2.10 runs an "aot"
    operator on open shapes only then.

    Args:
        kernels: the shared library.
        name: the function.
        inputs: a letter an input: f for float32, i for int32.
        num_outputs: how many arrays it returns.
    """
    registration = CustomRegOp(name)
    for i in range(len(inputs)):
        registration.input(i, f"x{i}")
    for i in range(num_outputs):
        registration.output(i, f"y{i}")
    types = [_TYPES[letter] for letter in inputs] + [_TYPES["f"]] * num_outputs
    info = registration.dtype_format(*types).target("CPU").get_op_info()
    return ops.Custom(f"{kernels}:{name}", None, None, func_type="aot", reg_info=info)


def name_operator(name: str, is_bfloat16: bool) -> str:
    """How the operator is called that does the same in bfloat16, or in float32."""
    return f"Bf16{name}" if is_bfloat16 else name


class NativeConv(nn.Cell):
    """A convolution over frequency and time without bias, padded by half the kernel, channels last.

    Args:
        kernels: the shared library.
        stride: over (frequency, time).
        is_bfloat16: multiply in bfloat16, the gradients too; sums are float32.
    """

    def __init__(self, kernels: Path, stride: tuple[int, int], is_bfloat16: bool = False) -> None:
        super().__init__()
        name = name_operator("Conv", is_bfloat16)
        self.run = load_op(kernels, f"{name}Forward", "fff", 1)
        self.run_back_to_input = load_op(kernels, f"{name}InputGradient", "ffff", 1)
        self.run_back_to_weight = load_op(kernels, f"{name}WeightGradient", "ffff", 1)
        self.stride = ops.zeros(stride, ms.float32)  # its shape tells the kernels the stride

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        """(B, F, T, C) and (C', C, KF, KT) -> (B, F', T', C')."""
        return self.run(x, weight, self.stride)

    def bprop(self, x: Tensor, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both inputs. MindSpore leaves out the first where nothing needs it (the features)."""
        d_x = self.run_back_to_input(dout, weight, x, self.stride)
        return d_x, self.run_back_to_weight(dout, x, weight, self.stride)


class NativeLines(nn.Cell):
    """Features as the convolutions take them: each bin a line of frames, zero beyond the length.

    Args:
        kernels: the shared library.
    """

    def __init__(self, kernels: Path) -> None:
        super().__init__()
        self.run = load_op(kernels, "FeaturesToLines", "fi", 1)
        self.run_back = load_op(kernels, "LinesToFeatures", "fi", 1)

    def construct(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F) and (B,) int32 -> (B, F, T, 1)."""
        return self.run(features, lengths)

    def bprop(self, features: Tensor, lengths: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the features."""
        return self.run_back(dout, lengths), ops.zeros_like(lengths)


class NativeSequence(nn.Cell):
    """What the convolutions give as the recurrent layers take it.

    Args:
        kernels: the shared library.
    """

    def __init__(self, kernels: Path) -> None:
        super().__init__()
        self.run = load_op(kernels, "LinesToSequence", "f", 1)
        self.run_back = load_op(kernels, "SequenceToLines", "ff", 1)

    def construct(self, x: Tensor) -> Tensor:
        """(B, F, S, C) -> (S, B, C * F)."""
        return self.run(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Gradient of the input, whose values do not count."""
        return (self.run_back(dout, x),)


class NativeLookahead(nn.Cell):
    """A row convolution: each feature's weighted sum over its own frame and those that follow, within the length.

    Args:
        kernels: the shared library.
    """

    def __init__(self, kernels: Path) -> None:
        super().__init__()
        self.run = load_op(kernels, "LookaheadForward", "ffi", 1)
        self.run_back = load_op(kernels, "LookaheadBackward", "fffi", 2)

    def construct(self, x: Tensor, weight: Tensor, lengths: Tensor) -> Tensor:
        """(S, B, H), (H, 1, 1, K) and (B,) int32 -> (S, B, H), zero at padded positions."""
        return self.run(x, weight, lengths)

    def bprop(self, x: Tensor, weight: Tensor, lengths: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
        """Gradients of all inputs."""
        d_x, d_weight = self.run_back(dout, x, weight, lengths)
        return d_x, d_weight, ops.zeros_like(lengths)


class NativeNorm(nn.Cell):
    """Batch norm over the real frames of a batch, clipped, channels last; `model.layers` says what for.

    Args:
        kernels: the shared library.
        epsilon: added to the variance.
        low, high: the result is clipped to [low, high].
    """

    def __init__(self, kernels: Path, epsilon: float, low: float, high: float) -> None:
        super().__init__()
        self.run = load_op(kernels, "NormForward", "fifff", 3)
        self.run_back = load_op(kernels, "NormBackward", "fffiffff", 3)
        self.settings = Tensor([epsilon, low, high], ms.float32)

    def construct(self, x: Tensor, lengths: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise by the batch's own statistics.

        Args:
            x: (B, F, S, C) or (S, B, H).
            lengths: (B,) int32, in frames of `x`.
            gamma, beta: (C,) or (H,).

        Returns:
            Like `x`, zero at padded positions; mean and biased variance.
        """
        return self.run(x, lengths, gamma, beta, self.settings)

    def bprop(
        self,
        x: Tensor,
        lengths: Tensor,
        gamma: Tensor,
        beta: Tensor,
        out: tuple[Tensor, Tensor, Tensor],
        dout: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, ...]:
        """Gradients of all inputs. Mean and variance go into running statistics only, so none comes from them."""
        y, mean, variance = out
        d_x, d_gamma, d_beta = self.run_back(dout[0], x, y, lengths, gamma, mean, variance, self.settings)
        return d_x, ops.zeros_like(lengths), d_gamma, d_beta


class NativeScale(nn.Cell):
    """Batch norm by given statistics, clipped, channels last; zero at padded positions.

    For evaluation, and for the training of other layers than this one. Its gradient is of MindSpore's operators.

    Args:
        kernels: the shared library.
        epsilon: added to the variance.
        low, high: the result is clipped to [low, high].
    """

    def __init__(self, kernels: Path, epsilon: float, low: float, high: float) -> None:
        super().__init__()
        self.run = load_op(kernels, "NormScale", "fifffff", 1)
        self.settings = Tensor([epsilon, low, high], ms.float32)
        self.epsilon, self.low, self.high = epsilon, low, high

    def construct(
        self, x: Tensor, lengths: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor
    ) -> Tensor:
        """(B, F, S, C) or (S, B, H), (B,) int32, (C,) or (H,) four times -> like `x`."""
        return self.run(x, lengths, gamma, beta, self.settings, mean, variance)

    def bprop(
        self,
        x: Tensor,
        lengths: Tensor,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        variance: Tensor,
        out: Tensor,
        dout: Tensor,
    ) -> tuple[Tensor, ...]:
        """Gradients of all inputs but mean and variance, which are not learnt."""
        axis = 0 if x.ndim == 3 else 2  # of the frames
        is_real = ops.arange(x.shape[axis]).expand_dims(0) < lengths.expand_dims(1)  # (B, S)
        is_real = is_real.swapaxes(0, 1).expand_dims(2) if x.ndim == 3 else is_real.expand_dims(1).expand_dims(3)
        passes = ops.logical_and(is_real, ops.logical_and(out > self.low, out < self.high))
        gradient = dout * passes.astype(ms.float32)
        inverse_deviation = ops.rsqrt(variance + self.epsilon)
        centred = gradient * ((x - mean) * inverse_deviation)
        d_gamma = ops.reduce_sum(centred.reshape((-1, gamma.shape[0])), 0)
        d_beta = ops.reduce_sum(gradient.reshape((-1, gamma.shape[0])), 0)
        zeros = ops.zeros_like(mean)
        return gradient * (gamma * inverse_deviation), ops.zeros_like(lengths), d_gamma, d_beta, zeros, zeros


class NativeCTC(nn.Cell):
    """Each utterance's CTC loss and its gradient, in one pass over the frames.

    Args:
        kernels: the shared library.
        blank_id: label id of the blank.
    """

    def __init__(self, kernels: Path, blank_id: int) -> None:
        super().__init__()
        self.run = load_op(kernels, "CtcLoss", "fiiii", 2)
        self.blank = Tensor([blank_id], ms.int32)

    def construct(
        self, logits: Tensor, logit_lengths: Tensor, labels: Tensor, label_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) in nats, infinite where the labels cannot be aligned; and their gradients (S, B, V).

        Args:
            logits: (S, B, V); the log-softmax is taken inside.
            logit_lengths: (B,) int32.
            labels: (B, L) int32.
            label_lengths: (B,) int32.
        """
        return self.run(logits, logit_lengths, labels, label_lengths, self.blank)

    def bprop(
        self,
        logits: Tensor,
        logit_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        out: tuple[Tensor, Tensor],
        dout: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, ...]:
        """The gradients were computed with the losses."""
        d_logits = out[1] * dout[0].reshape((1, -1, 1))
        return d_logits, ops.zeros_like(logit_lengths), ops.zeros_like(labels), ops.zeros_like(label_lengths)
