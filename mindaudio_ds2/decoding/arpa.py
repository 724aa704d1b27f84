"""ARPA files, the text format of back-off n-gram models (ngram-format(5) of SRILM), plain or gzip: read into tables."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.language_model import (
    MAX_ORDER,
    SPECIAL_WORDS,
    NgramTables,
    link_suffixes,
)
from mindaudio_ds2.errors import LanguageModelError
from mindaudio_ds2.reading import GZIP, explain_foreign

UNKNOWN_LOG10_PROB = -5.0
"""Of <unk> where a file has none."""

_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")


@dataclass
class _Section:
    """The n-grams of one order as they stand: words flat, log10 probability, backoff."""

    words: array[int] = field(default_factory=lambda: array("q"))
    log10_probs: array[float] = field(default_factory=lambda: array("d"))
    backoffs: array[float] = field(default_factory=lambda: array("d"))


class _Lines:
    """Lines that are not empty, counted so that errors can name them."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0

    def __iter__(self) -> Iterator[str]:
        try:
            with self.path.open("rb") as file:
                is_gzip = file.read(2) == GZIP
            with gzip.open(self.path, "rb") if is_gzip else self.path.open("rb") as lines:
                for line in lines:
                    self.number += 1
                    text = line.decode("utf-8-sig").strip()
                    if text:
                        yield text
        except UnicodeDecodeError:
            self.number += 1
            raise LanguageModelError(
                f"ARPA file {self.path}, line {self.number} cannot be read as UTF-8: {explain_foreign(self.path)}"
            ) from None
        except (OSError, EOFError, zlib.error) as error:
            raise LanguageModelError(f"ARPA file {self.path} cannot be read: {error}") from None

    def fail(self, what: str) -> LanguageModelError:
        return LanguageModelError(f"ARPA file {self.path}, line {self.number}: {what}; mend the file or make it again")


def read_arpa(path: str | Path) -> NgramTables:
    """Read a model.

    Args:
        path: plain text or gzip.

    Returns:
        Its tables. Where it has no <unk>, that is added with a probability of 10^-5.

    Raises:
        LanguageModelError: it is missing, cut, or not in the format. Names the line.
    """
    lines = _Lines(Path(path))
    source = iter(lines)
    counts = _read_counts(source, lines)
    spellings: dict[str, int] = {}
    sections = [_read_section(source, lines, order, counts, spellings) for order in range(1, len(counts) + 1)]
    for word in SPECIAL_WORDS[1:]:
        if word not in spellings:
            raise lines.fail(f"the model has no {word}")
    if SPECIAL_WORDS[0] not in spellings:
        spellings[SPECIAL_WORDS[0]] = len(spellings)
        sections[0].words.append(len(sections[0].words))
        sections[0].log10_probs.append(UNKNOWN_LOG10_PROB)
        sections[0].backoffs.append(0.0)
    return _build_tables(sections, spellings, lines)


def _read_counts(source: Iterator[str], lines: _Lines) -> list[int]:
    counts: list[int] = []
    if not any(line == "\\data\\" for line in source):
        raise lines.fail("there is no \\data\\, so this is no ARPA file")
    for line in source:
        if line == "\\1-grams:":
            break
        match = _COUNT.fullmatch(line)
        if not match or int(match[1]) != len(counts) + 1:
            raise lines.fail(f"expected 'ngram {len(counts) + 1}=COUNT' or \\1-grams:, found {line[:60]!r}")
        counts.append(int(match[2]))
    else:
        raise lines.fail("the file ends before \\1-grams:")
    if not 1 <= len(counts) <= MAX_ORDER or not all(counts):
        raise lines.fail(f"the counts {counts} are not those of an order from 1 to {MAX_ORDER}")
    return counts


