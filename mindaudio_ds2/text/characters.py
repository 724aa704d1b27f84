"""The characters of a corpus's transcripts: which alphabet it needs, and what in it looks like a mistake."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer

LetterCase = Literal["upper", "lower", "keep"]
"""As in `TextConfig`."""

RARE_COUNT = 5
"""A character heard less often than this is rather a slip of the pen than learnt."""

MANY_CHARACTERS = 200
"""More than the characters of any language that is written with letters."""

SPOKEN_MARKS = "'-"
"""Punctuation that many languages write within words."""

MAX_LISTED = 20


def count_characters(transcripts: Iterable[str], letter_case: LetterCase) -> Counter[str]:
    """How often each character stands in transcripts, as a `Tokenizer` with this letter case sees them.

    The sorted keys, joined, are an alphabet that holds them all: letters that the letter case never leaves are not
    among them, nor is white space but the single space.

    Args:
        transcripts: what is said.
        letter_case: what is done to letters first.
    """
    tokenizer = _make_tokenizer(letter_case)
    counts: Counter[str] = Counter()
    for transcript in transcripts:
        counts.update(tokenizer.normalize(transcript))
    return counts


def _make_tokenizer(letter_case: LetterCase) -> Tokenizer:
    """For its `normalize` only."""
    return Tokenizer(TextConfig(" ", "first", letter_case, "error"))


def name_character(character: str) -> str:
    """A character as a person can find it: itself where it can be seen, its code point and its Unicode name."""
    is_visible = unicodedata.category(character)[0] in "LNPS"
    shown = f"{character} " if is_visible else ""
    return f"{shown}U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"


def describe_unwritable(counts: Mapping[str, int], what: str) -> str:
    """Characters of references that a network has no label for, as a sentence; empty where there are none.

    Args:
        counts: how often each comes, of `Tokenizer.count_unknown`.
        what: whose references, as the beginning of the sentence.
    """
    if not counts:
        return ""
    listed = ", ".join(f"{character!r} {count} x" for character, count in list(counts.items())[:MAX_LISTED])
    more = f" and {len(counts) - MAX_LISTED} others" if len(counts) > MAX_LISTED else ""
    return f"{what} hold characters that this network cannot write, each an error: {listed}{more}"


def find_doubts(train: Sequence[str], held_out: Sequence[str], letter_case: LetterCase) -> list[str]:
    """What in an alphabet made from transcripts looks like a mistake, or is more than a network can learn.

    Args:
        train: transcripts that the alphabet is made from.
        held_out: those of dev and test.
        letter_case: what is done to letters first.

    Returns:
        A message each.
    """
    counts = count_characters(train, letter_case)
    return [
        *_find_rare(counts, train, letter_case),
        *_find_absent(counts, count_characters(held_out, letter_case)),
        *_find_unheard(counts),
        *_find_case_mistakes(counts, train, letter_case),
        *_find_other_scripts(counts),
    ]


def _find_rare(counts: Counter[str], train: Sequence[str], letter_case: LetterCase) -> list[str]:
    rare = sorted((c for c in counts if counts[c] < RARE_COUNT), key=lambda c: (counts[c], c))
    if not rare:
        return []
    tokenizer = _make_tokenizer(letter_case)
    examples: dict[str, str] = {}
    for transcript in train:
        examples.update(dict.fromkeys(set(rare).intersection(tokenizer.normalize(transcript)), transcript))
    listed = [f"{name_character(c)}: {counts[c]} times, as in {examples[c][:60]!r}" for c in rare[:MAX_LISTED]]
    return [f"Stands less than {RARE_COUNT} times in train; a slip?{_indent(listed, len(rare))}"]


def _find_absent(counts: Counter[str], held_out: Counter[str]) -> list[str]:
    absent = sorted(held_out.keys() - counts.keys())
    if not absent:
        return []
    listed = _indent([name_character(c) for c in absent[:MAX_LISTED]], len(absent))
    return [f"Stands in dev or test only; the network cannot learn to write it, so it counts as an error:{listed}"]


def _indent(listed: list[str], num_all: int) -> str:
    more = [f"and {num_all - len(listed)} more"] if num_all > len(listed) else []
    return "".join(f"\n    {line}" for line in [*listed, *more])


def _find_unheard(counts: Counter[str]) -> list[str]:
    doubts = []
    marks = sorted(c for c in counts.keys() - set(SPOKEN_MARKS) if unicodedata.category(c)[0] in "PS")
    if marks:
        doubts.append(f"Nobody hears {' '.join(marks[:MAX_LISTED])} ; leave such marks out, if you can do without.")
    hidden = sorted(c for c in counts if unicodedata.category(c)[0] == "C")
    if hidden:
        doubts.append(f"Nobody sees or hears {', '.join(map(name_character, hidden[:MAX_LISTED]))}.")
    digits = sorted(c for c in counts if unicodedata.category(c)[0] == "N")
    if digits:
        doubts.append(
            f"Numbers are written with {' '.join(digits[:MAX_LISTED])} , which can be read in many ways; write them as "
            "they are spoken."
        )
    return doubts


def _find_case_mistakes(counts: Counter[str], train: Sequence[str], letter_case: LetterCase) -> list[str]:
    if letter_case == "keep":
        if any(c.lower() in counts for c in counts if c.lower() != c):
            return ["Capitals and small letters are learnt apart, though they sound alike."]
        return []
    if any("ı" in transcript or "İ" in transcript for transcript in train):
        return [
            f"The letter case {letter_case!r} does not know the Turkish ı and İ. Write the transcripts in one case, by "
            "Turkish rules, and take the letter case 'keep'."
        ]
    return []


def _find_other_scripts(counts: Counter[str]) -> list[str]:
    doubts = []
    if counts and " " not in counts:
        doubts.append("No transcript has a space, so each counts as one word. Go by CER: WER counts whole utterances.")
    if len(counts) > MANY_CHARACTERS:
        doubts.append(
            f"{len(counts)} characters are many. Each has to be heard often to be learnt, which takes hundreds of "
            "hours of speech; syllables or a romanisation would take less."
        )
    return doubts
