"""The halves of a step around one flat array, which is what several batches of an update add up.

Each batch's loss counts by its share of the update's utterances, so that the sum over the batches is the mean over all
utterances, as if they were one batch. The array holds gradients, running statistics and the loss.
"""

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn, ops

from mindaudio_ds2.ops.joint import DeviceSum
from mindaudio_ds2.training.compiled.step import TrainStep


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


class GradientsSumUpdate(nn.Cell):
    """A whole update: of the last batch the gradients, the sum over the processes, the second half of a step.

    Args:
        step: both of whose halves are used.
        has_earlier: whether there are batches before the last.
        joint_sum: over the processes; None where there is one.
    """

    def __init__(self, step: TrainStep, has_earlier: bool, joint_sum: DeviceSum | None) -> None:
        super().__init__()
        self.gradients = FlatGradients(step)
        self.update = FlatUpdate(step)
        self.has_earlier = has_earlier
        self.joint_sum = joint_sum

    def construct(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        share: Tensor,
        learning_rate: Tensor,
        wish: Tensor,
        earlier: Tensor,
        dropout: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Outputs as those of `TrainStep`, and the sum of the wishes to stop; `earlier` is the other batches' sum."""
        flat = self.gradients(features, feature_lengths, labels, label_lengths, share, dropout)
        if self.has_earlier:
            flat = flat + earlier
        if self.joint_sum is not None:
            # one after the other: all processes must come to the same sum
            wish = self.joint_sum(ops.depend(wish, flat).reshape((1,)))
            flat = self.joint_sum(ops.depend(flat, wish))
        loss, norm, is_finite, has_overflowed = self.update(flat, learning_rate)
        return loss, norm, is_finite, has_overflowed, wish
