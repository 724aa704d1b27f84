"""One optimiser update from several batches: those of all processes, and those that a process goes through in turn.

Each batch's loss counts by its share of the update's utterances, so that the sum over the batches is the mean over all
utterances, as if they were one batch. What is summed is one flat array: gradients, running statistics, loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops
from numpy.typing import NDArray

from mindaudio_ds2.collectives import Ranks
from mindaudio_ds2.training.step import TrainStep, step_signature

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
        is_stop_wished: whether some process was asked to stop.
    """

    loss: float
    gradient_norm: float
    is_finite: bool
    is_stop_wished: bool


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
        outputs = self.step(*_insert(batches[0], learning_rate))
        loss, norm, is_finite = (output.asnumpy().item() for output in outputs)
        return Outcome(loss, norm, is_finite, is_stop_wished())


class JointStep:
    """An update from all batches of all processes: gradients, a sum over the processes, the same update everywhere.

    Running statistics are averaged over the batches like the gradients; with `processes.sync_batch_norm` they are the
    same on all processes anyway. Has run on the CPU.

    Args:
        step: its two halves are used.
        ranks: the processes.
        open_shapes: to compile once for all shapes; None compiles for each shape anew.
    """

    def __init__(self, step: TrainStep, ranks: Ranks, open_shapes: OpenShapes | None) -> None:
        self.ranks = ranks
        self.gradients = _FlatGradients(step)
        self.update = _FlatUpdate(step)
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
        loss, norm, is_finite = (output.asnumpy().item() for output in outputs)
        return Outcome(loss, norm, is_finite, bool(total[-1]))

    def _compute(self, batch: Inputs, share: float) -> NDArray[np.float32]:
        # The array is the graph's own output, which it never touches again: summed in place, and handed on, uncopied.
        flat: NDArray[np.float32] = self.gradients(*_insert(batch, share)).asnumpy()
        return flat


def _insert(batch: Inputs, number: float) -> tuple[Tensor, ...]:
    """A batch with the number that a graph takes behind the label lengths."""
    return (*batch[:4], Tensor(number, ms.float32), *batch[4:])


class _FlatGradients(nn.Cell):
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


class _FlatUpdate(nn.Cell):
    """The second half of a step, from the sum of what `_FlatGradients` gave.

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
        norm, is_finite = self.update(loss, gradients, learning_rate)
        return loss, norm, is_finite


def make_step(step: TrainStep, ranks: Ranks, num_batches: int, open_shapes: OpenShapes | None) -> LoneStep | JointStep:
    """The way to make an update.

    Args:
        step: the whole step, not compiled yet.
        ranks: the processes.
        num_batches: of one process in an update.
        open_shapes: to compile once for all shapes; None compiles for each shape anew.
    """
    if ranks.world_size * num_batches == 1:
        return LoneStep(step, open_shapes)
    return JointStep(step, ranks, open_shapes)
