"""How long an epoch's updates take, and how much of that they wait for data."""

import time
from collections.abc import Iterable, Iterator

from mindaudio_ds2.batching.dataset import TensorBatch
from mindaudio_ds2.training.progress import Progress


class Pace:
    """Counts wall time into the progress, from the moment it is made.

    Args:
        progress: of the run; with several processes, each counts its own time.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.counted = time.monotonic()

    def await_batches(self, batches: Iterable[TensorBatch]) -> Iterator[TensorBatch]:
        """The batches as they come; the time between asking for one and getting it counts as waiting."""
        asked = time.monotonic()
        for batch in batches:
            self.progress.waiting_seconds += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    def count(self, audio_seconds: float) -> None:
        """Count the time since the last call for the update that has just been made.

        Args:
            audio_seconds: of its utterances, in all processes.
        """
        now = time.monotonic()
        self.progress.train_seconds += now - self.counted
        self.progress.epoch_seconds += now - self.counted
        self.progress.audio_seconds += audio_seconds
        self.counted = now
