"""Live sound through a network that needs whole utterances: each is recognised when a pause has ended it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word, part_words
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.segmentation.detectors import CHUNK_FRAMES, FRAME_SECONDS, EnergyDetector
from mindaudio_ds2.segmentation.segmenter import Segmenter, SegmentLimits, Stretch
from mindaudio_ds2.streaming.events import ENDPOINTING, Endpointing, Event, make_event
from mindaudio_ds2.streaming.stream import WaveformStream

OVERLAP_SECONDS = 2.0
"""What two segments share where one has to be cut within speech; each word of it is taken once."""


class SegmentStream:
    """One live stream; the same face as `Stream`, without partials. Memory does not grow with it.

    Args:
        recognize: from the waveform of a segment, (n,) float32 at the network's rate, to its words.
        rate_hz: sample rate of what will come (Hz).
        network_hz: that of the network (Hz).
        endpointing: when utterances end; None for one without end, which is still recognised in segments.

    Attributes:
        latency_seconds: from the end of an utterance until its words, without what computing takes (s).
        is_incremental: False: words come after a pause.
        num_samples: fed so far.

    Raises:
        AudioError: the rate is impossible, or soxr is missing.
    """

    is_incremental = False

    def __init__(
        self,
        recognize: Callable[[NDArray[np.float32]], Hypothesis],
        rate_hz: int,
        network_hz: int,
        endpointing: Endpointing | None,
    ) -> None:
        limits = endpointing or ENDPOINTING
        self.num_samples = 0
        self.latency_seconds = limits.silence_seconds + CHUNK_FRAMES * FRAME_SECONDS
        self._recognize, self._network_hz = recognize, network_hz
        self._has_end = endpointing is not None
        self._waveforms = WaveformStream(rate_hz, network_hz)
        self.rate_hz = self._waveforms.from_hz
        padding = min(0.3, limits.silence_seconds / 3)
        self._segmenter = Segmenter(
            EnergyDetector(network_hz, future_chunks=0),
            SegmentLimits(limits.max_seconds, limits.silence_seconds, padding, OVERLAP_SECONDS),
            network_hz,
        )
        self._kept = np.zeros(0, np.float32)  # what a segment yet to come may hold
        self._kept_from = 0  # its first sample's number
        self._waiting: list[Word] = []  # the last words of a segment that goes on; the next one may know them better
        self._taken_until = 0.0  # end of the last word that is final (s)
        self._overlap_end = 0.0  # end of a segment that goes on (s)
        self._heard_until = 0.0  # end of the last segment (s)
        self._utterance, self._words = 0, list[Word]()  # those of the open utterance
        self._reason = "silence"
        self._is_finished = False

    def feed(self, samples: NDArray[Any]) -> list[Event]:
        """Hear more; see `Stream.feed`."""
        self._require_open()
        waveform = self._waveforms.feed(samples)
        self.num_samples += len(samples)
        return self._hear(waveform, self._segmenter.feed(waveform))

    def finish(self) -> list[Event]:
        """The end of the sound: its last words."""
        self._require_open()
        self._is_finished = True
        waveform = self._waveforms.finish()
        events = self._hear(waveform, self._segmenter.feed(waveform))
        self._reason = "end"
        events += self._hear(np.zeros(0, np.float32), self._segmenter.finish())
        return [*events, *self._settle(self._waiting), *self._end()]

    def _require_open(self) -> None:
        if self._is_finished:
            raise AudioError("this stream is finished; open another with Recognizer.stream()")

    def _hear(self, waveform: NDArray[np.float32], stretches: list[Stretch]) -> list[Event]:
        self._kept = np.concatenate([self._kept, waveform])
        events = [event for stretch in stretches if stretch.is_speech for event in self._hear_segment(stretch)]
        unneeded = self._segmenter.needed_from - self._kept_from
        if unneeded > len(self._kept) // 2:  # seldom, so that no sample is copied often
            self._kept = self._kept[unneeded:].copy()
            self._kept_from += unneeded
        return events

    def _hear_segment(self, stretch: Stretch) -> list[Event]:
        start, end = stretch.start / self._network_hz, stretch.end / self._network_hz
        heard = self._kept[stretch.start - self._kept_from : stretch.end - self._kept_from]
        found = [
            dataclasses.replace(word, start_seconds=word.start_seconds + start, end_seconds=word.end_seconds + start)
            for word in self._recognize(heard).words
        ]
        self._heard_until = end
        events = []
        if self._waiting or start < self._overlap_end:  # as in segmentation.stitching
            middle = (start + self._overlap_end) / 2
            events += self._settle([word for word in self._waiting if _find_middle(word) < middle])
            taken_until = self._taken_until if self._words else middle
            found = [word for word in found if _find_middle(word) >= taken_until]
        self._waiting, self._overlap_end = [], end if stretch.goes_on else 0.0
        if not stretch.goes_on:
            return [*events, *self._settle(found), *(self._end() if self._has_end else [])]
        sure = [word for word in found if _find_middle(word) < end - OVERLAP_SECONDS]
        self._waiting = found[len(sure) :]
        return [*events, *self._settle(sure)]

    def _settle(self, words: list[Word]) -> list[Event]:
        if not words:
            return []
        parted = part_words(words, self._taken_until, self._heard_until)
        self._words += parted
        self._taken_until = parted[-1].end_seconds
        return [make_event("final", self._utterance, parted, 0.0)]

    def _end(self) -> list[Event]:
        if not self._words:
            return []
        event = make_event("endpoint", self._utterance, tuple(self._words), 0.0, self._reason)
        self._words, self._utterance = [], self._utterance + 1
        return [event]


def _find_middle(word: Word) -> float:
    return (word.start_seconds + word.end_seconds) / 2
