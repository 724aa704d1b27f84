"""Bands of frequency: bins of the Fourier transform, or the mel filters over them."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.network_config import FeatureConfig

BANDS_AT_ONCE = 16
"""Mel bands of one matrix product; all of them together would be a product with nine tenths of zeros."""


def list_frequencies_hz(config: FeatureConfig) -> NDArray[np.float64]:
    """Where the bins of the features lie: centres of Fourier bins, or peaks of mel filters; (F,) rising, in Hz."""
    if config.kind == "log_spectrogram":
        return np.arange(config.num_bins) * (config.sample_rate_hz / config.fft_size)
    return _list_mel_edges_hz(config.sample_rate_hz, config.num_mel_bands)[1:-1]


def gather_bands(squares: NDArray[np.float64], config: FeatureConfig) -> NDArray[np.float64]:
    """Squared magnitudes (T, bins) of a log_spectrogram, or what the mel filters find in them, (T, F)."""
    if config.kind == "log_spectrogram":
        return squares
    energies = np.empty((len(squares), config.num_mel_bands))
    for bands, bins, filters in _cut_mel_filters(config.sample_rate_hz, config.fft_size, config.num_mel_bands):
        np.matmul(squares[:, bins], filters, out=energies[:, bands])
    return energies


@lru_cache(maxsize=4)
def _cut_mel_filters(
    sample_rate_hz: int, fft_size: int, num_mel_bands: int
) -> list[tuple[slice, slice, NDArray[np.float64]]]:
    """Some bands at a time with the bins that they hear and their filters (bins, bands), which are mostly zeros."""
    whole = make_mel_filters(sample_rate_hz, fft_size, num_mel_bands)
    parts = []
    for first in range(0, num_mel_bands, BANDS_AT_ONCE):
        filters = whole[first : first + BANDS_AT_ONCE]
        heard = np.flatnonzero(filters.any(axis=0))
        bins = slice(int(heard[0]), int(heard[-1]) + 1)
        parts.append((slice(first, first + len(filters)), bins, np.ascontiguousarray(filters[:, bins].T)))
    return parts


@lru_cache(maxsize=4)
def make_mel_filters(sample_rate_hz: int, fft_size: int, num_mel_bands: int) -> NDArray[np.float64]:
    """Slaney-normalised triangles (F, fft_size // 2 + 1) from 0 Hz to half the sample rate."""
    edges = _list_mel_edges_hz(sample_rate_hz, num_mel_bands)
    ramps = np.subtract.outer(edges, np.fft.rfftfreq(fft_size, 1 / sample_rate_hz))  # (F + 2, bins)
    widths = np.diff(edges)
    rising, falling = -ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    filters *= (2 / (edges[2:] - edges[:-2]))[:, None]  # Slaney's: each has the same area
    empty = np.flatnonzero(filters.max(axis=1) == 0)
    if len(empty) > 0:
        raise ConfigError(
            f"features.num_mel_bands is {num_mel_bands}, but with features.fft_size = {fft_size} {len(empty)} of the "
            "bands are narrower than a bin and would stay empty; choose a larger fft_size or fewer bands"
        )
    return filters


def _list_mel_edges_hz(sample_rate_hz: int, num_mel_bands: int) -> NDArray[np.float64]:
    """Edges and peaks of the filters, (F + 2,) in Hz, equally far apart on Slaney's mel scale (Auditory Toolbox, 1998).

    The scale is linear up to 1000 Hz, which are 15 mel, and logarithmic above, where 27 mel are a factor of 6.4.
    """
    hz_per_mel, break_hz, step = 200 / 3, 1000.0, np.log(6.4) / 27
    break_mel = break_hz / hz_per_mel
    top_hz = sample_rate_hz / 2
    top = break_mel + np.log(top_hz / break_hz) / step if top_hz >= break_hz else top_hz / hz_per_mel
    mels = np.linspace(0, top, num_mel_bands + 2)
    above = mels >= break_mel
    edges: NDArray[np.float64] = hz_per_mel * mels
    edges[above] = break_hz * np.exp(step * (mels[above] - break_mel))
    return edges
