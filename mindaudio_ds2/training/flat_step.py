"""The halves of a step around one flat array, which is what several batches of an update add up.

Each batch's loss counts by its share of the update's utterances, so that the sum over the batches is the mean over all
utterances, as if they were one batch. The array holds gradients, running statistics and the loss.
"""

from dataclasses import dataclass

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn, ops

from mindaudio_ds2.training.step import TrainStep

Inputs = tuple[Tensor, ...]
"""A batch as `TrainStep` takes it: features, feature lengths, labels, label lengths, and dropout if there is any."""

OpenShapes = tuple[int, tuple[int, int] | None]
"""What `step_signature` is called with."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an update has come to; the same on all processes.

    Attributes:
        loss: mean over the update's utterances, in nats.
        gradient_norm: L2 norm before clipping.
        is_finite: whether the update was made.
        has_overflowed: whether it was not because the loss scale was too large.
        is_stop_wished: whether some process was asked to stop.
    """

    loss: float
    gradient_norm: float
    is_finite: bool
    has_overflowed: bool
    is_stop_wished: bool


def insert_numbers(batch: Inputs, *numbers: float | Tensor) -> tuple[Tensor, ...]:
    """A batch with what a graph takes behind the label lengths."""
    tensors = [number if isinstance(number, Tensor) else Tensor(number, ms.float32) for number in numbers]
    return (*batch[:4], *tensors, *batch[4:])


class FlatGradients(nn.Cell):
    """What a batch adds to an update, as one array: gradients, new running statistics, the loss, and an empty place.

    Args:
        step: whose first half is used.
    """

    def __init__(self, step: TrainStep) -> None:
        super().__init__()
        self.gradients = step.gradients
        self.next_running = step.update.next_running

    def construct(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        share: Tensor,
        dropout: Tensor | None = None,
    ) -> Tensor:
        """(P,) float32; inputs as in `Gradients`."""
        loss, gradients = self.gradients(features, feature_lengths, labels, label_lengths, share, dropout)
        parts: tuple[Tensor, ...] = ()
        for gradient in gradients:
            parts = parts + (gradient.reshape((-1,)),)
        for statistic in self.next_running:
            parts = parts + (ops.depend(statistic, loss) * share,)
        return ops.concat((*parts, loss.reshape((1,)), ops.zeros((1,), ms.float32)))


class FlatUpdate(nn.Cell):
    """The second half of a step, from the sum of what `FlatGradients` gave.

    Args:
        step: whose second half is used.
    """

    def __init__(self, step: TrainStep) -> None:
        super().__init__()
        self.update = step.update
        self.next_running: ParameterTuple = step.update.next_running
        self.shapes = tuple(tuple(weight.shape) for weight in step.update.optimizer.weights)
        self.sizes = tuple(weight.size for weight in step.update.optimizer.weights)

    def construct(self, flat: Tensor, learning_rate: Tensor) -> tuple[Tensor, ...]:
        """Outputs as those of `TrainStep`."""
        begin = 0
        gradients: tuple[Tensor, ...] = ()
        for i, size in enumerate(self.sizes):
            gradients = gradients + (flat[begin : begin + size].reshape(self.shapes[i]),)
            begin = begin + size
        for statistic in self.next_running:
            size = statistic.size
            flat = ops.depend(flat, ops.assign(statistic, flat[begin : begin + size]))
            begin = begin + size
        loss = flat[begin]
        norm, is_finite, has_overflowed = self.update(loss, gradients, learning_rate)
        return loss, norm, is_finite, has_overflowed
