"""Greedy decoding: the best label of every output frame, repeats collapsed, blanks dropped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.text.alphabet import Alphabet


@dataclass(frozen=True, slots=True)
class _Run:
    """Equal labels in a row: `label` in the frames from `first` up to, not with, `end`."""

    label: int
    first: int
    end: int


def decode_greedy(
    log_probs: NDArray[np.float32], lengths: NDArray[np.int32], alphabet: Alphabet, seconds_per_frame: float
) -> list[Hypothesis]:
    """Decode a batch along its best paths.

    Args:
        log_probs: `(B, S, V)` float32 natural log probabilities. Frames beyond a length are never read.
        lengths: `(B,)` integer valid output frames.
        alphabet: names the labels and the blank.
        seconds_per_frame: distance between output frames (seconds).

    Returns:
        B hypotheses, in the order of the batch. A frame whose labels are equally likely takes the lowest id.
    """
    assert log_probs.shape[2:] == (alphabet.size,), f"expected (B, S, {alphabet.size}), found {log_probs.shape}"
    assert lengths.shape == log_probs.shape[:1], f"{len(log_probs)} utterances with {lengths.shape} lengths"
    assert (lengths <= log_probs.shape[1]).all(), f"lengths {lengths} exceed {log_probs.shape[1]} frames"
    return [
        _decode_one(utterance[:length], alphabet, seconds_per_frame)
        for utterance, length in zip(log_probs, lengths, strict=True)
    ]


def _decode_one(log_probs: NDArray[np.float32], alphabet: Alphabet, seconds_per_frame: float) -> Hypothesis:
    peaks = log_probs.max(axis=-1)
    score = float(peaks.sum(dtype=np.float64))
    runs = [run for run in _find_runs(log_probs.argmax(axis=-1)) if run.label != alphabet.blank_id]
    words = tuple(
        Word(
            alphabet.decode(run.label for run in group),
            group[0].first * seconds_per_frame,
            group[-1].end * seconds_per_frame,
            math.exp(sum(float(peaks[run.first : run.end].max()) for run in group) / len(group)),
        )
        for group in _split_at_spaces(runs, alphabet)
    )
    return Hypothesis(" ".join(word.text for word in words), score, words)


def _find_runs(path: NDArray[np.intp]) -> list[_Run]:
    """Collapse repeats in a path `(S,)` of labels."""
    if len(path) == 0:
        return []
    starts = [0, *(np.flatnonzero(np.diff(path)) + 1)]
    ends = [*starts[1:], len(path)]
    return [_Run(int(path[first]), int(first), int(end)) for first, end in zip(starts, ends, strict=True)]


def _split_at_spaces(runs: Sequence[_Run], alphabet: Alphabet) -> list[list[_Run]]:
    """The runs of each word; spaces at the ends and side by side make no word."""
    words: list[list[_Run]] = [[]]
    for run in runs:
        if alphabet.decode([run.label]) == " ":
            words.append([])
        else:
            words[-1].append(run)
    return [word for word in words if word]


class GreedyDecoder:
    """Greedy decoding as any other decoder: an utterance at a time, whole or in chunks.

    Args:
        alphabet: names the labels and the blank.
        seconds_per_frame: distance between output frames (seconds).
    """

    def __init__(self, alphabet: Alphabet, seconds_per_frame: float) -> None:
        self.alphabet, self.seconds_per_frame = alphabet, seconds_per_frame

    def decode(self, log_probs: NDArray[np.float32]) -> list[Hypothesis]:
        """The best path of `(S, V)` float32 natural log probabilities, as the only hypothesis."""
        return [_decode_one(log_probs, self.alphabet, self.seconds_per_frame)]

    def start(self) -> "GreedyStream":
        """A new utterance, to be fed in chunks."""
        return GreedyStream(self)


class GreedyStream:
    """An utterance on its way to a `GreedyDecoder`."""

    def __init__(self, decoder: GreedyDecoder) -> None:
        self._decoder = decoder
        self._chunks: list[NDArray[np.float32]] = []

    def feed(self, log_probs: NDArray[np.float32]) -> None:
        """Go on with `(S, V)` float32 natural log probabilities."""
        self._chunks.append(log_probs)

    def finish(self) -> list[Hypothesis]:
        """What was said, as the only hypothesis."""
        empty = np.zeros((0, self._decoder.alphabet.size), np.float32)
        return self._decoder.decode(np.concatenate([empty, *self._chunks]))
