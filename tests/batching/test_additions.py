"""Joined utterances and silence around them: transcripts, lengths that the planner knows, and limits that are kept."""

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.batching.feature_cache import load_features
from mindaudio_ds2.batching.plan import EpochPlan, count_frames_to_align, plan_epoch
from mindaudio_ds2.batching.shapes import FixedShapes
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.machine.ranks import Place
from mindaudio_ds2.text.tokenizer import Tokenizer

Configure = Callable[..., Config]
EPOCHS = range(4)
NUM_UTTERANCES = 12
RATE_HZ = 8000  # of the tiny corpus


@pytest.fixture
def config(configure: Configure) -> Config:
    """Half of the utterances joined, and half with silence, within utterances of up to 4 s."""
    return configure(
        {
            "augmentation.join_probability": 0.5,
            "augmentation.join_max_utterances": 4,
            "augmentation.join_max_seconds": 2.2,
            "augmentation.silence_probability": 0.5,
            "augmentation.silence_range_seconds": [0.1, 1.5],
            "augmentation.mask_probability": 0.0,
            "data.max_duration_seconds": 4.0,
            "batching.bucket_edges_seconds": [0.5, 1.0, 2.0, 4.0],
            "batching.max_batch_padded_seconds": 8.0,
        }
    )


def make_augmenter(config: Config, utterances: list[Utterance] | None = None) -> Augmenter:
    utterances = utterances or read_manifest(config.data.train_manifest)
    tokenizer = Tokenizer(config.text)
    return Augmenter(config, utterances, [tokenizer.encode(utterance.transcript) for utterance in utterances])


def find_text(augmenter: Augmenter, epoch: int, index: int) -> str:
    labels = augmenter.make_changes(epoch, index).labels
    return Tokenizer(augmenter.config.text).decode(augmenter.labels[index] if labels is None else labels)


def plan(augmenter: Augmenter, epoch: int, rank: int = 0, world_size: int = 1, steps: int = 1) -> EpochPlan:
    config = augmenter.config
    batching = dataclasses.replace(config.batching, accumulation_steps=steps)
    seconds, num_frames = augmenter.additions.plan_seconds(epoch), config.features.num_frames
    return plan_epoch(seconds, batching, epoch=epoch, seed=1, num_frames=num_frames, place=Place(rank, world_size))


# Who is joined, and what it says --------------------------------------------------------------------------------------


def test_joined_utterances_are_neighbours_of_one_speaker_and_say_what_each_says(config: Config) -> None:
    utterances = read_manifest(config.data.train_manifest)
    mixed = [dataclasses.replace(each, speaker="ab"[place % 2]) for place, each in enumerate(utterances)]
    augmenter = make_augmenter(config, mixed)
    num_seen = set()
    for epoch in EPOCHS:
        for index in range(NUM_UTTERANCES):
            draw = augmenter.draw(epoch, index)
            own = sorted((each for each in mixed if each.speaker == mixed[index].speaker), key=lambda each: each.id)
            place = own.index(mixed[index])
            members = own[place : place + 1 + draw.num_joined]
            assert find_text(augmenter, epoch, index) == " ".join(each.transcript for each in members)
            num_seen.add(len(members))
    assert {1, 2, 3} <= num_seen


def test_the_sound_of_joined_utterances_is_that_of_one_after_the_other(config: Config) -> None:
    augmentation = dataclasses.replace(config.augmentation, silence_probability=0.0, join_probability=1.0)
    augmenter = make_augmenter(dataclasses.replace(config, augmentation=augmentation))
    waveforms = [read_audio(each.audio_path, RATE_HZ) for each in augmenter.utterances]
    num_joined = 0
    for index in range(NUM_UTTERANCES):
        members = augmenter.additions.list_members(index, augmenter.draw(0, index).num_joined)
        change = augmenter.make_changes(0, index).waveform
        if change:
            expected = np.concatenate([waveforms[member] for member in members])
            np.testing.assert_array_equal(change(waveforms[index]), expected)
            num_joined += 1
    assert num_joined > 6


def test_nobody_is_joined_to_an_unknown_speaker(config: Config) -> None:
    utterances = [dataclasses.replace(each, speaker="") for each in read_manifest(config.data.train_manifest)]
    augmenter = make_augmenter(config, utterances)
    assert not any(augmenter.draw(epoch, index).num_joined for epoch in EPOCHS for index in range(NUM_UTTERANCES))


