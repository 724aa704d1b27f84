"""A recording that comes in blocks, cut into its stretches, those of speech with their sound."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.segmentation.segmenter import Segmenter, Stretch


@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch and its sound.

    Attributes:
        stretch: where it lies.
        waveform: `(n,)` float32 of a segment; None of a silence.
    """

    stretch: Stretch
    waveform: NDArray[np.float32] | None


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
        pieces = [Piece(each, self._copy(sound, each) if each.is_speech else None) for each in stretches]
        unneeded = max(0, min(self._segmenter.needed_from - self._first, len(sound)))
        self._blocks = [sound[unneeded:].copy()]
        self._first += unneeded
        return pieces

    def _copy(self, sound: NDArray[np.float32], stretch: Stretch) -> NDArray[np.float32]:
        """Not a view, which would keep all of the sound in memory."""
        return sound[stretch.start - self._first : stretch.end - self._first].copy()