def _read_section(
    source: Iterator[str], lines: _Lines, order: int, counts: list[int], spellings: dict[str, int]
) -> _Section:
    """Read up to the title of the next section, which must be right."""
    section = _Section()
    title = f"\\{order + 1}-grams:" if order < len(counts) else "\\end\\"
    for line in source:
        if line.startswith("\\"):
            if line != title or len(section.log10_probs) != counts[order - 1]:
                found = f"{line[:60]!r} after {len(section.log10_probs)} {order}-grams"
                raise lines.fail(f"expected {title!r} after {counts[order - 1]} of them, found {found}")
            return section
        fields = line.split()
        if len(fields) not in (order + 1, order + 2):
            raise lines.fail(f"expected a number, {order} words and perhaps a backoff, found {line[:60]!r}")
        _take_numbers(section, fields, order, lines)
        if order == 1 and spellings.setdefault(fields[1], len(spellings)) != len(section.log10_probs) - 1:
            raise lines.fail(f"the word {fields[1]!r} stands twice")
        try:
            section.words.extend([spellings[word] for word in fields[1 : order + 1]])
        except KeyError as error:
            raise lines.fail(f"{error} is not among the 1-grams") from None
    raise lines.fail(f"the file ends after {len(section.log10_probs)} of {counts[order - 1]} {order}-grams")


def _take_numbers(section: _Section, fields: list[str], order: int, lines: _Lines) -> None:
    try:
        log10_prob = float(fields[0])
        backoff = float(fields[order + 1]) if len(fields) == order + 2 else 0.0
    except ValueError:
        raise lines.fail(f"{fields[0]!r} or {fields[-1]!r} is no number") from None
    if not (math.isfinite(log10_prob) and -1000 < log10_prob <= 1e-4 and -1000 < backoff < 1000):
        raise lines.fail(f"a log10 probability of {log10_prob} with a backoff of {backoff} is impossible")
    section.log10_probs.append(log10_prob)
    section.backoffs.append(backoff)


def _build_tables(sections: list[_Section], spellings: dict[str, int], lines: _Lines) -> NgramTables:
    known = list(spellings)
    others = sorted((word for word in known if word not in SPECIAL_WORDS), key=str.encode)
    words = [*SPECIAL_WORDS, *others]
    place = {word: number for number, word in enumerate(words)}
    renumber = np.array([place[word] for word in known], np.int64)
    levels: list[tuple[NDArray[np.int64], NDArray[np.intp]]] = []  # sorted keys, order of the section's lines
    for order, section in enumerate(sections, 1):
        ngrams = renumber[np.frombuffer(section.words, np.int64)].reshape(-1, order)
        parents = ngrams[:, 0]
        for depth in range(1, order - 1):
            parents = _look_up(levels[depth][0], parents * 2**31 + ngrams[:, depth], order, lines)
        keys = ngrams[:, 0] if order == 1 else parents * 2**31 + ngrams[:, -1]
        sorting = np.argsort(keys, kind="stable")
        keys = keys[sorting]
        if (keys[1:] == keys[:-1]).any():
            raise lines.fail(f"one of the {order}-grams stands twice")
        levels.append((keys, sorting))
    return join_levels(
        words,
        [keys for keys, _ in levels],
        [np.frombuffer(s.log10_probs, np.float64)[sorting] for s, (_, sorting) in zip(sections, levels, strict=True)],
        [np.frombuffer(s.backoffs, np.float64)[sorting] for s, (_, sorting) in zip(sections, levels, strict=True)],
    )


def _look_up(keys: NDArray[np.int64], wanted: NDArray[np.int64], order: int, lines: _Lines) -> NDArray[np.int64]:
    found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    if (keys[found] != wanted).any():
        raise lines.fail(
            f"{int((keys[found] != wanted).sum())} of the {order}-grams begin with an n-gram that is not there"
        )
    return found.astype(np.int64)


def join_levels(
    words: list[str],
    keys: list[NDArray[np.int64]],
    log10_probs: list[NDArray[np.float64]],
    backoffs: list[NDArray[np.float64]],
) -> NgramTables:
    """Tables from one array for each order; keys are parent * 2^31 + last word, ascending, parents by their place."""
    counts = tuple(map(len, keys))
    starts = np.cumsum([0, *counts])
    first_child = [np.searchsorted(above, np.arange(n) * 2**31) for above, n in zip(keys[1:], counts, strict=False)]
    first_child = [child + start for child, start in zip(first_child, starts[1:], strict=False)]
    num_inner = int(starts[-2])
    tables = NgramTables(
        words,
        counts,
        (np.concatenate(keys) % 2**31).astype(np.uint32),
        np.concatenate(log10_probs).astype(np.float32),
        np.zeros(0, np.uint32),
        np.concatenate([*backoffs[:-1], np.zeros(0)]).astype(np.float32)[:num_inner],
        np.concatenate([*first_child, starts[-1:]]).astype(np.uint32),
    )
    return link_suffixes(tables)
