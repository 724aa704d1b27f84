"""Features relative to the level of speech: against a second implementation, and under what they must not notice."""

import dataclasses
import math
from collections.abc import Sequence

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.audio.feature_stream import FeatureStream
from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.normalization import LOUDEST_SECONDS, slide_maximum
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.network_config import FeatureConfig

MEL = FeatureConfig(16000, "log_mel", "hann", 0.025, 0.01, 512, 40, "speech", [], [])
LINEAR = FeatureConfig(8000, "log_spectrogram", "hamming", 0.02, 0.01, 160, 40, "speech", [], [])
SPEECH = {"mel": MEL, "linear": LINEAR}
CORPUS = {
    name: dataclasses.replace(
        config,
        normalization="corpus",
        corpus_mean=np.linspace(-6, -4, config.num_bins).tolist(),
        corpus_deviation=np.linspace(2, 4, config.num_bins).tolist(),
    )
    for name, config in SPEECH.items()
}
ALL = {**{f"speech {name}": each for name, each in SPEECH.items()}, **{f"corpus {n}": c for n, c in CORPUS.items()}}


def make_syllables(num_samples: int, rate_hz: int, rms: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    """Buzzes that swell and fade over a little noise."""
    generator = np.random.default_rng(seed)
    times = np.arange(num_samples) / rate_hz
    voice = sum(np.sin(2 * np.pi * 130 * k * times + k) / k for k in range(1, 25))
    swell = np.abs(np.sin(2 * np.pi * 1.7 * times)) ** 3
    sound = swell * voice + 0.002 * generator.standard_normal(num_samples)
    scaled: NDArray[np.float32] = (rms * sound).astype(np.float32)
    return scaled


def compute_plainly(waveform: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float64]:
    """The same with librosa's filters, frame by frame and in plain sums."""
    before = config.fft_size // 2 - (config.fft_size - config.window_samples) // 2
    padded = np.pad(waveform.astype(np.float64), (before, config.window_samples), mode="edge")
    window = librosa.filters.get_window(config.window, config.window_samples)
    filters = np.eye(config.fft_size // 2 + 1)
    frequencies = np.arange(len(filters)) * config.sample_rate_hz / config.fft_size
    if config.kind == "log_mel":
        filters = librosa.filters.mel(sr=config.sample_rate_hz, n_fft=config.fft_size, n_mels=config.num_mel_bands)
        frequencies = librosa.mel_frequencies(config.num_mel_bands + 2, fmax=config.sample_rate_hz / 2)[1:-1]
    rows = []
    for start in range(0, config.hop_samples * (1 + len(waveform) // config.hop_samples), config.hop_samples):
        frame = padded[start : start + config.window_samples]
        rows.append(filters @ np.abs(np.fft.rfft((frame - frame.mean()) * window, config.fft_size)) ** 2)
    energies = np.array(rows)
    in_band = (frequencies >= 300) & (frequencies <= 3400)
    powers = energies[:, in_band].mean(axis=1)
    white = (np.square(window).sum() * filters.sum(axis=1))[in_band].mean()
    is_speech = config.normalization == "speech"
    levels = find_levels_plainly(powers.tolist(), (1e-4 if is_speech else 3e-3) ** 2 * white, is_speech)
    features: NDArray[np.float64] = np.log(energies / np.array(levels)[:, None] + 10**-4.5)
    if not is_speech:
        return np.divide(features - config.corpus_mean, config.corpus_deviation, dtype=np.float64)
    near = [row for row, power, level in zip(features, powers, levels, strict=True) if power >= level / 10**1.5]
    count = 10 * config.num_bins
    total = len(near) * config.num_bins + count
    mean = (np.sum(near) - 5.5 * count) / total
    squares = sum(np.sum((row - mean) ** 2) for row in near) + count * (3.5**2 + (5.5 + mean) ** 2)
    return np.subtract(features, mean) / math.sqrt(squares / total)


def find_levels_plainly(powers: Sequence[float], least: float, is_speech: bool) -> list[float]:
    if is_speech:
        return [max(least, sorted(powers, reverse=True)[:10][-1])] * len(powers)
    means = [sum(powers[max(0, t - 9) : t + 1]) / 10 for t in range(len(powers))]
    return [max(least, *means[max(0, t - 400) : t + 21]) for t in range(len(powers))]


@pytest.mark.parametrize("num_samples", [1, 90, 161, 1600, 12345, 80000])
@pytest.mark.parametrize("name", ALL)
def test_features_equal_a_plain_second_implementation(name: str, num_samples: int) -> None:
    config = ALL[name]
    waveform = make_syllables(num_samples, config.sample_rate_hz)
    features = compute_features(waveform, config)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, compute_plainly(waveform, config), atol=2e-4)


@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("name", SPEECH)
def test_digital_silence_around_moves_no_frame_of_the_speech(name: str, seconds: float) -> None:
    config = SPEECH[name]
    rate = config.sample_rate_hz
    waveform, size = make_syllables(2 * rate, rate), round(seconds * rate)
    plain = compute_features(waveform, config)
    around = compute_features(np.pad(waveform, (size, size)), config)
    first = size // config.hop_samples
    inner = slice(3, len(plain) - 3)  # the ends' own frames reach into what is around
    np.testing.assert_allclose(around[first:][inner], plain[inner], atol=1e-2)
    assert around[: first - 3].std() < 1e-6, "silence is one value"
    assert np.abs(around.min() - plain.min()) < 0.2, "which the network knows from between the words"


@pytest.mark.parametrize("name", ALL)
def test_a_constant_in_all_samples_moves_nothing(name: str) -> None:
    config = ALL[name]
    waveform = make_syllables(20000, config.sample_rate_hz)
    for offset in (0.02, 0.1, -0.5):
        moved = compute_features(waveform + np.float32(offset), config)
        np.testing.assert_allclose(moved, compute_features(waveform, config), atol=5e-3)


@pytest.mark.parametrize("gain_db", [-20, -10, 10])
@pytest.mark.parametrize("name", ALL)
def test_level_moves_nothing(name: str, gain_db: float) -> None:
    config = ALL[name]
    waveform = make_syllables(20000, config.sample_rate_hz)
    scaled = waveform * np.float32(10 ** (gain_db / 20))
    first = 0 if config.normalization == "speech" else 40  # until there is a level above the least one
    np.testing.assert_allclose(
        compute_features(scaled, config)[first:], compute_features(waveform, config)[first:], atol=2e-3
    )


@pytest.mark.parametrize("name", SPEECH)
def test_faint_noise_and_digital_silence_look_alike(name: str) -> None:
    config = SPEECH[name]
    rate = config.sample_rate_hz
    speech, noise = make_syllables(rate, rate), np.random.default_rng(3).standard_normal(rate)
    silent = compute_features(np.concatenate([np.zeros(rate, np.float32), speech]), config)
    noisy = compute_features(np.concatenate([(0.001 * noise).astype(np.float32), speech]), config)
    num_frames = rate // config.hop_samples - 3
    assert (noisy - silent)[:num_frames].mean() < 0.7, "deviations of speech"
    np.testing.assert_allclose(noisy[num_frames + 6 :], silent[num_frames + 6 :], atol=1e-2)


@pytest.mark.parametrize("name", SPEECH)
def test_a_click_is_not_taken_for_the_level(name: str) -> None:
    config = SPEECH[name]
    waveform = make_syllables(32000, config.sample_rate_hz, rms=0.02)
    clicked = waveform.copy()
    clicked[500 : 500 + round(LOUDEST_SECONDS * config.sample_rate_hz / 4)] += 0.9
    difference = compute_features(clicked, config)[40:] - compute_features(waveform, config)[40:]
    assert np.abs(difference).max() < 0.35


@pytest.mark.parametrize("num_samples", [1, 2, 159, 160, 161, 40000])
@pytest.mark.parametrize("name", ALL)
def test_silence_clicks_and_full_scale_stay_small_and_finite(name: str, num_samples: int) -> None:
    config = ALL[name]
    click, square = np.zeros(num_samples, np.float32), np.ones(num_samples, np.float32)
    click[num_samples // 2] = 1 / 32768
    square[::2] = -1
    for waveform in (np.zeros(num_samples, np.float32), np.ones(num_samples, np.float32), click, square):
        features = compute_features(waveform, config)
        assert features.shape == (1 + num_samples // config.hop_samples, config.num_bins)
        assert np.isfinite(features).all()
        assert np.abs(features).max() < 8


def test_the_largest_neighbour_equals_brute_force() -> None:
    values = np.random.default_rng(0).uniform(size=50)
    for width in range(1, 51):
        expected = [max(values[i : i + width]) for i in range(51 - width)]
        np.testing.assert_array_equal(slide_maximum(values, width), expected)


def test_corpus_without_statistics_says_where_they_are() -> None:
    config = dataclasses.replace(MEL, normalization="corpus")
    with pytest.raises(ConfigError, match=r"features\.corpus_mean.*config\.yaml of a run folder"):
        compute_features(np.zeros(100, np.float32), config)


@pytest.mark.parametrize("chunk", [1, 7, 160, 161, 4000, 100000])
@pytest.mark.parametrize("name", CORPUS)
def test_a_stream_has_the_features_of_the_whole(name: str, chunk: int) -> None:
    config = CORPUS[name]
    num_samples = 700 if chunk < 100 else 83456
    stream = FeatureStream(config)
    for seed in (0, 1):  # a second recording begins anew
        waveform = make_syllables(num_samples, config.sample_rate_hz, seed=seed)
        pieces = [stream.feed(waveform[i : i + chunk]) for i in range(0, num_samples, chunk)]
        found = np.concatenate([*pieces, stream.finish()])
        np.testing.assert_allclose(found, compute_features(waveform, config), atol=1e-5)


def test_a_stream_waits_for_what_it_looks_ahead_and_no_longer() -> None:
    stream = FeatureStream(CORPUS["mel"])
    num_frames = len(stream.feed(make_syllables(16000, 16000)))
    assert 1.0 - num_frames * 0.01 == pytest.approx(0.2 + 0.0125, abs=0.011)
    assert len(stream.feed(np.zeros(0, np.float32))) == 0


def test_a_stream_of_nothing_has_no_frames() -> None:
    assert FeatureStream(CORPUS["mel"]).finish().shape == (0, 40)


def test_a_stream_needs_features_that_do_not_wait_for_the_end() -> None:
    with pytest.raises(ConfigError, match="speech, which needs the whole recording"):
        FeatureStream(MEL)
