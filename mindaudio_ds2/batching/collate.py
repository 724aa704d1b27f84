"""Padding, and nothing else: the one place where utterances of different length become arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Utterances side by side. What stands beyond a length is padding and means nothing.

    Attributes:
        features: (B, T, F) float32, zero beyond a length; T is the longest utterance's.
        feature_lengths: (B,) int32, frames of each utterance.
        labels: (B, L) int32, the blank beyond a length; L is the longest utterance's, and at least 1.
        label_lengths: (B,) int32, labels of each utterance; 0 where there are none.
        indices: (B,) int32, the utterances' positions in the list that was planned for.
    """

    features: NDArray[np.float32]
    feature_lengths: NDArray[np.int32]
    labels: NDArray[np.int32]
    label_lengths: NDArray[np.int32]
    indices: NDArray[np.int32]


def collate(examples: Sequence[tuple[int, NDArray[np.float32], NDArray[np.int32]]], blank_id: int) -> Batch:
    """Pad utterances to the longest among them.

    Args:
        examples: at least one; index, features (T, F) float32 and labels (L,) int32 of each utterance. All have the
            same F.
        blank_id: fills the labels beyond their length, because it is the one id that no transcript holds.
    """
    assert examples, "a batch has at least one utterance"
    indices, features, labels = zip(*examples, strict=True)
    feature_lengths = np.array([len(frames) for frames in features], dtype=np.int32)
    label_lengths = np.array([len(its_labels) for its_labels in labels], dtype=np.int32)
    num_bins = features[0].shape[1]
    padded_features = np.zeros((len(examples), feature_lengths.max(), num_bins), dtype=np.float32)
    # At least one label wide, because MindSpore has no arrays without elements.
    padded_labels = np.full((len(examples), max(1, label_lengths.max())), blank_id, dtype=np.int32)
    for row, (frames, its_labels) in enumerate(zip(features, labels, strict=True)):
        padded_features[row, : len(frames)] = frames
        padded_labels[row, : len(its_labels)] = its_labels
    return Batch(padded_features, feature_lengths, padded_labels, label_lengths, np.array(indices, dtype=np.int32))
