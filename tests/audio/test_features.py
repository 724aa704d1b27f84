"""Features against librosa, and at the edges: silence, shorter than a window, every length."""

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.audio.bands import make_mel_filters
from mindaudio_ds2.audio.features import BLOCK_FRAMES, MEL_ENERGY_FLOOR, compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.audio.resampling import resample
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.network_config import FeatureConfig

SPECTROGRAM: dict[str, Any] = {
    "sample_rate_hz": 16000,
    "kind": "log_spectrogram",
    "window": "hamming",
    "window_seconds": 0.02,
    "hop_seconds": 0.01,
    "fft_size": 320,
    "num_mel_bands": 80,
    "normalization": "utterance",
    "corpus_mean": [],
    "corpus_deviation": [],
}
CONFIGS = {
    "spectrogram hamming": FeatureConfig(**SPECTROGRAM),
    "spectrogram hann": FeatureConfig(**{**SPECTROGRAM, "window": "hann"}),
    "spectrogram, longer transform": FeatureConfig(**{**SPECTROGRAM, "fft_size": 512}),
    "mel hann": FeatureConfig(16000, "log_mel", "hann", 0.025, 0.01, 512, 80, "utterance", [], []),
    "mel hamming": FeatureConfig(16000, "log_mel", "hamming", 0.025, 0.01, 512, 40, "utterance", [], []),
    "mel 8 kHz, odd window": FeatureConfig(8000, "log_mel", "hann", 0.025125, 0.0125, 512, 40, "utterance", [], []),
}


def compute_with_librosa(waveform: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float32]:
    spectrum = np.abs(
        librosa.stft(
            waveform.astype(np.float64),
            n_fft=config.fft_size,
            hop_length=config.hop_samples,
            win_length=config.window_samples,
            window=config.window,
            center=True,
            pad_mode="constant",
        )
    )
    if config.kind == "log_spectrogram":
        features = np.log1p(spectrum).T
    else:
        energies = librosa.feature.melspectrogram(
            S=spectrum**2, sr=config.sample_rate_hz, n_fft=config.fft_size, n_mels=config.num_mel_bands
        )
        features = np.log(np.maximum(energies, MEL_ENERGY_FLOOR)).T
    varies = features.std() > 1e-9  # one single sample has a flat spectrum
    expected: NDArray[np.float32] = (features - features.mean()) / features.std() if varies else 0 * features
    return expected


def make_noise(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, num_samples).astype(np.float32)


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")  # librosa's, about signals shorter than a window
@pytest.mark.parametrize("num_samples", [1, 7, 100, 159, 160, 161, 319, 320, 321, 1600, 16000, 23457])
@pytest.mark.parametrize("name", CONFIGS)
def test_features_equal_librosa(name: str, num_samples: int) -> None:
    config = CONFIGS[name]
    waveform = make_noise(num_samples)
    features = compute_features(waveform, config)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, compute_with_librosa(waveform, config), atol=1e-4)


@pytest.mark.parametrize("name", ["spectrogram hamming", "mel hann"])
def test_features_of_real_speech_equal_librosa(shared_data: Path, name: str) -> None:
    path = min((shared_data / "an4" / "wav" / "an4test_clstk").rglob("*.flac"))
    waveform = read_audio(path, 16000)
    np.testing.assert_allclose(
        compute_features(waveform, CONFIGS[name]), compute_with_librosa(waveform, CONFIGS[name]), atol=1e-4
    )


@pytest.mark.parametrize("name", ["spectrogram hamming", "mel hann"])
def test_quiet_details_beside_a_loud_tone_equal_librosa(name: str) -> None:
    tone = 0.9 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    waveform = (tone + 1e-5 * make_noise(16000)).astype(np.float32)
    np.testing.assert_allclose(
        compute_features(waveform, CONFIGS[name]), compute_with_librosa(waveform, CONFIGS[name]), atol=1e-4
    )


@pytest.mark.parametrize("fft_size", [320, 321])
def test_every_length_has_the_frames_that_the_configuration_says(fft_size: int) -> None:
    config = FeatureConfig(**{**SPECTROGRAM, "fft_size": fft_size})
    for num_samples in range(1, 700):
        features = compute_features(make_noise(num_samples), config)
        assert features.shape == (config.num_frames(num_samples / 16000), config.num_bins)
        assert features.shape == (1 + num_samples // 160, 161)


def test_blocks_leave_no_seam() -> None:
    config = CONFIGS["spectrogram hamming"]
    waveform = make_noise(160 * (2 * BLOCK_FRAMES + 3))
    features = compute_features(waveform, config)
    assert len(features) == 2 * BLOCK_FRAMES + 4
    np.testing.assert_allclose(features, compute_with_librosa(waveform, config), atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_silence_becomes_zeros(name: str) -> None:
    features = compute_features(np.zeros(12345, dtype=np.float32), CONFIGS[name])
    np.testing.assert_array_equal(features, np.zeros_like(features))


@pytest.mark.parametrize("name", CONFIGS)
def test_features_have_mean_0_and_deviation_1(name: str) -> None:
    features = compute_features(make_noise(30000) * np.linspace(0, 1, 30000, dtype=np.float32), CONFIGS[name])
    assert features.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert features.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["spectrogram hamming", "mel hann"])
def test_almost_silence_is_still_told_from_silence(name: str) -> None:
    waveform = np.rint(make_noise(8000) * 2).astype(np.float32) / np.float32(32768)  # only -1, 0 and 1 in 16 bits
    features = compute_features(waveform, CONFIGS[name])
    assert features.std() == pytest.approx(1, abs=1e-4)


def test_one_quiet_click_stays_finite() -> None:
    waveform = np.zeros(16000, dtype=np.float32)
    waveform[8000] = 1 / 32768
    for config in CONFIGS.values():
        assert np.isfinite(compute_features(waveform, config)).all()


def test_the_waveform_is_left_as_it_was() -> None:
    waveform = make_noise(5000)
    before = waveform.copy()
    compute_features(waveform, CONFIGS["mel hann"])
    np.testing.assert_array_equal(waveform, before)


@pytest.mark.filterwarnings("ignore:Empty filters:UserWarning")  # librosa's, about the same
def test_mel_bands_narrower_than_a_bin_are_an_error() -> None:
    config = FeatureConfig(**{**SPECTROGRAM, "kind": "log_mel", "num_mel_bands": 128})
    with pytest.raises(ConfigError, match=r"features\.num_mel_bands is 128.*larger fft_size"):
        compute_features(make_noise(1000), config)


@pytest.mark.parametrize(("rate_hz", "fft_size", "num_bands"), [(16000, 512, 80), (8000, 256, 24), (44100, 2048, 128)])
def test_mel_filters_equal_librosas_to_the_bit(rate_hz: int, fft_size: int, num_bands: int) -> None:
    expected = librosa.filters.mel(sr=rate_hz, n_fft=fft_size, n_mels=num_bands, dtype=np.float64)
    np.testing.assert_array_equal(make_mel_filters(rate_hz, fft_size, num_bands), expected)


def test_resampling_equals_librosas_to_the_bit() -> None:
    waveform = np.random.default_rng(1).uniform(-1, 1, 12345).astype(np.float32)
    for from_hz in (8000, 44100, 14999.5):
        expected = librosa.resample(waveform, orig_sr=from_hz, target_sr=16000, res_type="soxr_hq", fix=False)
        np.testing.assert_array_equal(resample(waveform, from_hz, 16000, len(expected)), expected)
