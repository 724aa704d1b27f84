"""From a waveform to the features that the network sees: frames, magnitudes, logarithm, normalisation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.bands import gather_bands
from mindaudio_ds2.audio.normalization import normalize_energies
from mindaudio_ds2.network_config import FeatureConfig

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
    librosa's Slaney mel filters find in |STFT|², floored at `MEL_ENERGY_FLOOR`. With the normalization `utterance` the
    mean of the whole matrix is taken from it, and what is left is divided by its standard deviation; a matrix without
    variation (silence) becomes zeros. With `speech` and `corpus` the first and last sample go on beyond the ends, each
    frame loses its mean, and energies become features as `normalization.py` says.

    Args:
        waveform: `(num_samples,)` float32 in [-1, 1] at config.sample_rate_hz, as `read_audio` gives it.
        config: which features.

    Returns:
        `(T, F)` float32 with T = config.num_frames(duration) and F = config.num_bins.

    Raises:
        ConfigError: `log_mel` with more bands than the Fourier transform can tell apart; `corpus` without statistics.
    """
    assert waveform.ndim == 1, f"a waveform is (num_samples,), found {waveform.shape}"
    assert waveform.size > 0, "read_audio gives no empty waveform"
    if config.normalization != "utterance":
        return normalize_energies(compute_energies(waveform, config), list_white_energies(config), config)
    before = num_samples_before(config)
    frames = _cut_frames(
        np.pad(waveform, (before, config.window_samples)), config, 1 + len(waveform) // config.hop_samples
    )
    features = np.empty((len(frames), config.num_bins), dtype=np.float32)
    for start in range(0, len(frames), BLOCK_FRAMES):
        squares = _transform(frames[start : start + BLOCK_FRAMES], config)
        features[start : start + BLOCK_FRAMES] = _take_logarithm(squares, config)
    return _normalize(features)


def compute_energies(waveform: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float32]:
    """Energies of bands before the logarithm, of frames without their means: (T, F) float32.

    The first and the last sample go on beyond the ends, so that a constant in all samples leaves no trace.
    """
    padded = np.pad(waveform, (num_samples_before(config), config.window_samples), mode="edge")
    return transform_frames(padded, config, 1 + len(waveform) // config.hop_samples)


def transform_frames(samples: NDArray[np.float32], config: FeatureConfig, num_frames: int) -> NDArray[np.float32]:
    """Energies (num_frames, F) float32 of frames of which the first begins with the first sample."""
    frames = _cut_frames(samples, config, num_frames)
    energies = np.empty((num_frames, config.num_bins), dtype=np.float32)
    for start in range(0, num_frames, BLOCK_FRAMES):
        block = frames[start : start + BLOCK_FRAMES].astype(np.float64)
        squares = _transform(block - block.mean(axis=1, keepdims=True), config)
        energies[start : start + BLOCK_FRAMES] = gather_bands(squares, config)
    return energies


def list_white_energies(config: FeatureConfig) -> NDArray[np.float64]:
    """What white noise of rms 1 has in each band (F,), on average."""
    squares = np.full((1, config.fft_size // 2 + 1), np.square(make_window(config)).sum())
    white: NDArray[np.float64] = gather_bands(squares, config)[0]
    return white


def _cut_frames(padded: NDArray[np.float32], config: FeatureConfig, num_frames: int) -> NDArray[np.float32]:
    """A read-only view (T, window_samples) on samples that begin with the first frame.

    Only the samples under the window are cut: where they stand within the fft_size points of the transform changes
    phases, never magnitudes.
    """
    views = np.lib.stride_tricks.sliding_window_view(padded, config.window_samples)
    return views[:: config.hop_samples][:num_frames]


def _transform(frames: NDArray[np.floating[Any]], config: FeatureConfig) -> NDArray[np.float64]:
    """Squared magnitudes (T, fft_size // 2 + 1) of windowed frames."""
    import scipy.fft  # here, because an ONNX file that takes waveforms does without

    windowed = np.zeros((len(frames), config.fft_size))  # float64: bands far below the loudest stay exact
    np.multiply(frames, make_window(config), out=windowed[:, : config.window_samples])
    spectra = scipy.fft.rfft(windowed, overwrite_x=True)
    squares: NDArray[np.float64] = np.square(spectra.real)  # not np.abs, which takes a root that mel bands square
    squares += np.square(spectra.imag)
    return squares


def num_samples_before(config: FeatureConfig) -> int:
    """Zeros before the first sample, where the window of frame 0 begins; as librosa.util.pad_center places it."""
    return config.fft_size // 2 - (config.fft_size - config.window_samples) // 2


def make_window(config: FeatureConfig) -> NDArray[np.float64]:
    """The periodic window (window_samples,) float64, as scipy.signal.get_window gives it."""
    constant = 0.54 if config.window == "hamming" else 0.5
    phases = 2 * np.pi * np.arange(config.window_samples) / config.window_samples
    window: NDArray[np.float64] = constant - (1 - constant) * np.cos(phases)
    return window


def _take_logarithm(squares: NDArray[np.float64], config: FeatureConfig) -> NDArray[np.float64]:
    if config.kind == "log_spectrogram":
        logarithms: NDArray[np.float64] = np.log1p(np.sqrt(squares))
    else:
        logarithms = np.log(np.maximum(gather_bands(squares, config), MEL_ENERGY_FLOOR))
    return logarithms


def _normalize(features: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, deviation = features.mean(dtype=np.float64), features.std(dtype=np.float64)
    if deviation <= LEAST_VARIATION * abs(mean):
        return np.zeros_like(features)
    normalized: NDArray[np.float32] = (features - np.float32(mean)) / np.float32(deviation)
    return normalized
