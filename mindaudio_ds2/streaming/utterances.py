"""From log-probabilities to events: decoding that goes on, and where utterances end."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.choice import Decoder
from mindaudio_ds2.decoding.hypothesis import Word, part_words
from mindaudio_ds2.streaming.events import Endpointing, Event, make_event
from mindaudio_ds2.text.tokenizer import Tokenizer

STEP_FRAMES = 4
"""Settled words and endpoints are looked for after so many output frames from the first: so no cut moves them."""


class UtteranceStream:
    """Decodes one stream, utterance by utterance.

    After a silence the decoder begins anew. An utterance that is too long ends behind its last whole word, and the
    decoder goes on: no frame is lost or heard twice.

    Args:
        decoder: greedy or beam.
        tokenizer: names the labels.
        seconds_per_frame: distance between output frames (seconds).
        endpointing: when utterances end; None for one without end.
    """

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, seconds_per_frame: float, endpointing: Endpointing | None
    ) -> None:
        self._decoder, self._seconds_per_frame = decoder, seconds_per_frame
        self._is_letter = np.array([bool(text) for text in tokenizer.texts])
        longest = endpointing or Endpointing(np.inf, np.inf)
        self._silence_frames = longest.silence_seconds / seconds_per_frame
        self._max_frames = longest.max_seconds / seconds_per_frame
        self._num_frames = 0
        self._utterance = 0
        self._words: list[Word] = []  # of this utterance, that were final
        self._shown = ""  # the last partial
        self._begin()

    def _begin(self) -> None:
        """Let the decoder begin with the next frame."""
        self._decoding = self._decoder.start()
        self._offset_seconds = self._num_frames * self._seconds_per_frame
        self._speech_start: int | None = None  # frame of the utterance's first letter
        self._num_silent = 0  # frames since the last letter

    def feed(self, log_probs: NDArray[np.float32]) -> list[Event]:
        """Go on with `(S, V)` float32 natural log probabilities; S may be 0."""
        events: list[Event] = []
        while len(log_probs):
            room = STEP_FRAMES - self._num_frames % STEP_FRAMES
            self._hear(log_probs[:room])
            if self._num_frames % STEP_FRAMES == 0:
                events += self._look()
            log_probs = log_probs[room:]
        return events + self._show()

    def finish(self, duration_seconds: float) -> list[Event]:
        """The end of the stream, which lasted so long; no word outlasts it."""
        return self._end("end", duration_seconds)

    def _hear(self, log_probs: NDArray[np.float32]) -> None:
        self._decoding.feed(log_probs)
        letters = np.flatnonzero(self._is_letter[log_probs.argmax(axis=-1)])
        if len(letters):
            if self._speech_start is None:
                self._speech_start = self._num_frames + int(letters[0])
            self._num_silent = len(log_probs) - 1 - int(letters[-1])
        else:
            self._num_silent += len(log_probs)
        self._num_frames += len(log_probs)

    def _look(self) -> list[Event]:
        """What became certain, and whether the utterance ends here."""
        events = self._release(self._decoding.take())
        if self._speech_start is None:
            return events
        if self._num_silent >= self._silence_frames:
            return events + self._end("silence", np.inf)
        if self._num_frames - self._speech_start >= self._max_frames:
            self._decoding.settle()
            events += self._release(self._decoding.take())
            if self._words:
                events += self._close("length")
                self._speech_start = self._num_frames
        return events

    def _end(self, reason: str, limit_seconds: float) -> list[Event]:
        """Finish the decoder, and begin with another."""
        events = self._release(self._decoding.finish()[0].words, limit_seconds)
        events += self._close(reason) if self._words else self._take_back()
        self._begin()
        return events

    def _close(self, reason: str) -> list[Event]:
        closed = make_event("endpoint", self._utterance, tuple(self._words), self._now, reason)
        self._utterance += 1
        self._words, self._shown = [], ""
        return [closed]

    def _release(self, words: tuple[Word, ...], limit_seconds: float = np.inf) -> list[Event]:
        """Words that are final, with times of the stream."""
        if not words:
            return []
        placed = self._place(words, limit_seconds)
        self._words += placed
        self._shown = ""
        return [make_event("final", self._utterance, placed, self._now)]

    def _show(self) -> list[Event]:
        """What may still change, if it is not what was shown last."""
        words = self._place(self._decoding.read()[0].words, np.inf)
        event = make_event("partial", self._utterance, words, self._now)
        if event.text == self._shown:
            return []
        self._shown = event.text
        return [event]

    def _take_back(self) -> list[Event]:
        """Words were shown, and there were none."""
        shown, self._shown = self._shown, ""
        return [make_event("partial", self._utterance, (), self._now)] if shown else []

    @property
    def _now(self) -> float:
        return self._num_frames * self._seconds_per_frame

    def _place(self, words: tuple[Word, ...], limit_seconds: float) -> tuple[Word, ...]:
        offset = self._offset_seconds
        moved = [
            dataclasses.replace(word, start_seconds=word.start_seconds + offset, end_seconds=word.end_seconds + offset)
            for word in words
        ]
        return part_words(moved, self._words[-1].end_seconds if self._words else offset, limit_seconds)
