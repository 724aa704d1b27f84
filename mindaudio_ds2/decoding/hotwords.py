"""Names and phrases to expect: what a beam search gives for them.

A hotword's weight says what it gains over an ordinary word. A language model takes much for words that it has seen
seldom or never, and how much depends on its text; so what it takes for a hotword's word by itself, beyond what it takes
for a word on average, is given back. Words that are frequent get nothing back.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.errors import LanguageModelError
from mindaudio_ds2.text.tokenizer import Tokenizer

LN10 = math.log(10)

BASE_WEIGHT, WEIGHT_A_LETTER = 4.0, 1.25
"""Of a hotword whose line names no weight (nats). What is misheard in a name grows with its letters, and so does what
speaks against it where it was not said. Chosen on voices, see recipes/english/README.md."""


LARGEST_WEIGHT = 1e6
"""Of a hotword, a language model or a word (nats): heavier ones, added up, would leave what a float can hold."""

MOST_SHOWN = 5
"""Hotwords that an error shows."""


class Phrase(NamedTuple):
    """A hotword as the search takes it (nats).

    Attributes:
        text: words with single spaces.
        worth: once its last word is complete.
        lent: for each byte, what a prefix is given in advance when this one has been spelt.
    """

    text: str
    worth: float
    lent: tuple[float, ...]


def choose_weight(text: str, a_letter: float = WEIGHT_A_LETTER) -> float:
    """The weight of a hotword that comes without one (nats)."""
    return BASE_WEIGHT + a_letter * sum(map(len, text.split()))


def weigh(hotwords: Sequence[tuple[str, float]], model: LanguageModel | None, model_weight: float) -> list[Phrase]:
    """What hotwords are worth to a search.

    Args:
        hotwords: of `check_hotwords`.
        model: of the search, or None.
        model_weight: of that model.
    """
    listed = {tuple(text.split()) for text, _ in hotwords}
    lengths = sorted({len(words) for words in listed})
    phrases = []
    for text, weight in hotwords:
        words = tuple(text.split())
        covered = _find_covered(words, listed, lengths)
        refunds = [0.0 if place in covered else _refund(word, model, model_weight) for place, word in enumerate(words)]
        phrases.append(Phrase(text, weight + sum(refunds), _lend(words, weight, refunds)))
    return phrases


def _find_covered(words: tuple[str, ...], listed: set[tuple[str, ...]], lengths: Sequence[int]) -> set[int]:
    """Places of the words that a shorter hotword within this one holds: they are given back with that one already."""
    covered: set[int] = set()
    for length in lengths:
        for first in range(len(words) - length + 1 if length < len(words) else 0):
            if words[first : first + length] in listed:
                covered.update(range(first, first + length))
    return covered


def _refund(word: str, model: LanguageModel | None, model_weight: float) -> float:
    if model is None or model.scores_labels:
        return 0.0
    refund = model_weight * LN10 * (model.usual_score - model.score_alone(model.find(word)))
    return max(refund, 0.0) if math.isfinite(refund) else 0.0


def _lend(words: Sequence[str], weight: float, refunds: Sequence[float]) -> tuple[float, ...]:
    """The share of the weight that has been spelt, and what is given back for the words that are whole."""
    sizes = [len(word.encode()) + 1 for word in words]  # with the space behind
    num_bytes, given = sum(sizes) - 1, 0.0
    lent: list[float] = []
    for size, refund in zip(sizes, refunds, strict=True):
        for place in range(size):
            given += refund if place == size - 1 else 0.0
            lent.append(weight * (len(lent) + 1) / num_bytes + given)
    return tuple(lent[:num_bytes])


def check_hotwords(tokenizer: Tokenizer, hotwords: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Hotwords as transcripts are written, in the letter case of the network and with single spaces, each once.

    Raises:
        LanguageModelError: some are empty, hold what no label spells, or weigh more than `LARGEST_WEIGHT`.
    """
    letters = set("".join(tokenizer.texts)) | {" "}
    phrases: dict[str, float] = {}
    foreign: dict[str, set[str]] = {}
    for text, weight in hotwords:
        phrase = tokenizer.normalize(text)
        if not phrase or not abs(weight) <= LARGEST_WEIGHT:  # nor is it where the weight is NaN
            raise LanguageModelError(
                f"hotword {text!r} with weight {weight:g}: it needs letters, and a weight from "
                f"{-LARGEST_WEIGHT:,.0f} to {LARGEST_WEIGHT:,.0f}"
            )
        if unknown := set(phrase) - letters:
            foreign[text] = unknown
        phrases[phrase] = weight
    if foreign:
        shown = ", ".join(map(repr, list(foreign)[:MOST_SHOWN])) + ", ..." * (len(foreign) > MOST_SHOWN)
        raise LanguageModelError(
            f"{len(foreign)} of {len(hotwords)} hotwords hold what the network has no labels for, "
            f"{sorted(set().union(*foreign.values()))}: {shown}; respell them"
        )
    return list(phrases.items())