def test_an_alphabet_without_a_space_joins_without_one(config: Config) -> None:
    config = dataclasses.replace(config, text=dataclasses.replace(config.text, characters="ABCD"))
    two = [Utterance(f"u{n}", "nowhere.wav", 0.8, text, "s") for n, text in enumerate(("AB", "CD"))]
    augmenter = make_augmenter(config, two)
    assert Tokenizer(config.text).decode(augmenter.additions.join_labels((0, 1))) == "ABCD"


@pytest.mark.parametrize("num_labels", [10, 20, 30, 40])
def test_what_ctc_could_not_align_is_not_joined(num_labels: int, config: Config) -> None:
    augmentation = dataclasses.replace(config.augmentation, join_probability=1.0)
    config = dataclasses.replace(config, augmentation=augmentation)
    text = ("AB" * 20)[:num_labels]
    augmenter = make_augmenter(config, [Utterance(f"u{n}", "nowhere.wav", 0.69, text, "s") for n in range(6)])
    for index in range(6):
        num_joined = augmenter.draw(0, index).num_joined
        members = augmenter.additions.list_members(index, num_joined)
        num_frames = config.model.num_output_frames(config.features.num_frames(0.69 * len(members)))
        labels = augmenter.additions.join_labels(members)
        assert num_joined == 0 or count_frames_to_align(labels) <= num_frames
        assert bool(num_joined) == (num_labels < 35 and index < 5)


def test_a_neighbour_that_cannot_be_read_is_named(config: Config, tmp_path: Path) -> None:
    utterances = read_manifest(config.data.train_manifest)
    utterances[1] = dataclasses.replace(utterances[1], audio_path=str(tmp_path / "gone.wav"))
    augmentation = dataclasses.replace(config.augmentation, join_probability=1.0)
    augmenter = make_augmenter(dataclasses.replace(config, augmentation=augmentation), utterances)
    following = {before for before, after in augmenter.additions._next.items() if after == 1}
    (index,) = following
    changes = augmenter.make_changes(0, index)
    with pytest.raises(AudioError, match="gone.wav"):
        load_features(utterances[index], config.features, None, changes.waveform)


# Lengths --------------------------------------------------------------------------------------------------------------


def test_the_plan_knows_the_length_of_every_utterance(config: Config) -> None:
    augmenter = make_augmenter(config)
    num_longer = 0
    for epoch in EPOCHS:
        planned = augmenter.additions.plan_seconds(epoch)
        for index, utterance in enumerate(augmenter.utterances):
            changes = augmenter.make_changes(epoch, index)
            features = load_features(utterance, config.features, None, changes.waveform)
            assert abs(len(features) - config.features.num_frames(planned[index])) <= 1
            num_longer += planned[index] > utterance.duration_seconds
    assert num_longer > NUM_UTTERANCES


def test_the_limits_of_batches_and_of_durations_hold_with_what_is_added(config: Config) -> None:
    augmenter = make_augmenter(config)
    for epoch in range(20):
        planned = augmenter.additions.plan_seconds(epoch)
        assert max(planned) <= config.data.max_duration_seconds + 1e-9
        for batch in plan(augmenter, epoch).batches:
            longest = max(planned[index] for index in batch.indices)
            assert longest * len(batch.indices) <= config.batching.max_batch_padded_seconds
            assert len(batch.indices) <= config.batching.max_batch_utterances
            assert batch.num_padded_frames == config.features.num_frames(longest)


def test_joined_utterances_are_no_longer_than_allowed(config: Config) -> None:
    augmenter = make_augmenter(config)
    for epoch in range(20):
        for index in range(NUM_UTTERANCES):
            members = augmenter.additions.list_members(index, augmenter.draw(epoch, index).num_joined)
            seconds = sum(augmenter.utterances[member].duration_seconds for member in members)
            assert len(members) == 1 or seconds <= 2.2


