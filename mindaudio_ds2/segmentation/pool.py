"""Pieces of many recordings that wait for each other."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.segmentation.cutting import Piece
from mindaudio_ds2.segmentation.segmenter import Stretch

POOL_SECONDS = 600.0
"""So much sound is waited for before its pieces are batched, those of a length together: 38 MB at 16 kHz."""


@dataclass(eq=False)
class Row:
    """A waveform of a recording.

    Attributes:
        stretches: in order.
        found: by their places the hypotheses of those that are speech.
        notes: on the sound, a line each.
    """

    stretches: list[Stretch] = field(default_factory=list)
    found: dict[int, list[Hypothesis]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_recognized(self) -> bool:
        """Whether all speech that was added has its hypotheses."""
        return len(self.found) == sum(stretch.is_speech for stretch in self.stretches)


class Pool:
    """Pieces of any recordings that wait for each other, so that those of a length are recognised side by side.

    Args:
        recognize: gives the hypotheses of waveforms by their places, some at a time.
        progress: is called when a recording is read, and when hypotheses have come.
        bar: shows how many seconds are done, or None.
    """

    def __init__(
        self,
        recognize: Callable[[Sequence[NDArray[np.float32]]], Iterable[dict[int, list[Hypothesis]]]],
        progress: Callable[[], None],
        bar: Any,
    ) -> None:
        self._recognize, self._progress, self._bar = recognize, progress, bar
        self._waiting: list[tuple[Row, int, NDArray[np.float32]]] = []
        self._waiting_seconds = 0.0  # of all channels
        self._due_seconds = 0.0  # of the recording, however many channels are heard
        self._finished_seconds = self._read_seconds = 0.0

    def add(self, row: Row, piece: Piece, num_rows: int, rate_hz: int) -> None:
        """Take the next piece of a row; when enough wait, all are recognised."""
        row.stretches.append(piece.stretch)
        if piece.waveform is None:
            return
        seconds = len(piece.waveform) / rate_hz
        self._waiting.append((row, len(row.stretches) - 1, piece.waveform))
        self._waiting_seconds += seconds
        self._due_seconds += seconds / num_rows
        if self._waiting_seconds >= POOL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Recognise what waits."""
        if self._waiting:
            for found in self._recognize([waveform for _, _, waveform in self._waiting]):
                for index, hypotheses in found.items():
                    row, place, _ = self._waiting[index]
                    row.found[place] = hypotheses
                self._progress()
        self._waiting, self._waiting_seconds, self._due_seconds = [], 0.0, 0.0
        self.show(self._read_seconds)

    def show(self, read_seconds: float) -> None:
        """Tell that a recording was read up to there."""
        self._read_seconds = read_seconds
        done = self._finished_seconds + read_seconds - self._due_seconds
        if self._bar is not None and done > self._bar.n:
            self._bar.update(round(done - self._bar.n, 1))

    def finish_source(self, duration_seconds: float) -> None:
        """Tell that a recording was read to its end."""
        self._finished_seconds += duration_seconds
        self.show(0.0)
        self._progress()
