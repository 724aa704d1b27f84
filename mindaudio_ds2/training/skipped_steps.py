"""Steps that changed no weight: counted, told, and limited."""

from collections.abc import Sequence

from mindaudio_ds2.errors import TrainingError
from mindaudio_ds2.training.progress import Progress
from mindaudio_ds2.training.runlog import RunLog


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
