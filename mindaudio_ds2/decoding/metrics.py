"""Errors counted in integers, so that counts of any shards add up to the whole; rates are divided last."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jiwer

from mindaudio_ds2.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Errors of one or many utterances. Add them with `+`, starting from `ErrorCounts()`.

    Attributes:
        num_utterances: utterances counted.
        num_words: words in the references.
        substitutions: words that stand for another word of the reference.
        deletions: words of the reference that are missing.
        insertions: words that the reference does not have.
        num_characters: characters in the references, spaces between words included.
        character_errors: substituted, deleted and inserted characters.
    """

    num_utterances: int = 0
    num_words: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    num_characters: int = 0
    character_errors: int = 0

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        """The counts of both together."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return ErrorCounts(*(mine + theirs for mine, theirs in pairs))

    @property
    def word_errors(self) -> int:
        """Substitutions, deletions and insertions of words."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Word error rate, a fraction that can exceed 1; NaN where the references have no words."""
        return self.word_errors / self.num_words if self.num_words else math.nan

    @property
    def cer(self) -> float:
        """Character error rate, a fraction that can exceed 1; NaN where the references have no characters."""
        return self.character_errors / self.num_characters if self.num_characters else math.nan


NORMALIZATIONS: dict[str, Callable[[], jiwer.AbstractTransform]] = {
    "quotes": lambda: jiwer.SubstituteRegexes({"[\u2018\u2019\u201b\u02bc\u00b4`]": "'", "[\u201c-\u201f]": '"'}),
    "zero_width": lambda: jiwer.SubstituteRegexes({"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]": ""}),
    "case": jiwer.ToLowerCase,
    "punctuation": jiwer.RemovePunctuation,
}
"""What may be made alike before words are compared, in this order, by jiwer. `quotes`: curly ones straight.
`punctuation` leaves out all that Unicode calls so, apostrophes and hyphens too: don't is dont."""


@dataclass(frozen=True)
class Normalizer:
    """What is done to references and hypotheses before they are compared.

    Attributes:
        kinds: keys of `NORMALIZATIONS`, in its order.

    Raises:
        ConfigError: an unknown one.
    """

    kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, kinds: Iterable[str]) -> "Normalizer":
        """From keys in any order; `all` stands for all of them."""
        wanted = set(kinds)
        if unknown := sorted(wanted - NORMALIZATIONS.keys() - {"all"}):
            raise ConfigError(f"--normalize {' '.join(unknown)} is unknown; choose of {', '.join(NORMALIZATIONS)}, all")
        return cls(tuple(kind for kind in NORMALIZATIONS if kind in wanted or "all" in wanted))

    @cached_property
    def _transform(self) -> jiwer.Compose:
        steps = [NORMALIZATIONS[kind]() for kind in self.kinds]
        return jiwer.Compose([*steps, jiwer.RemoveMultipleSpaces(), jiwer.Strip()])

    def __call__(self, text: str) -> str:
        """The text as it is compared."""
        return str(self._transform(text)) if self.kinds else text


UNCHANGED = Normalizer()
"""Texts are compared as they are."""


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """One place of an alignment: equal words, a substitution, or a word on one side only.

    Attributes:
        reference: the word of the reference, or None for an insertion.
        hypothesis: the word of the hypothesis, or None for a deletion.
    """

    reference: str | None
    hypothesis: str | None


def count_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Compare one utterance with its reference by the least number of edits (Levenshtein).

    White space counts as one space between words, and not at all at the ends. Nothing else is changed: the caller
    brings both texts to the same letter case.

    Args:
        reference: what was said.
        hypothesis: what was recognised.

    Returns:
        The counts of this utterance. An empty reference counts every word and character as inserted.
    """
    reference, hypothesis = " ".join(reference.split()), " ".join(hypothesis.split())
    num_words, num_characters = len(reference.split()), len(reference)
    if not reference:  # jiwer takes no empty reference for words
        return ErrorCounts(1, insertions=len(hypothesis.split()), character_errors=len(hypothesis))
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    character_errors = characters.substitutions + characters.deletions + characters.insertions
    return ErrorCounts(
        1, num_words, words.substitutions, words.deletions, words.insertions, num_characters, character_errors
    )


def align_words(reference: str, hypothesis: str) -> list[AlignedWord]:
    """Set a hypothesis beside its reference, word by word, with the edits that `count_errors` counts.

    Args:
        reference: what was said.
        hypothesis: what was recognised.

    Returns:
        The places in order. Without those whose hypothesis is None, the hypothesis; likewise the reference.
    """
    said, recognised = reference.split(), hypothesis.split()
    if not said:
        return [AlignedWord(None, word) for word in recognised]
    aligned = []
    for chunk in jiwer.process_words(" ".join(said), " ".join(recognised)).alignments[0]:
        left: list[str | None] = [*said[chunk.ref_start_idx : chunk.ref_end_idx]]
        right: list[str | None] = [*recognised[chunk.hyp_start_idx : chunk.hyp_end_idx]]
        length = max(len(left), len(right))
        left += [None] * (length - len(left))
        right += [None] * (length - len(right))
        aligned += [AlignedWord(*pair) for pair in zip(left, right, strict=True)]
    return aligned


def set_below(alignment: Sequence[AlignedWord]) -> tuple[str, str]:
    """Reference and hypothesis as lines of equal columns, with * where a word is missing."""
    pairs = [(word.reference or "*", word.hypothesis or "*") for word in alignment]
    widths = [max(len(reference), len(hypothesis)) for reference, hypothesis in pairs]
    reference = " ".join(left.ljust(width) for (left, _), width in zip(pairs, widths, strict=True))
    hypothesis = " ".join(right.ljust(width) for (_, right), width in zip(pairs, widths, strict=True))
    return f"ref {reference.rstrip()}", f"hyp {hypothesis.rstrip()}"
