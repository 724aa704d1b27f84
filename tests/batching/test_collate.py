import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.batching.collate import collate

BLANK_ID = 9


def make_example(index: int, num_frames: int, num_labels: int) -> tuple[int, NDArray[np.float32], NDArray[np.int32]]:
    generator = np.random.default_rng(index)
    features = generator.normal(size=(num_frames, 5)).astype(np.float32)
    return index, features, generator.integers(0, BLANK_ID, num_labels).astype(np.int32)


def test_every_value_of_a_batch_is_the_utterances_or_padding() -> None:
    examples = [make_example(4, 7, 3), make_example(0, 2, 6), make_example(11, 9, 0)]
    batch = collate(examples, BLANK_ID)
    assert batch.features.shape == (3, 9, 5)
    assert batch.labels.shape == (3, 6)
    for row, (_, features, labels) in enumerate(examples):
        for t in range(9):
            expected = features[t] if t < len(features) else np.zeros(5)
            assert np.array_equal(batch.features[row, t], expected)
        for place in range(6):
            assert batch.labels[row, place] == (labels[place] if place < len(labels) else BLANK_ID)
    assert batch.feature_lengths.tolist() == [7, 2, 9]
    assert batch.label_lengths.tolist() == [3, 6, 0]
    assert batch.indices.tolist() == [4, 0, 11]


def test_a_batch_is_float32_and_int32_and_contiguous() -> None:
    batch = collate([make_example(0, 3, 2), make_example(1, 4, 1)], BLANK_ID)
    assert batch.features.dtype == np.float32
    for name in ("feature_lengths", "labels", "label_lengths", "indices"):
        assert getattr(batch, name).dtype == np.int32
    assert batch.features.flags.c_contiguous
    assert batch.labels.flags.c_contiguous


def test_one_utterance_is_not_padded() -> None:
    index, features, labels = make_example(3, 8, 4)
    batch = collate([(index, features, labels)], BLANK_ID)
    assert np.array_equal(batch.features[0], features)
    assert np.array_equal(batch.labels[0], labels)


def test_utterances_without_labels_make_a_batch_one_label_wide() -> None:
    batch = collate([make_example(0, 3, 0), make_example(1, 2, 0)], BLANK_ID)
    assert batch.labels.tolist() == [[BLANK_ID], [BLANK_ID]]
    assert batch.label_lengths.tolist() == [0, 0]


def test_a_batch_owns_its_memory() -> None:
    examples = [make_example(0, 3, 2)]
    batch = collate(examples, BLANK_ID)
    assert not np.shares_memory(batch.features, examples[0][1])
    assert not np.shares_memory(batch.labels, examples[0][2])


def test_a_batch_without_utterances_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        collate([], BLANK_ID)
