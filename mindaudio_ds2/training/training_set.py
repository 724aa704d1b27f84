"""What a run trains on, decided and checked before anything slow begins; and the plan of each epoch."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.batching.plan import EpochPlan, Exclusion, plan_epoch, select_trainable, share_of_padding
from mindaudio_ds2.batching.shapes import FixedShapes
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.errors import AudioError, TrainingError
from mindaudio_ds2.machine.ranks import Place
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.training.progress import Progress

MAX_MISSING_SHOWN = 10
MANY_UTTERANCES = 50_000
"""From here on, drawing what an epoch adds takes seconds, and a line says so."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """The utterances of the training manifest that can be trained on, and what was left out.

    Attributes:
        utterances: trained on, in the manifest's order.
        labels: (L,) int32 for each of them.
        excluded: utterances of the manifest that are not trained on.
        notes: what a person should know about what was left out, one message each; empty if nothing was.
    """

    utterances: tuple[Utterance, ...]
    labels: tuple[NDArray[np.int32], ...]
    excluded: tuple[Exclusion, ...]
    notes: tuple[str, ...]


def read_training_set(config: Config) -> TrainingSet:
    """Read, encode and select the training utterances.

    Raises:
        ManifestError: the manifest cannot be used, a transcript has an unknown character, or too much is left out.
        TrainingError: nothing is left.
        AudioError: audio files are missing.
    """
    utterances = open_manifest(config.data.train_manifest, config.data.root)
    tokenizer = Tokenizer(config.text)
    encoded = [tokenizer.encode_transcript(utterance.id, utterance.transcript) for utterance in utterances]
    labels = [transcript.labels for transcript in encoded]
    selection = select_trainable(utterances, labels, config)
    chosen = tuple(utterances[index] for index in selection.kept)
    require_audio(chosen, config.data.train_manifest)
    notes = []
    num_dropped = sum(transcript.num_dropped for transcript in encoded)
    if num_dropped:
        num_touched = sum(transcript.num_dropped > 0 for transcript in encoded)
        notes.append(
            f"{num_dropped} characters outside the alphabet were dropped from {num_touched} training transcripts"
        )
    if selection.excluded:
        notes.append(f"left out of training: {selection.describe_excluded()}")
    return TrainingSet(chosen, tuple(labels[index] for index in selection.kept), selection.excluded, tuple(notes))


def require_audio(utterances: Sequence[Utterance], manifest_path: str) -> None:
    """Make sure that all audio files are there; better now than hours later, when their batch is due.

    Args:
        utterances: whose audio is wanted.
        manifest_path: where they come from, for the error's text.

    Raises:
        AudioError: names the first missing files and says how many there are.
    """
    missing = [utterance for utterance in utterances if not os.path.exists(utterance.audio_path)]
    if missing:
        shown = "\n  ".join(f"{utterance.id}: {utterance.audio_path}" for utterance in missing[:MAX_MISSING_SHOWN])
        raise AudioError(
            f"manifest {manifest_path}: {len(missing)} of {len(utterances)} audio files do not exist; restore them, or "
            f"run the recipe's prepare.py again:\n  {shown}"
        )


def plan_next_epoch(
    config: Config,
    augmenter: Augmenter,
    progress: Progress,
    place: Place,
    shapes: FixedShapes | None,
    say: Callable[[str], None],
) -> EpochPlan:
    """Plan this process's part of an epoch, or of what is left of it after a change in the number of processes.

    Args:
        config: of the run.
        augmenter: has the utterances trained on, and what makes them longer in this epoch.
        progress: of the run; its `batch` counts the updates of this plan that are done.
        place: which process this is.
        shapes: that batches are padded to, where each is compiled.
        say: tells a person how long the epoch is, and which utterances are left out of it.

    Raises:
        TrainingError: there are fewer utterances than an update has batches.
    """
    utterances, additions = augmenter.utterances, augmenter.additions
    if additions.is_on and len(utterances) >= MANY_UTTERANCES:
        say(f"epoch {progress.epoch + 1}: drawing the silence and the joining of {len(utterances)} utterances")
    durations = additions.plan_seconds(progress.epoch)
    plan = plan_epoch(
        durations,
        config.batching,
        epoch=progress.epoch,
        seed=config.seed,
        num_frames=config.features.num_frames,
        place=place,
        finished=progress.finished,
        shapes=shapes,
    )
    if not plan.batches and not progress.finished:
        raise TrainingError(
            f"{len(utterances)} utterances cannot be dealt to {progress.num_parts} batches an update (processes times "
            "batching.accumulation_steps); start fewer processes, or accumulate less"
        )
    if progress.batch == 0:
        padding = share_of_padding(plan.batches, [config.features.num_frames(seconds) for seconds in durations])
        added = additions.describe_epoch(progress.epoch)
        num_undrawn = augmenter.count_undrawn(progress.epoch)
        kept = f"; {num_undrawn} utterances keep their likeliest units, for others would not fit" if num_undrawn else ""
        say(f"epoch {progress.epoch + 1}: {plan.num_updates} steps, {padding:.1%} padding{added}{kept}")
    if plan.left_out:
        ids = ", ".join(utterances[index].id for index in plan.left_out)
        say(f"left out of epoch {progress.epoch + 1}, too few for one more update: {ids}")
    return plan
