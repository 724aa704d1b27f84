"""Batch norm whose statistics come from real frames only, and the mask that tells which frames are real.

Shapes: B batch, S frames, F frequency bins, C channels, H hidden units.
"""

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.ops.native import NativeNorm, NativeScale

CLIP = 20.0  # the paper's clipped ReLU, section 3.1


def make_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Which frames are real.

    Args:
        lengths: (B,) int32, in frames.
        num_frames: S.

    Returns:
        (B, S) float32, 1 inside an utterance and 0 beyond it.
    """
    return (ops.arange(num_frames).expand_dims(0) < lengths.expand_dims(1)).astype(ms.float32)


class _NormalizeMasked(nn.Cell):
    """Batch statistics over real positions, and the normalised input, with a gradient written by hand.

    Left to itself, MindSpore reduces each broadcast gradient over several axes at once, which its CPU kernel does on
    one core and slowly; the sums here go over one axis of a matrix at a time, which it does ten times faster.

    Args:
        num_features: C or H.
        features_last: whether the input is (S, B, H) or (B, F, S, C), or else (B, C, F, S).
        epsilon: added to the variance.
        joint_sum: sums an array over all processes, whose positions then count as those of one batch; None for one.
    """

    def __init__(
        self, num_features: int, features_last: bool, epsilon: float, joint_sum: Callable[[Any], Any] | None
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.features_last = features_last
        self.shape = (1, 1, num_features) if features_last else (1, num_features, 1, 1)
        self.epsilon = epsilon
        self.joint_sum = joint_sum

    def sum_positions(self, x: Tensor) -> Tensor:
        """Sum over all axes but the features': (num_features,)."""
        if not self.features_last:
            x = ops.reduce_sum(x.reshape((x.shape[0] * self.num_features, -1)), 1)  # (B, C, F, S) -> (B * C,)
        return ops.reduce_sum(x.reshape((-1, self.num_features)), 0)

    def construct(
        self, x: Tensor, mask: Tensor, num_valid: Tensor, gamma: Tensor, beta: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised input, zero at padded positions; mean and biased variance (num_features,); the positions' number.

        The number is that of all processes, where they are joined.
        """
        total = self.sum_positions(x * mask)
        if self.joint_sum is not None:
            joint = self.joint_sum(ops.concat((total, num_valid.reshape((1,)))))
            total, num_valid = joint[:-1], joint[-1]
        mean = total / num_valid
        centred = (x - mean.reshape(self.shape)) * mask
        square = self.sum_positions(ops.square(centred))
        if self.joint_sum is not None:
            square = self.joint_sum(square)
        variance = square / num_valid
        scale = gamma * ops.rsqrt(variance + self.epsilon)
        return centred * scale.reshape(self.shape) + beta.reshape(self.shape) * mask, mean, variance, num_valid

    def bprop(
        self,
        x: Tensor,
        mask: Tensor,
        num_valid: Tensor,
        gamma: Tensor,
        beta: Tensor,
        out: tuple[Tensor, Tensor, Tensor, Tensor],
        dout: tuple[Tensor, Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, ...]:
        """Gradients of all inputs. Mean and variance go into running statistics only, so none comes from them.

        Those of gamma and beta are this process's part; the step sums the parts of all.
        """
        _, mean, variance, num_joint = out
        inverse_deviation = ops.rsqrt(variance + self.epsilon)
        gradient = dout[0] * mask
        centred = x - mean.reshape(self.shape)
        beta_gradient = self.sum_positions(gradient)
        gamma_gradient = self.sum_positions(gradient * centred) * inverse_deviation
        joint_gamma, joint_beta = gamma_gradient, beta_gradient
        if self.joint_sum is not None:
            joint = self.joint_sum(ops.concat((gamma_gradient, beta_gradient)))
            joint_gamma, joint_beta = joint[: self.num_features], joint[self.num_features :]
        slope = (inverse_deviation * joint_gamma / num_joint).reshape(self.shape)
        offset = (joint_beta / num_joint).reshape(self.shape)
        scale = (gamma * inverse_deviation).reshape(self.shape) * mask
        x_gradient = (gradient - (centred * slope + offset)) * scale
        return x_gradient, ops.zeros_like(mask), ops.zeros_like(num_valid), gamma_gradient, beta_gradient


class MaskedBatchNorm(nn.Cell):
    """Batch norm whose statistics come from real frames only.

    In training the mean and the (biased) variance are taken over all real positions of the batch, "sequence-wise" as in
    section 3.2 of the paper; running copies of both are kept for evaluation. PyTorch's and MindSpore's own batch norm
    would count the padding.

    In training the new running statistics are left in `next_mean` and `next_variance`; the step takes them over when it
    has seen that they, the loss and the gradient are finite.

    Args:
        num_features: C or H.
        features_last: whether the input is (S, B, H) or (B, C, F, S).
        momentum: share of the running statistics kept at each step.
        epsilon: added to the variance.
        is_clipped: whether the clipped ReLU follows.
        backend: how this process computes. With native kernels, the input of convolutions is (B, F, S, C); with a
            joint sum, training takes the statistics over all processes, with MindSpore's operators.

    Attributes:
        is_frozen: whether training, too, normalises by the running statistics, and leaves them alone. Set it before
            the first step.
    """

    def __init__(
        self,
        num_features: int,
        features_last: bool,
        momentum: float,
        epsilon: float,
        is_clipped: bool = False,
        backend: Backend = STOCK,
    ) -> None:
        super().__init__()
        self.gamma = Parameter(initializer("ones", (num_features,)), name="gamma")
        self.beta = Parameter(initializer("zeros", (num_features,)), name="beta")
        self.moving_mean = Parameter(initializer("zeros", (num_features,)), name="moving_mean", requires_grad=False)
        self.moving_variance = Parameter(
            initializer("ones", (num_features,)), name="moving_variance", requires_grad=False
        )
        self.next_mean = Parameter(initializer("zeros", (num_features,)), name="next_mean", requires_grad=False)
        self.next_variance = Parameter(initializer("ones", (num_features,)), name="next_variance", requires_grad=False)
        kernels, joint_sum = backend.kernels, backend.joint_sum
        self.normalize = _NormalizeMasked(num_features, features_last or kernels is not None, epsilon, joint_sum)
        self.shape = self.normalize.shape
        self.momentum = momentum
        self.epsilon = epsilon
        self.is_clipped = is_clipped
        self.is_frozen = False
        low, high = (0.0, CLIP) if is_clipped else (-math.inf, math.inf)
        self.native_normalize = NativeNorm(kernels, epsilon, low, high) if kernels and joint_sum is None else None
        self.native_scale = NativeScale(kernels, epsilon, low, high) if kernels else None

    def construct(self, x: Tensor, lengths: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
        """Normalise `x`.

        Args:
            x: (S, B, H), (B, C, F, S) or, with native kernels, (B, F, S, C) float32.
            lengths: (B,) int32, in frames of `x`.
            mask: 1 at real positions, 0 elsewhere; broadcasts against `x`.
            num_valid: how many real positions each feature has, () float32.

        Returns:
            Like `x`, zero at padded positions.
        """
        if self.training and not self.is_frozen:
            if self.native_normalize is not None:
                x, mean, variance = self.native_normalize(x, lengths, self.gamma, self.beta)
            else:
                x, mean, variance, _ = self.normalize(x, mask, num_valid, self.gamma, self.beta)
                x = self._clip(x)
            x = ops.depend(x, ops.assign(self.next_mean, self._blend(self.moving_mean, mean)))
            return ops.depend(x, ops.assign(self.next_variance, self._blend(self.moving_variance, variance)))
        if self.native_scale is not None:
            return self.native_scale(x, lengths, self.gamma, self.beta, self.moving_mean, self.moving_variance)
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        centred = x - self.moving_mean.reshape(self.shape)
        return self._clip((centred * scale.reshape(self.shape) + self.beta.reshape(self.shape)) * mask)

    def _clip(self, x: Tensor) -> Tensor:
        return ops.hardtanh(x, 0.0, CLIP) if self.is_clipped else x

    def _blend(self, running: Tensor, statistic: Tensor) -> Tensor:
        return running * self.momentum + ops.stop_gradient(statistic) * (1 - self.momentum)
