"""Recordings that are mixed into others: noise, and the impulse responses of rooms."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.io import measure_duration_seconds, read_sound
from mindaudio_ds2.audio.sound_files import find_sounds
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import AudioError, ConfigError

MAX_KEPT_SAMPLES = 64_000_000
"""Samples kept in memory, 256 MB: an hour of noise. Of a larger pool, what was read first stays."""


class SoundPool:
    """Sound files that stay in memory once they are read.

    Args:
        path: a folder, whose sound files are found at any depth, or a manifest; None makes an empty pool.
        sample_rate_hz: of the waveforms; files of another rate are resampled, channels are averaged.
        key: the configuration key that names the path, for the error's text.

    Attributes:
        paths: the files, in an order that does not depend on the machine.
        durations: of each file (seconds).

    Raises:
        ConfigError: no such folder, or no sound in it.
        ManifestError: the manifest cannot be used.
        AudioError: a file is missing, not audio, empty or visibly cut off. Headers are read here, sound when it is due.
    """

    def __init__(self, path: str | None, sample_rate_hz: int, key: str) -> None:
        self.paths = list_pool(path, key)
        self.sample_rate_hz = sample_rate_hz
        self.durations = [measure_duration_seconds(each) for each in self.paths]
        self._kept: dict[int, NDArray[np.float32]] = {}
        self._num_kept_samples = 0

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> NDArray[np.float32]:
        """One of the recordings, (num_samples,) float32; nobody changes it.

        Raises:
            AudioError: the file cannot be used.
        """
        waveform = self._kept.get(index)
        if waveform is None:
            waveform = read_sound(self.paths[index], self.sample_rate_hz, keeps_offset=True).waveform
            if self._num_kept_samples + len(waveform) <= MAX_KEPT_SAMPLES:
                self._kept[index] = waveform
                self._num_kept_samples += len(waveform)
        return waveform


def list_pool(wanted: str | None, key: str) -> list[Path]:
    """The files of a pool, without a look into them.

    Args:
        wanted, key: `path` and `key` of `SoundPool`.

    Raises:
        ConfigError: no such folder, or no sound in it.
        ManifestError: the manifest cannot be used.
    """
    if wanted is None:
        return []
    path = Path(wanted)
    if path.is_file():
        return [Path(utterance.audio_path) for utterance in read_manifest(path)]
    if not path.is_dir():
        raise ConfigError(f"{key} is {str(path)!r}, but there is no such folder or manifest; correct it, or set null")
    try:
        found = find_sounds([path]).paths
    except AudioError as error:
        raise ConfigError(f"{key} is {str(path)!r}, but no sound lies in that folder: {error}") from error
    return sorted(found, key=lambda each: each.relative_to(path).as_posix())
