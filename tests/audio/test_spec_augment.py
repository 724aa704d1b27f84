"""Masks over features, warped frequency and warped time: sizes, places, and that nothing else is touched."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import interp1d

from mindaudio_ds2.audio.bands import list_frequencies_hz
from mindaudio_ds2.audio.draws import TimeWarp, make_generator
from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.spec_augment import mask_features, warp_frequency, warp_time
from mindaudio_ds2.augmentation_config import AugmentationConfig
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.network_config import FeatureConfig

ROOT = Path(__file__).resolve().parents[2]
FEATURES = np.random.default_rng(0).standard_normal((200, 80)).astype(np.float32)
AUGMENTATION = read_config(ROOT / "hparams" / "deepspeech2.yaml").augmentation


def make_config(
    frequency: int = 0, frequency_share: float = 0.2, time: int = 0, time_share: float = 0.1
) -> AugmentationConfig:
    return dataclasses.replace(
        AUGMENTATION,
        num_frequency_masks=frequency,
        max_frequency_mask_share=frequency_share,
        num_time_masks=time,
        max_time_mask_share=time_share,
    )


# Masks ----------------------------------------------------------------------------------------------------------------


def test_without_masks_the_features_are_unchanged_and_a_copy() -> None:
    same = mask_features(FEATURES, make_config(), np.random.default_rng(0))
    np.testing.assert_array_equal(same, FEATURES)
    assert not np.shares_memory(same, FEATURES)


def test_one_frequency_mask_zeroes_one_band_over_all_frames_and_nothing_else() -> None:
    sizes, starts = [], []
    for seed in range(600):
        masked = mask_features(FEATURES, make_config(frequency=1), np.random.default_rng(seed))
        bins = np.flatnonzero((masked == 0).all(axis=0))
        others = np.setdiff1d(np.arange(80), bins)
        np.testing.assert_array_equal(masked[:, others], FEATURES[:, others])
        assert len(bins) == 0 or bins[-1] - bins[0] + 1 == len(bins)
        sizes.append(len(bins))
        starts += [bins[0]] if len(bins) else []
    assert set(sizes) == set(range(17))  # 0 to 0.2 * 80, each about as often
    assert np.mean(sizes) == pytest.approx(8.0, abs=0.8)
    assert min(starts) == 0
    assert max(starts) > 70


def test_time_masks_are_a_share_of_the_utterance() -> None:
    for num_frames in (1, 9, 10, 50, 200):
        longest = 0
        for seed in range(200):
            masked = mask_features(FEATURES[:num_frames], make_config(time=1), np.random.default_rng(seed))
            longest = max(longest, int((masked == 0).all(axis=1).sum()))
        assert longest == num_frames // 10


def test_masks_depend_on_seed_epoch_and_utterance_only() -> None:
    config = make_config(frequency=2, time=2)

    def mask(seed: int, epoch: int, utterance_id: str) -> bytes:
        return mask_features(FEATURES, config, make_generator(seed, epoch, utterance_id)).tobytes()

    assert mask(1, 2, "an406") == mask(1, 2, "an406")
    assert len({mask(1, 2, "an406"), mask(2, 2, "an406"), mask(1, 3, "an406"), mask(1, 2, "an407")}) == 4


def test_masks_are_those_of_earlier_versions() -> None:
    """A run that is taken up again after an update of the package sees the utterances that it would have seen."""
    masked = mask_features(FEATURES, make_config(frequency=2, time=2), make_generator(1, 2, "an406"))
    assert np.flatnonzero((masked == 0).all(axis=0)).tolist() == [*range(16, 25), *range(34, 44)]
    assert np.flatnonzero((masked == 0).all(axis=1)).tolist() == [*range(46, 52), *range(71, 84)]


# Vocal tract length perturbation --------------------------------------------------------------------------------------

MEL = FeatureConfig(16000, "log_mel", "hann", 0.025, 0.01, 512, 80, "utterance", [], [])
LINEAR = FeatureConfig(16000, "log_spectrogram", "hamming", 0.02, 0.01, 320, 80, "utterance", [], [])


def find_peak_hz(tone_hz: float, factor: float, config: FeatureConfig) -> float:
    """Where a tone's features are largest after a warp, between bins, by the parabola through the largest three."""
    times = np.arange(8000) / 16000
    features = compute_features(np.sin(2 * np.pi * tone_hz * times).astype(np.float32), config)
    frame = warp_frequency(features, factor, config)[25].astype(np.float64)
    best = int(frame.argmax())
    left, middle, right = frame[best - 1 : best + 2]
    place = best + (left - right) / (2 * (left - 2 * middle + right))
    return float(np.interp(place, np.arange(len(frame)), list_frequencies_hz(config)))


