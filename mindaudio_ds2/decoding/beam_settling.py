"""Words of a beam search that nothing can change any more, in Python; `ops/csrc/beam.cpp` does the same in C++.

A word is settled when all prefixes in the beam have it and go on behind it: whatever is heard later, they only grow.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile

from mindaudio_ds2.decoding.beam_language import Language, Prefix
from mindaudio_ds2.decoding.beam_reference import Entry, Piece, ReferenceStream, Spoken


class SettlingStream(ReferenceStream):
    """A search whose settled words can be taken out of it, and which can be made to decide."""

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._num_taken = 0  # words, which all hypotheses begin with

    def _spell(self, entry: Entry) -> Iterator[Piece]:
        """Words of the best path, without those that were taken."""
        return islice(super()._spell(entry), self._num_taken, None)

    def settle(self) -> None:
        """Drop what disagrees with the best prefix's whole words."""
        best = _list_labels(self._entries[0].prefix)
        whole = best[: self._count_whole(best)]
        self._entries = [one for one in self._entries if _list_labels(one.prefix)[: len(whole)] == whole]

    def take(self) -> Spoken:
        """The words that are settled, without a score; each once."""
        shared = _list_labels(self._entries[0].prefix)
        for entry in self._entries:
            pairs = zip(shared, _list_labels(entry.prefix), strict=False)
            shared = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        tokenizer, whole = self._language.tokenizer, shared[: self._count_whole(shared)]
        num_words = len("".join(" " * tokenizer.starts_word(label) + tokenizer.texts[label] for label in whole).split())
        num_new = max(0, num_words - self._num_taken)
        best = self.read(is_finished=False)[0]
        self._num_taken += num_new
        return Spoken(" ".join(best.text.split()[:num_new]), 0.0, best.rows[:num_new])

    def _count_whole(self, labels: Sequence[int]) -> int:
        """How many labels stand before the start of the last word."""
        tokenizer, num_labels, has_text = self._language.tokenizer, 0, False
        for place, label in enumerate(labels):
            if tokenizer.starts_word(label) and has_text:
                num_labels = place
            has_text = has_text or bool(tokenizer.texts[label])
        return num_labels


def _list_labels(prefix: Prefix) -> list[int]:
    """Of a prefix, from the first."""
    labels = []
    place: Prefix | None = prefix
    while place is not None and place.parent is not None:
        labels.append(place.label)
        place = place.parent
    return labels[::-1]
