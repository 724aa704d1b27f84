"""Masks over features: their sizes, their places, and that nothing else is touched."""

import numpy as np
import pytest

from mindaudio_ds2.audio.augment import make_generator, mask_features
from mindaudio_ds2.config import AugmentationConfig

FEATURES = np.random.default_rng(0).standard_normal((200, 80)).astype(np.float32)


def make_config(
    frequency: int = 0, frequency_share: float = 0.2, time: int = 0, time_share: float = 0.1
) -> AugmentationConfig:
    return AugmentationConfig(frequency, frequency_share, time, time_share)


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
