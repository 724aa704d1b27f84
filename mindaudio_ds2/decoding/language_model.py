"""A back-off n-gram model in one file that is mapped into memory: opened in no time, shared between processes.

The file begins with 16 little-endian numbers of 64 bits: "DS2NGRAM", version 1, order, 1 where the words are labels
of the network (0: words), the number of n-grams of each order from 1 to 6, nodes of the prefix tree, bytes of all
words, bytes of the metadata, CRC-32 of all that follows, CRC-32 of the header so far, 0. Then come, each filled up to 8
bytes: metadata (JSON), `word`, `log10_prob`, `suffix` of every n-gram, `backoff` and `first_child` of those below the
highest order, the prefix tree (`first_child`, `word`, `byte`), ends of the words' spellings, and these.

N-grams stand by order, then by parent (the n-gram without its last word), then by last word, so children are in one
piece. `suffix` is the longest n-gram of the model that is left when words are taken from the front. Words 0, 1 and 2
are <unk>, <s> and </s>; the others are in the order of their UTF-8 bytes.
"""

import bisect
import dataclasses
import json
import mmap
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import LanguageModelError
from mindaudio_ds2.files import write_atomically
from mindaudio_ds2.reading import parse_json
from mindaudio_ds2.text.tokenizer import Tokenizer

MAX_ORDER = 6
SPECIAL_WORDS = ("<unk>", "<s>", "</s>")
SPACE = "<space>"
"""The space in a model whose words are the labels."""

NONE = 0xFFFFFFFF
_HEADER = struct.Struct("<8s15Q")
_MAGIC = b"DS2NGRAM"

Counts = NDArray[np.uint32]


@dataclass(frozen=True)
class NgramTables:
    """A model in memory, in the order of the file; see the module.

    Attributes:
        words: W spellings, the three special ones first.
        counts: number of n-grams of each order; the first is W.
        word, log10_prob, suffix: `(N,)` uint32, float32, uint32.
        backoff, first_child: `(I,)` float32 log10 and `(I + 1,)` uint32, for the I n-grams below the highest order.
    """

    words: Sequence[str]
    counts: tuple[int, ...]
    word: NDArray[np.uint32]
    log10_prob: NDArray[np.float32]
    suffix: NDArray[np.uint32]
    backoff: NDArray[np.float32]
    first_child: NDArray[np.uint32]


def write_language_model(
    path: Path,
    tables: NgramTables,
    metadata: dict[str, Any],
    *,
    scores_labels: bool,
    judge: "Callable[[LanguageModel], None] | None" = None,
) -> None:
    """Write the mapped file, all or nothing.

    Args:
        path: where to.
        tables: the model.
        metadata: what else shall travel along (JSON): characters, letter case, weights, source.
        scores_labels: whether its words are labels of the network.
        judge: is shown the model before it has its name; where this raises an error, nothing is left of it.

    Raises:
        OutputError: it cannot be written.
    """
    spellings = [word.encode() for word in tables.words]
    ends = np.concatenate([[0], np.cumsum([len(word) for word in spellings])]).astype(np.uint32)
    tree_child, tree_word, tree_byte = _grow_prefix_tree(spellings)
    text = json.dumps(metadata, ensure_ascii=False).encode()
    arrays: list[NDArray[Any]] = [
        np.frombuffer(text, np.uint8),
        *(tables.word, tables.log10_prob, tables.suffix, tables.backoff, tables.first_child),
        *(tree_child, tree_word, tree_byte, ends, np.frombuffer(b"".join(spellings), np.uint8)),
    ]
    blocks = [array.tobytes() + b"\0" * (-array.nbytes % 8) for array in arrays]
    checksum = 0
    for block in blocks:
        checksum = zlib.crc32(block, checksum)
    counts = [*tables.counts, *[0] * (MAX_ORDER - len(tables.counts))]
    numbers = [1, len(tables.counts), int(scores_labels), *counts, len(tree_byte), int(ends[-1]), len(text), checksum]
    header = _HEADER.pack(_MAGIC, *numbers, 0, 0)
    header = _HEADER.pack(_MAGIC, *numbers, zlib.crc32(header[:112]), 0)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.write(header)
            file.writelines(blocks)
        if judge:
            judge(LanguageModel(partial))

    write_atomically(path, write)


