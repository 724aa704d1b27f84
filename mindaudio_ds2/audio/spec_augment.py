"""Changes to the features of training utterances: SpecAugment (arXiv:1904.08779), for batches of any length; VTLP."""

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.bands import list_frequencies_hz
from mindaudio_ds2.audio.draws import TimeWarp
from mindaudio_ds2.augmentation_config import AugmentationConfig
from mindaudio_ds2.network_config import FeatureConfig

VTLP_KNEE = 0.3
"""Up to here VTLP multiplies frequencies by its factor; a share of the sample rate, its paper's 4800 of 16000 Hz."""


def warp_frequency(features: NDArray[np.float32], factor: float, config: FeatureConfig) -> NDArray[np.float32]:
    """Move formants, as if the speaker's vocal tract had another length; pitch and speed stay nearly as they are.

    Vocal tract length perturbation (Jaitly and Hinton, 2013): what was heard at f Hz is heard at f * factor, up to a
    knee at `VTLP_KNEE` of the sample rate; from there to half the sample rate, which stays where it is, the axis is a
    straight line. Bins between two others are interpolated linearly.

    Args:
        features: (T, F) float32.
        factor: above 1 moves formants up, as a shorter tract does.
        config: which features they are.

    Returns:
        (T, F) float32, a new array.
    """
    heard_hz, highest_hz = list_frequencies_hz(config), config.sample_rate_hz / 2
    knee_hz = VTLP_KNEE * config.sample_rate_hz * min(factor, 1.0)
    sources_hz = np.interp(heard_hz, [0, knee_hz, highest_hz], [0, knee_hz / factor, highest_hz])
    return _interpolate(features.T, np.interp(sources_hz, heard_hz, np.arange(len(heard_hz)))).T


def warp_time(features: NDArray[np.float32], warp: TimeWarp) -> NDArray[np.float32]:
    """Stretch the time before a point and compress the time after it, or the other way round.

    The time axis is mapped piecewise linearly, both ends stay where they are, and frames between two others are
    interpolated linearly. The length stays the same, so that nothing planned for it changes.

    Args:
        features: (T, F) float32.
        warp: the point's share of the way from the first frame to the last, before and after.

    Returns:
        (T, F) float32, a new array.
    """
    last = len(features) - 1
    if last < 1:
        return features.copy()
    sources = np.interp(np.arange(last + 1), [0, warp.target * last, last], [0, warp.origin * last, last])
    return _interpolate(features, sources)


def _interpolate(rows: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows between those of a matrix (N, M): a new one (len(places), M) whose row i lies at places[i], 0 to N - 1."""
    before = np.minimum(places.astype(np.intp), len(rows) - 2)
    weights = (places - before).astype(np.float32)[:, None]
    interpolated: NDArray[np.float32] = rows[before] * (1 - weights) + rows[before + 1] * weights
    return interpolated


def mask_features(
    features: NDArray[np.float32], config: AugmentationConfig, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Set bands of frequency and stretches of time to zero, which is the mean of normalised features.

    The length of time masks is a share of the utterance (arXiv:1912.05533), so that short commands survive. Masks may
    overlap.

    Args:
        features: (T, F) float32.
        config: how many masks, and how large.
        generator: decides sizes and places; each size from 0 to the largest, each place equally likely.

    Returns:
        (T, F) float32, a new array.
    """
    masked = features.copy()
    num_frames, num_bins = features.shape
    most_bins = int(config.max_frequency_mask_share * num_bins)
    most_frames = int(config.max_time_mask_share * num_frames)
    for _ in range(config.num_frequency_masks):
        start, end = _draw_stretch(num_bins, most_bins, generator)
        masked[:, start:end] = 0
    for _ in range(config.num_time_masks):
        start, end = _draw_stretch(num_frames, most_frames, generator)
        masked[start:end] = 0
    return masked


def _draw_stretch(length: int, longest: int, generator: np.random.Generator) -> tuple[int, int]:
    size = int(generator.integers(0, longest + 1))
    start = int(generator.integers(0, length - size + 1))
    return start, start + size
