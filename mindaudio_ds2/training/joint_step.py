"""One optimiser update from one batch, or from several: those of all processes, and those that a process goes through
in turn, see `flat_step.py`.
"""

from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.ops.joint import DeviceSum
from mindaudio_ds2.training.device_step import DeviceStep
from mindaudio_ds2.training.flat_step import FlatGradients, FlatUpdate, Inputs, OpenShapes, Outcome, insert_numbers
from mindaudio_ds2.training.step import TrainStep, step_signature


class LoneStep:
    """An update from one batch of one process: `TrainStep` as it is.

    Args:
        step: the whole step.
        open_shapes: to compile once for all shapes; None compiles for each shape anew.
    """

    def __init__(self, step: TrainStep, open_shapes: OpenShapes | None) -> None:
        self.step = step
        if open_shapes is not None:
            step.open_shapes(*open_shapes)

    def take(
        self,
        batches: Sequence[Inputs],
        shares: Sequence[float],
        learning_rate: float,
        is_stop_wished: Callable[[], bool],
    ) -> Outcome:
        """See `JointStep.take`; there is one batch, and its share is 1."""
        assert len(batches) == 1
        assert shares[0] == 1
        self.step.set_train(True)
        outputs = self.step(*insert_numbers(batches[0], learning_rate))
        loss, norm, is_finite, has_overflowed = (output.asnumpy().item() for output in outputs)
        return Outcome(loss, norm, is_finite, has_overflowed, is_stop_wished())


class JointStep:
    """An update from all batches of all processes: gradients, a sum over the processes, the same update everywhere.

    Running statistics are averaged over the batches like the gradients; with `processes.sync_batch_norm` they are the
    same on all processes anyway. The sum is the host's. Has run on the CPU.

    Args:
        step: its two halves are used.
        ranks: the processes.
        open_shapes: to compile once for all shapes; None compiles for each shape anew.
    """

    def __init__(self, step: TrainStep, ranks: Ranks, open_shapes: OpenShapes | None) -> None:
        self.ranks = ranks
        self.gradients = FlatGradients(step)
        self.update = FlatUpdate(step)
        if open_shapes is not None:
            self.gradients.set_inputs(*step_signature(*open_shapes))

    def take(
        self,
        batches: Sequence[Inputs],
        shares: Sequence[float],
        learning_rate: float,
        is_stop_wished: Callable[[], bool],
    ) -> Outcome:
        """Make one update. All processes call it together, with as many batches each.

        Args:
            batches: of this process.
            shares: of the update's utterances that are in each of them; over all processes they add up to 1.
            learning_rate: the same everywhere.
            is_stop_wished: tells whether this process was asked to stop. The wish travels with the gradients, so that
                all processes learn of it after the same update.
        """
        self.gradients.set_train(True)
        total = self._compute(batches[0], shares[0])
        for batch, share in zip(batches[1:], shares[1:], strict=True):
            total += self._compute(batch, share)
        total[-1] = is_stop_wished()
        self.ranks.sum(total)
        self.update.set_train(True)
        outputs = self.update(Tensor.from_numpy(total), Tensor(learning_rate, ms.float32))
        loss, norm, is_finite, has_overflowed = (output.asnumpy().item() for output in outputs)
        return Outcome(loss, norm, is_finite, has_overflowed, bool(total[-1]))

    def _compute(self, batch: Inputs, share: float) -> NDArray[np.float32]:
        # The array is the graph's own output, which it never touches again: summed in place, and handed on, uncopied.
        flat: NDArray[np.float32] = self.gradients(*insert_numbers(batch, share)).asnumpy()
        return flat


def make_step(
    step: TrainStep, ranks: Ranks, num_batches: int, open_shapes: OpenShapes | None, stays_on_device: bool
) -> LoneStep | JointStep | DeviceStep:
    """The way to make an update.

    Args:
        step: the whole step, not compiled yet.
        ranks: the processes.
        num_batches: of one process in an update.
        open_shapes: to compile once for all shapes; None compiles for each shape anew.
        stays_on_device: see `runtime.stays_on_device`.
    """
    if ranks.world_size * num_batches == 1:
        return LoneStep(step, open_shapes)
    if stays_on_device:
        return DeviceStep(step, num_batches, DeviceSum() if ranks.world_size > 1 else None, open_shapes)
    return JointStep(step, ranks, open_shapes)
