"""A recording that comes in blocks, cut into its stretches, those of speech with their sound."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.segmentation.detectors import QUIETEST_DBFS
from mindaudio_ds2.segmentation.segmenter import Segmenter, Stretch

LEAST_SECONDS = 0.03
"""Nobody says anything in less: it counts as silence."""

LEAST_SPAN = 10 ** (QUIETEST_DBFS / 20)
"""Samples that differ by less are the same but for rounding; those of a 16-bit file differ by 3e-5 or not at all."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch and its sound.

    Attributes:
        stretch: where it lies.
        waveform: `(n,)` float32 of a segment; None of a silence.
    """

    stretch: Stretch
    waveform: NDArray[np.float32] | None


def holds_nothing(waveform: NDArray[np.float32]) -> bool:
    """Whether all samples `(n,)` are the same: digital silence, or a constant."""
    return not len(waveform) or float(np.ptp(waveform)) < LEAST_SPAN


def make_piece(stretch: Stretch, waveform: NDArray[np.float32]) -> Piece:
    """A stretch and its sound `(n,)`: a segment only where there is something to hear, whatever a detector says.

    All that is transcribed passes here on its way to the network, which finds words even where nothing is.
    """
    if not stretch.is_speech or holds_nothing(waveform):
        return Piece(replace(stretch, is_speech=False), None)
    return Piece(stretch, waveform)


def keep_whole(waveform: NDArray[np.float32], rate_hz: int) -> Piece:
    """A recording `(n,)` that is not cut."""
    return make_piece(Stretch(0, len(waveform), len(waveform) >= LEAST_SECONDS * rate_hz), waveform)


class Cutter:
    """Keeps as much sound as the open segment needs, and cuts out the segments.

    Args:
        segmenter: says where; fresh.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._blocks: list[NDArray[np.float32]] = []
        self._first = 0  # the number of the first sample that is kept

    def feed(self, block: NDArray[np.float32]) -> list[Piece]:
        """Take the next `(n,)` float32 samples; returns the pieces that are certain now."""
        self._blocks.append(block)
        return self._cut(self._segmenter.feed(block))

    def finish(self) -> list[Piece]:
        """The pieces up to the end. Nothing can be fed afterwards."""
        return self._cut(self._segmenter.finish())

    def _cut(self, stretches: list[Stretch]) -> list[Piece]:
        if not stretches and len(self._blocks[0]) + self._first >= self._segmenter.needed_from:
            return []  # nothing to give, nothing to forget
        sound = np.concatenate(self._blocks)
        pieces = [self._cut_out(sound, each) for each in stretches]
        unneeded = max(0, min(self._segmenter.needed_from - self._first, len(sound)))
        self._blocks = [sound[unneeded:].copy()]
        self._first += unneeded
        return pieces

    def _cut_out(self, sound: NDArray[np.float32], stretch: Stretch) -> Piece:
        if not stretch.is_speech:
            return Piece(stretch, None)
        own = sound[stretch.start - self._first : stretch.end - self._first]
        return make_piece(stretch, own.copy())  # a view would keep all of the sound in memory
