"""What a run tells a person: at its beginning, while an epoch goes on, and after it."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from mindaudio_ds2.batching.plan import EpochPlan
from mindaudio_ds2.config import Config
from mindaudio_ds2.decoding.metrics import ErrorCounts
from mindaudio_ds2.evaluate import Evaluation
from mindaudio_ds2.model.arithmetic import describe_sizes
from mindaudio_ds2.training.layer_choice import TrainedWeights
from mindaudio_ds2.training.progress import Progress, clock_time
from mindaudio_ds2.training.runlog import RunLog

SECONDS_BETWEEN_LINES = 60.0


class EpochDisplay:
    """A progress bar for one epoch; where nobody watches, a line a minute instead.

    Args:
        log: takes the lines.
        progress: of the run.
        plan: of the epoch.
        num_epochs: of the whole run.
        is_shown: whether there is a bar at all.
    """

    def __init__(self, log: RunLog, progress: Progress, plan: EpochPlan, num_epochs: int, is_shown: bool) -> None:
        self.log = log
        self.progress = progress
        self.plan = plan
        self.num_epochs = num_epochs
        self.bar = tqdm(
            total=plan.num_updates,
            initial=progress.batch,
            desc=f"epoch {progress.epoch + 1}",
            unit="step",
            disable=None if is_shown else True,
        )
        self.shown = time.monotonic()

    def __enter__(self) -> "EpochDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def update(self) -> None:
        """Show that an update has been made."""
        progress, now = self.progress, time.monotonic()
        speed = progress.audio_seconds_per_second or 0.0
        left = progress.time_left(self.num_epochs, self.plan.share_after(progress.batch))
        self.bar.set_postfix_str(
            f"{progress.describe_loss()}, {speed:.0f} h of audio/h, all done in {left}", refresh=False
        )
        self.bar.update()
        if self.bar.disable and now - self.shown > SECONDS_BETWEEN_LINES:
            self.shown = now
            self.log.say(
                f"epoch {progress.epoch + 1} step {progress.batch}/{self.plan.num_updates}: "
                f"{progress.describe_loss()}, {speed:.0f} hours of audio an hour, {left} left"
            )


def describe_run(config: Config, folder: Path, progress: Progress, num_utterances: int, trained: TrainedWeights) -> str:
    """What is about to be trained, on what, and by how many.

    Args:
        config: of the run.
        folder: of the run.
        progress: of the run.
        num_utterances: trained on.
        trained: what of the network is trained.
    """
    num_batches = config.batching.accumulation_steps
    lines = [
        f"{num_utterances} utterances, {progress.train_hours:.2f} hours of audio; {trained.num_parameters:,} "
        f"parameters, {describe_sizes(config)} a second of audio; run folder {folder}"
    ]
    if config.training.freeze:
        lines.append(f"frozen: {', '.join(config.training.freeze)}; {trained.num_trained:,} parameters are trained")
    if progress.num_parts > 1:
        norm = "all processes" if config.processes.sync_batch_norm else "each batch"
        lines.append(
            f"processes: {progress.num_parts // num_batches}; batches of each in an update: {num_batches}; "
            f"batch norm over {norm}"
        )
    return "\n".join(lines)


def describe_epoch(progress: Progress, num_epochs: int, evaluation: Evaluation, is_best: bool) -> str:
    """How an epoch went, with one utterance as an example.

    Args:
        progress: the epoch counted in.
        num_epochs: of the whole run.
        evaluation: of the dev set.
        is_best: whether it is the best so far.
    """
    counts = evaluation.counts
    example = evaluation.utterances[progress.epoch % len(evaluation.utterances)]
    return (
        f"epoch {progress.epoch}/{num_epochs}: {progress.describe_loss()}, "
        f"dev WER {100 * counts.wer:.2f} % CER {100 * counts.cer:.2f} %{' (best)' if is_best else ''}, "
        f"{progress.describe_speed()}, {clock_time(progress.train_seconds)} done, "
        f"{progress.time_left(num_epochs, 0.0)} left\n"
        f"  said       {example.reference}\n  recognised {example.hypothesis}"
    )


def describe_average(epochs: Sequence[int], counts: ErrorCounts, is_best: bool) -> str:
    """How the average of some epochs' weights went.

    Args:
        epochs: that it is of, counted from 1.
        counts: of the dev set.
        is_best: whether it is the best so far.
    """
    return (
        f"average of epochs {', '.join(map(str, epochs))}: dev WER {100 * counts.wer:.2f} % "
        f"CER {100 * counts.cer:.2f} %{' (best)' if is_best else ''}"
    )
