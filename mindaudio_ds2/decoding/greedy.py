"""Greedy decoding: the best label of every output frame, repeats collapsed, blanks dropped."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.text.tokenizer import Tokenizer


@dataclass(slots=True)
class _Run:
    """Equal labels in a row: `label` in the frames from `first` up to, not with, `end`; the best log probability."""

    label: int
    first: int
    end: int
    peak: float


def decode_greedy(
    log_probs: NDArray[np.float32], lengths: NDArray[np.int32], tokenizer: Tokenizer, seconds_per_frame: float
) -> list[Hypothesis]:
    """Decode a batch along its best paths.

    Args:
        log_probs: `(B, S, V)` float32 natural log probabilities. Frames beyond a length are never read.
        lengths: `(B,)` integer valid output frames.
        tokenizer: names the labels and the blank.
        seconds_per_frame: distance between output frames (seconds).

    Returns:
        B hypotheses, in the order of the batch. A frame whose labels are equally likely takes the lowest id.
    """
    assert log_probs.shape[2:] == (tokenizer.size,), f"expected (B, S, {tokenizer.size}), found {log_probs.shape}"
    assert lengths.shape == log_probs.shape[:1], f"{len(log_probs)} utterances with {lengths.shape} lengths"
    assert (lengths <= log_probs.shape[1]).all(), f"lengths {lengths} exceed {log_probs.shape[1]} frames"
    decoder = GreedyDecoder(tokenizer, seconds_per_frame)
    return [decoder.decode(utterance[:length])[0] for utterance, length in zip(log_probs, lengths, strict=True)]


class GreedyDecoder:
    """Greedy decoding as any other decoder: an utterance at a time, whole or in chunks.

    Args:
        tokenizer: names the labels and the blank.
        seconds_per_frame: distance between output frames (seconds).
    """

    def __init__(self, tokenizer: Tokenizer, seconds_per_frame: float) -> None:
        self.tokenizer, self.seconds_per_frame = tokenizer, seconds_per_frame

    def decode(self, log_probs: NDArray[np.float32]) -> list[Hypothesis]:
        """The best path of `(S, V)` float32 natural log probabilities, as the only hypothesis."""
        stream = self.start()
        stream.feed(log_probs)
        return stream.finish()

    def start(self) -> "GreedyStream":
        """A new utterance, to be fed in chunks."""
        return GreedyStream(self.tokenizer, self.seconds_per_frame)


class GreedyStream:
    """An utterance on its way; made by `GreedyDecoder.start`. It remembers words, and no frames."""

    def __init__(self, tokenizer: Tokenizer, seconds_per_frame: float) -> None:
        self._tokenizer, self._seconds_per_frame = tokenizer, seconds_per_frame
        self._num_frames, self._score = 0, 0.0
        self._last_label = tokenizer.blank_id
        self._runs: list[_Run] = []  # of the word begun
        self._words: list[Word] = []

    def feed(self, log_probs: NDArray[np.float32]) -> None:
        """Go on with `(S, V)` float32 natural log probabilities; S may be 0."""
        path, peaks = log_probs.argmax(axis=-1), log_probs.max(axis=-1)
        self._score += float(peaks.sum(dtype=np.float64))
        starts = np.flatnonzero(np.diff(path, prepend=-1))
        for first, end in zip(starts, np.append(starts, len(path))[1:], strict=True):
            peak = float(peaks[first:end].max())
            self._add(_Run(int(path[first]), self._num_frames + int(first), self._num_frames + int(end), peak))
        self._num_frames += len(path)

    def _add(self, run: _Run) -> None:
        """Starts of words end those before, which may hold nothing yet; blanks drop, repeats collapse."""
        is_repeat, self._last_label = run.label == self._last_label, run.label
        has_text = bool(self._tokenizer.texts[run.label])
        if is_repeat and has_text:
            self._runs[-1].end = run.end
            self._runs[-1].peak = max(self._runs[-1].peak, run.peak)
            return
        if self._tokenizer.starts_word(run.label):
            self._words += self._spell()
            self._runs = []
        if has_text:
            self._runs.append(run)

    def _spell(self) -> list[Word]:
        """The word begun, if there is one."""
        runs, seconds = self._runs, self._seconds_per_frame
        if not runs:
            return []
        text = "".join(self._tokenizer.texts[run.label] for run in runs)
        confidence = math.exp(sum(run.peak for run in runs) / len(runs))
        return [Word(text, runs[0].first * seconds, runs[-1].end * seconds, confidence)]

    def settle(self) -> None:
        """Decide for the best hypothesis up to its last whole word; there is no other."""

    def take(self) -> tuple[Word, ...]:
        """The words that nothing can change any more, each once; `read` and `finish` no longer have them."""
        words, self._words = tuple(self._words), []
        return words

    def read(self) -> list[Hypothesis]:
        """What has been recognised so far, as the only hypothesis; the last word may be unfinished."""
        words = (*self._words, *self._spell())
        return [Hypothesis(" ".join(word.text for word in words), self._score, words)]

    def finish(self) -> list[Hypothesis]:
        """What was said, as the only hypothesis."""
        return self.read()
