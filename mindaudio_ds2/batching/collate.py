"""Padding, and nothing else: the one place where utterances of different length become arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.shapes import BatchShape


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Utterances side by side. What stands beyond a length is padding and means nothing.

    Attributes:
        features: (B, T, F) float32, zero beyond a length; T is the longest utterance's, or that of a fixed shape.
        feature_lengths: (B,) int32, frames of each utterance; 0 in the rows that only fill up a fixed shape.
        labels: (B, L) int32, the blank beyond a length; L is the longest utterance's, and at least 1.
        label_lengths: (B,) int32, labels of each utterance; 0 where there are none.
        indices: int32, the utterances' positions in the list that was planned for; empty rows have none.
            Where utterances are in several rows, they are named once.
    """

    features: NDArray[np.float32]
    feature_lengths: NDArray[np.int32]
    labels: NDArray[np.int32]
    label_lengths: NDArray[np.int32]
    indices: NDArray[np.int32]


def collate(
    examples: Sequence[tuple[int, NDArray[np.float32], NDArray[np.int32]]],
    blank_id: int,
    shape: BatchShape | None = None,
) -> Batch:
    """Pad utterances to the longest among them, or to a fixed shape.

    Args:
        examples: at least one; index, features (T, F) float32 and labels (L,) int32 of each utterance. All have the
            same F.
        blank_id: fills the labels beyond their length, because it is the one id that no transcript holds.
        shape: what to pad to; None for what the utterances themselves need.
    """
    assert examples, "a batch has at least one utterance"
    indices, features, labels = zip(*examples, strict=True)
    if shape is None:
        # At least one label wide, because MindSpore has no arrays without elements.
        shape = BatchShape(len(examples), max(map(len, features)), max(1, *map(len, labels)))
    num_empty = shape.num_rows - len(examples)
    assert num_empty >= 0, "the plan puts no more into a batch than its shape has rows"
    feature_lengths = np.array([*map(len, features), *[0] * num_empty], dtype=np.int32)
    label_lengths = np.array([*map(len, labels), *[0] * num_empty], dtype=np.int32)
    padded_features = np.zeros((shape.num_rows, shape.num_frames, features[0].shape[1]), dtype=np.float32)
    padded_labels = np.full((shape.num_rows, shape.num_labels), blank_id, dtype=np.int32)
    for row, (frames, its_labels) in enumerate(zip(features, labels, strict=True)):
        padded_features[row, : len(frames)] = frames
        padded_labels[row, : len(its_labels)] = its_labels
    return Batch(padded_features, feature_lengths, padded_labels, label_lengths, np.array(indices, dtype=np.int32))


def join(views: Sequence[Batch]) -> Batch:
    """One batch from several of the same utterances and the same shape: the first's rows, then the next one's."""
    if len(views) == 1:
        return views[0]
    return Batch(
        np.concatenate([view.features for view in views]),
        np.concatenate([view.feature_lengths for view in views]),
        np.concatenate([view.labels for view in views]),
        np.concatenate([view.label_lengths for view in views]),
        views[0].indices,
    )
