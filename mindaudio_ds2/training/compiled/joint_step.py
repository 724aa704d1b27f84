"""One optimiser update from one batch, or from several: those of all processes, and those that a process goes through
in turn, see `flat_step.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.ops.joint import DeviceSum
from mindaudio_ds2.training.compiled.flat_step import FlatGradients, FlatUpdate, GradientsSumUpdate
from mindaudio_ds2.training.compiled.step import TrainStep, step_signature

Inputs = tuple[Tensor, ...]
"""A batch as `TrainStep` takes it: features, feature lengths, labels, label lengths, and dropout if there is any."""

Wish = Callable[[], bool]
"""Tells whether this process was asked to stop."""

Outputs = tuple[Sequence[Tensor], float]

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


class Step(ABC):
    """A way to make an update, which is compiled when it is first taken.

    Args:
        cells: its graphs.
    """

    def __init__(self, *cells: nn.Cell) -> None:
        self.cells = cells

    def take(
        self,
        batches: Sequence[Inputs],
        shares: Sequence[float],
        learning_rate: float,
        is_stop_wished: Wish,
    ) -> Outcome:
        """Make one update. All processes call it together, with as many batches each.

        Args:
            batches: of this process.
            shares: of the update's utterances that are in each of them; over all processes they add up to 1.
            learning_rate: the same everywhere.
            is_stop_wished: tells whether this process was asked to stop. The wish travels with the gradients, so that
                all processes learn of it after the same update.
        """
        for cell in self.cells:
            cell.set_train(True)
        outputs, wish = self._compute(batches, shares, learning_rate, is_stop_wished)
        loss, norm, is_finite, has_overflowed = (output.asnumpy().item() for output in outputs)
        return Outcome(loss, norm, is_finite, has_overflowed, bool(wish))

    @abstractmethod
    def _compute(self, batches: Sequence[Inputs], shares: Sequence[float], rate: float, asks: Wish) -> Outputs:
        """See `take`; outputs as those of `TrainStep`, and the sum of the wishes to stop."""


class LoneStep(Step):
    """An update from one batch of one process: `TrainStep` as it is.

    Args:
        step: the whole step.
        open_shapes: to compile once for all shapes; None compiles for each shape anew.
    """

    def __init__(self, step: TrainStep, open_shapes: OpenShapes | None) -> None:
        super().__init__(step)
        self.step = step
        if open_shapes is not None:
            step.open_shapes(*open_shapes)

    def _compute(self, batches: Sequence[Inputs], shares: Sequence[float], rate: float, asks: Wish) -> Outputs:
        assert len(batches) == 1
        assert shares[0] == 1
        return self.step(*_insert_numbers(batches[0], rate)), asks()


class JointStep(Step):
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
        super().__init__(self.gradients, self.update)
        if open_shapes is not None:
            self.gradients.set_inputs(*step_signature(*open_shapes))

    def _compute(self, batches: Sequence[Inputs], shares: Sequence[float], rate: float, asks: Wish) -> Outputs:
        total = self._flatten(batches[0], shares[0])
        for batch, share in zip(batches[1:], shares[1:], strict=True):
            total += self._flatten(batch, share)
        total[-1] = asks()
        self.ranks.sum(total)
        return self.update(Tensor.from_numpy(total), Tensor(rate, ms.float32)), total[-1]

    def _flatten(self, batch: Inputs, share: float) -> NDArray[np.float32]:
        # The array is the graph's own output, which it never touches again: summed in place, and handed on, uncopied.
        flat: NDArray[np.float32] = self.gradients(*_insert_numbers(batch, share)).asnumpy()
        return flat


class DeviceStep(Step):
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
        self.last = GradientsSumUpdate(step, num_batches > 1, joint_sum)
        super().__init__(self.gradients, self.last)
        self.nothing = Tensor([0.0], ms.float32)
        if open_shapes is not None:
            signature = step_signature(*open_shapes)
            self.gradients.set_inputs(*signature)
            number = signature[4]
            earlier = Tensor(shape=[None], dtype=ms.float32)
            self.last.set_inputs(*signature[:5], number, number, earlier, *signature[5:])

    def _compute(self, batches: Sequence[Inputs], shares: Sequence[float], rate: float, asks: Wish) -> Outputs:
        earlier = self.nothing
        for batch, share in zip(batches[:-1], shares[:-1], strict=True):
            flat = self.gradients(*_insert_numbers(batch, share))
            earlier = flat if earlier is self.nothing else earlier + flat
        numbers = (shares[-1], rate, float(asks()))
        *outputs, wishes = self.last(*_insert_numbers(batches[-1], *numbers, earlier))
        return outputs, wishes.asnumpy().item()


def make_step(
    step: TrainStep, ranks: Ranks, num_batches: int, open_shapes: OpenShapes | None, stays_on_device: bool
) -> Step:
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


def _insert_numbers(batch: Inputs, *numbers: float | Tensor) -> tuple[Tensor, ...]:
    """A batch with what a graph takes behind the label lengths."""
    tensors = [number if isinstance(number, Tensor) else Tensor(number, ms.float32) for number in numbers]
    return (*batch[:4], *tensors, *batch[4:])
