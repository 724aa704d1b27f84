"""From a waveform to the features that the network sees: frames, magnitudes, logarithm, normalisation."""

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mindaudio_ds2.config import FeatureConfig
from mindaudio_ds2.errors import ConfigError

MEL_ENERGY_FLOOR = 1e-10
"""Least energy of a mel band before the logarithm; about what the rounding of 16-bit samples leaves in silence."""

LEAST_VARIATION = 1e-6
"""Share of the mean below which a standard deviation is nothing but the rounding of float32."""

BLOCK_FRAMES = 512
"""Frames transformed at a time: they fit a core's cache, and an hour of audio needs no more memory than a second."""


def compute_features(waveform: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float32]:
    """Turn sound into normalised features.

    Frame t is centred on sample t * hop; beyond both ends stand zeros, as in librosa.stft(center=True,
    pad_mode="constant"). `log_spectrogram` is log(1 + |STFT|); `log_mel` is the natural logarithm of the energies that
    librosa's Slaney mel filters find in |STFT|², floored at `MEL_ENERGY_FLOOR`. From the whole matrix its mean is
    taken, and what is left is divided by its standard deviation; a matrix without variation (silence) becomes zeros.

    Args:
        waveform: `(num_samples,)` float32 in [-1, 1] at config.sample_rate_hz, as `read_audio` gives it.
        config: which features.

    Returns:
        `(T, F)` float32 with T = config.num_frames(duration) and F = config.num_bins.

    Raises:
        ConfigError: `log_mel` with more bands than the Fourier transform can tell apart.
    """
    assert waveform.ndim == 1, f"a waveform is (num_samples,), found {waveform.shape}"
    assert waveform.size > 0, "read_audio gives no empty waveform"
    frames = _cut_frames(waveform, config)  # (T, window_samples), a view
    features = np.empty((len(frames), config.num_bins), dtype=np.float32)
    window = _make_window(config)
    for start in range(0, len(frames), BLOCK_FRAMES):
        block = frames[start : start + BLOCK_FRAMES] * window
        magnitudes = np.abs(scipy.fft.rfft(block, n=config.fft_size))  # float64: bands far below the loudest stay exact
        features[start : start + BLOCK_FRAMES] = _take_logarithm(magnitudes, config)
    return _normalize(features)


def list_frequencies_hz(config: FeatureConfig) -> NDArray[np.float64]:
    """Where the bins of the features lie: centres of Fourier bins, or peaks of mel filters; (F,) rising, in Hz."""
    if config.kind == "log_spectrogram":
        return np.arange(config.num_bins) * (config.sample_rate_hz / config.fft_size)
    return _list_mel_edges_hz(config.sample_rate_hz, config.num_mel_bands)[1:-1]


def _cut_frames(waveform: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float32]:
    """A read-only view (T, window_samples) on the zero-padded waveform.

    Only the samples under the window are cut: where they stand within the fft_size points of the transform changes
    phases, never magnitudes.
    """
    size, hop = config.window_samples, config.hop_samples
    before = config.fft_size // 2 - (config.fft_size - size) // 2  # as librosa.util.pad_center places the window
    padded = np.pad(waveform, (before, size))
    num_frames = 1 + len(waveform) // hop
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:num_frames]


def _make_window(config: FeatureConfig) -> NDArray[np.float64]:
    """The periodic window (window_samples,) float64, as scipy.signal.get_window gives it."""
    constant = 0.54 if config.window == "hamming" else 0.5
    phases = 2 * np.pi * np.arange(config.window_samples) / config.window_samples
    window: NDArray[np.float64] = constant - (1 - constant) * np.cos(phases)
    return window


def _take_logarithm(magnitudes: NDArray[np.float64], config: FeatureConfig) -> NDArray[np.float64]:
    if config.kind == "log_spectrogram":
        logarithms: NDArray[np.float64] = np.log1p(magnitudes)
    else:
        filters = _make_mel_filters(config.sample_rate_hz, config.fft_size, config.num_mel_bands)
        logarithms = np.log(np.maximum(magnitudes**2 @ filters.T, MEL_ENERGY_FLOOR))
    return logarithms


@lru_cache(maxsize=4)
def _make_mel_filters(sample_rate_hz: int, fft_size: int, num_mel_bands: int) -> NDArray[np.float64]:
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


def _normalize(features: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, deviation = features.mean(dtype=np.float64), features.std(dtype=np.float64)
    if deviation <= LEAST_VARIATION * abs(mean):
        return np.zeros_like(features)
    normalized: NDArray[np.float32] = (features - np.float32(mean)) / np.float32(deviation)
    return normalized
