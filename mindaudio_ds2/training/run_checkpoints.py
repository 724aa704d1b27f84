"""The checkpoints of a run: what is in each of them, which epochs' are kept, and how long."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from mindspore import Parameter

from mindaudio_ds2.checkpoint import save_checkpoint
from mindaudio_ds2.config import Config
from mindaudio_ds2.decoding.metrics import ErrorCounts
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
from mindaudio_ds2.training.learner import Learner
from mindaudio_ds2.training.progress import Progress
from mindaudio_ds2.training.runlog import RunLog


class RunCheckpoints:
    """Saves last.ckpt, best.ckpt, average.ckpt and epoch_N.ckpt.

    Args:
        config: of the run.
        log: whose folder they go to.
        learner: last.ckpt has its network and its state, all others have the network that is scored.
        is_writer: whether this process is the one that writes; the others only keep the books.

    Raises:
        OutputError: by all methods that save: no space, no permission.
    """

    def __init__(self, config: Config, log: RunLog, learner: Learner, is_writer: bool) -> None:
        self.config = config
        self.log = log
        self.learner = learner
        self.is_writer = is_writer

    def save_last(self, progress: Progress) -> None:
        """Save what `--resume` needs."""
        self._save(self.log.last_checkpoint, self.learner.network, self.learner.state, progress)

    def save_epoch(self, progress: Progress, counts: ErrorCounts, is_best: bool) -> None:
        """Save an epoch that has just been scored, wherever it is wanted, and remove those that no longer are.

        Args:
            progress: the epoch counted in; its `best_epochs` are brought up to date.
            counts: of the dev set.
            is_best: whether it becomes best.ckpt.
        """
        training = self.config.training
        num_kept = training.average_best if progress.may_be_best(training) else 0
        overtaken = rank_epoch(progress, counts, num_kept)
        paths = [self.log.best_checkpoint] if is_best else []
        if self._is_kept(progress.epoch, progress):
            paths.append(self.log.epoch_checkpoint(progress.epoch))
        for path in paths:
            self._save(path, self.learner.scored, {}, progress)
        self.save_last(progress)
        self._remove(overtaken, progress)

    def save_average(self, progress: Progress, network: DeepSpeech2, is_best: bool) -> None:
        """Save the mean of the best epochs' weights, which themselves are no longer needed.

        Args:
            progress: its `best_epochs` are forgotten.
            network: has the mean weights.
            is_best: whether it becomes best.ckpt.
        """
        epochs = [epoch for _, _, epoch in progress.best_epochs]
        progress.best_epochs = []
        for path in [self.log.average_checkpoint, *([self.log.best_checkpoint] if is_best else [])]:
            self._save(path, network, {}, progress)
        self.save_last(progress)
        self._remove(epochs, progress)

    def _save(self, path: Path, network: DeepSpeech2, state: Mapping[str, Parameter], progress: Progress) -> None:
        if self.is_writer:
            save_checkpoint(path, self.config, network.weights(), state, asdict(progress))

    def _is_kept(self, epoch: int, progress: Progress) -> bool:
        every = self.config.training.keep_every_epochs
        return bool(every and epoch % every == 0) or epoch in {best for _, _, best in progress.best_epochs}

    def _remove(self, epochs: Iterable[int], progress: Progress) -> None:
        for epoch in epochs:
            if self.is_writer and not self._is_kept(epoch, progress):
                self.log.epoch_checkpoint(epoch).unlink(missing_ok=True)


def rank_epoch(progress: Progress, counts: ErrorCounts, num_kept: int) -> set[int]:
    """Enter the epoch that has just been scored among the best, if it is one of them.

    Args:
        progress: its `best_epochs` are brought up to date; of equal ones the earlier is better.
        counts: of the dev set.
        num_kept: how many are remembered.

    Returns:
        Epochs that were among the best before and are not any more.
    """
    before = {epoch for _, _, epoch in progress.best_epochs}
    ranked = sorted([*progress.best_epochs, (counts.wer, counts.cer, progress.epoch)])
    progress.best_epochs = ranked[:num_kept]
    return before - {epoch for _, _, epoch in progress.best_epochs}
