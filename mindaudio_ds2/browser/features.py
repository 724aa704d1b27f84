"""What the page computes features with: window, bands and levels of one network, worked out once and written down."""

import numpy as np

from mindaudio_ds2.audio.bands import make_mel_filters
from mindaudio_ds2.audio.features import list_white_energies, make_window, num_samples_before
from mindaudio_ds2.audio.normalization import (
    FLOOR_DB,
    LOOKAHEAD_SECONDS,
    LOUDEST_SECONDS,
    MEMORY_SECONDS,
    as_ratio,
    count_frames,
    find_least_level,
    list_level_bands,
)
from mindaudio_ds2.network_config import FeatureConfig


def plan_features(config: FeatureConfig) -> dict[str, object]:
    """All that `features.js` needs besides the sound.

    Args:
        config: with the normalization `corpus`, which a stream can have.

    Returns:
        Plain values: lengths in samples and frames, the window, mel filters from their first bin on (None for a
        spectrogram), which bands tell the level, and the training set's mean and deviation of each band.
    """
    return {
        "hop": config.hop_samples,
        "num_before": num_samples_before(config),
        "window": make_window(config).tolist(),
        "fft_size": config.fft_size,
        "filters": _list_filters(config) if config.kind == "log_mel" else None,
        "level_bands": list_level_bands(config).tolist(),
        "least_level": find_least_level(list_white_energies(config), config),
        "floor": as_ratio(-FLOOR_DB),
        "loudest_frames": count_frames(LOUDEST_SECONDS, config),
        "memory_frames": count_frames(MEMORY_SECONDS, config),
        "ahead_frames": count_frames(LOOKAHEAD_SECONDS, config),
        "mean": list(config.corpus_mean),
        "deviation": list(config.corpus_deviation),
    }


def _list_filters(config: FeatureConfig) -> list[dict[str, object]]:
    filters = []
    for weights in make_mel_filters(config.sample_rate_hz, config.fft_size, config.num_mel_bands):
        used = np.flatnonzero(weights)
        filters.append({"first": int(used[0]), "weights": weights[used[0] : used[-1] + 1].tolist()})
    return filters
