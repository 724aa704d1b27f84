"""The sound of pieces, and how much of it is kept."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.segmentation.cutting import Cutter, Piece, holds_nothing, keep_whole
from mindaudio_ds2.segmentation.detectors import EnergyDetector
from mindaudio_ds2.segmentation.segmenter import Segmenter, SegmentLimits, Stretch
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


def test_only_samples_that_are_all_the_same_hold_nothing() -> None:
    zeros = np.zeros(1000, np.float32)
    one = zeros.copy()
    one[500] = 2**-15  # the least that a 16-bit file can say
    assert holds_nothing(zeros)
    assert holds_nothing(zeros + np.float32(0.25))
    assert not holds_nothing(one)
    silence = keep_whole(zeros, 16000)
    assert (silence.stretch, silence.waveform) == (Stretch(0, 1000, is_speech=False), None)
    assert keep_whole(one, 16000).waveform is one


def test_a_segment_that_holds_nothing_is_a_silence_whatever_its_detector_says() -> None:
    class Deaf(EnergyDetector):
        def feed(self, chunk: NDArray[np.float32]) -> NDArray[np.float64]:
            return super().feed(chunk) + 100

    cutter = Cutter(Segmenter(Deaf(RATE_HZ, 0), SegmentLimits(6.0), RATE_HZ))
    pieces = cutter.feed(np.zeros(20 * RATE_HZ, np.float32)) + cutter.finish()
    assert pieces
    assert not any(piece.stretch.is_speech or piece.waveform is not None for piece in pieces)