def _grow_prefix_tree(spellings: Sequence[bytes]) -> tuple[Counts, Counts, NDArray[np.uint8]]:
    """First children, words and bytes of the tree's nodes, level by level; the special words are not in it."""
    ordered, num_special = spellings[len(SPECIAL_WORDS) :], len(SPECIAL_WORDS)
    longest = max(map(len, ordered), default=0)
    lengths = np.array([len(word) for word in ordered], np.int64)
    letters = np.zeros((len(ordered), longest + 1), np.uint8)
    for place, spelling in enumerate(ordered):
        letters[place, : len(spelling)] = np.frombuffer(spelling, np.uint8)
    firsts: list[NDArray[np.int64]] = []
    words, letters_of = [np.array([0], np.uint32)], [np.array([0], np.uint8)]
    rows, node_of, base = np.arange(len(ordered)), np.zeros(len(ordered), np.int64), 1
    num_parents = 1
    for depth in range(longest + 1):
        keep = lengths[rows] > depth
        rows, node_of = rows[keep], node_of[keep]
        byte = letters[rows, depth]
        is_new = np.ones(len(rows), bool)
        is_new[1:] = (node_of[1:] != node_of[:-1]) | (byte[1:] != byte[:-1])
        num_children = np.bincount(node_of[is_new], minlength=num_parents)
        firsts.append(base + np.concatenate([[0], np.cumsum(num_children)[:-1]]))
        node_of = np.cumsum(is_new) - 1
        num_parents = int(is_new.sum())
        word = np.zeros(num_parents, np.uint32)
        ends = lengths[rows] == depth + 1
        word[node_of[ends]] = rows[ends] + num_special
        words.append(word)
        letters_of.append(byte[is_new])
        base += num_parents
    first_child = np.concatenate([*firsts, [base]]).astype(np.uint32)
    return first_child, np.concatenate(words), np.concatenate(letters_of)


class LanguageModel:
    """A mapped model.

    Args:
        path: a file of `write_language_model`.

    Raises:
        LanguageModelError: it is missing, or no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            if self.path.exists() and not self.path.is_file():
                raise OSError("it is no file")  # a pipe would be waited for
            with self.path.open("rb") as file:
                self.bytes = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except (OSError, ValueError) as error:
            raise LanguageModelError(f"language model {path} cannot be read: {error}; correct the path") from None
        numbers = self._read_header()
        self.order, self.scores_labels = numbers[1], bool(numbers[2])
        self.counts = tuple(numbers[3 : 3 + self.order])
        self._checksum = numbers[12]
        self._map(numbers)

    def _read_header(self) -> list[int]:
        header = self.bytes[: _HEADER.size].tobytes()
        remedy = "make it with mindaudio-ds2 build_lm, from text or from an ARPA file"
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise LanguageModelError(f"{self.path} is not a language model of ours; {remedy}")
        numbers = list(_HEADER.unpack(header)[1:])
        if numbers[0] != 1:
            raise LanguageModelError(f"{self.path} is of version {numbers[0]}, this program reads 1; {remedy} again")
        if zlib.crc32(header[:112]) != numbers[13]:
            raise LanguageModelError(f"{self.path} is damaged: its header does not match its checksum; {remedy} again")
        counts = numbers[3:9]
        if not 1 <= numbers[1] <= MAX_ORDER or [c > 0 for c in counts] != [k < numbers[1] for k in range(MAX_ORDER)]:
            raise LanguageModelError(
                f"{self.path} is damaged: order {numbers[1]} with {counts} n-grams; {remedy} again"
            )
        return numbers

    def _map(self, numbers: list[int]) -> None:
        total, words = sum(self.counts), self.counts[0]
        inner, (nodes, letters, text) = total - self.counts[-1], numbers[9:12]
        kinds: list[tuple[Any, int]] = [(np.uint8, text), (np.uint32, total), (np.float32, total), (np.uint32, total)]
        kinds += [(np.float32, inner), (np.uint32, inner + 1), (np.uint32, nodes + 1), (np.uint32, nodes)]
        kinds += [(np.uint8, nodes), (np.uint32, words + 1), (np.uint8, letters)]
        sizes = [np.dtype(kind).itemsize * count for kind, count in kinds]
        starts = np.cumsum([_HEADER.size, *(size + -size % 8 for size in sizes)], dtype=object)
        if starts[-1] != len(self.bytes) or words < len(SPECIAL_WORDS):
            raise LanguageModelError(
                f"{self.path} is cut or damaged: {len(self.bytes)} bytes where its header tells of {starts[-1]}; "
                "copy or build it again"
            )
        arrays = [
            self.bytes[start : start + size].view(kind)
            for start, size, (kind, _) in zip(starts, sizes, kinds, strict=False)
        ]
        self._text, self._word, self._log10_prob, self._suffix, self._backoff, self._first_child = arrays[:6]
        self._ends, self._letters = arrays[9:]

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What travels in the file.

        Raises:
            LanguageModelError: it is damaged.
        """
        try:
            found = parse_json(self._text.tobytes().decode())
        except ValueError:  # no UTF-8, or no JSON
            found = None
        if not isinstance(found, dict):
            raise LanguageModelError(f"{self.path} is damaged: its metadata is no JSON object; build it again")
        return found

    def verify(self) -> None:
        """Read the whole file and compare it with its checksum.

        Raises:
            LanguageModelError: they differ.
        """
        if zlib.crc32(self.bytes[_HEADER.size :].data) != self._checksum:
            raise LanguageModelError(f"{self.path} is damaged: it does not match its checksum; build it again")

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The spelling of every word."""
        letters, ends = self._letters.tobytes(), self._ends.tolist()
        return tuple(letters[a:b].decode(errors="replace") for a, b in zip(ends, ends[1:], strict=False))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def find(self, word: str) -> int:
        """The number of a word; 0 (<unk>) where it is not in the model."""
        return self._ids.get(word, 0)

    def start(self) -> int:
        """The state at the start of a sentence."""
        return 1 if self.order > 1 else NONE

    def score(self, state: int, word: int) -> tuple[int, float]:
        """log10 of a word's probability.

        Args:
            state: `start()`, or what this function returned.
            word: its number, of `find`.

        Returns:
            The state after the word, and log10 of its probability there.
        """
        total, num_inner = 0.0, len(self._backoff)
        while state < num_inner:
            low, high = int(self._first_child[state]), int(self._first_child[state + 1])
            child = low + int(np.searchsorted(self._word[low:high], word))
            if child < high and self._word[child] == word:
                after = child if child < num_inner else int(self._suffix[child])
                return after, total + float(self._log10_prob[child])
            total += float(self._backoff[state])
            state = int(self._suffix[state])
        return (word if self.order > 1 else NONE), total + float(self._log10_prob[word])

    def score_alone(self, word: int) -> float:
        """log10 of a word's probability where nothing is known of its neighbours."""
        return float(self._log10_prob[word])

    def look_ahead(self, spelt: str) -> float:
        """log10 of what `score_alone` gives the likeliest word that begins so; minus infinity where none does."""
        first = bisect.bisect_left(self.words, spelt, len(SPECIAL_WORDS))
        end = bisect.bisect_right(self.words, spelt + chr(sys.maxunicode), len(SPECIAL_WORDS))
        return float(self._log10_prob[first:end].max(initial=-np.inf))

    @cached_property
    def usual_score(self) -> float:
        """What `score_alone` is on average over a text (log10)."""
        alone = np.minimum(self._log10_prob[: len(self.words)].astype(np.float64), 0.0)
        alone = alone[np.isfinite(alone)]
        return float((10.0**alone * alone).sum() / max((10.0**alone).sum(), 1e-300))

    def score_sentence(self, text: str) -> float:
        """log10 of the probability of words with spaces between, the end of the sentence included."""
        state, total = self.start(), 0.0
        for word in [*map(self.find, text.split()), 2]:
            state, log10_prob = self.score(state, word)
            total += log10_prob
        return total


