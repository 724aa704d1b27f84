"""Sections that decide how weights are trained: updates, their rate, and for how long."""

import dataclasses
from typing import Literal

from mindaudio_ds2.errors import require_possible as _require


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become updates."""

    name: Literal["adam", "adamw", "sgd", "lamb"]
    """Adam and sgd add weight decay to the gradient; AdamW takes it off the weights (arXiv:1711.05101). LAMB is for
    very large batches (arXiv:1904.00962)."""
    betas: tuple[float, float]
    """Decay of the running mean and of the running square of the gradient; not used by sgd (0 to 1)."""
    momentum: float
    """Nesterov momentum of sgd; not used by the others (0 to 1)."""
    epsilon: float
    """Added to the root of the running square; not used by sgd."""
    weight_decay: float
    """Decay of weight matrices and kernels; norms and biases are never decayed."""
    max_gradient_norm: float
    """Gradients are scaled down to this L2 norm over all parameters, where theirs is larger."""

    def __post_init__(self) -> None:
        _require(all(0 <= b < 1 for b in self.betas), "optimizer.betas", self.betas, "each 0 or more, below 1")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 or more, below 1")
        _require(self.epsilon > 0, "optimizer.epsilon", self.epsilon, "must be positive")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        norm = self.max_gradient_norm
        _require(norm > 0, "optimizer.max_gradient_norm", norm, "must be positive; choose a large one to clip nothing")


ONE_CYCLE_RANGE = 10.0
"""Peak of the one_cycle schedule over the rate from which it rises, and to which it falls before it falls on."""


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate at every step."""

    name: Literal["constant", "exponential", "cosine", "one_cycle", "plateau"]
    """After the warm-up: stay at the peak, multiply by decay_per_epoch each epoch, fall along half a cosine, fall as
    fast as it rose and then on (Smith 2018, arXiv:1803.09820), or multiply by plateau_factor when dev WER stalls."""
    peak_learning_rate: float
    """Highest learning rate."""
    final_learning_rate: float
    """Where cosine and one_cycle end; the others never go below it."""
    warmup_epochs: float
    """Linear rise to the peak, from 0, with one_cycle from a tenth of the peak, to which it also falls (epochs)."""
    decay_per_epoch: float
    """Factor of the exponential schedule (0 to 1)."""
    plateau_patience_epochs: int
    """Epochs in a row without a lower dev WER before the plateau schedule lowers the rate (epochs)."""
    plateau_factor: float
    """Factor of the plateau schedule (0 to 1)."""

    def __post_init__(self) -> None:
        low, peak = self.final_learning_rate, self.peak_learning_rate
        _require(peak > 0, "schedule.peak_learning_rate", peak, "must be positive")
        _require(0 <= low <= peak, "schedule.final_learning_rate", low, "0 to the peak")
        _require(self.warmup_epochs >= 0, "schedule.warmup_epochs", self.warmup_epochs, "0 or more")
        for name in ("decay_per_epoch", "plateau_factor"):
            _require(0 < getattr(self, name) <= 1, f"schedule.{name}", getattr(self, name), "above 0, at most 1")
        patience = self.plateau_patience_epochs
        _require(patience > 0, "schedule.plateau_patience_epochs", patience, "at least 1")
        if self.name == "one_cycle":
            remedy = f"one_cycle ends at most at a {ONE_CYCLE_RANGE:g}th of the peak"
            _require(low <= peak / ONE_CYCLE_RANGE, "schedule.final_learning_rate", low, remedy)
            _require(self.warmup_epochs > 0, "schedule.warmup_epochs", self.warmup_epochs, "one_cycle rises and falls")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, and what is kept."""

    epochs: int
    """Passes over the training utterances (count)."""
    early_stopping_epochs: int
    """Stop when the dev WER has not fallen for so many epochs, after those with frozen norms; 0 never does (epochs)."""
    max_bad_steps: int
    """Stop with an error after so many steps whose loss or gradient was not finite (count)."""
    checkpoint_every_minutes: float
    """Save last.ckpt at least so often, also within an epoch (minutes)."""
    keep_every_epochs: int
    """Also keep epoch_N.ckpt every so many epochs; 0 keeps none (epochs)."""
    ema_decay: float
    """Score and keep a moving average of the weights, of which this share stays at each step; 0 for none (0 to 1)."""
    average_best: int
    """At the end, score the mean weights of so many of the best epochs; best.ckpt if it is better; 0: none (epochs)."""
    label_smoothing: float
    """Share of the loss that is how far each frame's probabilities are from equal ones; 0 for none (0 to 1)."""
    consistency_weight: float
    """Show each utterance twice in a step, with masks, vocal tract and dropout drawn twice, and add this times how far
    apart the two answers are to the loss; twice the work. 0 for once; 0.2 is usual (factor)."""
    teacher: str | None
    """A trained network, with the same features, labels and output frames, whose answers are learnt from beside the
    labels; null for none (path of a checkpoint, or a model's name)."""
    teacher_weight: float
    """Share of the loss that is how far each frame's probabilities are from the teacher's; without one it means nothing
    (above 0, at most 1)."""
    prune_share: float
    """Share of the weights of each recurrent and output matrix that become zero and stay so, the smallest ones;
    best.ckpt comes from epochs that end with all of them zero. 0 for none (0 to 1)."""
    prune_end_share: float
    """In this share of the epochs, the first ones, the zeros become more, quickly at first; then what is left is
    trained on (above 0, at most 1)."""
    frozen_norm_share: float
    """In this share of the epochs, the last ones, batch norms use and keep their running statistics; at least in one,
    and never in the first unless it is 1 (0 to 1)."""
    freeze: list[str]
    """Layers that stay as they are, running statistics included: convs, rnns.2, head_batch_norm, ... (names)."""
    learning_rate_factors: dict[str, float]
    """Factors of the learning rate by layer; of several names that fit a weight, the longest counts."""

    def __post_init__(self) -> None:
        _require(self.epochs > 0, "training.epochs", self.epochs, "at least 1")
        for name in ("early_stopping_epochs", "max_bad_steps", "keep_every_epochs", "average_best"):
            _require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "0 or more")
        _require(0 <= self.ema_decay < 1, "training.ema_decay", self.ema_decay, "0 or more, below 1; 0.999, say")
        _require(self.average_best != 1, "training.average_best", self.average_best, "0, or at least 2")
        _require(0 <= self.frozen_norm_share <= 1, "training.frozen_norm_share", self.frozen_norm_share, "0 to 1")
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, "training.label_smoothing", smoothing, "0 or more, below 1; 0.05, say")
        weight = self.consistency_weight
        _require(weight >= 0, "training.consistency_weight", weight, "0 or more; 0.2, say")
        _require(self.teacher != "", "training.teacher", "", "name a checkpoint or a model, or null")
        share = self.teacher_weight
        _require(0 < share <= 1, "training.teacher_weight", share, "above 0, at most 1; 0.5, say")
        _require(0 <= self.prune_share < 1, "training.prune_share", self.prune_share, "0 or more, below 1; 0.8, say")
        end = self.prune_end_share
        _require(0 < end <= 1, "training.prune_end_share", end, "above 0, at most 1; 0.5, say")
        factors = self.learning_rate_factors
        remedy = "factors are above 0; name what stays as it is in training.freeze"
        _require(all(factor > 0 for factor in factors.values()), "training.learning_rate_factors", factors, remedy)
        minutes = self.checkpoint_every_minutes
        _require(minutes > 0, "training.checkpoint_every_minutes", minutes, "must be positive")

    @property
    def num_views(self) -> int:
        """How many rows of a batch each utterance has."""
        return 2 if self.consistency_weight else 1
