"""The sound of pieces, and how much of it is kept."""

import numpy as np
import pytest

from mindaudio_ds2.segmentation.cutting import Cutter, Piece
from mindaudio_ds2.segmentation.detectors import EnergyDetector
from mindaudio_ds2.segmentation.segmenter import Segmenter, SegmentLimits
from tests.segmentation.test_segmenter import RATE_HZ, hum, hush, say

RECORDING = np.concatenate([hush(4), say(2), hush(9, 1), hum(21, 2), hush(2, 3), say(1, 4), hush(5, 5)])


def make() -> Cutter:
    return Cutter(Segmenter(EnergyDetector(RATE_HZ), SegmentLimits(6.0), RATE_HZ))


def cut(size: int) -> list[Piece]:
    cutter = make()
    pieces: list[Piece] = []
    for start in range(0, len(RECORDING), size):
        pieces += cutter.feed(RECORDING[start : start + size])
    return pieces + cutter.finish()


@pytest.mark.parametrize("size", [1000, 16001, len(RECORDING)])
def test_pieces_have_the_sound_of_their_stretches_whatever_the_blocks(size: int) -> None:
    pieces = cut(size)
    assert sum(piece.stretch.is_speech for piece in pieces) >= 6
    for piece in pieces:
        if piece.stretch.is_speech:
            assert piece.waveform is not None
            assert np.array_equal(piece.waveform, RECORDING[piece.stretch.start : piece.stretch.end])
        else:
            assert piece.waveform is None
    assert [piece.stretch for piece in pieces] == [piece.stretch for piece in cut(4096)]


def test_silence_is_forgotten_and_speech_no_longer_kept_than_a_segment() -> None:
    cutter = make()
    kept = []
    for seed in range(20):
        for part in (hush(40, seed), say(3, seed), hum(12, seed)):
            for start in range(0, len(part), 8000):
                cutter.feed(part[start : start + 8000])
                kept.append(sum(map(len, cutter._blocks)))
    assert max(kept) < 16 * RATE_HZ
    assert min(kept[-30:]) > 0
