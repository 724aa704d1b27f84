"""The joint between NumPy and MindSpore: batches are loaded ahead of the step and handed over as tensors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.batching.loading import Augment, Source
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.batching.workers import Workers
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.network_config import FeatureConfig
from mindaudio_ds2.text.tokenizer import Tokenizer

COLUMNS = ["features", "feature_lengths", "labels", "label_lengths"]

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
    """Loads planned batches while the network works on the one before: in a thread, or in processes of their own.

    Args:
        utterances: the list that the plans are made for.
        labels: (L,) int32 for each utterance; without elements where none are needed.
        config: which features.
        blank_id: fills the labels beyond their length.
        cache_dir: folder that keeps features, see `load_features`; None computes them each time.
        prefetch_batches: batches made ready ahead of the step; one more may be in the making.
        num_workers: processes that load, each every n-th batch; 0 for a thread of this one. The batches are the same.
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
        num_workers: int = 0,
    ) -> None:
        assert len(utterances) == len(labels)
        self.source = Source(utterances, labels, config, blank_id, cache_dir)
        self.prefetch_batches = prefetch_batches
        self.num_workers = num_workers

    def iterate(
        self, batches: Sequence[BatchSpec], skip_batches: int = 0, augment: Augment | None = None
    ) -> Iterator[TensorBatch]:
        """Go through planned batches in their order.

        A loop that is left early (break, an exception, Ctrl-C) stops the thread, once the batch in the making is done,
        and all processes at once.

        Args:
            batches: of this rank, from `plan_epoch` or `plan_evaluation`.
            skip_batches: so many are passed over without being loaded, for a run that goes on within an epoch.
            augment: what is done to each utterance, for training; None leaves all as they are. With workers, it can
                be pickled.

        Raises:
            AudioError: an utterance cannot be used; raised when its batch is due, after all batches before it.
            ManifestError: an utterance's duration in the manifest is wrong; likewise.
            OutputError: the cache cannot be written; likewise.
            TrainingError: a worker has died; likewise.
        """
        batches = batches[skip_batches:]
        if not batches:  # MindSpore refuses an empty data set
            return
        workers = Workers(self.source, batches, augment, self.num_workers) if self.num_workers else None
        source = _BatchSource(self, batches, augment, workers)
        dataset = ds.GeneratorDataset(
            source, COLUMNS, shuffle=False, num_parallel_workers=1, python_multiprocessing=False
        )
        rows = None
        try:
            with _prefetching(self.prefetch_batches):
                rows = dataset.create_tuple_iterator(num_epochs=1, do_copy=False)
            for position, (features, feature_lengths, labels, label_lengths) in enumerate(rows):
                if position in source.failures:
                    raise source.failures.pop(position)
                indices = batches[position].indices
                yield TensorBatch(features, feature_lengths, labels, label_lengths, indices)
        finally:
            if workers:  # first, for the thread may be waiting for one of them
                workers.stop()
            if rows is not None:
                rows.stop()

    def load(self, batch: BatchSpec, augment: Augment | None = None) -> Batch:
        """Load one batch here and now, as NumPy arrays; see `Source.load`."""
        return self.source.load(batch, augment)


def open_loader(utterances: Sequence[Utterance], labels: Sequence[NDArray[np.int32]], config: Config) -> BatchLoader:
    """A loader with everything as a run's configuration says."""
    cache = config.data.feature_cache_dir
    return BatchLoader(
        utterances,
        labels,
        config.features,
        blank_id=Tokenizer(config.text).blank_id,
        cache_dir=Path(cache) if cache else None,
        prefetch_batches=config.batching.prefetch_batches,
        num_workers=config.batching.num_workers,
    )


class _BatchSource:
    """What `GeneratorDataset` asks, in its thread, for one batch after another.

    An exception must not leave it: MindSpore would turn it into a RuntimeError whose text is a page of Python and C++
    call stacks (2.10), and batches that were ready before it would be lost. It is kept here, and a row that nobody
    reads takes the batch's place.
    """

    def __init__(
        self, loader: BatchLoader, batches: Sequence[BatchSpec], augment: Augment | None, workers: Workers | None
    ) -> None:
        self.loader = loader
        self.workers = workers
        self.batches = batches
        self.augment = augment
        self.failures: dict[int, Exception] = {}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> Row:
        try:
            if self.workers:
                batch = self.workers.receive(position)
            else:
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
