"""The factor on the loss that keeps small float16 gradients from vanishing (arXiv:1710.03740).

Only powers of two, so that scaling and unscaling change no digit. `step.py` is the only one that uses it.
"""

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindaudio_ds2.config import PrecisionConfig

MAX_SCALE = 2.0**24


class LossScale(nn.Cell):
    """A scale that stays, or one that follows what the gradients can bear. A scale of 1 adds nothing to the graph.

    A dynamic scale is halved, down to 1, when everything is finite but the gradient; and doubled after
    `loss_scale_window` finite steps without such an overflow. This is the rule of MindSpore's `amp.DynamicLossScaler`,
    which however takes every NaN for an overflow.

    Args:
        config: what it starts from, and how long it waits.
    """

    def __init__(self, config: PrecisionConfig) -> None:
        super().__init__()
        self.is_dynamic = config.loss_scale_window > 0
        self.is_used = self.is_dynamic or config.loss_scale != 1
        self.never = Tensor(False)
        self.window = config.loss_scale_window
        self.scale = Parameter(Tensor(config.loss_scale, ms.float32), name="loss_scale", requires_grad=False)
        self.num_finite = Parameter(Tensor(0, ms.float32), name="num_finite_steps", requires_grad=False)

    def multiply(self, value: Tensor) -> Tensor:
        """Scale the loss, () float32."""
        return value * self.scale if self.is_used else value

    def divide(self, value: Tensor) -> Tensor:
        """Take the scale off what was made from the scaled loss, () float32."""
        return value / self.scale if self.is_used else value

    def construct(self, is_forward_finite: Tensor, is_finite: Tensor) -> Tensor:
        """Adapt to what a step has found. Call it when the step needs the scale no more.

        Args:
            is_forward_finite: whether all was that does not depend on the scale, loss and batch statistics, () bool.
            is_finite: whether the gradient was, too, and the step was made, () bool.

        Returns:
            Whether a smaller scale is the answer to a step that was not made, () bool; never for a scale that stays.
        """
        if not self.is_dynamic:
            return self.never
        only_gradient = ops.logical_and(is_forward_finite, ops.logical_not(is_finite))
        has_overflowed = ops.logical_and(only_gradient, self.scale > 1)
        num_finite = ops.select(is_finite, self.num_finite + 1, self.num_finite)
        is_due = num_finite >= self.window
        doubled = ops.minimum(self.scale * 2, MAX_SCALE)
        scale = ops.select(has_overflowed, self.scale * 0.5, ops.select(is_due, doubled, self.scale))
        starts_again = ops.logical_or(has_overflowed, is_due)
        num_finite = ops.select(starts_again, ops.zeros_like(num_finite), num_finite)
        has_overflowed = ops.depend(has_overflowed, ops.assign(self.scale, scale))
        return ops.depend(has_overflowed, ops.assign(self.num_finite, num_finite))

    def state(self) -> dict[str, Parameter]:
        """What must be saved for an exact resume, by name; nothing for a scale that stays."""
        return {"loss_scale": self.scale, "num_finite_steps": self.num_finite} if self.is_dynamic else {}
