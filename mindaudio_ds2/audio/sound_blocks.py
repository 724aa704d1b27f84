"""Long sound files in blocks: what `io.read_sound` gives, in memory that does not grow with the recording."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio import decoding
from mindaudio_ds2.audio.channels import Channels, choose_rows, find_antiphase
from mindaudio_ds2.audio.io import (
    Note,
    Notes,
    find_offset,
    find_peak,
    judge,
    note_offsets,
)
from mindaudio_ds2.audio.resampling import StreamResampler
from mindaudio_ds2.errors import AudioError


@dataclass
class _Totals:
    """Of what may become a waveform, each channel and the mean of all (the last): sums over all samples."""

    num_samples: int = 0
    rate_hz: int = 0
    is_float: bool = False
    peak: float = 0.0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    lowest: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    highest: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, block: decoding.Decoded) -> None:
        """Count another block in."""
        rows = np.vstack([block.samples.T, block.samples.mean(axis=1)])
        if not self.num_samples:
            self.sums, self.squares = np.zeros(len(rows)), np.zeros(len(rows))
            self.lowest, self.highest = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
        self.num_samples += len(block.samples)
        self.rate_hz = block.rate_hz
        self.is_float |= block.is_float
        self.peak = max(self.peak, float(np.abs(block.samples).max(initial=0.0)))
        if not np.isfinite(rows).all():
            self.peak = float("nan")
            return
        self.sums += rows.sum(axis=1, dtype=np.float64)
        self.squares += np.square(rows, dtype=np.float64).sum(axis=1)
        self.lowest = np.minimum(self.lowest, rows.min(axis=1, initial=np.inf))
        self.highest = np.maximum(self.highest, rows.max(axis=1, initial=-np.inf))


class SoundBlocks:
    """A sound file that is read twice: once to its end, to know what has to be done to it, and once in blocks.

    Args:
        path: as in `read_sound`.
        sample_rate_hz: rate of the waveforms (Hz).
        channels: what becomes of several channels.
        max_seconds: an error before reading further than this.

    Attributes:
        num_rows: waveforms; several for "split" only.
        duration_seconds: the file's samples divided by its rate.
        notes: as `read_sound` has them.

    Raises:
        AudioError: as in `read_sound`, before the first block.
    """

    def __init__(
        self, path: Path, sample_rate_hz: int, channels: Channels = "mix", max_seconds: float = float("inf")
    ) -> None:
        self._path, self._rate_hz = path, sample_rate_hz
        totals = _Totals()
        found: list[tuple[str, str]] = []
        for block in decoding.decode_blocks(path, max_seconds):
            found += block.notes
            totals.add(block)
        note = Notes(path, found)
        self._scale = find_peak(path, totals.peak, totals.is_float, note)
        count, scale = totals.num_samples, self._scale or 1.0
        means, powers = totals.sums / count / scale, totals.squares / count / scale**2
        self._rows = choose_rows(path, len(means) - 1, channels)
        if self._rows is None and (loudest := find_antiphase(float(powers[-1]), powers[:-1], note)) is not None:
            self._rows = [loudest]
        chosen = [-1] if self._rows is None else self._rows
        deviations = np.sqrt(np.maximum(0.0, powers - means**2))
        offsets = [find_offset(float(means[row]), float(deviations[row]), count) for row in chosen]
        note_offsets(offsets, note)
        peaks = [
            max(abs(totals.lowest[row] / scale - offset), abs(totals.highest[row] / scale - offset))
            for row, offset in zip(chosen, offsets, strict=True)
        ]
        judge(max(peaks), totals.rate_hz, sample_rate_hz, note)
        self._offsets = np.array(offsets, np.float32)[:, None]
        self._totals = totals
        self.num_rows = len(chosen)
        self.duration_seconds = count / totals.rate_hz
        self.notes: tuple[Note, ...] = note.all

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Blocks `(rows, n)` float32 in [-1, 1]; together ceil(n * rate / file's rate) samples a row."""
        from_hz, count = self._totals.rate_hz, self._totals.num_samples
        is_same = from_hz == self._rate_hz
        resamplers = [] if is_same else [StreamResampler(from_hz, self._rate_hz) for _ in range(self.num_rows)]
        num_read = 0
        for block in decoding.decode_blocks(self._path):
            num_read += len(block.samples)
            rows = self._treat(block.samples)
            pairs = zip(resamplers, rows, strict=False)
            yield np.clip(rows if is_same else np.stack([each.feed(row) for each, row in pairs]), -1.0, 1.0)
        if num_read != count:
            raise AudioError(f"{self._path} has changed while it was read; transcribe it again when it is finished")
        if resamplers:
            yield np.clip(np.stack([each.finish() for each in resamplers]), -1.0, 1.0)

    def _treat(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._scale is not None:
            samples = samples / np.float32(self._scale)
        rows = samples.mean(axis=1)[None] if self._rows is None else samples[:, self._rows].T
        return rows - self._offsets if self._offsets.any() else rows
