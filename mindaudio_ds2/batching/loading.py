"""From a planned batch to arrays, in whatever thread or process that is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.augmentation import UNCHANGED, Changes
from mindaudio_ds2.batching.collate import Batch, collate, join
from mindaudio_ds2.batching.feature_cache import load_features
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.network_config import FeatureConfig

Augment = Callable[[int], Changes]
"""What is done to the utterance at a position, see `Augmenter.make_changes`."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where batches are loaded from.

    Attributes:
        utterances: the list that the plans are made for.
        labels: (L,) int32 for each utterance; without elements where none are needed.
        config: which features.
        blank_id: fills the labels beyond their length.
        cache_dir: folder that keeps features, see `load_features`; None computes them each time.
    """

    utterances: Sequence[Utterance]
    labels: Sequence[NDArray[np.int32]]
    config: FeatureConfig
    blank_id: int
    cache_dir: Path | None

    def load(self, batch: BatchSpec, augment: Augment | None = None) -> Batch:
        """Load one batch here and now.

        Raises:
            AudioError: an utterance cannot be used.
            ManifestError: an utterance's duration in the manifest is wrong.
            OutputError: the cache cannot be written.
        """
        examples = []
        for index in batch.indices:
            changes = augment(index) if augment else UNCHANGED
            features = load_features(self.utterances[index], self.config, self.cache_dir, changes.waveform)
            labels = self.labels[index] if changes.labels is None else changes.labels
            examples.append([(index, change(features), labels) for change in changes.views])
        return join([collate(view, self.blank_id, batch.shape) for view in zip(*examples, strict=True)])
