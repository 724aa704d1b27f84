"""What a run trains on, decided and checked before anything slow begins."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.plan import Exclusion, select_trainable
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.text.alphabet import Alphabet

MAX_MISSING_SHOWN = 10


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
    alphabet = Alphabet(config.text)
    encoded = [alphabet.encode_transcript(utterance.id, utterance.transcript) for utterance in utterances]
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
