"""Which words and characters go wrong, for whom, and how sure the error rates are."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.decoding.metrics import AlignedWord, align_words
from mindaudio_ds2.reporting.run_folder import ScoredLine

NUM_RESAMPLES = 2000
NORMAL_95 = 1.959964  # standard deviations that 95 % of a normal distribution lie within
SPACE = "␣"


@dataclass
class Mistakes:
    """What became of each item that was said; an item is a word, or a character.

    Attributes:
        said: how often each item was said.
        recognised: for each item that was ever wrong, how often it was recognised as what; None where it was lost.
        inserted: items that nobody said.
    """

    said: Counter[str] = field(default_factory=Counter)
    recognised: dict[str, Counter[str | None]] = field(default_factory=dict)
    inserted: Counter[str] = field(default_factory=Counter)

    @property
    def num_lost(self) -> int:
        """Items that were said and have nothing in their place."""
        return sum(counts[None] for counts in self.recognised.values())

    @property
    def num_confused(self) -> int:
        """Items that were said and have another in their place."""
        return sum(counts.total() for counts in self.recognised.values()) - self.num_lost

    def rank(self) -> list[tuple[str, int]]:
        """Items with how often they were wrong, the worst first."""
        wrong = [(item, counts.total()) for item, counts in self.recognised.items()]
        return sorted(wrong, key=lambda pair: (-pair[1], pair[0]))


def count_mistakes(alignments: Iterable[Sequence[AlignedWord]]) -> Mistakes:
    """Count over aligned utterances; an edit is counted once, so that sums are those of the error rates."""
    mistakes = Mistakes()
    for place in (place for alignment in alignments for place in alignment):
        if place.reference is None:
            assert place.hypothesis is not None
            mistakes.inserted[place.hypothesis] += 1
            continue
        mistakes.said[place.reference] += 1
        if place.hypothesis != place.reference:
            mistakes.recognised.setdefault(place.reference, Counter())[place.hypothesis] += 1
    return mistakes


def align_characters(reference: str, hypothesis: str) -> list[AlignedWord]:
    """`align_words` of single characters; a space between words is shown as `SPACE`."""
    return align_words(*(" ".join(" ".join(text.split()).replace(" ", SPACE)) for text in (reference, hypothesis)))


def estimate_interval(lines: Sequence[ScoredLine], seed: int = 0) -> tuple[float, float]:
    """Where the word error rate of another sample of as many such utterances would lie 95 times of 100.

    Percentiles of `NUM_RESAMPLES` samples of utterances with replacement (Bisani and Ney 2004), which know that words
    of an utterance go wrong together, but nothing of what no utterance shows: where all are right, or all are wrong,
    every sample is the same. So the interval is at least Wilson's (1927) for as many independent words. Utterances of
    one speaker are more alike than those of many, so that for a corpus of few speakers the truth is wider.

    Args:
        lines: at least one with a word.
        seed: of the draws.

    Returns:
        Lower and upper end, fractions.
    """
    errors = np.array([line.word_errors for line in lines])
    words = np.array([line.num_words for line in lines])
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(lines), np.full(len(lines), 1 / len(lines)), size=NUM_RESAMPLES)
    rates: NDArray[np.float64] = (weights @ errors) / np.maximum(weights @ words, 1)
    low, high = np.percentile(rates, [2.5, 97.5])
    least, most = _find_wilson_interval(int(errors.sum()), int(words.sum()))
    return min(float(low), least), max(float(high), most)


def _find_wilson_interval(num_errors: int, num_words: int) -> tuple[float, float]:
    """Wilson's score interval of a share; where insertions make errors more than words, of as many places as errors."""
    num_places = max(num_words, num_errors)
    share, square = num_errors / num_places, NORMAL_95**2
    middle = (share + square / (2 * num_places)) / (1 + square / num_places)
    half = math.sqrt(share * (1 - share) / num_places + square / (4 * num_places**2)) * NORMAL_95
    half /= 1 + square / num_places
    return max(0.0, middle - half) * num_places / num_words, (middle + half) * num_places / num_words


@dataclass
class SpeakerErrors:
    """Sums over the utterances of one speaker."""

    num_utterances: int = 0
    num_words: int = 0
    word_errors: int = 0
    num_characters: int = 0
    character_errors: int = 0


def sum_by_speaker(lines: Iterable[ScoredLine], utterances: Mapping[str, Utterance]) -> dict[str, SpeakerErrors]:
    """Errors of each speaker whom the manifest names; those of all others stand under the empty name."""
    sums: dict[str, SpeakerErrors] = {}
    for line in lines:
        utterance = utterances.get(line.id)
        errors = sums.setdefault(utterance.speaker if utterance else "", SpeakerErrors())
        errors.num_utterances += 1
        errors.num_words += line.num_words
        errors.word_errors += line.word_errors
        errors.num_characters += line.num_characters
        errors.character_errors += line.character_errors
    return sums


def rank_worst(lines: Iterable[ScoredLine]) -> list[ScoredLine]:
    """Utterances with any error, most word errors first, then most character errors."""
    wrong = [line for line in lines if line.word_errors or line.character_errors]
    return sorted(wrong, key=lambda line: (-line.word_errors, -line.character_errors))