def link_suffixes(tables: NgramTables) -> NgramTables:
    """Fill in `suffix` of tables whose other arrays are whole.

    The suffix of an n-gram is the child, by its last word, of the suffix of its parent; where there is no such child,
    of that one's suffix, and so on.
    """
    num_inner, suffix = len(tables.backoff), np.full(len(tables.word), NONE, np.uint32)
    starts = np.cumsum([0, *tables.counts])
    parents = np.repeat(np.arange(num_inner), np.diff(tables.first_child.astype(np.int64)))
    keys = parents * np.int64(2**31) + tables.word[tables.counts[0] :]
    for level in range(1, len(tables.counts)):
        nodes = np.arange(starts[level], starts[level + 1])
        context = suffix[parents[nodes - starts[1]]].astype(np.int64)
        left = np.arange(len(nodes))
        while len(left):
            words = tables.word[nodes[left]].astype(np.int64)
            at_root = context[left] == NONE
            suffix[nodes[left[at_root]]] = words[at_root]
            left, words = left[~at_root], words[~at_root]
            wanted = context[left] * 2**31 + words
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found = keys[place] == wanted
            suffix[nodes[left[found]]] = place[found] + starts[1]
            left = left[~found]
            context[left] = suffix[context[left]]
    return dataclasses.replace(tables, suffix=suffix)


MAX_FOREIGN_SHARE = 0.5


def check_words(tokenizer: Tokenizer, words: Sequence[str], source: str | Path) -> None:
    """Refuse words most of which the labels cannot spell: those of another alphabet or letter case.

    Args:
        tokenizer: of the network.
        words: of a language model, without the special ones.
        source: what they come from, as the user names it.

    Raises:
        LanguageModelError: they are such words.
    """
    letters = set("".join(tokenizer.texts)) | set(SPACE)
    sample = words[:: max(1, len(words) // 5000)]
    foreign = [word for word in sample if not set(word) <= letters]
    if len(foreign) > MAX_FOREIGN_SHARE * len(sample):
        shown = "".join(sorted(letters - set(SPACE)))
        raise LanguageModelError(
            f"{source} is of another alphabet or letter case: words such as {foreign[0]!r} cannot be spelt with "
            f"{shown!r}; build it from text in the network's alphabet"
        )
