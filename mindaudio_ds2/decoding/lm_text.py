"""Text for a language model: read, brought into the alphabet, and rid of what will be used to test with."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import LanguageModelError
from mindaudio_ds2.reading import GZIP, explain_foreign
from mindaudio_ds2.text.tokenizer import Tokenizer

RUN_LENGTH = 7
"""So many words in a row that also stand in a test are no accident."""

MAX_DROPPED_SHARE = 0.3
APOSTROPHES = str.maketrans("\u2019\u02bc\u2018", "'''")


@dataclass(frozen=True)
class CleanText:
    """Text ready to be counted.

    Attributes:
        lines: words of the alphabet with single spaces; none is empty.
        num_characters: letters, digits and marks that were read.
        num_dropped: those of them that the alphabet does not have; they separate words now.
        num_overlapping: lines left out because they share a run of words with a test.
    """

    lines: list[str]
    num_characters: int
    num_dropped: int
    num_overlapping: int


def read_text(paths: Sequence[str | Path]) -> Iterator[str]:
    """Lines of text files, plain or gzip, and transcripts of manifests (.jsonl).

    Raises:
        LanguageModelError: one cannot be read, or is no UTF-8 text.
        ManifestError: a manifest is unusable.
    """
    for path in map(Path, paths):
        if path.suffix == ".jsonl":
            yield from (utterance.transcript for utterance in read_manifest(path))
            continue
        try:
            with path.open("rb") as file:
                is_gzip = file.read(2) == GZIP
            with gzip.open(path, "rt", encoding="utf-8-sig") if is_gzip else path.open(encoding="utf-8-sig") as lines:
                for line in lines:
                    if "\0" in line:
                        raise LanguageModelError(f"text {path} cannot be read as UTF-8: {explain_foreign(path)}")
                    yield line
        except UnicodeDecodeError:
            raise LanguageModelError(f"text {path} cannot be read as UTF-8: {explain_foreign(path)}") from None
        except (OSError, EOFError, zlib.error) as error:
            raise LanguageModelError(f"text {path} cannot be read: {error}; correct it or the path") from None


def clean_text(lines: Iterable[str], tokenizer: Tokenizer, held_back: Iterable[str] = ()) -> CleanText:
    """Bring lines into the alphabet and leave out those that overlap with tests.

    Args:
        lines: as they are written.
        tokenizer: of the network. What it does not have becomes a space between words.
        held_back: transcripts of tests.

    Returns:
        The text. A run of words that goes over the end of a line takes both lines away.

    Raises:
        LanguageModelError: too much is not in the alphabet.
    """
    strange = re.compile(f"[^{re.escape(tokenizer.characters)} ]")
    runs = {run for transcript in held_back for run in _list_runs(_bring(transcript, tokenizer, strange)[0].split())}
    kept: list[str] = []
    num_characters = num_dropped = num_overlapping = 0
    tail: list[str] = []
    for line in lines:
        text, num_strange = _bring(line, tokenizer, strange)
        num_characters += len(text.replace(" ", "")) + num_strange
        num_dropped += num_strange
        words = text.split()
        if not words:
            continue
        if runs and not runs.isdisjoint(_list_runs(tail + words)):
            num_overlapping += 1
            if runs.isdisjoint(_list_runs(words)) and kept:
                kept.pop()
                num_overlapping += 1
            tail = []
            continue
        kept.append(" ".join(words))
        tail = (tail + words)[1 - RUN_LENGTH :]
    if num_dropped > MAX_DROPPED_SHARE * num_characters:
        raise LanguageModelError(
            f"{num_dropped} of {num_characters} characters are not in the alphabet {tokenizer.characters!r}; "
            "the text is of another language or letter case"
        )
    return CleanText(kept, num_characters, num_dropped, num_overlapping)


def _bring(line: str, tokenizer: Tokenizer, strange: re.Pattern[str]) -> tuple[str, int]:
    text = tokenizer.normalize(line if "\u2019" in tokenizer.characters else line.translate(APOSTROPHES))
    return strange.subn(" ", text)


def _list_runs(words: Sequence[str]) -> Iterator[str]:
    return (" ".join(words[at : at + RUN_LENGTH]) for at in range(len(words) - RUN_LENGTH + 1))