def test_there_is_a_fixed_shape_for_whatever_is_planned(config: Config) -> None:
    speeds = {"speed_probability": 1.0, "speed_range": (0.8, 1.2), "tempo_probability": 1.0, "tempo_range": (0.8, 1.1)}
    config = dataclasses.replace(config, augmentation=dataclasses.replace(config.augmentation, **speeds))  # type: ignore[arg-type]
    augmenter = make_augmenter(config)
    shapes = FixedShapes(*augmenter.additions.list_reachable(), config, is_augmented=True)
    for epoch in range(10):
        planned = np.asarray(augmenter.additions.plan_seconds(epoch))
        for index, seconds in enumerate(shapes.pad(planned).tolist()):
            shape, changes = shapes[seconds], augmenter.make_changes(epoch, index)
            assert len(find_text(augmenter, epoch, index)) <= shape.num_labels
            if epoch == 0:
                features = load_features(augmenter.utterances[index], config.features, None, changes.waveform)
                assert len(features) <= shape.num_frames


def test_with_both_off_the_plan_is_that_of_the_recordings(configure: Configure) -> None:
    augmenter = make_augmenter(configure())
    durations = [utterance.duration_seconds for utterance in augmenter.utterances]
    assert augmenter.additions.plan_seconds(3) == durations
    assert augmenter.additions.describe_epoch(3) == ""
    assert augmenter.additions.list_reachable() == (durations, list(map(len, augmenter.labels)))


# The same whatever happens around it ----------------------------------------------------------------------------------


def test_the_order_of_the_manifest_changes_no_utterance(config: Config) -> None:
    augmenter = make_augmenter(config)
    turned = make_augmenter(config, list(augmenter.utterances)[::-1])
    for epoch in EPOCHS:
        assert augmenter.additions.plan_seconds(epoch) == turned.additions.plan_seconds(epoch)[::-1]
        for index in range(NUM_UTTERANCES):
            assert augmenter.draw(epoch, index) == turned.draw(epoch, NUM_UTTERANCES - 1 - index)
            assert find_text(augmenter, epoch, index) == find_text(turned, epoch, NUM_UTTERANCES - 1 - index)


def test_two_processes_get_what_one_that_accumulates_gets(config: Config) -> None:
    """Each with an augmenter of its own, as in its own process."""
    for epoch in EPOCHS:
        alone = plan(make_augmenter(config), epoch, steps=2)
        ranks = [plan(make_augmenter(config), epoch, rank, world_size=2) for rank in range(2)]
        dealt = [batch for update in zip(*(each.batches for each in ranks), strict=True) for batch in update]
        assert list(alone.batches) == dealt


def test_a_loading_process_makes_what_the_run_itself_would_make(config: Config) -> None:
    """Workers get the augmenter pickled."""
    changes = {f"{kind}_probability": 0.5 for kind in ("tempo", "synthetic_rir", "synthetic_noise", "codec", "clip")}
    augmentation = dataclasses.replace(config.augmentation, **changes)  # type: ignore[arg-type]
    augmenter = make_augmenter(dataclasses.replace(config, augmentation=augmentation))
    worker = pickle.loads(pickle.dumps(augmenter))
    for index, utterance in enumerate(augmenter.utterances):
        mine, theirs = (
            load_features(utterance, config.features, None, each.make_changes(2, index).waveform)
            for each in (augmenter, worker)
        )
        assert mine.tobytes() == theirs.tobytes()
        assert find_text(augmenter, 2, index) == find_text(worker, 2, index)


def test_the_log_counts_what_an_epoch_adds(config: Config) -> None:
    augmenter = make_augmenter(config)
    num_joined = sum(augmenter.draw(1, index).num_joined > 0 for index in range(NUM_UTTERANCES))
    num_silent = sum(augmenter.draw(1, index).silence is not None for index in range(NUM_UTTERANCES))
    text = augmenter.additions.describe_epoch(1)
    assert f"{num_joined} of {NUM_UTTERANCES} utterances joined to others, {num_silent} with silence" in text
    assert num_joined > 0 < num_silent


def test_a_long_recording_gets_no_silence_beyond_the_limit(config: Config, tmp_path: Path) -> None:
    write_manifest(tmp_path / "one.jsonl", [Utterance("u", "u.wav", 3.9, "A", "s")])
    augmentation = dataclasses.replace(config.augmentation, silence_probability=1.0)
    augmenter = make_augmenter(
        dataclasses.replace(config, augmentation=augmentation), list(read_manifest(tmp_path / "one.jsonl"))
    )
    for epoch in EPOCHS:
        silence = augmenter.draw(epoch, 0).silence
        assert silence is not None
        assert silence.before_seconds + silence.after_seconds == pytest.approx(0.1)
