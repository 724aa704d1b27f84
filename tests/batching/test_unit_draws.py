"""Units drawn anew in each epoch: the same for everybody who asks, other in the next epoch, never more than fit."""

import dataclasses
import pickle
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.batching.plan import count_frames_to_align
from mindaudio_ds2.batching.shapes import FixedShapes
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.text.tokenizer import Tokenizer

Configure = Callable[..., Config]
UNITS = ["▁", "A", "B", "C", "D", "▁A", "AB", "▁BA", "CD", "DAB", "▁CAB"]
SCORES = [-3.0, -3.0, -3.2, -3.1, -3.3, -2.8, -3.0, -3.4, -3.6, -4.0, -3.5]
TEXT = "CAB ABCD BADAB DABCD"
ROOMY, NARROW = 1.0, 0.22
"""Seconds: all splits fit, or only those of few units."""


@pytest.fixture
def config(configure: Configure) -> Config:
    config: Config = configure({"text.units": UNITS, "text.unit_scores": SCORES, "augmentation.unit_sampling": 0.3})
    return config


def make_augmenter(config: Config, seconds: float = ROOMY) -> Augmenter:
    utterances = [Utterance(f"u{number}", "nowhere.wav", seconds, TEXT, "ann") for number in range(30)]
    return Augmenter(config, utterances, [Tokenizer(config.text).encode(TEXT)] * len(utterances))


def draw_all(augmenter: Augmenter, epoch: int) -> list[list[int]]:
    found = []
    for index in range(len(augmenter.utterances)):
        labels = augmenter.make_changes(epoch, index).labels
        assert labels is not None
        found.append(labels.tolist())
    return found


def test_labels_differ_between_epochs_and_utterances_and_say_the_same(config: Config) -> None:
    augmenter = make_augmenter(config)
    epochs = [draw_all(augmenter, epoch) for epoch in range(3)]
    for one, other in pairwise(epochs):
        assert sum(a != b for a, b in zip(one, other, strict=True)) > 20
    assert len({tuple(labels) for labels in epochs[0]}) > 10
    decode = Tokenizer(config.text).decode
    assert {decode(labels) for epoch in epochs for labels in epoch} == {TEXT}


def test_labels_depend_on_seed_epoch_and_utterance_alone(config: Config) -> None:
    augmenter = make_augmenter(config)
    expected = draw_all(augmenter, 2)
    assert draw_all(pickle.loads(pickle.dumps(augmenter)), 2) == expected  # what a worker has
    resumed = make_augmenter(config)
    assert [resumed.make_changes(2, index).labels.tolist() for index in reversed(range(30))] == expected[::-1]  # type: ignore[union-attr]
    assert draw_all(make_augmenter(dataclasses.replace(config, seed=config.seed + 1)), 2) != expected


def test_other_changes_are_the_same_with_and_without(config: Config) -> None:
    augmentation = dataclasses.replace(config.augmentation, speed_probability=0.5, mask_probability=0.5)
    on = make_augmenter(dataclasses.replace(config, augmentation=augmentation))
    off = make_augmenter(dataclasses.replace(config, augmentation=dataclasses.replace(augmentation, unit_sampling=0.0)))
    assert [on.draw(1, index) for index in range(30)] == [off.draw(1, index) for index in range(30)]
    assert all(off.make_changes(1, index).labels is None for index in range(30))


def test_where_the_drawn_units_do_not_fit_the_likeliest_are_kept_and_counted(config: Config) -> None:
    augmenter = make_augmenter(config, NARROW)
    num_frames = config.model.num_output_frames(config.features.num_frames(NARROW))
    best = augmenter.labels[0].tolist()
    assert count_frames_to_align(augmenter.labels[0]) <= num_frames
    num_fitting = 0
    for epoch in range(3):
        drawn = draw_all(augmenter, epoch)
        assert all(count_frames_to_align(np.array(labels)) <= num_frames for labels in drawn)
        freely = draw_all(make_augmenter(config), epoch)
        kept = [labels for labels in freely if count_frames_to_align(np.array(labels)) <= num_frames]
        assert drawn == [labels if labels in kept else best for labels in freely]
        assert augmenter.count_undrawn(epoch) == len(freely) - len(kept) > 0
        num_fitting += len(kept)
    assert num_fitting > 5
    assert make_augmenter(config).count_undrawn(0) == 0


def test_faster_speech_has_less_room(config: Config) -> None:
    augmentation = dataclasses.replace(config.augmentation, tempo_probability=1.0, tempo_range=(1.25, 1.25))
    augmenter = make_augmenter(dataclasses.replace(config, augmentation=augmentation), 1.25 * NARROW)
    assert draw_all(augmenter, 0) == draw_all(make_augmenter(config, NARROW), 0)
    assert augmenter.count_undrawn(0) == make_augmenter(config, NARROW).count_undrawn(0) > 0


def test_joined_transcripts_are_drawn_as_one(config: Config) -> None:
    augmentation = dataclasses.replace(config.augmentation, join_probability=1.0)
    augmenter = make_augmenter(dataclasses.replace(config, augmentation=augmentation), 0.5)
    texts = [Tokenizer(config.text).decode(labels) for labels in draw_all(augmenter, 0)]
    num_joined = [augmenter.draw(0, index).num_joined for index in range(30)]
    assert texts == [" ".join([TEXT] * (1 + num)) for num in num_joined]
    assert max(num_joined) > 0


@pytest.mark.parametrize("join_probability", [0.0, 1.0])
def test_fixed_shapes_have_room_for_whatever_is_drawn(join_probability: float, config: Config) -> None:
    augmentation = dataclasses.replace(config.augmentation, join_probability=join_probability, unit_sampling=0.01)
    config = dataclasses.replace(config, augmentation=augmentation)
    augmenter = make_augmenter(config, 0.5)
    shapes = FixedShapes(*augmenter.additions.list_reachable(), config, is_augmented=True)
    room = max(shape.num_labels for shape in shapes.shapes.values())
    most = max(len(labels) for epoch in range(10) for labels in draw_all(augmenter, epoch))
    assert len(augmenter.labels[0]) < most <= room


def test_no_split_needs_more_frames_than_that_into_characters(config: Config) -> None:
    augmenter = make_augmenter(config)
    most = count_frames_to_align(augmenter.additions.units.list_longest(TEXT))
    assert all(
        count_frames_to_align(np.array(labels)) <= most for epoch in range(5) for labels in draw_all(augmenter, epoch)
    )


def test_characters_refuse_it(configure: Configure) -> None:
    with pytest.raises(ConfigError, match=r"augmentation\.unit_sampling.*one way only"):
        configure({"augmentation.unit_sampling": 0.2})
