"""One optimiser update from several batches, with the sum over processes inside the graph."""

from collections.abc import Callable, Sequence

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindaudio_ds2.ops.joint import DeviceSum
from mindaudio_ds2.training.flat_step import FlatGradients, FlatUpdate, Inputs, OpenShapes, Outcome, insert_numbers
from mindaudio_ds2.training.step import TrainStep, step_signature


class DeviceStep:
    """As `JointStep`, but the sum is a part of the graph, and nothing large leaves the device.

    An update from one batch is one graph; of several batches, all but the last have graphs of their own before it. Has
    run on the CPU, under msrun.

    Args:
        step: its two halves are used.
        num_batches: of this process in an update.
        joint_sum: over the processes; None where there is one.
        open_shapes: to compile once for all shapes; None compiles for each shape anew.
    """

    def __init__(
        self, step: TrainStep, num_batches: int, joint_sum: DeviceSum | None, open_shapes: OpenShapes | None
    ) -> None:
        self.gradients = FlatGradients(step)
        self.last = _GradientsSumUpdate(step, num_batches > 1, joint_sum)
        self.nothing = Tensor([0.0], ms.float32)
        if open_shapes is not None:
            signature = step_signature(*open_shapes)
            self.gradients.set_inputs(*signature)
            number = signature[4]
            earlier = Tensor(shape=[None], dtype=ms.float32)
            self.last.set_inputs(*signature[:5], number, number, earlier, *signature[5:])

    def take(
        self,
        batches: Sequence[Inputs],
        shares: Sequence[float],
        learning_rate: float,
        is_stop_wished: Callable[[], bool],
    ) -> Outcome:
        """See `JointStep.take`."""
        self.gradients.set_train(True)
        self.last.set_train(True)
        earlier = self.nothing
        for batch, share in zip(batches[:-1], shares[:-1], strict=True):
            flat = self.gradients(*insert_numbers(batch, share))
            earlier = flat if earlier is self.nothing else earlier + flat
        numbers = (shares[-1], learning_rate, float(is_stop_wished()))
        outputs = self.last(*insert_numbers(batches[-1], *numbers, earlier))
        loss, norm, is_finite, has_overflowed, wishes = (output.asnumpy().item() for output in outputs)
        return Outcome(loss, norm, is_finite, has_overflowed, bool(wishes))


class _GradientsSumUpdate(nn.Cell):
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
