"""Where words begin and end in the sound: the network's labels say about when, the sound's level says exactly.

CTC shows a letter in a frame or a few, anywhere within its sound, and the first ones often before the speech begins. So
each word is held by the middles of its first and last letters (or units), moved into the sound where they lie before or
behind it. A pause between the last letter of one word and the first of the next parts the two; else they touch.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word, part_words
from mindaudio_ds2.segmentation.detectors import measure_levels
from mindaudio_ds2.text.tokenizer import Tokenizer

LEVEL_SECONDS = 0.01
"""How fine the sound's level is looked at."""

LEAST_PAUSE_SECONDS = 0.05
"""Shorter dips belong to a word: stops such as T are silent for a moment."""

QUIET_SHARE = 0.2
"""Of the way from the quiet to the loud levels of a recording (dB); what is below is a pause."""

LARGEST_RANGE_DB = 40.0
"""The quiet level is no further below the loud one: digital silence would make a quiet room loud."""

LONGEST_REACH_SECONDS = 0.3
"""A word goes no further beyond the middle of its first or last letter, unless a pause is there."""

LEAST_PROBABILITY = 0.3
"""Frames of a letter that are less sure do not count to its middle."""


class WordPlacer:
    """Moves the words of one network's hypotheses to where the sound has them.

    Args:
        tokenizer: of the network.
        seconds_per_frame: distance between output frames (seconds).
        rate_hz: of the waveforms (Hz).
    """

    def __init__(self, tokenizer: Tokenizer, seconds_per_frame: float, rate_hz: int) -> None:
        self._texts = tokenizer.texts
        self._seconds_per_frame, self._rate_hz = seconds_per_frame, rate_hz

    def place(
        self, hypothesis: Hypothesis, log_probs: NDArray[np.float32], waveform: NDArray[np.float32]
    ) -> Hypothesis:
        """A hypothesis whose words begin and end in the sound.

        Args:
            hypothesis: of the waveform, with a decoder's times.
            log_probs: `(S, V)` natural log probabilities that it was decoded from.
            waveform: `(n,)` float32.

        Returns:
            The same text; words in order, within the waveform, that share no time, each with a duration.
        """
        if not hypothesis.words:
            return hypothesis
        frame = round(LEVEL_SECONDS * self._rate_hz)
        pauses = find_pauses(waveform, frame) * frame / self._rate_hz
        duration = len(waveform) / self._rate_hz
        held = np.array([self._hold(word, log_probs) for word in hypothesis.words])
        first, last = _find_extent(pauses, duration)
        held = np.maximum.accumulate(np.clip(held.reshape(-1), first, last)).reshape(-1, 2)
        first = first or max(0.0, held[0, 0] - LONGEST_REACH_SECONDS)
        last = last if last < duration else min(duration, held[-1, 1] + LONGEST_REACH_SECONDS)
        gaps = [(0.0, first)]
        for one, other in zip(held[:-1], held[1:], strict=True):
            gaps.append(_find_gap(pauses, one, other))
        gaps.append((last, duration))
        words = tuple(
            dataclasses.replace(word, start_seconds=float(before[1]), end_seconds=float(behind[0]))
            for word, before, behind in zip(hypothesis.words, gaps[:-1], gaps[1:], strict=True)
        )
        return dataclasses.replace(hypothesis, words=part_words(words, 0.0, duration))

    def _hold(self, word: Word, log_probs: NDArray[np.float32]) -> tuple[float, float]:
        """The middles of a word's first and last label (seconds)."""
        first = min(round(word.start_seconds / self._seconds_per_frame), len(log_probs) - 1)
        last = max(first, min(round(word.end_seconds / self._seconds_per_frame), len(log_probs)) - 1)
        held, texts = log_probs[first : last + 1], list(enumerate(self._texts))
        begins = [label for label, text in texts if text and word.text.startswith(text)]
        ends = [label for label, text in texts if text and word.text.endswith(text)]
        middles = _find_middle(held, begins), last - first - _find_middle(held[::-1], ends)
        start, end = ((first + middle + 0.5) * self._seconds_per_frame for middle in middles)
        return start, max(start, end)


def find_pauses(waveform: NDArray[np.float32], frame_samples: int) -> NDArray[np.int64]:
    """Where a waveform is quiet for `LEAST_PAUSE_SECONDS` or longer: `(N, 2)`, the first frame and the one behind."""
    levels = measure_levels(waveform, frame_samples)
    loud = float(levels.max())
    quiet = max(float(np.percentile(levels, 5)), loud - LARGEST_RANGE_DB)
    is_quiet = levels < quiet + QUIET_SHARE * (loud - quiet)
    edges = np.flatnonzero(np.diff(is_quiet, prepend=False, append=False)).reshape(-1, 2)
    least = round(LEAST_PAUSE_SECONDS / LEVEL_SECONDS)
    pauses: NDArray[np.int64] = edges[edges[:, 1] - edges[:, 0] >= least]
    return pauses


def _find_middle(log_probs: NDArray[np.float32], labels: list[int]) -> float:
    """The middle of the frames from the first on that show the likeliest of some labels there, counted from there."""
    if not labels:
        return 0.0
    label = max(labels, key=lambda each: log_probs[0, each])
    probabilities = np.exp(log_probs[:, label])
    is_less = probabilities[1:] < LEAST_PROBABILITY
    length = 1 + (int(is_less.argmax()) if is_less.any() else len(is_less))
    weights = probabilities[:length]
    return float(weights @ np.arange(length) / max(float(weights.sum()), 1e-9))


def _find_extent(pauses: NDArray[np.float64], duration: float) -> tuple[float, float]:
    """Where the sound begins and ends: what lies between a pause at the start and one at the end (seconds)."""
    first = float(pauses[0, 1]) if len(pauses) and pauses[0, 0] == 0 else 0.0
    is_last = len(pauses) > 0 and pauses[-1, 1] >= duration - LEVEL_SECONDS and pauses[-1, 0] > first
    return first, float(pauses[-1, 0]) if is_last else duration


def _find_gap(pauses: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """The end of a word and the start of the next (seconds), of which the first and last letters are held."""
    shared = np.minimum(pauses[:, 1], other[0]) - np.maximum(pauses[:, 0], one[1])
    if not len(shared) or shared.max() <= 0:
        middle = (one[1] + other[0]) / 2
        return min(one[1] + LONGEST_REACH_SECONDS, middle), max(other[0] - LONGEST_REACH_SECONDS, middle)
    start, end = pauses[shared.argmax()]
    return max(start, one.mean()), min(end, other.mean())  # each word keeps its middle, so it ends after it begins
