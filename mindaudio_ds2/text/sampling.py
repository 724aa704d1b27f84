"""Other ways to split words into units than the likeliest: subword regularisation (Kudo 2018, arXiv:1804.10959)."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mindaudio_ds2.network_config import WORD_START
from mindaudio_ds2.text.units import MOST_REMEMBERED


class Ways(NamedTuple):
    """How the units that end at a place of a word may begin: where, and the rising sums of their probabilities."""

    starts: list[int]
    sums: list[float]


class SplitSampler:
    """Draws splits of text, each with its probability to a power, among all that there are.

    Args:
        units: all of them; single characters among them.
        scores: their log-probabilities (nats).
        smoothness: the power; 1 draws as the units' model has it, and the less it is, the more alike all ways are.
    """

    def __init__(self, units: Sequence[str], scores: Sequence[float], smoothness: float) -> None:
        self._scores = {unit: smoothness * score for unit, score in zip(units, scores, strict=True)}
        self._longest = max(map(len, units))
        self._ways: dict[str, list[Ways]] = {}  # of words that came before

    def split(self, text: str, generator: np.random.Generator) -> list[str]:
        """Units of a text of known characters, whose words are parted by single spaces."""
        return [unit for word in text.split() for unit in self._draw(WORD_START + word, generator)]

    def _draw(self, word: str, generator: np.random.Generator) -> list[str]:
        """From the end of the word to its beginning."""
        if word not in self._ways:
            if len(self._ways) >= MOST_REMEMBERED:
                self._ways.clear()
            self._ways[word] = self._find_ways(word)
        ways, units, end = self._ways[word], [], len(word)
        while end:
            starts, sums = ways[end - 1]
            start = starts[min(bisect_right(sums, generator.random()), len(starts) - 1)]
            units.append(word[start:end])
            end = start
        return units[::-1]

    def _find_ways(self, word: str) -> list[Ways]:
        """For each place but the first, by the sums over all splits of what stands before it."""
        totals, ways = [0.0], []
        for end in range(1, len(word) + 1):
            starts = [start for start in range(max(0, end - self._longest), end) if word[start:end] in self._scores]
            terms = [totals[start] + self._scores[word[start:end]] for start in starts]
            most = max(terms)
            totals.append(most + math.log(sum(math.exp(term - most) for term in terms)))
            ways.append(Ways(starts, list(itertools.accumulate(math.exp(term - totals[end]) for term in terms))))
        return ways


def split_into_characters(text: str) -> list[str]:
    """The split of the most units: each character alone, and so the start of each word."""
    return [symbol for word in text.split() for symbol in WORD_START + word]
