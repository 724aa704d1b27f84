"""Changes to training features that leave their words intelligible. A pure function of (utterance, generator)."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.config import AugmentationConfig


def make_generator(seed: int, epoch: int, utterance_id: str) -> np.random.Generator:
    """The randomness of one utterance in one epoch, whatever the order or number of workers.

    Args:
        seed: of the run.
        epoch: counts from 0.
        utterance_id: its id in the manifest.
    """
    digest = hashlib.sha256(utterance_id.encode()).digest()
    return np.random.default_rng((seed, epoch, int.from_bytes(digest[:8], "little")))


def mask_features(
    features: NDArray[np.float32], config: AugmentationConfig, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Set bands of frequency and stretches of time to zero, which is the mean of normalised features.

    SpecAugment (arXiv:1904.08779) without time warping, which it found to matter least. The length of time masks is a
    share of the utterance (arXiv:1912.05533), so that short commands survive. Masks may overlap.

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
