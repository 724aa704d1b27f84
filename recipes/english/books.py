#!/usr/bin/env python3
"""Sentences of books for language models and synthetic voices, from a folder of Project Gutenberg's plain texts.

    python recipes/english/books.py FOLDER --output books.txt.gz --novels novels.txt.gz \\
        --held_out data/english/dev.jsonl data/english/test_mini.jsonl data/english/test_clean.jsonl

A sentence a line, in capitals A to Z and apostrophes. Books of other languages, books that repeat a book or a novel,
and books that are read in the held-out recordings are left out; so are sentences with numbers. Beside the output, a
table (.tsv) says of each book what became of it. The same folder and seed give the same bytes.
"""

import argparse
import gzip
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.errors import ManifestError, exit_on_error
from mindaudio_ds2.files import require_writable, write_atomically, write_text
from recipes.english.gutenberg import list_sentences, read_book
from recipes.english.readers import RUN_WORDS, list_runs
from recipes.english.sentences import read_sentences

MIN_ENGLISH = 0.3  # share of English text that `COMMON` makes up at least; it is about 0.4 in novels
MAX_REPEATED = 0.2  # share of sampled runs of seven words that an earlier book may have had

SAMPLED = 32
"""One run in so many is remembered, in `2^27` places: after 100 million words, 2 % are taken for old by accident."""

COMMON = frozenset(
    (
        *("THE", "OF", "AND", "TO", "A", "IN", "THAT", "I", "HE", "WAS", "IT", "HIS", "WITH", "AS", "HAD", "FOR"),
        *("YOU", "IS", "NOT", "BUT", "AT", "BE", "ON", "HER", "BY", "MY", "WHICH", "HAVE", "FROM", "THIS", "ALL"),
        *("ME", "SHE", "HIM", "SO", "THEY", "WERE", "ARE", "THEIR", "OR", "NO", "AN"),
    )
)


@dataclass
class Book:
    """A row of the table.

    Attributes:
        name: of the file.
        fate: `kept`, or why not: `empty`, `foreign`, `held out`, `repeated`.
        words: in its sentences.
        sentences: without those with numbers.
        left_out_strange: sentences with numbers and tables.
        left_out_held_out: single sentences that share seven words with a held-out transcript.
        english: share of its words that are frequent in English.
        held_out_runs: different runs of seven words that it shares with held-out transcripts.
        repeated: share of sampled runs that stood in a book before.
    """

    name: str
    fate: str = "empty"
    words: int = 0
    sentences: int = 0
    left_out_strange: int = 0
    left_out_held_out: int = 0
    english: float = 0.0
    held_out_runs: int = 0
    repeated: float = 0.0


class Words(dict[str, int]):
    """A fixed random number of 64 bits for each word."""

    def __missing__(self, word: str) -> int:
        self[word] = random.Random(word).getrandbits(64)
        return self[word]


