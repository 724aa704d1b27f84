"""Features of utterances, computed or taken from a folder where they were kept."""

import dataclasses
import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import AudioError, LongAudioError, ManifestError
from mindaudio_ds2.files import write_atomically
from mindaudio_ds2.network_config import FeatureConfig

ALGORITHM_VERSION = 2
"""Part of every key. Count up when `audio.io` or `audio.features` gives other numbers for the same file and config."""

MAX_DURATION_ERROR_SECONDS = 0.1
"""How far the audio's length may be from the manifest's; plans and limits were made with the manifest's."""

logger = logging.getLogger(__name__)


def load_features(
    utterance: Utterance,
    config: FeatureConfig,
    cache_dir: Path | None,
    change_waveform: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Features of an utterance, the same bits with and without a cache.

    Args:
        utterance: its audio is read unless the cache has the features.
        config: which features.
        cache_dir: folder that keeps features between epochs and runs; None keeps nothing. A changed audio file (size
            or time of change) or config gets an entry of its own. A damaged entry is reported in the log and replaced.
        change_waveform: what is done to the recording first. Such features are neither taken from the cache nor kept
            in it, because the next epoch wants others; reading and computing takes 1 to 2 ms of a core for a second
            of audio.

    Returns:
        (T, F) float32.

    Raises:
        AudioError: the audio cannot be used; names the utterance and the file.
        ManifestError: the audio is longer or shorter than the manifest says.
        OutputError: the cache cannot be written.
    """
    if change_waveform is not None:
        return compute_features(change_waveform(read_utterance(utterance, config)), config)
    features = _load(utterance, config, cache_dir)
    _check_duration(utterance, len(features), config)
    return features


def read_utterance(utterance: Utterance, config: FeatureConfig) -> NDArray[np.float32]:
    """The recording of an utterance, (num_samples,) float32 at `config.sample_rate_hz`.

    Raises:
        AudioError, ManifestError: as `load_features`.
    """
    # stops where the audio is longer than the manifest says, before memory is spent on it
    max_seconds = utterance.duration_seconds + 2 * MAX_DURATION_ERROR_SECONDS
    try:
        waveform = read_audio(utterance.audio_path, config.sample_rate_hz, max_seconds)
    except LongAudioError as error:
        raise _name_difference(utterance, error.seconds) from error
    except AudioError as error:
        raise AudioError(f"utterance {utterance.id!r}: {error}") from error
    _check_duration(utterance, 1 + len(waveform) // config.hop_samples, config)
    return waveform


def _load(utterance: Utterance, config: FeatureConfig, cache_dir: Path | None) -> NDArray[np.float32]:
    key = None if cache_dir is None else _make_key(utterance.audio_path, config)
    if cache_dir is None or key is None:
        return compute_features(read_utterance(utterance, config), config)
    path = cache_dir / key[:2] / f"{key}.npz"
    kept = _read_entry(path, config.num_bins)
    if kept is not None:
        return kept
    features = compute_features(read_utterance(utterance, config), config)
    write_atomically(path, lambda partial: np.savez(partial, features=features))
    return features


def _make_key(audio_path: str, config: FeatureConfig) -> str | None:
    """Names the entry; None where there is no such file, which `read_audio` then says properly."""
    path = os.path.abspath(audio_path)
    try:
        status = os.stat(path)
    except OSError:
        return None
    parts = [ALGORITHM_VERSION, path, status.st_size, status.st_mtime_ns, dataclasses.asdict(config)]
    return hashlib.sha1(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read_entry(path: Path, num_bins: int) -> NDArray[np.float32] | None:
    """Read an entry; None where there is none, or it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:  # .npz rather than .npy, because it carries a checksum, which
            content = archive.read("features.npy")  # is compared only where a member is read to its end
        features: NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
        if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != num_bins:
            raise ValueError(f"{features.dtype} of shape {features.shape} is not what was written")
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged archive raises whatever its first wrong byte leads to
        logger.warning("cached features %s are unusable (%s); they are computed anew", path, error)
        return None
    return features


def _check_duration(utterance: Utterance, num_frames: int, config: FeatureConfig) -> None:
    num_frames_expected = config.num_frames(utterance.duration_seconds)
    if abs(num_frames - num_frames_expected) * config.hop_seconds > MAX_DURATION_ERROR_SECONDS:
        raise _name_difference(utterance, (num_frames - 1) * config.hop_seconds)


def _name_difference(utterance: Utterance, seconds: float) -> ManifestError:
    return ManifestError(
        f"utterance {utterance.id!r}: duration_seconds is {utterance.duration_seconds:.3f} in the manifest, but "
        f"{utterance.audio_path} lasts about {seconds:.2f} s. The audio has changed "
        "or the manifest was not made from it; run the recipe's prepare.py again"
    )
