"""Which utterances are trained on, which go together, in which order, and on which rank.

Everything here is a pure function. The same arguments give the same plan on every machine, so the ranks agree without
talking to each other, and a run that is taken up again goes on with the very same batches.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.shapes import BatchShape, FixedShapes, may_share
from mindaudio_ds2.config import BatchingConfig, Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import ManifestError, TrainingError
from mindaudio_ds2.machine.ranks import Place

MAX_EXCLUSIONS_SHOWN = 10

Durations = Sequence[float] | NDArray[np.float64]
"""Duration of each utterance, in seconds."""

ALONE = Place()


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """One batch of one rank, before anything is loaded.

    Attributes:
        indices: positions of its utterances in the list that the plan was made for.
        num_padded_frames: T, frames of the longest utterance that any rank has in this step, or of `shape`.
        shape: what the batch is padded to; None for no more than its own longest utterance.
    """

    indices: tuple[int, ...]
    num_padded_frames: int
    shape: BatchShape | None = None


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """One epoch of one rank.

    Attributes:
        batches: in the order of the updates, `accumulation_steps` of them for each; every rank has as many.
        left_out: utterances that no rank gets in this epoch, because fewer were left than an update has batches. The
            same on all ranks, and always empty where an update has one batch.
        num_joint_utterances: for each update, the utterances that it has on all ranks together.
        share_done: share of the utterances that were finished before this plan begins, 0 to 1.
    """

    batches: tuple[BatchSpec, ...]
    left_out: tuple[int, ...]
    num_joint_utterances: tuple[int, ...]
    share_done: float

    @property
    def num_updates(self) -> int:
        """Updates in the plan; the same for all ranks."""
        return len(self.num_joint_utterances)

    def share_after(self, num_updates: int) -> float:
        """The share of the epoch that is done after so many updates of the plan, 0 to 1."""
        return self.share_done + (1 - self.share_done) * num_updates / self.num_updates


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An utterance that is not trained on.

    Attributes:
        utterance_id: its id in the manifest.
        reason: the rule that leaves it out; the same text for every utterance that the rule leaves out.
        detail: its own numbers.
    """

    utterance_id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which utterances are trained on.

    Attributes:
        kept: positions in the given list, rising.
        excluded: all others, in the given order.
    """

    kept: tuple[int, ...]
    excluded: tuple[Exclusion, ...]

    def describe_excluded(self) -> str:
        """How many are excluded for which reason, and the first of them by id, for logs and errors."""
        counts = Counter(exclusion.reason for exclusion in self.excluded)
        shown = [f"{e.utterance_id} ({e.reason}: {e.detail})" for e in self.excluded[:MAX_EXCLUSIONS_SHOWN]]
        num_hidden = len(self.excluded) - len(shown)
        if num_hidden:
            shown.append(f"and {num_hidden} more")
        totals = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        return "\n  ".join([f"{len(self.excluded)} of {len(self.kept) + len(self.excluded)}: {totals}", *shown])


def select_trainable(utterances: Sequence[Utterance], labels: Sequence[NDArray[np.int32]], config: Config) -> Selection:
    """Leave out what cannot or shall not be trained on. Nothing is ever cropped to make it fit.

    Args:
        utterances: from the training manifest.
        labels: (L,) int32 for each of them.
        config: sets the limits on duration, and with features and network the number of output frames.

    Raises:
        ManifestError: more is excluded than `data.max_excluded_share` allows.
        TrainingError: nothing is left.
    """
    assert len(utterances) == len(labels)
    kept, excluded = [], []
    for index, (utterance, its_labels) in enumerate(zip(utterances, labels, strict=True)):
        exclusion = _find_exclusion(utterance, its_labels, config)
        if exclusion is None:
            kept.append(index)
        else:
            excluded.append(exclusion)
    selection = Selection(tuple(kept), tuple(excluded))
    most = config.data.max_excluded_share
    if len(excluded) / max(1, len(utterances)) > most:
        raise ManifestError(
            f"{config.data.train_manifest}: more utterances cannot be trained on than data.max_excluded_share = {most} "
            "allows. Mend the manifest, set data.min_duration_seconds and data.max_duration_seconds to fit it, or "
            f"raise the share. Left out are {selection.describe_excluded()}"
        )
    if not kept:
        raise TrainingError(
            f"{config.data.train_manifest}: no utterance is left to train on. Left out are "
            f"{selection.describe_excluded()}"
        )
    return selection


def _find_exclusion(utterance: Utterance, labels: NDArray[np.int32], config: Config) -> Exclusion | None:
    duration = utterance.duration_seconds
    if duration < config.data.min_duration_seconds:
        return Exclusion(utterance.id, "shorter than data.min_duration_seconds", f"{duration:.3f} s")
    if duration > config.data.max_duration_seconds:
        return Exclusion(utterance.id, "longer than data.max_duration_seconds", f"{duration:.3f} s")
    if not len(labels):
        return Exclusion(utterance.id, "without a character of the alphabet", repr(utterance.transcript))
    num_available = config.model.num_output_frames(config.features.num_frames(duration))
    num_needed = count_frames_to_align(labels)
    if num_needed > num_available:
        detail = f"needs {num_needed} output frames, has {num_available}"
        return Exclusion(utterance.id, "with a transcript too long for its audio", detail)
    return None


def count_frames_to_align(labels: NDArray[np.int32]) -> int:
    """Fewest output frames from which CTC can emit the labels: one each, and a blank between equal neighbours.

    Args:
        labels: (L,) int32.
    """
    return len(labels) + int(np.count_nonzero(labels[1:] == labels[:-1]))


def plan_epoch(
    durations_seconds: Durations,
    config: BatchingConfig,
    *,
    epoch: int,
    seed: int,
    num_frames: Callable[[float], int],
    place: Place = ALONE,
    finished: Sequence[tuple[int, int]] = (),
    shapes: FixedShapes | None = None,
) -> EpochPlan:
    """Plan one epoch of training: every utterance at most once, and no batch above the limits of `config`.

    Utterances are shuffled within their buckets, which follow each other from short to long, and are cut into joint
    batches in that order, one for each update. What does not fill a batch of its own bucket so moves up into the next.
    The joint batches are then shuffled. With sortagrad, epoch 0 instead goes strictly from short to long.

    A joint batch has `place.world_size * config.accumulation_steps` parts, which are batches. So one rank that
    accumulates eight batches makes the same updates as eight ranks that accumulate none.

    Args:
        durations_seconds: of the utterances that are trained on; none above `max_batch_padded_seconds`.
        config: buckets and limits; the limits are those of one batch.
        epoch: counts from 0.
        seed: of the run; together with the epoch it decides the order.
        num_frames: T for a duration in seconds.
        place: of this process among all. The members of a joint batch are dealt out in turn, so that its parts differ
            by at most one utterance.
        finished: where the epoch was begun with another number of parts: that number and the updates made, once for
            each time it changed. What is left of the epoch is planned.
        shapes: one of which every batch gets, where each is a graph to compile; the limits then hold with its padding.
    """
    durations = np.asarray(durations_seconds, dtype=np.float64)
    padded = shapes.pad(durations) if shapes else durations
    left = np.arange(len(durations))
    for num_parts, num_updates in finished:
        joint_batches, _ = _order_joint_batches(left, durations, padded, config, epoch, seed, num_parts)
        done = [index for members in joint_batches[:num_updates] for index in members]
        left = np.setdiff1d(left, done)
    steps = config.accumulation_steps
    num_parts = place.world_size * steps
    joint_batches, left_out = _order_joint_batches(left, durations, padded, config, epoch, seed, num_parts)
    first = place.rank * steps
    ranks = [_deal(joint_batches, padded, num_frames, first + part, num_parts, shapes) for part in range(steps)]
    return EpochPlan(
        batches=tuple(batch for update in zip(*ranks, strict=True) for batch in update),
        left_out=tuple(left_out),
        num_joint_utterances=tuple(map(len, joint_batches)),
        share_done=1 - len(left) / max(1, len(durations)),
    )


def plan_evaluation(
    durations_seconds: Durations,
    config: BatchingConfig,
    *,
    num_frames: Callable[[float], int],
    place: Place = ALONE,
    shapes: FixedShapes | None = None,
) -> tuple[BatchSpec, ...]:
    """Plan one pass over all utterances, from short to long, each exactly once among all ranks.

    An utterance above `max_batch_padded_seconds` gets a batch of its own. Where fewer utterances are left than there
    are ranks, the last ranks get one batch less.

    Args:
        durations_seconds: of the utterances that are scored.
        config: limits of one rank.
        num_frames: T for a duration in seconds.
        place: of this process among all.
        shapes: as in `plan_epoch`.
    """
    durations = np.asarray(durations_seconds, dtype=np.float64)
    padded = shapes.pad(durations) if shapes else durations
    joint_batches = _cut(np.argsort(durations, kind="stable"), padded, config, place.world_size)
    return _deal(joint_batches, padded, num_frames, place.rank, place.world_size, shapes)


def share_of_padding(batches: Iterable[BatchSpec], num_frames: Sequence[int]) -> float:
    """Share of the batches' frames that is padding, empty rows included, 0 to 1; 0 without batches.

    Args:
        batches: of one rank.
        num_frames: T of each utterance that the plan was made for.
    """
    num_real = num_padded = 0
    for batch in batches:
        num_real += sum(int(num_frames[index]) for index in batch.indices)
        num_rows = batch.shape.num_rows if batch.shape else len(batch.indices)
        num_padded += num_rows * batch.num_padded_frames
    return 1 - num_real / num_padded if num_padded else 0.0


def _order_joint_batches(
    indices: NDArray[np.intp],
    durations: NDArray[np.float64],
    padded: NDArray[np.float64],
    config: BatchingConfig,
    epoch: int,
    seed: int,
    num_parts: int,
) -> tuple[list[list[int]], list[int]]:
    """The joint batches of some utterances in the order of the updates, and the utterances that are left out."""
    is_sorted = config.sortagrad and epoch == 0
    generator = np.random.default_rng((seed, epoch))
    chosen = durations[indices]
    if is_sorted:
        order = np.argsort(chosen, kind="stable")
    else:
        order = _shuffle_within_buckets(chosen, config.bucket_edges_seconds, generator)
    joint_batches = _cut(indices[order], padded, config, num_parts)
    # Only the end of the order can give a batch that is too small to go round, see _cut.
    too_few = bool(joint_batches) and len(joint_batches[-1]) < num_parts
    left_out = joint_batches.pop() if too_few else []
    if not is_sorted:
        joint_batches = [joint_batches[i] for i in generator.permutation(len(joint_batches))]
    return joint_batches, left_out


def _shuffle_within_buckets(
    durations: NDArray[np.float64], edges_seconds: Sequence[float], generator: np.random.Generator
) -> NDArray[np.intp]:
    last_bucket = len(edges_seconds) - 1
    buckets = np.minimum(np.searchsorted(edges_seconds, durations), last_bucket)
    shuffled = generator.permutation(len(durations))
    order: NDArray[np.intp] = shuffled[np.argsort(buckets[shuffled], kind="stable")]
    return order


def _cut(
    order: NDArray[np.intp], durations: NDArray[np.float64], config: BatchingConfig, world_size: int
) -> list[list[int]]:
    """Cut `order` greedily into batches for all ranks together.

    A batch is closed when one more would put some rank above its limits. One utterance a rank always fits, so every
    batch but the last has at least `world_size` members.
    """
    batches: list[list[int]] = []
    members: list[int] = []
    longest = 0.0
    for index, duration in zip(order.tolist(), durations[order].tolist(), strict=True):
        longest_then = max(longest, duration)
        num_per_rank = len(members) // world_size + 1  # ceil((members + 1) / world_size)
        if not may_share(num_per_rank, longest_then, config):
            batches.append(members)
            members, longest_then = [], duration
        members.append(index)
        longest = longest_then
    if members:
        batches.append(members)
    return batches


def _deal(
    joint_batches: list[list[int]],
    durations: NDArray[np.float64],
    num_frames: Callable[[float], int],
    rank: int,
    world_size: int,
    shapes: FixedShapes | None,
) -> tuple[BatchSpec, ...]:
    assert 0 <= rank < world_size
    batches = []
    for members in joint_batches:
        longest, dealt = float(durations[members].max()), tuple(members[rank::world_size])
        shape = shapes[longest] if shapes else None
        if dealt:
            batches.append(BatchSpec(dealt, shape.num_frames if shape else num_frames(longest), shape))
    return tuple(batches)
