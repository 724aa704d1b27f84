"""The joint between NumPy and MindSpore: batches are loaded ahead of the step and handed over as tensors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from mindaudio_ds2.batching.augmentation import UNCHANGED, Changes
from mindaudio_ds2.batching.collate import Batch, collate, join
from mindaudio_ds2.batching.feature_cache import load_features
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.config import Config, FeatureConfig
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.text.alphabet import Alphabet

COLUMNS = ["features", "feature_lengths", "labels", "label_lengths"]

Augment = Callable[[int], Changes]
"""What is done to the utterance at a position, see `Augmenter.make_changes`."""

Row = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True, slots=True, eq=False)
class TensorBatch:
    """A `Batch` as the network takes it.

    Attributes:
        features: (B, T, F) float32. Of two views, the second's rows come after all of the first's.
        feature_lengths: (B,) int32; 0 in rows behind the utterances, which only fill up a fixed shape.
        labels: (B, L) int32.
        label_lengths: (B,) int32.
        indices: positions of the utterances in the loader's list; as many as there are utterances.
    """

    features: Tensor
    feature_lengths: Tensor
    labels: Tensor
    label_lengths: Tensor
    indices: tuple[int, ...]


class BatchLoader:
    """Loads planned batches in a thread of its own, while the network works on the one before.

    Args:
        utterances: the list that the plans are made for.
        labels: (L,) int32 for each utterance; without elements where none are needed.
        config: which features.
        blank_id: fills the labels beyond their length.
        cache_dir: folder that keeps features, see `load_features`; None computes them each time.
        prefetch_batches: batches made ready ahead of the step; one more may be in the making.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        labels: Sequence[NDArray[np.int32]],
        config: FeatureConfig,
        *,
        blank_id: int,
        cache_dir: Path | None,
        prefetch_batches: int,
    ) -> None:
        assert len(utterances) == len(labels)
        self.utterances = utterances
        self.labels = labels
        self.config = config
        self.blank_id = blank_id
        self.cache_dir = cache_dir
        self.prefetch_batches = prefetch_batches

    def iterate(
        self, batches: Sequence[BatchSpec], skip_batches: int = 0, augment: Augment | None = None
    ) -> Iterator[TensorBatch]:
        """Go through planned batches in their order.

        A loop that is left early (break, an exception, Ctrl-C) stops the thread, once the batch in the making is done.

        Args:
            batches: of this rank, from `plan_epoch` or `plan_evaluation`.
            skip_batches: so many are passed over without being loaded, for a run that goes on within an epoch.
            augment: what is done to each utterance, for training; None leaves all as they are.

        Raises:
            AudioError: an utterance cannot be used; raised when its batch is due, after all batches before it.
            ManifestError: an utterance's duration in the manifest is wrong; likewise.
            OutputError: the cache cannot be written; likewise.
        """
        batches = batches[skip_batches:]
        if not batches:  # MindSpore refuses an empty data set
            return
        source = _BatchSource(self, batches, augment)
        dataset = ds.GeneratorDataset(
            source, COLUMNS, shuffle=False, num_parallel_workers=1, python_multiprocessing=False
        )
        with _prefetching(self.prefetch_batches):
            rows = dataset.create_tuple_iterator(num_epochs=1, do_copy=False)
        try:
            for position, (features, feature_lengths, labels, label_lengths) in enumerate(rows):
                if position in source.failures:
                    raise source.failures.pop(position)
                indices = batches[position].indices
                yield TensorBatch(features, feature_lengths, labels, label_lengths, indices)
        finally:
            rows.stop()

    def load(self, batch: BatchSpec, augment: Augment | None = None) -> Batch:
        """Load one batch here and now, as NumPy arrays.

        Raises:
            AudioError, ManifestError, OutputError: see `iterate`.
        """
        examples = []
        for index in batch.indices:
            changes = augment(index) if augment else UNCHANGED
            features = load_features(self.utterances[index], self.config, self.cache_dir, changes.waveform)
            examples.append([(index, change(features), self.labels[index]) for change in changes.views])
        return join([collate(view, self.blank_id, batch.shape) for view in zip(*examples, strict=True)])


def open_loader(utterances: Sequence[Utterance], labels: Sequence[NDArray[np.int32]], config: Config) -> BatchLoader:
    """A loader with everything as a run's configuration says."""
    cache = config.data.feature_cache_dir
    return BatchLoader(
        utterances,
        labels,
        config.features,
        blank_id=Alphabet(config.text).blank_id,
        cache_dir=Path(cache) if cache else None,
        prefetch_batches=config.batching.prefetch_batches,
    )


class _BatchSource:
    """What `GeneratorDataset` asks, in its thread, for one batch after another.

    An exception must not leave it: MindSpore would turn it into a RuntimeError whose text is a page of Python and C++
    call stacks (2.10), and batches that were ready before it would be lost. It is kept here, and a row that nobody
    reads takes the batch's place.
    """

    def __init__(self, loader: BatchLoader, batches: Sequence[BatchSpec], augment: Augment | None) -> None:
        self.loader = loader
        self.batches = batches
        self.augment = augment
        self.failures: dict[int, Exception] = {}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> Row:
        try:
            batch = self.loader.load(self.batches[position], self.augment)
        except Exception as error:  # also a defect of ours belongs to the caller
            self.failures[position] = error
            lengths = np.zeros(1, dtype=np.int32)
            return np.zeros((1, 1, 1), dtype=np.float32), lengths, lengths[:, None], lengths
        return batch.features, batch.feature_lengths, batch.labels, batch.label_lengths


@contextmanager
def _prefetching(num_batches: int) -> Iterator[None]:
    """Let data sets that are started inside hold so many rows. MindSpore sets this for the whole process only."""
    before = ds.config.get_prefetch_size()
    ds.config.set_prefetch_size(num_batches)
    try:
        yield
    finally:
        ds.config.set_prefetch_size(before)
