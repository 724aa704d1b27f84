"""Features of sound that is still going on: the same as those of the whole, for any cut."""

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import list_white_energies, num_samples_before, transform_frames
from mindaudio_ds2.audio.normalization import (
    LOOKAHEAD_SECONDS,
    LOUDEST_SECONDS,
    MEMORY_SECONDS,
    average_powers,
    count_frames,
    find_least_level,
    measure_powers,
    slide_maximum,
    standardize,
    take_logarithm,
)
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.network_config import FeatureConfig


class FeatureStream:
    """Features of one recording in chunks; each frame comes `LOOKAHEAD_SECONDS` and half a window after its sound.

    Args:
        config: which features, with the normalization `corpus` and its statistics.

    Raises:
        ConfigError: features whose normalisation needs the whole recording.
    """

    def __init__(self, config: FeatureConfig) -> None:
        if config.normalization != "corpus":
            raise ConfigError(
                f"a stream cannot have features.normalization: {config.normalization}, which needs the whole "
                "recording; train the network with corpus"
            )
        self.config = config
        self._least = find_least_level(list_white_energies(config), config)
        self._num_before = count_frames(LOUDEST_SECONDS, config) - 1
        self._memory = count_frames(MEMORY_SECONDS, config)
        self._ahead = count_frames(LOOKAHEAD_SECONDS, config)
        self.start()

    def start(self) -> None:
        """Begin another recording."""
        self._samples = np.zeros(0, np.float32)
        self._num_samples = 0
        self._num_frames = 0
        self._powers = np.zeros(self._num_before)
        self._means = np.zeros(self._memory)
        self._energies = np.zeros((0, self.config.num_bins), np.float32)

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Hear more.

        Args:
            samples: (num_samples,) float32 in [-1, 1] at `config.sample_rate_hz`, any number.

        Returns:
            (T, F) float32, the frames that can be known by now, perhaps none.
        """
        if len(samples) == 0:
            return self._release(0)
        if self._num_samples == 0:
            self._samples = np.full(num_samples_before(self.config), samples[0], np.float32)
        self._num_samples += len(samples)
        self._samples = np.concatenate([self._samples, samples])
        missing = self.config.window_samples - self.config.hop_samples
        self._transform(max(0, (len(self._samples) - missing) // self.config.hop_samples))
        return self._release(len(self._energies) - self._ahead)

    def finish(self) -> NDArray[np.float32]:
        """The last frames (T, F); the recording ends with the last sample fed."""
        if self._num_samples == 0:
            return self._energies
        self._samples = np.pad(self._samples, (0, self.config.window_samples), mode="edge")
        self._transform(1 + self._num_samples // self.config.hop_samples - self._num_frames)
        self._means = np.pad(self._means, (0, self._ahead))
        last = self._release(len(self._energies))
        self.start()
        return last

    def _transform(self, num_frames: int) -> None:
        """Take up so many frames of the samples that wait."""
        if num_frames <= 0:
            return
        energies = transform_frames(self._samples, self.config, num_frames)
        self._samples = self._samples[num_frames * self.config.hop_samples :]
        self._num_frames += num_frames
        powers = np.concatenate([self._powers, measure_powers(energies, self.config)])
        self._means = np.concatenate([self._means, average_powers(powers, self.config)])
        self._powers = powers[len(powers) - self._num_before :]
        self._energies = np.concatenate([self._energies, energies])

    def _release(self, num_frames: int) -> NDArray[np.float32]:
        """Give away so many frames, whose levels are known."""
        if num_frames <= 0:
            return np.zeros((0, self.config.num_bins), np.float32)
        levels = slide_maximum(self._means, self._memory + self._ahead + 1)[:num_frames]
        energies, self._energies = self._energies[:num_frames].copy(), self._energies[num_frames:]
        self._means = self._means[num_frames:]
        return standardize(take_logarithm(energies, np.maximum(levels, self._least)), self.config)
