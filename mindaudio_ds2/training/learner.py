"""A network with all that trains it, as one thing that takes steps and has a state."""

import dataclasses
from collections.abc import Callable, Sequence

from mindspore import Parameter

from mindaudio_ds2.checkpoint import build_network, fill
from mindaudio_ds2.config import Config
from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.model.precision import compute_in
from mindaudio_ds2.ops.joint import DeviceSum, JointSum
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.training.compiled.joint_step import Inputs, Outcome, Step, make_step
from mindaudio_ds2.training.compiled.loss import CTCLoss
from mindaudio_ds2.training.compiled.loss_scale import LossScale
from mindaudio_ds2.training.compiled.optimizer import make_optimizer
from mindaudio_ds2.training.compiled.step import TrainStep
from mindaudio_ds2.training.compiled.weight_average import MovingAverage
from mindaudio_ds2.training.pruning import Pruner
from mindaudio_ds2.training.schedule import count_pruning_epochs
from mindaudio_ds2.training.teacher import load_teacher
from mindaudio_ds2.training.weights import choose_trained

ROUNDING = 1e-3
"""Shares of zeros that differ by less are told as the same."""


class Learner:
    """Builds network, loss, optimiser, loss scale and moving average as a configuration says, and takes steps.

    Args:
        config: the whole run.
        backend: how this process computes.
        ranks: the processes that train together.

    Attributes:
        network: that is trained.
        scored: the network that is scored: the same one, or a moving average of it.
        trained: which of its weights are trained.
        pruner: sets weights to zero, where `training.prune_share` wants some; None where it wants none.
        teacher: that it also learns from, as `training.teacher` names one; None for none.
        takes_open_shapes: whether the step is compiled once for all shapes.
        state: what must be saved beside the network's weights for an exact resume, by name.
        is_compiled: whether the step has been taken, so that the next one takes no longer than computing does.

    Raises:
        CheckpointError: the teacher cannot be used.
        ConfigError: `training.freeze` or `training.prune_share` do not fit the network.
    """

    def __init__(self, config: Config, backend: Backend, ranks: Ranks) -> None:
        self.config = config
        self.backend = backend
        self.ranks = ranks
        joint = backend
        if config.processes.sync_batch_norm and ranks.world_size > 1:
            joint_sum = DeviceSum() if backend.stays_on_device else JointSum(ranks.sum)
            joint = dataclasses.replace(backend, joint_sum=joint_sum)
        self.network = build_network(config, joint)
        compute_in(self.network, config.precision.compute, backend)
        self.trained = choose_trained(self.network, config.training)
        self.optimizer = make_optimizer(self.trained.parameters, config.optimizer, self.trained.factors)
        decay = config.training.ema_decay
        self.scored = build_network(config, backend) if decay else self.network
        self.average = MovingAverage(self.network, self.scored, decay) if decay else None
        self.loss_scale = LossScale(config.precision)
        state, averaged = (self.average.state(), self.average.named) if self.average else ({}, {})
        self.state: dict[str, Parameter] = {**self.optimizer.state(), **state, **self.loss_scale.state()}
        share = config.training.prune_share
        self.pruner = Pruner(self.network.weights(), self.optimizer, averaged, share) if share else None
        self.teacher = load_teacher(config, backend, ranks)  # last: random weights are the same with and without
        networks = (self.network, *([self.teacher.network] if self.teacher else []))
        self.takes_open_shapes = all(network.takes_open_shapes for network in networks)
        self.step, self.is_compiled = self._make_step(), False

    def _make_step(self) -> Step:
        """The step of the network as it is; it is compiled when it is first taken."""
        config, model, training = self.config, self.config.model, self.config.training
        blank_id, clip = Tokenizer(config.text).blank_id, config.optimizer.max_gradient_norm
        teacher, share = (self.teacher.network, training.teacher_weight) if self.teacher else (None, 0.0)
        loss = CTCLoss(blank_id, self.backend, training.label_smoothing, training.consistency_weight, share)
        is_pruned = self.pruner.is_pruned if self.pruner else ()
        step = TrainStep(self.network, loss, self.optimizer, clip, self.loss_scale, self.average, teacher, is_pruned)
        sizes = (model.rnn_num_layers, model.rnn_hidden_size) if model.rnn_dropout else None
        open_shapes = (config.features.num_bins, sizes) if self.takes_open_shapes else None
        num_batches = config.batching.accumulation_steps
        return make_step(step, self.ranks, num_batches, open_shapes, self.backend.stays_on_device)

    def take_step(
        self,
        batches: Sequence[Inputs],
        shares: Sequence[float],
        learning_rate: float,
        is_stop_wished: Callable[[], bool],
    ) -> Outcome:
        """Make one update, see `Step.take`."""
        outcome = self.step.take(batches, shares, learning_rate, is_stop_wished)
        self.is_compiled = True
        return outcome

    def freeze_norms(self) -> bool:
        """Take another step from now on, in which batch norms use and keep their running statistics.

        Returns:
            Whether that is new: false where all of them do so already.
        """
        norms = self.network.batch_norms()
        if all(norm.is_frozen for norm in norms):
            return False
        for norm in norms:
            norm.is_frozen = True
        self.step, self.is_compiled = self._make_step(), False
        return True

    def prune(self, share: float) -> None:
        """Let this share of each pruned matrix be zero, see `Pruner.prune`."""
        if self.pruner:
            self.pruner.prune(share)

    def describe(self) -> list[str]:
        """What a person should know of it before it begins, a line each; none where there is nothing special."""
        lines = [self.teacher.text] if self.teacher else []
        if self.pruner:
            share, first = self.config.training.prune_share, count_pruning_epochs(self.config.training)
            before = self.pruner.zero_share
            kept = f"; {before:.1%} are already, and stay so" if before > share + ROUNDING else ""
            lines.append(
                f"pruning: {share:.1%} of {self.pruner.num_weights:,} weights in {len(self.pruner.groups)} matrices "
                f"are zero at the end of epoch {first} and from then on{kept}; no epoch before that becomes best.ckpt"
            )
        return lines

    def begin_average(self) -> None:
        """Let the moving average begin at the weights as they are now."""
        if self.average:
            self.average.begin()

    def spread(self) -> None:
        """Give all processes the first one's weights and state."""
        for parameters in (self.network.weights(), self.state):
            arrays = self.ranks.broadcast({name: parameter.asnumpy() for name, parameter in parameters.items()})
            if not self.ranks.is_first:
                fill(parameters, arrays, "rank 0")
