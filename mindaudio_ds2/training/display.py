"""What a run tells a person: at its beginning, in the course of an epoch, and after it; and how fast it is."""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from mindaudio_ds2.batching.dataset import TensorBatch
from mindaudio_ds2.batching.plan import EpochPlan
from mindaudio_ds2.config import Config
from mindaudio_ds2.decoding.metrics import ErrorCounts
from mindaudio_ds2.errors import TrainingError
from mindaudio_ds2.evaluate import Evaluation
from mindaudio_ds2.model.arithmetic import describe_sizes
from mindaudio_ds2.training.progress import Progress, clock_time
from mindaudio_ds2.training.runlog import RunLog
from mindaudio_ds2.training.weights import TrainedWeights

SECONDS_BETWEEN_LINES = 60.0
ABSURD_LOSS = 1e8
"""In nats an utterance; a network that has learnt nothing at all loses some thousands on a long one."""
MAX_ABSURD_STEPS = 5
COMPILING = "compiling the training step, which takes 5 to 60 s by network and machine"


class Pace:
    """Counts wall time into the progress, from the moment it is made.

    Args:
        progress: of the run; with several processes, each counts its own time.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.counted = time.monotonic()

    def await_batches(self, batches: Iterable[TensorBatch]) -> Iterator[TensorBatch]:
        """The batches as they come; the time between asking for one and getting it counts as waiting."""
        asked = time.monotonic()
        for batch in batches:
            self.progress.waiting_seconds += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    def count(self, audio_seconds: float, num_utterances: int) -> None:
        """Count the time since the last call for the update that has just been made.

        Args:
            audio_seconds: of its utterances, in all processes.
            num_utterances: in all processes.
        """
        now = time.monotonic()
        self.progress.train_seconds += now - self.counted
        self.progress.epoch_seconds += now - self.counted
        self.progress.audio_seconds += audio_seconds
        self.progress.num_timed_utterances += num_utterances
        self.counted = now


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
        hours, utterances = progress.audio_seconds_per_second or 0.0, progress.utterances_per_second or 0.0
        left = progress.time_left(self.num_epochs, self.plan.share_after(progress.batch))
        self.bar.set_postfix_str(
            f"{progress.describe_loss()}, {hours:.0f} h of audio/h, {utterances:.1f} utt/s, all done in {left}",
            refresh=False,
        )
        self.bar.update()
        if self.bar.disable and now - self.shown > SECONDS_BETWEEN_LINES:
            self.shown = now
            self.log.say(
                f"epoch {progress.epoch + 1} step {progress.batch}/{self.plan.num_updates}: "
                f"{progress.describe_loss()}, {progress.describe_speed()}, {left} left"
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
        f"{progress.describe_speed()}, {progress.waiting_share or 0.0:.1%} of the time waiting for data, "
        f"{clock_time(progress.train_seconds)} done, "
        f"{progress.time_left(num_epochs, 0.0)} left\n"
        f"  said       {example.reference}\n  recognised {example.hypothesis}"
    )


def report_overflow(progress: Progress, log: RunLog, next_scale: float) -> None:
    """Count a step whose scaled gradient was too large. They limit themselves: each halves the scale.

    Args:
        progress: of the run, that step included.
        log: of the run.
        next_scale: the loss scale from now on.
    """
    progress.num_overflows += 1
    log.record("overflow", step=progress.step, epoch=progress.epoch + 1, next_loss_scale=next_scale)
    log.say(f"step {progress.step} skipped: gradient overflowed; loss scale is now {next_scale:g}")


def report_bad_step(progress: Progress, log: RunLog, utterance_ids: Sequence[str], max_bad_steps: int) -> None:
    """Count a step that no smaller loss scale would have helped.

    Args:
        progress: of the run, that step included.
        log: of the run.
        utterance_ids: that it was about, on all processes.
        max_bad_steps: of the configuration.

    Raises:
        TrainingError: there have been more than that.
    """
    progress.num_bad_steps += 1
    ids = ", ".join(utterance_ids)
    log.record("bad_step", step=progress.step, epoch=progress.epoch + 1, utterances=list(utterance_ids))
    log.say(f"step {progress.step} skipped: loss or gradient not finite; utterances {ids}")
    if progress.num_bad_steps > max_bad_steps:
        raise TrainingError(
            f"{progress.num_bad_steps} steps had a loss or gradient that was not finite, more than "
            f"training.max_bad_steps allows; lower schedule.peak_learning_rate, or look at the last batch: {ids}"
        )


class Divergence:
    """Tells a run that learns nothing any more from one that has a bad step now and then."""

    def __init__(self) -> None:
        self.num_absurd = 0

    def require_none(self, loss: float) -> None:
        """Look at the loss of a step.

        Args:
            loss: in nats an utterance; finite.

        Raises:
            TrainingError: it is absurd, and those of the steps before were, too.
        """
        self.num_absurd = self.num_absurd + 1 if loss > ABSURD_LOSS else 0
        if self.num_absurd == MAX_ABSURD_STEPS:
            raise TrainingError(
                f"training has diverged: {MAX_ABSURD_STEPS} steps in a row had a loss above {ABSURD_LOSS:g} nats an "
                f"utterance, the last {loss:.3g}. Lower schedule.peak_learning_rate or optimizer.max_gradient_norm; a "
                "new run with --pre_trained_model_path goes on from the weights of best.ckpt, if there is one"
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
