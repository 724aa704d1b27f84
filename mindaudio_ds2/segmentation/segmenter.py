"""Where a long recording is cut: in its silences, and where it has none, where it resembles speech least."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.segmentation.detectors import CHUNK_FRAMES, Detector

CUT_SECONDS = 0.2
"""A place to cut is judged by the mean score of so much sound around it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording.

    Attributes:
        start: its first sample.
        end: the sample behind its last.
        is_speech: whether it is a segment to be recognised, else a silence.
        goes_on: whether it was cut for its length, so that the next segment goes on where it ends, or before.
    """

    start: int
    end: int
    is_speech: bool
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """What segments may be like.

    Attributes:
        max_seconds: no segment is longer; what the network has learnt (s).
        silence_seconds: shorter silences end no segment (s).
        padding_seconds: silence kept at each side of speech (s).
        overlap_seconds: what two segments share where speech had to be cut, at most a quarter of `max_seconds` (s).
    """

    max_seconds: float
    silence_seconds: float = 0.8
    padding_seconds: float = 0.3
    overlap_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not self.max_seconds >= 1:
            raise ConfigError(f"segments must be allowed at least 1 s, found {self.max_seconds:g}")
        if not 0 <= 2 * self.padding_seconds < self.silence_seconds:
            raise ConfigError(
                f"a silence of {self.silence_seconds:g} s must exceed twice the padding of {self.padding_seconds:g} s"
            )
        if not self.overlap_seconds >= 0:
            raise ConfigError(f"segments cannot overlap by {self.overlap_seconds:g} s")


class Segmenter:
    """Takes a recording in blocks of any size and gives its stretches, in order and as early as they are certain.

    Every sample is in a stretch. Neighbours touch; segments cut within speech overlap. The result does not depend on
    the blocks, and memory not on the recording's length.

    Args:
        detector: fresh, of the same rate.
        limits: of segments.
        sample_rate_hz: of the sound (Hz).
    """

    def __init__(self, detector: Detector, limits: SegmentLimits, sample_rate_hz: int) -> None:
        self._detector = detector
        self._frame = detector.frame_samples
        frames_per_second = sample_rate_hz / self._frame
        self._max = int(limits.max_seconds * frames_per_second)
        self._silence = round(limits.silence_seconds * frames_per_second)
        self._padding = round(limits.padding_seconds * frames_per_second)
        self._half_overlap = int(min(limits.overlap_seconds, limits.max_seconds / 4) * frames_per_second / 2)
        self._window = max(1, round(CUT_SECONDS * frames_per_second))
        self._rest = np.zeros(0, np.float32)
        self._num_samples = 0  # taken
        self._num_frames = 0  # judged
        self._scores = np.zeros(0)  # of the last frames that were judged: of the open segment
        self._is_on = False
        self._start = 0  # frame where the open stretch begins
        self._speech_end: int | None = None  # frame behind the open segment's last speech; None in silence

    def feed(self, block: NDArray[np.float32]) -> list[Stretch]:
        """Take the next `(n,)` float32 samples; returns the stretches that are certain now."""
        self._num_samples += len(block)
        samples = np.concatenate([self._rest, block])
        size = CHUNK_FRAMES * self._frame
        num_whole = len(samples) // size
        self._rest = samples[num_whole * size :].copy()
        stretches: list[Stretch] = []
        for number in range(num_whole):
            stretches += self._judge(self._detector.feed(samples[number * size : (number + 1) * size]))
        return stretches

    def finish(self) -> list[Stretch]:
        """The stretches up to the end. Nothing can be fed afterwards."""
        stretches: list[Stretch] = []
        if len(self._rest):
            stretches += self._judge(self._detector.feed(self._rest))
        stretches += self._judge(self._detector.finish())
        if self._speech_end is not None:
            stretches += self._close()
        if self._start * self._frame < self._num_samples:
            stretches.append(self._make(self._start, self._num_frames, is_speech=False))
        return stretches

    @property
    def needed_from(self) -> int:
        """The first sample that a segment yet to come may hold."""
        is_open = self._speech_end is not None
        frame = self._start if is_open else max(self._start, self._num_frames - self._padding)
        return min(frame * self._frame, self._num_samples)

    def _judge(self, scores: NDArray[np.float64]) -> list[Stretch]:
        """Go on by some frames."""
        if not len(scores):
            return []
        first = self._num_frames
        self._num_frames += len(scores)
        self._scores = np.concatenate([self._scores, scores])
        is_speech = self._find_speech(scores)
        edges = np.flatnonzero(np.diff(is_speech, prepend=False, append=False)) + first
        stretches: list[Stretch] = []
        for start, end in edges.reshape(-1, 2).tolist():
            stretches += self._close_before(start)
            stretches += self._take_speech(start, end)
        stretches += self._close_before(self._num_frames)
        self._scores = self._scores[-max(1, self._num_frames - self._start if self._speech_end else 1) :]
        return stretches

    def _find_speech(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which frames are speech: from `on` upwards, and what follows it until it falls below `off`."""
        turns = np.flatnonzero((scores >= self._detector.on) | (scores < self._detector.off))
        places = np.searchsorted(turns, np.arange(len(scores)), side="right") - 1  # the latest turn of each frame
        states = np.append(scores[turns] >= self._detector.on, self._is_on)  # place -1: no turn yet
        is_speech: NDArray[np.bool_] = states[places]
        self._is_on = bool(is_speech[-1])
        return is_speech

    def _close_before(self, frame: int) -> list[Stretch]:
        """End the open segment if silence has lasted long enough."""
        if self._speech_end is not None and frame - self._speech_end >= self._silence:
            return self._close()
        return []

    def _close(self) -> list[Stretch]:
        assert self._speech_end is not None
        end = min(self._speech_end + self._padding, self._start + self._max, self._num_frames)
        segment = self._make(self._start, end, is_speech=True)
        self._start, self._speech_end = end, None
        return [segment]

    def _take_speech(self, start: int, end: int) -> list[Stretch]:
        """Open a segment at speech, or lengthen it, and cut off what would be too long."""
        stretches: list[Stretch] = []
        if self._speech_end is None:
            begin = max(self._start, start - self._padding)
            if begin > self._start:
                stretches.append(self._make(self._start, begin, is_speech=False))
            self._start = begin
        self._speech_end = end
        while end - self._start > self._max:
            place, is_pause = self._find_cut()
            half = 0 if is_pause else self._half_overlap
            stretches.append(self._make(self._start, place + half, is_speech=True, goes_on=True))
            self._start = place - half
        return stretches

    def _find_cut(self) -> tuple[int, bool]:
        """The frame in a longest segment's later half around which scores are lowest, and whether it is a pause."""
        first, last = self._start + self._max // 2, self._start + self._max - self._half_overlap
        offset = self._num_frames - len(self._scores)
        half = self._window // 2
        scores = self._scores[first - half - offset : last + half + 1 - offset]
        sums = np.cumsum(np.concatenate([[0.0], scores]))
        means = (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)
        place = int(means.argmin())
        return first + place, bool((scores[place : place + 2 * half + 1] < self._detector.off).all())

    def _make(self, start: int, end: int, is_speech: bool, goes_on: bool = False) -> Stretch:
        return Stretch(start * self._frame, min(end * self._frame, self._num_samples), is_speech, goes_on)


def segment(blocks: Iterable[NDArray[np.float32]], segmenter: Segmenter) -> Iterator[Stretch]:
    """All stretches of a recording that comes in blocks; see `Segmenter`."""
    for block in blocks:
        yield from segmenter.feed(block)
    yield from segmenter.finish()
