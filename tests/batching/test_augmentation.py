"""Which changes an utterance of a training set gets, and that nobody but the training set gets any."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.augment import change_speed
from mindaudio_ds2.audio.draws import Draw, make_generator
from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.audio.spec_augment import mask_features
from mindaudio_ds2.batching import feature_cache
from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.batching.augmentation_text import describe_augmentation
from mindaudio_ds2.batching.feature_cache import load_features
from mindaudio_ds2.batching.plan import count_frames_to_align
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.errors import AudioError, ConfigError, ManifestError
from mindaudio_ds2.text.tokenizer import Tokenizer

Configure = Callable[..., Config]
RATE_HZ = 8000  # of the tiny corpus
PROBABILITIES = {
    f"augmentation.{kind}_probability": 1.0
    for kind in (
        *("speed", "shift", "rir", "noise", "gain", "vtlp", "time_warp", "mask", "tempo", "silence", "synthetic_rir"),
        *("synthetic_noise", "clip", "low_pass", "telephone", "codec"),
    )
}


@pytest.fixture
def noise_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "noise"
    folder.mkdir()
    for number in range(4):
        samples = np.random.default_rng(number).normal(0, 0.1, 2000 + 3000 * number)
        soundfile.write(folder / f"{number}.wav", samples, RATE_HZ)
    return folder


@pytest.fixture
def rir_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "rir"
    folder.mkdir()
    for number in range(2):
        response = np.random.default_rng(number).normal(0, 0.05, 800) * np.exp(-np.arange(800) / 200)
        response[40 * number] = 0.9
        soundfile.write(folder / f"{number}.wav", response, RATE_HZ)
    return folder


@pytest.fixture
def all_on(configure: Configure, noise_folder: Path, rir_folder: Path) -> Config:
    paths = {"augmentation.noise_path": str(noise_folder), "augmentation.rir_path": str(rir_folder)}
    return configure({**PROBABILITIES, **paths})


def make_augmenter(config: Config) -> Augmenter:
    utterances = read_manifest(config.data.train_manifest)
    tokenizer = Tokenizer(config.text)
    return Augmenter(config, utterances, [tokenizer.encode(utterance.transcript) for utterance in utterances])


def load_views(
    augmenter: Augmenter, epoch: int, index: int, cache_dir: Path | None = None
) -> list[NDArray[np.float32]]:
    changes = augmenter.make_changes(epoch, index)
    utterance = augmenter.utterances[index]
    features = load_features(utterance, augmenter.config.features, cache_dir, changes.waveform)
    return [change(features) for change in changes.views]


def load(augmenter: Augmenter, epoch: int, index: int, cache_dir: Path | None = None) -> NDArray[np.float32]:
    (features,) = load_views(augmenter, epoch, index, cache_dir)
    return features


# The same whatever happens around it ----------------------------------------------------------------------------------


def test_an_utterance_is_the_same_in_any_order_and_again(all_on: Config) -> None:
    augmenter = make_augmenter(all_on)
    places = [(epoch, index) for epoch in range(2) for index in range(12)]
    first = {place: load(augmenter, *place).tobytes() for place in places}
    assert len(set(first.values())) == len(places), "every utterance differs in every epoch"
    random.Random(1).shuffle(places)
    again = make_augmenter(all_on)  # as a run that is taken up again
    assert {place: load(again, *place).tobytes() for place in places} == first


def test_its_place_in_the_list_does_not_matter(all_on: Config) -> None:
    augmenter = make_augmenter(all_on)
    reversed_one = Augmenter(all_on, augmenter.utterances[::-1], augmenter.labels[::-1])
    for index in range(12):
        assert augmenter.draw(3, index) == reversed_one.draw(3, 11 - index)


def test_two_views_say_the_same_at_the_same_time_and_look_different(all_on: Config) -> None:
    """The first is what a single one would be; what the second has of its own does not move a word."""
    both = dataclasses.replace(all_on, training=dataclasses.replace(all_on.training, consistency_weight=0.2))
    alone, augmenter = make_augmenter(all_on), make_augmenter(both)
    for index in range(12):
        first, second = augmenter.draw(4, index), augmenter.draw(4, index, 1)
        assert first == alone.draw(4, index)
        assert second.vtlp not in (1, first.vtlp)
        assert dataclasses.replace(second, vtlp=first.vtlp) == first
        views = load_views(augmenter, 4, index)
        assert views[0].tobytes() == load(alone, 4, index).tobytes()
        assert views[0].shape == views[1].shape


def test_two_views_of_masks_alone_are_one_recording_masked_twice(configure: Configure) -> None:
    config = configure({"training.consistency_weight": 0.2})
    augmenter = make_augmenter(config)
    num_different = 0
    for index, utterance in enumerate(augmenter.utterances):
        plain = compute_features(read_audio(utterance.audio_path, RATE_HZ), config.features)
        views = load_views(augmenter, 0, index)
        for view in views:
            assert ((view == plain) | (view == 0)).all()
        num_different += not np.array_equal(views[0], views[1])
    assert num_different == 12


def test_everything_happens_when_everything_is_on(all_on: Config) -> None:
    augmenter = make_augmenter(all_on)
    for index in range(12):
        draw = augmenter.draw(0, index)
        assert None not in (draw.rir, draw.noise, draw.time_warp, draw.silence, draw.synthetic_rir, draw.codec)
        assert None not in (draw.synthetic_noise, draw.low_pass_hz)
        assert draw.is_telephone
        assert draw.tempo != 1
        assert draw.clip_db > 0
        assert draw.shift_seconds > 0
        assert draw.gain_db != 0
        assert draw.vtlp != 1
        assert draw.is_masked


def test_masks_alone_give_the_bits_that_they_gave_before_there_was_anything_else(configure: Configure) -> None:
    config = configure()
    augmenter = make_augmenter(config)
    for index, utterance in enumerate(augmenter.utterances):
        plain = compute_features(read_audio(utterance.audio_path, RATE_HZ), config.features)
        expected = mask_features(plain, config.augmentation, make_generator(config.seed, 5, utterance.id))
        assert load(augmenter, 5, index).tobytes() == expected.tobytes()
        assert augmenter.make_changes(5, index).waveform is None


def test_with_everything_off_features_are_those_of_the_recording(configure: Configure) -> None:
    config = configure({"augmentation.mask_probability": 0.0})
    augmenter = make_augmenter(config)
    for index, utterance in enumerate(augmenter.utterances):
        plain = compute_features(read_audio(utterance.audio_path, RATE_HZ), config.features)
        assert load(augmenter, 0, index).tobytes() == plain.tobytes()


# Speed and labels -----------------------------------------------------------------------------------------------------


def make_dense(config: Config, duration_seconds: float, num_labels: int) -> Augmenter:
    """One utterance with so many labels, of which no two neighbours are equal."""
    utterance = Utterance("dense", "dense.wav", duration_seconds, "A")
    labels = np.arange(num_labels, dtype=np.int32) % 2 + 1
    return Augmenter(config, [utterance], [labels])


@pytest.mark.parametrize("num_labels", range(30, 52))
def test_no_utterance_is_made_too_fast_for_its_labels(num_labels: int, configure: Configure) -> None:
    config = configure({"augmentation.speed_probability": 1.0, "augmentation.speed_range": [0.7, 1.6]})
    augmenter = make_dense(config, 1.0, num_labels)  # 101 frames, 51 of output
    sound = np.zeros(RATE_HZ, np.float32)
    speeds = [augmenter.draw(epoch, 0).speed for epoch in range(200)]
    for speed in speeds:
        num_frames = len(compute_features(change_speed(sound, speed, RATE_HZ), config.features))
        num_outputs = (num_frames - 1) // 2 + 1
        assert num_outputs >= num_labels == count_frames_to_align(augmenter.labels[0])
    assert min(speeds) < 0.75, "slower is always possible"
    most = 51 / num_labels
    assert (1.0 in speeds) == (most < 1.55)
    assert max(speeds) > 0.93 * min(most, 1.6), "nothing that fits is given up"


def test_equal_neighbours_need_a_frame_more(configure: Configure) -> None:
    config = configure({"augmentation.speed_probability": 1.0, "augmentation.speed_range": [1.5, 1.5]})
    utterance = Utterance("u", "u.wav", 1.0, "A")  # 34 output frames at 1.5
    speeds = [
        Augmenter(config, [utterance], [np.full(num_labels, 1, np.int32)]).draw(0, 0).speed for num_labels in (17, 18)
    ]
    assert speeds == [1.5, 1.0]


def test_utterances_too_dense_for_the_highest_speed_are_counted_in_the_log(configure: Configure) -> None:
    config = configure({"augmentation.speed_probability": 0.5, "augmentation.speed_range": [0.9, 1.5]})
    assert "1 utterances with too many labels for 1.5" in describe_augmentation(make_dense(config, 1.0, 40))
    assert "labels" not in describe_augmentation(make_dense(config, 1.0, 30))


def test_slow_speech_stays_within_the_bound_on_padded_audio(all_on: Config, corpus: Path) -> None:
    """No batch grows above max_batch_padded_seconds / slowest + utterances * max_shift_seconds, and a frame each."""
    from mindaudio_ds2.batching.plan import plan_epoch

    augmenter = make_augmenter(all_on)
    limits, augmentation, features = all_on.batching, all_on.augmentation, all_on.features
    slowest = augmentation.speed_range[0] * augmentation.tempo_range[0]
    for epoch in range(5):
        durations = augmenter.additions.plan_seconds(epoch)
        plan = plan_epoch(durations, limits, epoch=epoch, seed=1, num_frames=features.num_frames)
        for batch in plan.batches:
            num = len(batch.indices)
            longest = max(len(load(augmenter, epoch, index)) for index in batch.indices)
            bound = limits.max_batch_padded_seconds / slowest + num * augmentation.max_shift_seconds
            assert num * (longest - 1) * features.hop_seconds <= bound


# Cache ----------------------------------------------------------------------------------------------------------------


def test_the_cache_serves_where_the_waveform_is_not_changed_and_only_there(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure({"augmentation.speed_probability": 0.5})
    augmenter = make_augmenter(config)
    cache_dir = tmp_path / "cache"
    for utterance in augmenter.utterances:
        load_features(utterance, config.features, cache_dir)
    entries = {path: path.read_bytes() for path in cache_dir.rglob("*.npz")}
    num_read = 0

    def read_and_count(*arguments: Any) -> NDArray[np.float32]:
        nonlocal num_read
        num_read += 1
        return read_audio(*arguments)

    monkeypatch.setattr(feature_cache, "read_audio", read_and_count)
    places = [(epoch, index) for epoch in range(10) for index in range(12)]
    for place in places:
        with_cache, num_before = load(augmenter, *place, cache_dir), num_read
        assert with_cache.tobytes() == load(augmenter, *place).tobytes()
        assert num_read - num_before == 1
    num_changed = sum(augmenter.draw(*place).changes_waveform for place in places)
    assert 30 < num_changed < 90
    assert num_read == num_changed + len(places)
    assert {path: path.read_bytes() for path in cache_dir.rglob("*.npz")} == entries


def test_a_wrong_duration_is_found_before_speed_hides_it(configure: Configure) -> None:
    config = configure({"augmentation.speed_probability": 1.0})
    utterance = read_manifest(config.data.train_manifest)[0]
    wrong = dataclasses.replace(utterance, duration_seconds=utterance.duration_seconds + 0.2)
    augmenter = Augmenter(config, [wrong], [np.ones(1, np.int32)])
    assert augmenter.draw(0, 0).changes_waveform
    with pytest.raises(ManifestError, match=repr(utterance.id)):
        load(augmenter, 0, 0)


# Errors and words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["noise_path", "rir_path"])
def test_a_wrong_path_is_named_at_the_start(key: str, configure: Configure) -> None:
    with pytest.raises(ConfigError, match=f"augmentation.{key} is 'nowhere'"):
        make_augmenter(configure({f"augmentation.{key}": "nowhere"}))


def test_noise_that_has_become_unreadable_names_its_own_file(all_on: Config, noise_folder: Path) -> None:
    augmenter = make_augmenter(all_on)
    for path in noise_folder.iterdir():
        path.write_text("not sound", encoding="utf-8")
    with pytest.raises(AudioError, match=str(noise_folder)):
        load(augmenter, 0, 0)


def test_the_log_says_what_is_on(all_on: Config, configure: Configure) -> None:
    text = describe_augmentation(make_augmenter(all_on))
    for part in ("speed 100% (0.9 to 1.1)", "rooms 100% (2 impulse", "noise 100% (4 files", "5 to 25 dB", "masks 100%"):
        assert part in text
    no_width = {"augmentation.max_frequency_mask_share": 0.0, "augmentation.max_time_mask_share": 0.0}
    no_masks = {"augmentation.num_frequency_masks": 0, "augmentation.num_time_masks": 0}
    for nothing in ({"augmentation.mask_probability": 0.0}, no_width, no_masks):
        assert describe_augmentation(make_augmenter(configure(nothing))) == "none"


# Real noise -----------------------------------------------------------------------------------------------------------


def test_real_noise_and_rooms_leave_real_features(shared_data: Path, all_on: Config) -> None:
    augmentation = dataclasses.replace(
        all_on.augmentation, noise_path=str(shared_data / "noise"), rir_path=str(shared_data / "rir")
    )
    augmenter = make_augmenter(dataclasses.replace(all_on, augmentation=augmentation))
    assert len(augmenter.noises) == 60
    assert len(augmenter.rirs) == 3
    plain = Draw()
    for index in range(12):
        features = load(augmenter, 0, index)
        assert np.isfinite(features).all()
        assert augmenter.draw(0, index) != plain