@pytest.mark.parametrize("config", [MEL, LINEAR], ids=lambda config: config.kind)
@pytest.mark.parametrize("factor", [0.85, 0.9, 1.0, 1.1, 1.2])
@pytest.mark.parametrize("tone_hz", [600.0, 1500.0, 3000.0])
def test_a_tone_is_heard_at_a_multiple_of_its_frequency(tone_hz: float, factor: float, config: FeatureConfig) -> None:
    spacing_hz = np.diff(list_frequencies_hz(config))[np.searchsorted(list_frequencies_hz(config), tone_hz * factor)]
    assert find_peak_hz(tone_hz, factor, config) == pytest.approx(tone_hz * factor, abs=0.6 * spacing_hz)


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_beyond_the_knee_the_axis_is_a_line_to_half_the_sample_rate(factor: float) -> None:
    hz = list_frequencies_hz(LINEAR)
    warped = warp_frequency(np.tile(hz.astype(np.float32), (3, 1)), factor, LINEAR)  # every bin holds its own frequency
    knee = 4800 * min(factor, 1)
    below = hz <= knee
    np.testing.assert_allclose(warped[1, below], hz[below] / factor, rtol=1e-5)
    line = 8000 - (8000 - hz[~below]) * (8000 - knee / factor) / (8000 - knee)
    np.testing.assert_allclose(warped[1, ~below], line, rtol=1e-5)
    assert warped[1, -1] == 8000
    assert (np.diff(warped[1]) > 0).all(), "the order of the formants stays"


def test_a_tract_of_the_same_length_changes_nothing_and_gives_a_copy() -> None:
    features = np.random.default_rng(0).standard_normal((7, 80)).astype(np.float32)
    warped = warp_frequency(features, 1.0, MEL)
    np.testing.assert_allclose(warped, features, atol=1e-5)
    assert not np.shares_memory(warped, features)


# Warped time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [2, 3, 10, 200])
@pytest.mark.parametrize(("origin", "target"), [(0.5, 0.55), (0.25, 0.05), (0.75, 0.95), (0.4, 0.4)])
def test_time_is_warped_as_an_interpolation_along_two_straight_lines(
    num_frames: int, origin: float, target: float
) -> None:
    features = FEATURES[:num_frames]
    warped = warp_time(features, TimeWarp(origin, target))
    assert warped.dtype == np.float32
    assert warped.shape == features.shape
    last = num_frames - 1
    for t in range(num_frames):
        is_before = t <= target * last
        source = t * origin / target if is_before else last - (last - t) * (1 - origin) / (1 - target)
        expected = interp1d(np.arange(num_frames), features.astype(np.float64), axis=0)(np.clip(source, 0, last))
        np.testing.assert_allclose(warped[t], expected, atol=1e-5)


def test_a_warp_moves_its_point_and_neither_end() -> None:
    features = np.arange(101, dtype=np.float32)[:, None]  # every frame holds its own time
    warped = warp_time(features, TimeWarp(0.5, 0.6))[:, 0]
    assert [warped[0], warped[60], warped[100]] == pytest.approx([0, 50, 100])
    assert (np.diff(warped) > 0).all(), "the order of the sounds stays"
    assert np.diff(warped)[:60] == pytest.approx(5 / 6, abs=1e-4)
    assert np.diff(warped)[60:] == pytest.approx(5 / 4, abs=1e-4)


def test_a_warp_to_the_same_place_changes_nothing_and_gives_a_copy() -> None:
    warped = warp_time(FEATURES, TimeWarp(0.5, 0.5))
    np.testing.assert_allclose(warped, FEATURES, atol=1e-5)
    assert not np.shares_memory(warped, FEATURES)


@pytest.mark.parametrize("num_frames", [1, 2])
def test_an_utterance_of_a_frame_or_two_can_be_warped(num_frames: int) -> None:
    np.testing.assert_allclose(warp_time(FEATURES[:num_frames], TimeWarp(0.3, 0.4)), FEATURES[:num_frames])
