"""Fixed shapes: few of them, large enough for everything, and with empty rows that change no number."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.batching.collate import collate
from mindaudio_ds2.batching.plan import BatchSpec, plan_epoch, plan_evaluation, share_of_padding
from mindaudio_ds2.batching.shapes import BatchShape, FixedShapes
from mindaudio_ds2.config import Config
from mindaudio_ds2.machine.ranks import Place
from tests.batching.test_plan import BATCHING, make_config

EDGES = BATCHING.bucket_edges_seconds  # 2, 3, 5, 8
LIMIT = BATCHING.max_batch_padded_seconds  # 20 s, or 6 utterances


CONFIG = make_config()


def configure(**augmentation: Any) -> Config:
    return dataclasses.replace(CONFIG, augmentation=dataclasses.replace(CONFIG.augmentation, **augmentation))


def draw(num_utterances: int, seed: int, longest: float = 8.0) -> tuple[list[float], list[int]]:
    """Durations and counts of labels."""
    generator = np.random.default_rng(seed)
    durations = generator.uniform(0.3, longest, num_utterances)
    return durations.tolist(), generator.integers(1, 1 + (5 * durations).astype(int) + 1).tolist()


def plan(durations: list[float], shapes: FixedShapes | None, epoch: int, rank: int = 0, world_size: int = 1) -> Any:
    frames = CONFIG.features.num_frames
    return plan_epoch(
        durations, BATCHING, epoch=epoch, seed=4, num_frames=frames, place=Place(rank, world_size), shapes=shapes
    )


@pytest.mark.parametrize(("seconds", "rows"), [(2.0, 6), (3.0, 6), (5.0, 4), (8.0, 2), (16.0, 1), (24.0, 1)])
def test_a_bucket_has_as_many_rows_as_fit_into_the_limits(seconds: float, rows: int) -> None:
    shapes = FixedShapes([seconds], [3], CONFIG, is_augmented=False)
    assert [shape.num_rows for shape in shapes.shapes.values()] == [rows]
    assert rows == max(1, min(BATCHING.max_batch_utterances, math.floor(LIMIT / seconds)))


def test_there_is_a_shape_for_each_bucket_with_utterances_and_no_other() -> None:
    shapes = FixedShapes([0.4, 1.9, 2.0, 4.0, 4.9, 8.1, 15.9, 16.1], [1] * 8, CONFIG, is_augmented=False)
    assert list(shapes.shapes) == [2.0, 5.0, 16.0, 24.0], "beyond the last edge, multiples of it"
    assert shapes.describe().startswith("4 shapes (utterances x frames), each compiled when it is first met: 6 x ")


def test_labels_are_as_wide_as_the_most_of_this_bucket_and_the_shorter_ones() -> None:
    shapes = FixedShapes([1.0, 2.5, 2.6, 4.0, 7.0], [9, 3, 4, 20, 6], CONFIG, is_augmented=False)
    assert [shape.num_labels for shape in shapes.shapes.values()] == [9, 9, 20, 20]
    assert FixedShapes([1.0], [0], CONFIG, is_augmented=False)[2.0].num_labels == 1


@given(seed=st.integers(0, 1000), num=st.integers(1, 120), epoch=st.integers(0, 2), world_size=st.integers(1, 4))
def test_every_batch_fits_its_shape_and_every_utterance_is_there(
    seed: int, num: int, epoch: int, world_size: int
) -> None:
    durations, counts = draw(num, seed)
    shapes = FixedShapes(durations, counts, CONFIG, is_augmented=True)
    plans = [plan(durations, shapes, epoch, rank, world_size) for rank in range(world_size)]
    seen = [index for each in plans for batch in each.batches for index in batch.indices]
    assert sorted([*seen, *plans[0].left_out]) == list(range(num))
    for batches in zip(*(each.batches for each in plans), strict=True):
        assert len({batch.shape for batch in batches}) == 1, "all ranks compile the same graph"
    for batch in (batch for each in plans for batch in each.batches):
        assert batch.shape in shapes.shapes.values()
        assert 0 < len(batch.indices) <= batch.shape.num_rows
        assert batch.num_padded_frames == batch.shape.num_frames
        longest = max(durations[index] for index in batch.indices)
        assert CONFIG.features.num_frames(longest) <= batch.shape.num_frames
        assert max(counts[index] for index in batch.indices) <= batch.shape.num_labels


@given(seed=st.integers(0, 1000))
def test_evaluation_takes_any_duration_once(seed: int) -> None:
    durations, _ = draw(40, seed, longest=30.0)
    shapes = FixedShapes(durations, [0] * 40, CONFIG, is_augmented=False)
    batches = plan_evaluation(durations, BATCHING, num_frames=CONFIG.features.num_frames, shapes=shapes)
    assert sorted(index for batch in batches for index in batch.indices) == list(range(40))
    assert {batch.shape for batch in batches} <= set(shapes.shapes.values())
    assert len(shapes.shapes) <= len(EDGES) + math.ceil(30 / EDGES[-1])


def test_most_batches_are_full() -> None:
    durations, counts = draw(2000, 1)
    shapes = FixedShapes(durations, counts, CONFIG, is_augmented=False)
    for epoch in (0, 1):
        batches = plan(durations, shapes, epoch).batches
        num_full = sum(len(batch.indices) == batch.shape.num_rows for batch in batches)
        assert num_full >= len(batches) - len(shapes.shapes)


def test_augmentation_and_audio_longer_than_its_manifest_still_fit() -> None:
    """The slowest speed, the latest shift, and a recording as far off its manifest as is let pass."""
    from mindaudio_ds2.audio.augment import change_speed, shift_later
    from mindaudio_ds2.batching.feature_cache import MAX_DURATION_ERROR_SECONDS

    config = configure(speed_probability=1.0, speed_range=(0.83, 1.1), shift_probability=1.0, max_shift_seconds=0.3)
    rate_hz, hop = config.features.sample_rate_hz, config.features.hop_samples
    for seconds, edge in ((1.99999, 2.0), (3.0, 3.0), (4.2, 5.0)):
        shape = FixedShapes([seconds], [1], config, is_augmented=True)[edge]
        num_frames = config.features.num_frames(seconds) + round(
            MAX_DURATION_ERROR_SECONDS / config.features.hop_seconds
        )
        waveform = np.zeros(num_frames * hop - 1, np.float32)  # one sample more would be one frame more
        waveform = shift_later(change_speed(waveform, 0.83, rate_hz), round(0.3 * rate_hz), rate_hz)
        assert 1 + len(waveform) // hop <= shape.num_frames
    plain = FixedShapes([3.0], [1], config, is_augmented=False)[3.0]
    assert plain.num_frames < config.features.num_frames(3.2), "and nothing is added where nothing is done"


def test_padding_counts_empty_rows() -> None:
    batch = BatchSpec((0, 1), 50, BatchShape(4, 50, 3))
    assert share_of_padding([batch], [50, 30]) == 1 - 80 / 200


def test_a_batch_is_filled_up_with_rows_of_nothing() -> None:
    examples = [(7, np.ones((3, 2), np.float32), np.array([1, 2], np.int32))]
    batch = collate(examples, 9, BatchShape(3, 5, 4))
    assert batch.features.shape == (3, 5, 2)
    assert batch.features.sum() == batch.features[0, :3].sum() == 6
    assert batch.feature_lengths.tolist() == [3, 0, 0]
    assert batch.labels.tolist() == [[1, 2, 9, 9], [9] * 4, [9] * 4]
    assert batch.label_lengths.tolist() == [2, 0, 0]
    assert batch.indices.tolist() == [7]
