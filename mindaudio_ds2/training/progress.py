"""How far a run has come."""

import math
from dataclasses import dataclass, field

from mindaudio_ds2.decoding.metrics import ErrorCounts
from mindaudio_ds2.training.schedule import count_frozen_epochs, count_pruning_epochs
from mindaudio_ds2.training_config import TrainingConfig


@dataclass
class Progress:
    """How far training has come: what `last.ckpt` remembers besides weights and moments.

    Attributes:
        epoch: epochs wholly done, their validation included.
        batch: updates done in the epoch under way, since `num_parts` changed last.
        step: updates done in all, those skipped included.
        num_bad_steps: steps whose loss or gradient was not finite.
        num_overflows: steps that were skipped because the loss scale was too large; not among the bad ones.
        loss_sum, num_utterances: of the epoch under way, finite steps only.
        audio_seconds: of the updates of the epoch under way, before augmentation.
        num_timed_utterances: of these updates, those skipped included.
        epoch_seconds: wall time of these updates, compiling and saving included, validation not.
        waiting_seconds: the part of that in which the first process waited for its batches.
        best_wer, best_cer: of best.ckpt; fractions.
        best_epoch: the best single epoch.
        dev_wers: of each epoch wholly done; fractions.
        averaged_epochs: of which best.ckpt is the average; empty where it is that of the best epoch.
        best_epochs: dev WER, dev CER and number of the epochs kept for training.average_best, from good to bad.
        train_seconds: wall time spent in training so far, validation included.
        train_hours: audio in the training utterances.
        longest_seconds: duration of the longest of them; 0 in runs that did not note it.
        fingerprint: of the utterances trained on, and of the noise and rooms mixed into them.
        dev_fingerprint: of the utterances that choose the best epoch; empty in runs that did not note it.
        teacher: digest of the weights of the network that is learnt from; empty without one.
        num_parts: batches of an update: processes times batching.accumulation_steps.
        has_fixed_shapes: whether batches are planned for fixed shapes, which makes others of them.
        frozen_from: epochs after which batch norms were frozen because the dev WER no longer fell; None so far.
        finished: of the epoch under way, where `num_parts` has changed within it: each former number, and the updates
            made with it.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    num_bad_steps: int = 0
    num_overflows: int = 0
    loss_sum: float = 0.0
    num_utterances: int = 0
    audio_seconds: float = 0.0
    num_timed_utterances: int = 0
    epoch_seconds: float = 0.0
    waiting_seconds: float = 0.0
    best_wer: float = math.inf
    best_cer: float = math.inf
    best_epoch: int = 0
    dev_wers: list[float] = field(default_factory=list)
    averaged_epochs: list[int] = field(default_factory=list)
    best_epochs: list[tuple[float, float, int]] = field(default_factory=list)
    train_seconds: float = 0.0
    train_hours: float = 0.0
    longest_seconds: float = 0.0
    fingerprint: str = ""
    dev_fingerprint: str = ""
    teacher: str = ""
    num_parts: int = 1
    has_fixed_shapes: bool = False
    frozen_from: int | None = None
    finished: list[tuple[int, int]] = field(default_factory=list)

    def change_parts(self, num_parts: int) -> str:
        """Go on with another number of processes, or of batches that each accumulates.

        Args:
            num_parts: batches of an update from now on.

        Returns:
            What that changes, to be said; empty if nothing does.
        """
        before = self.num_parts
        if num_parts == before:
            return ""
        if self.batch:
            self.finished.append((before, self.batch))
        self.num_parts, self.batch = num_parts, 0
        return (
            f"an update now has up to {num_parts} batches, and had up to {before}; what is left of epoch "
            f"{self.epoch + 1} is dealt anew, each utterance once. The numbers are no longer those of the run before; "
            "with as many processes times batching.accumulation_steps as before, they would be"
        )

    def __post_init__(self) -> None:
        self.best_epochs = [(wer, cer, epoch) for wer, cer, epoch in self.best_epochs]  # JSON has lists for tuples
        self.finished = [(num_parts, num_updates) for num_parts, num_updates in self.finished]

    def begin_epoch(self) -> None:
        """Set to zero what is counted anew in every epoch."""
        self.loss_sum, self.num_utterances, self.num_timed_utterances = 0.0, 0, 0
        self.audio_seconds, self.epoch_seconds, self.waiting_seconds = 0.0, 0.0, 0.0

    def finish_epoch(self, counts: ErrorCounts, config: TrainingConfig) -> bool:
        """Count an epoch in that has been scored.

        Args:
            counts: of the dev set.
            config: of the run.

        Returns:
            Whether it is the best so far.
        """
        self.epoch += 1
        self.batch = 0
        self.finished.clear()
        self.dev_wers.append(counts.wer)
        is_best = self.may_be_best(config) and (counts.wer, counts.cer) < (self.best_wer, self.best_cer)
        if is_best:
            self.best_wer, self.best_cer, self.best_epoch = counts.wer, counts.cer, self.epoch
        return is_best

    def may_be_best(self, config: TrainingConfig) -> bool:
        """Whether the last epoch's network has all the zeros it is to have; else the least pruned one would be best."""
        return self.epoch >= count_pruning_epochs(config)

    @property
    def audio_seconds_per_second(self) -> float | None:
        """Speed of the epoch under way; None before its first update."""
        return self.audio_seconds / self.epoch_seconds if self.epoch_seconds else None

    @property
    def utterances_per_second(self) -> float | None:
        """Speed of the epoch under way in utterances; None before its first update."""
        return self.num_timed_utterances / self.epoch_seconds if self.epoch_seconds else None

    @property
    def waiting_share(self) -> float | None:
        """Share of the epoch's time in which it waited for batches; None before its first update."""
        return self.waiting_seconds / self.epoch_seconds if self.epoch_seconds else None

    def describe_speed(self) -> str:
        """Speed as a person reads it."""
        hours, utterances = self.audio_seconds_per_second or 0.0, self.utterances_per_second or 0.0
        return f"{hours:.0f} hours of audio an hour, {utterances:.1f} utterances a second"

    @property
    def mean_loss(self) -> float | None:
        """Mean over the utterances of the epoch under way, in nats an utterance; None where no step was finite."""
        return self.loss_sum / self.num_utterances if self.num_utterances else None

    def list_measures(self) -> dict[str, float | None]:
        """What metrics.jsonl tells of the epoch that has just ended, beside its scores."""
        names = ("step", "epoch", "num_bad_steps", "num_overflows", "audio_seconds_per_second", "utterances_per_second")
        measures = {name: getattr(self, name) for name in (*names, "waiting_share", "train_seconds")}
        return {**measures, "loss": self.mean_loss}

    def plan_end(self, config: TrainingConfig) -> tuple[int, int]:
        """After how many epochs batch norms are frozen, and after how many the run ends.

        Both come earlier where the dev WER no longer falls, see `freeze_early`.
        """
        num_frozen = count_frozen_epochs(config)
        frozen_from = config.epochs - num_frozen if self.frozen_from is None else self.frozen_from
        return frozen_from, frozen_from + num_frozen

    def is_stalled(self, config: TrainingConfig) -> bool:
        """Whether early stopping may end what the run is at: all of it, or the epochs before norms are frozen."""
        frozen_from, end = self.plan_end(config)
        is_last_part = 0 < frozen_from <= self.epoch < end
        patience = config.early_stopping_epochs
        since = max(self.best_epoch, count_pruning_epochs(config))
        return bool(patience) and not is_last_part and self.epoch - since >= patience

    def describe_loss(self) -> str:
        """The mean loss as a person reads it."""
        return "no finite loss" if self.mean_loss is None else f"loss {self.mean_loss:.2f}"

    def time_left(self, num_epochs: int, share_of_epoch: float) -> str:
        """How much longer the run takes at the pace so far, as a person says it.

        Args:
            num_epochs: of the whole run.
            share_of_epoch: done of the epoch under way, 0 to 1.
        """
        done = self.epoch + share_of_epoch
        return clock_time(self.train_seconds * (num_epochs - done) / done)

    def describe_best(self) -> str:
        """Where best.ckpt comes from, as a person reads it."""
        averaged = ", ".join(map(str, self.averaged_epochs))
        return f"of the average of epochs {averaged}" if averaged else f"in epoch {self.best_epoch}"


def clock_time(seconds: float) -> str:
    """A duration as a person says it."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"
