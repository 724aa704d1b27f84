"""The short list of shapes that batches are padded to where every shape is a graph of its own to compile.

On the CPU one graph serves all shapes. On GPU and Ascend, and for MindSpore's own GRU on the CPU, a shape costs seconds
to minutes of compiling: there a batch is as long as its bucket, and has as many rows as fit into that bucket, the last
of them empty where utterances are lacking.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.feature_cache import MAX_DURATION_ERROR_SECONDS
from mindaudio_ds2.config import BatchingConfig, Config


@dataclass(frozen=True, slots=True, order=True)
class BatchShape:
    """What a batch is padded to.

    Attributes:
        num_rows: B, utterances, the empty ones included.
        num_frames: T.
        num_labels: L, at least 1.
    """

    num_rows: int
    num_frames: int
    num_labels: int


class FixedShapes:
    """One shape for each bucket that has utterances.

    An utterance above the last edge of `batching.bucket_edges_seconds` counts as the next multiple of that edge; only
    evaluation has such.

    Args:
        durations_seconds: of all utterances, and of whatever `Additions.list_reachable` says.
        num_labels: of each of them.
        config: the whole run.
        is_augmented: whether speed, tempo and shift may make them longer than planned.
    """

    def __init__(
        self, durations_seconds: Sequence[float], num_labels: Sequence[int], config: Config, is_augmented: bool
    ) -> None:
        self.edges = np.asarray(config.batching.bucket_edges_seconds)
        padded, counts = self.pad(np.asarray(durations_seconds, dtype=np.float64)), np.asarray(num_labels)
        self.shapes = {
            seconds: BatchShape(
                _count_rows(seconds, config.batching),
                _count_frames(seconds, config, is_augmented),
                max(1, int(counts[padded <= seconds].max())),  # of shorter buckets too: what is left moves up
            )
            for seconds in np.unique(padded).tolist()
        }

    def pad(self, durations_seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Durations rounded up to those of their buckets, in seconds."""
        last = self.edges[-1]
        buckets = np.minimum(np.searchsorted(self.edges, durations_seconds), len(self.edges) - 1)
        return np.where(durations_seconds <= last, self.edges[buckets], np.ceil(durations_seconds / last) * last)

    def __getitem__(self, padded_seconds: float) -> BatchShape:
        """The shape of a batch whose longest utterance takes so many seconds, one of those that `pad` gives."""
        return self.shapes[padded_seconds]

    def describe(self) -> str:
        """One line for the log."""
        sizes = ", ".join(f"{shape.num_rows} x {shape.num_frames}" for shape in self.shapes.values())
        return f"{len(self.shapes)} shapes (utterances x frames), each compiled when it is first met: {sizes}"


def may_share(num_utterances: int, longest_seconds: float, config: BatchingConfig) -> bool:
    """Whether so many utterances, the longest of so many seconds, are within the limits of a batch. One always is."""
    is_short_enough = num_utterances * longest_seconds <= config.max_batch_padded_seconds
    return num_utterances <= config.max_batch_utterances and (num_utterances == 1 or is_short_enough)


def _count_rows(longest_seconds: float, config: BatchingConfig) -> int:
    rows = 1
    while may_share(rows + 1, longest_seconds, config):
        rows += 1
    return rows


def _count_frames(seconds: float, config: Config, is_augmented: bool) -> int:
    """T that nothing of so many seconds exceeds, by the manifest, whatever augmentation makes of it."""
    # Audio may be longer than its manifest says, which is counted in whole frames: one more on either side.
    augmentation = config.augmentation
    num_joined = augmentation.join_max_utterances if is_augmented and augmentation.join_probability else 1
    seconds += num_joined * MAX_DURATION_ERROR_SECONDS + 2 * config.features.hop_seconds
    if is_augmented and augmentation.speed_probability:
        seconds /= min(1.0, augmentation.speed_range[0])
    if is_augmented and augmentation.tempo_probability:
        seconds /= min(1.0, augmentation.tempo_range[0])
    if is_augmented and augmentation.shift_probability:
        seconds += augmentation.max_shift_seconds
    return config.features.num_frames(seconds)
