"""Features relative to the level of the speech, which neither silence around it nor gain nor an offset moves.

Three steps, for `speech` and for `corpus` alike. The level is measured in the band of telephones, where hum, rumble and
the limits of a line are not. Each band's energy is divided by it, and a floor is added, so that digital silence, dither
and faint noise become nearly the same numbers. Mean and deviation come from frames nearly as loud as the level: how
much silence there is does not count.

`speech` takes level and statistics from the utterance. `corpus` takes its statistics from the training set, and the
level from what was heard lately, so that a stream has the same features as the whole, `LOOKAHEAD_SECONDS` later.
"""

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.bands import list_frequencies_hz
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.network_config import FeatureConfig

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

LEVEL_BAND_HZ = (300.0, 3400.0)
"""Bands whose mean energy is the power of a frame."""

LOUDEST_SECONDS = 0.1
"""The level is what so much of the sound reaches; `corpus` takes the loudest mean over so much. A click is shorter."""

FLOOR_DB = 45.0
"""How far below the level lies the energy that is added to every band."""

NEAR_DB = 15.0
"""Frames no further below the level than this count for mean and deviation."""

LEAST_RMS = {"speech": 1e-4, "corpus": 3e-3}
"""The level is at least that of white noise of this size, full scale being 1: faint noise alone is not speech.

A stream, which does not know what is still to come, must not take the noise before the first word for speech."""

TYPICAL_MEAN, TYPICAL_DEVIATION, TYPICAL_SECONDS = -5.5, 3.5, 0.1
"""Statistics of `speech` begin with so much of typical speech: silence and single samples have some, too."""

MEMORY_SECONDS, LOOKAHEAD_SECONDS = 4.0, 0.2
"""How far back and ahead `corpus` looks for the level."""


def normalize_energies(energies: Floats, white: Doubles, config: FeatureConfig) -> Floats:
    """Turn energies into features, in their place.

    Args:
        energies: (T, F) float32; they are overwritten.
        white: (F,), the energies of white noise of rms 1.
        config: normalization is `speech` or `corpus`.

    Returns:
        (T, F) float32, within about -5 and 5.

    Raises:
        ConfigError: `corpus` without statistics.
    """
    features, is_near = relate_to_level(energies, white, config)
    if config.normalization == "corpus":
        return standardize(features, config)
    mean, deviation = _measure_speech(features[is_near], config)
    features -= np.float32(mean)
    features /= np.float32(deviation)
    return features


def relate_to_level(energies: Floats, white: Doubles, config: FeatureConfig) -> tuple[Floats, NDArray[np.bool_]]:
    """Logarithms of energies over the level, above the floor; and which frames count for mean and deviation.

    Args:
        energies: (T, F) float32; they are overwritten.
        white: as in `normalize_energies`.
        config: normalization is `speech` or `corpus`.

    Returns:
        (T, F) float32, and (T,) bool.
    """
    powers = measure_powers(energies, config)
    least = find_least_level(white, config)
    if config.normalization == "speech":
        levels = np.full(len(powers), measure_level(powers, least, config))
    else:
        before, ahead = count_frames(MEMORY_SECONDS, config), count_frames(LOOKAHEAD_SECONDS, config)
        means = average_powers(np.pad(powers, (count_frames(LOUDEST_SECONDS, config) - 1, 0)), config)
        levels = np.maximum(slide_maximum(np.pad(means, (before, ahead)), before + ahead + 1), least)
    return take_logarithm(energies, levels), powers >= levels * as_ratio(-NEAR_DB)


def measure_powers(energies: Floats, config: FeatureConfig) -> Doubles:
    """Mean energy of each frame (T,) within `LEVEL_BAND_HZ`."""
    powers: Doubles = energies[:, list_level_bands(config)].mean(axis=1, dtype=np.float64)
    return powers


def list_level_bands(config: FeatureConfig) -> NDArray[np.int64]:
    """Which bands the level is measured in; all, where none lies in the band of telephones."""
    frequencies = list_frequencies_hz(config)
    low, high = LEVEL_BAND_HZ
    chosen = np.flatnonzero((frequencies >= low) & (frequencies <= high))
    return chosen if len(chosen) else np.arange(len(frequencies))


def find_least_level(white: Doubles, config: FeatureConfig) -> float:
    """The power below which nothing is speech; `white` as in `normalize_energies`."""
    return float(LEAST_RMS[config.normalization] ** 2 * white[list_level_bands(config)].mean())


def measure_level(powers: Doubles, least: float, config: FeatureConfig) -> float:
    """The power that the loudest `LOUDEST_SECONDS` reach, at least `least`; of less sound, the power that all reach."""
    count = min(count_frames(LOUDEST_SECONDS, config), len(powers))
    return max(least, float(np.partition(powers, -count)[-count]))


def average_powers(powers: Doubles, config: FeatureConfig) -> Doubles:
    """Means over `LOUDEST_SECONDS`; `powers` begins with those that only the first mean needs."""
    count = count_frames(LOUDEST_SECONDS, config)
    num_means = len(powers) - count + 1
    means: Doubles = sum((powers[i : i + num_means] for i in range(count)), np.zeros(num_means)) / count
    return means


def slide_maximum(values: Doubles, width: int) -> Doubles:
    """The largest of `width` neighbours, for every place where there are so many."""
    span = 1
    while span < width:
        shift = min(span, width - span)
        values = np.maximum(values[:-shift], values[shift:])
        span += shift
    return values


def take_logarithm(energies: Floats, levels: Doubles) -> Floats:
    """Logarithm of energies over levels (T,), above the floor; in their place, since an hour has 28 million."""
    energies /= levels[:, None].astype(np.float32)
    energies += np.float32(as_ratio(-FLOOR_DB))
    return np.log(energies, out=energies)


def standardize(features: Floats, config: FeatureConfig) -> Floats:
    """Take the training set's mean of each band away, and divide by its deviation; in their place.

    Raises:
        ConfigError: there are none.
    """
    if not config.corpus_mean:
        raise ConfigError(
            "features.normalization is 'corpus', but features.corpus_mean and corpus_deviation are empty: training "
            "measures them; use the config.yaml of a run folder, or a checkpoint"
        )
    features -= np.array(config.corpus_mean, np.float32)
    features /= np.array(config.corpus_deviation, np.float32)
    return features


def count_frames(seconds: float, config: FeatureConfig) -> int:
    """Frames in a duration, at least one."""
    return max(1, round(seconds / config.hop_seconds))


def as_ratio(decibels: float) -> float:
    """A ratio of powers."""
    return float(10 ** (decibels / 10))


def _measure_speech(near: Floats, config: FeatureConfig) -> tuple[float, float]:
    """Mean and deviation over frames near the level and `TYPICAL_SECONDS` of typical ones."""
    num_typical = count_frames(TYPICAL_SECONDS, config) * config.num_bins
    total = near.size + num_typical
    mean = (near.sum(dtype=np.float64) + num_typical * TYPICAL_MEAN) / total
    squares = np.square(near - mean, dtype=np.float64).sum()
    squares += num_typical * (TYPICAL_DEVIATION**2 + (TYPICAL_MEAN - mean) ** 2)
    return float(mean), float(np.sqrt(squares / total))