class Sieve:
    """Judges books one after the other; what it keeps, later ones may not repeat.

    Args:
        held_out: transcripts that are to be new.
    """

    def __init__(self, held_out: Iterable[str]) -> None:
        self._words = Words()
        runs = sorted(set().union(*(list_runs(transcript) for transcript in held_out)))
        self._held_out = np.unique(self._hash(" ".join(runs).split())[::RUN_WORDS])
        self._seen = np.zeros(2**27, bool)

    def _hash(self, words: Sequence[str]) -> NDArray[np.uint64]:
        """A number for each run of seven words."""
        numbers = np.fromiter(map(self._words.__getitem__, words), np.uint64, len(words))
        num_runs = max(len(words) - RUN_WORDS + 1, 0)
        runs = np.zeros(num_runs, np.uint64)
        for place in range(RUN_WORDS):
            runs = runs * np.uint64(0x9E3779B97F4A7C15) + numbers[place : place + num_runs]
        return runs ^ runs >> np.uint64(29)

    def _sample(self, runs: NDArray[np.uint64]) -> NDArray[np.uint64]:
        sampled = runs[runs % np.uint64(SAMPLED) == 0] // np.uint64(SAMPLED)
        return np.asarray(sampled % np.uint64(len(self._seen)), np.uint64)

    def remember(self, sentences: Sequence[str]) -> None:
        """Text that no book may repeat."""
        for start in range(0, len(sentences), 10000):  # words of all at once would fill the memory
            self._seen[self._sample(self._hash(" ".join(sentences[start : start + 10000]).split()))] = True

    def judge(self, book: Book, sentences: list[str]) -> list[str]:
        """The sentences to keep; `book` is filled in."""
        words = " ".join(sentences).split()
        book.words, book.sentences = len(words), len(sentences)
        if not words:
            return []
        runs = self._hash(words)
        found = np.flatnonzero(self._held_out[np.searchsorted(self._held_out[:-1], runs)] == runs)
        sampled = self._sample(runs)
        counts = Counter(words)
        book.english = round(sum(counts[word] for word in COMMON) / len(words), 3)
        book.held_out_runs = len(np.unique(runs[found]))
        book.repeated = round(float(self._seen[sampled].mean()), 3) if len(sampled) else 0.0
        if book.english < MIN_ENGLISH:
            book.fate = "foreign"
        elif book.held_out_runs > 5 + len(words) / 50000:
            book.fate = "held out"
        elif book.repeated > MAX_REPEATED:
            book.fate = "repeated"
        else:
            book.fate = "kept"
            self._seen[sampled] = True
            ends = np.cumsum([sentence.count(" ") + 1 for sentence in sentences])
            shared = set(np.searchsorted(ends, found[:, None] + np.arange(RUN_WORDS), "right").ravel().tolist())
            book.left_out_held_out = len(shared)
            return [sentence for place, sentence in enumerate(sentences) if place not in shared]
        return []


def write_sentences(output: Path, paths: Sequence[Path], sieve: Sieve, max_words: int) -> list[Book]:
    """Write the sentences of books, in order, until there are `max_words`; a row for each that was read."""
    books: list[Book] = []
    num_words = 0
    total = min(max_words, sum(path.stat().st_size for path in paths) // 6)  # bytes a word, about
    with (
        output.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tqdm(total=total, unit=" words", unit_scale=True, mininterval=1) as progress,
    ):
        for path in paths:
            sentences, num_strange = list_sentences(read_book(path))
            books.append(Book(repr(path.name)[1:-1], left_out_strange=num_strange))  # however it is spelt
            kept = sieve.judge(books[-1], sentences)
            packed.write("".join(f"{sentence}\n" for sentence in kept).encode())
            num_words += books[-1].words if kept else 0
            progress.update(books[-1].words if kept or max_words > total else 0)
            if num_words >= max_words:
                break
    return books


@exit_on_error
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", type=Path, help="plain texts of books (.txt), in folders of it as well")
    add("--output", type=Path, required=True, help="the sentences (.txt.gz); the table is named alike (.tsv)")
    add("--held_out", type=Path, nargs="+", required=True, help="manifests that no text may be of (paths)")
    add("--novels", type=Path, nargs="+", default=[], help="texts that are there already (paths)")
    add("--max_words", type=int, default=10**12, help="stop at the book that reaches them (words; default: all books)")
    add("--seed", type=parse_seed, default=1, help="another one takes the books in another order")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.folder.rglob("*.txt") if path.is_file())
    if not paths:
        raise ManifestError(f"{arguments.folder} holds no .txt; name a folder of plain texts of books")
    table = arguments.output.with_name(arguments.output.name.removesuffix(".gz").removesuffix(".txt") + ".tsv")
    for output in (arguments.output, table):
        require_writable(output, [*arguments.held_out, *arguments.novels, *paths])
    random.Random(arguments.seed).shuffle(paths)
    sieve = Sieve(utterance.transcript for path in arguments.held_out for utterance in read_manifest(path))
    for path in arguments.novels:
        sieve.remember(read_sentences([path]))
    books: list[Book] = []
    write_atomically(
        arguments.output, lambda partial: books.extend(write_sentences(partial, paths, sieve, arguments.max_words))
    )
    rows = ["\t".join(map(str, row)) for row in ([field.name for field in fields(Book)], *map(astuple, books))]
    write_text(table, "\n".join(rows) + "\n")
    for fate, number in Counter(book.fate for book in books).most_common():
        print(f"{fate}: {number} books, {sum(book.words for book in books if book.fate == fate)} words")


if __name__ == "__main__":
    main()
