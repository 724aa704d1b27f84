"""What must be the same on all processes of a run, as short texts that are compared when the run begins."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from mindspore import Parameter
from numpy.typing import NDArray

from mindaudio_ds2.audio.sound_pool import SoundPool
from mindaudio_ds2.config import Config, flatten, to_mapping
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.machine.runtime import describe_environment

VERSIONS = ("package_version", "commit", "python_version", "mindspore_version", "numpy_version", "device_target")


def fingerprint_of(utterances: Sequence[Utterance], *pools: SoundPool) -> str:
    """A short digest of utterances and of what is mixed into them, to tell whether another run has the same.

    Args:
        utterances: their ids, durations and transcripts count.
        pools: of noise and rooms; names and durations of the files count.
    """
    digest = hashlib.sha256()
    for utterance in utterances:
        digest.update(f"{utterance.id}\t{utterance.duration_seconds!r}\t{utterance.transcript}\n".encode())
    for pool in pools:
        for path, seconds in zip(pool.paths, pool.durations, strict=True):
            digest.update(f"{path.name}\t{seconds!r}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def require_same_start(ranks: Ranks, config: Config, manifests: Mapping[str, Sequence[Utterance]]) -> None:
    """Make sure that all processes are about to do the same with the same.

    Args:
        ranks: the processes.
        config: of this one.
        manifests: the utterances that this one has read from each manifest.

    Raises:
        DeviceError: names the configuration keys, manifests and versions that differ.
    """
    environment = describe_environment()
    ranks.require_same(
        {key: repr(value) for key, value in flatten(to_mapping(config)).items()}
        | {f"the content of {path}": fingerprint_of(utterances) for path, utterances in manifests.items()}
        | {name: str(environment[name]) for name in VERSIONS}
    )


def require_same_weights(ranks: Ranks, weights: Mapping[str, Parameter]) -> None:
    """Make sure that all processes have the same weights to the bit.

    Args:
        ranks: the processes.
        weights: `DeepSpeech2.weights()`.

    Raises:
        DeviceError: they have drifted apart, which no correct MPI lets happen.
    """
    if ranks.world_size > 1:
        ranks.require_same({"the digest of all weights": digest_of({name: p.asnumpy() for name, p in weights.items()})})


def digest_of(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """A short digest of arrays and their names."""
    digest = hashlib.blake2b(digest_size=8)
    for name, array in arrays.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
