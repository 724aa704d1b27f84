"""Names and phrases to expect: what a beam search gives for them.

A hotword's weight says what it gains over an ordinary word. A language model takes much for words that it has seen
seldom or never, and how much depends on its text; so what it takes for a hotword's word by itself, beyond what it takes
for a word on average, is given back. Words that are frequent get nothing back.

A name that is not spelt as it sounds may say what it sounds like: TIJUANA, TEEWANA. That is looked for, too, and the
name is written in its place.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.errors import LanguageModelError
from mindaudio_ds2.reading import explain_foreign
from mindaudio_ds2.text.tokenizer import Tokenizer

LN10 = math.log(10)

BASE_WEIGHT, WEIGHT_A_LETTER = 4.0, 1.25
"""Of a hotword whose line names no weight (nats). What is misheard in a name grows with its letters, and so does what
speaks against it where it was not said. Chosen on voices, see recipes/english/README.md."""


LARGEST_WEIGHT = 1e6
"""Of a hotword, a language model or a word (nats): heavier ones, added up, would leave what a float can hold."""

MOST_SHOWN = 5
"""Hotwords that an error shows."""


@dataclass(frozen=True)
class Hotword:
    """A name or phrase to expect.

    Attributes:
        text: as it is to be written.
        weight: what it gains over an ordinary word (nats).
        sounds_like: other spellings to look for, each of as many words. Each of their words is written as its word of
            `text`, wherever it is heard.
    """

    text: str
    weight: float
    sounds_like: tuple[str, ...] = ()


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


def read_hotwords(path: Path) -> list[Hotword]:
    """Names and phrases to expect, one a line. A tab and a weight (nats) may follow, else see `choose_weight`; then a
    tab and what it sounds like, with commas between several. # begins a comment.

    Raises:
        LanguageModelError: the file cannot be read, is empty, or a line is not like that.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise LanguageModelError(f"hotwords {path} cannot be read as UTF-8 text: {explain_foreign(path)}") from None
    except OSError as error:
        raise LanguageModelError(f"hotwords {path} cannot be read: {error}; correct the path") from None
    found = parse_hotwords(lines, f"hotwords {path}")
    if not found:
        raise LanguageModelError(f"hotwords {path} holds none; write one a line, or leave out --hotwords")
    return found


def parse_hotwords(lines: Sequence[str], source: str) -> list[Hotword]:
    """Hotwords of lines, as `read_hotwords` has them; `source` names them in errors.

    Raises:
        LanguageModelError: a line is not like that.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        text, weight, sounds, *more = [*line.split("\t"), "", ""]
        if "".join(more).strip():
            raise LanguageModelError(
                f"{source}, line {number}: too many tabs; a line is a hotword, a weight, and what it sounds like"
            )
        try:
            value = float(weight) if weight.strip() else choose_weight(text)
        except ValueError:
            raise LanguageModelError(f"{source}, line {number}: {weight!r} is no weight; give a number") from None
        sounds_like = tuple(sound.strip() for sound in sounds.split(",") if sound.strip())
        found.append(Hotword(text.strip(), value, sounds_like))
    return found


def weigh(hotwords: Sequence[Hotword], model: LanguageModel | None, model_weight: float) -> list[Phrase]:
    """What hotwords are worth to a search, as they are written and as they sound.

    Args:
        hotwords: of `check_hotwords`.
        model: of the search, or None.
        model_weight: of that model.
    """
    weights = {text: word.weight for word in hotwords for text in (word.text, *word.sounds_like)}
    listed = {tuple(text.split()) for text in weights}
    lengths = sorted({len(words) for words in listed})
    phrases = []
    for text, weight in weights.items():
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


def check_hotwords(tokenizer: Tokenizer, hotwords: Sequence[Hotword]) -> list[Hotword]:
    """Hotwords as transcripts are written, in the letter case of the network and with single spaces, each once.

    Raises:
        LanguageModelError: some are empty, hold what no label spells, weigh more than `LARGEST_WEIGHT`, stand there
            twice in different ways, or are to sound like another number of words.
    """
    letters = set("".join(tokenizer.texts)) | {" "}
    checked: dict[str, Hotword] = {}
    foreign: dict[str, set[str]] = {}
    for given in hotwords:
        text, *sounds = map(tokenizer.normalize, (given.text, *given.sounds_like))
        if not text or not abs(given.weight) <= LARGEST_WEIGHT:  # nor is it where the weight is NaN
            raise LanguageModelError(
                f"hotword {given.text!r} with weight {given.weight:g}: it needs letters, and a weight from "
                f"{-LARGEST_WEIGHT:,.0f} to {LARGEST_WEIGHT:,.0f}"
            )
        for spelling in sounds:
            if len(spelling.split()) != len(text.split()):
                raise LanguageModelError(
                    f"hotword {given.text!r} has another number of words than {spelling!r}, which it is to sound "
                    "like; give each of its words one"
                )
        if unknown := set("".join((text, *sounds))) - letters:
            foreign[given.text] = unknown
        word = Hotword(text, given.weight, tuple(sounds))
        if checked.setdefault(text, word) != word:
            raise LanguageModelError(
                f"hotword {text!r} stands there twice, with weights {checked[text].weight:g} and {word.weight:g} or "
                "sounding otherwise; keep one of them, with all that it sounds like"
            )
    if foreign:
        shown = ", ".join(map(repr, list(foreign)[:MOST_SHOWN])) + ", ..." * (len(foreign) > MOST_SHOWN)
        raise LanguageModelError(
            f"{len(foreign)} of {len(hotwords)} hotwords hold what the network has no labels for, "
            f"{sorted(set().union(*foreign.values()))}: {shown}; respell them"
        )
    return list(checked.values())


def find_spellings(hotwords: Sequence[Hotword]) -> dict[str, str]:
    """How each word that a hotword only sounds like is to be written; of `check_hotwords`.

    Raises:
        LanguageModelError: it would be written in two ways.
    """
    written: dict[str, str] = {}
    own = {word for hotword in hotwords for word in hotword.text.split()}
    for hotword in hotwords:
        for sound in hotword.sounds_like:
            for heard, word in zip(sound.split(), hotword.text.split(), strict=True):
                if heard == word:
                    continue
                other = heard if heard in own else written.setdefault(heard, word)
                if other != word:
                    raise LanguageModelError(
                        f"hotwords: {heard!r} is to be written {word!r} and {other!r}; leave one of them out"
                    )
    return written
