"""The plan of the epoch that a run comes to next, and what a person should know about it."""

from collections.abc import Sequence

from mindaudio_ds2.batching.plan import EpochPlan, plan_epoch, share_of_padding
from mindaudio_ds2.batching.shapes import FixedShapes
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import TrainingError
from mindaudio_ds2.machine.ranks import Place
from mindaudio_ds2.training.progress import Progress
from mindaudio_ds2.training.runlog import RunLog


def plan_next_epoch(
    config: Config,
    utterances: Sequence[Utterance],
    progress: Progress,
    place: Place,
    shapes: FixedShapes | None,
    log: RunLog,
) -> EpochPlan:
    """Plan this process's part of an epoch, or of what is left of it after a change in the number of processes.

    Args:
        config: of the run.
        utterances: trained on.
        progress: of the run; its `batch` counts the updates of this plan that are done.
        place: which process this is.
        shapes: that batches are padded to, where each is compiled.
        log: told how long the epoch is, and which utterances are left out of it.

    Raises:
        TrainingError: there are fewer utterances than an update has batches.
    """
    plan = plan_epoch(
        [utterance.duration_seconds for utterance in utterances],
        config.batching,
        epoch=progress.epoch,
        seed=config.seed,
        num_frames=config.features.num_frames,
        rank=place.rank,
        world_size=place.world_size,
        finished=progress.finished,
        shapes=shapes,
    )
    if not plan.batches and not progress.finished:
        raise TrainingError(
            f"{len(utterances)} utterances cannot be dealt to {progress.num_parts} batches an update (processes times "
            "batching.accumulation_steps); start fewer processes, or accumulate less"
        )
    if progress.batch == 0:
        frames = [config.features.num_frames(utterance.duration_seconds) for utterance in utterances]
        padding = share_of_padding(plan.batches, frames)
        log.say(f"epoch {progress.epoch + 1}: {plan.num_updates} steps, {padding:.1%} padding")
    if plan.left_out:
        ids = ", ".join(utterances[index].id for index in plan.left_out)
        log.say(f"left out of epoch {progress.epoch + 1}, too few for one more update: {ids}")
    return plan
