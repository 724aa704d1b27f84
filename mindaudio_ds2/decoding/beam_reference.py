"""The beam search of `ops/csrc/beam.cpp` in Python: what tests compare it with, and what serves without a compiler.

Line for line the same search, some three hundred times slower. `beam.py` says what a score is made of.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.beam_language import IMPOSSIBLE, Language, Prefix, Rival

LEAST_ODDS = -7.0


class Spoken(NamedTuple):
    """A hypothesis: words with spaces between, its score (nats), and for each word a row of four numbers: first frame,
    end, posterior over the beam, mean log probability of its labels' peaks."""

    text: str
    score: float
    rows: NDArray[np.float64]


class Mark(NamedTuple):
    """A label of a best path, and what was known of the label before it when this one began."""

    before: "Mark | None"
    label: int
    first: int
    end_before: int
    peak_before: float


class Timing(NamedTuple):
    """The best single path that writes a prefix: which labels, and where the last one ends."""

    score: float = IMPOSSIBLE
    mark: Mark | None = None
    end: int = 0
    peak: float = 0.0


class Piece(NamedTuple):
    """A word of a best path: text, first frame, end, the peak of each label, and which labels these are."""

    text: str
    first: int
    end: int
    peaks: tuple[float, ...]
    first_label: int
    end_label: int


@dataclass(eq=False)
class Entry:
    """A prefix in the beam: its probability, apart by whether its paths end in a blank (arXiv:1408.2873)."""

    prefix: Prefix
    blank: float = IMPOSSIBLE
    label: float = IMPOSSIBLE
    blank_path: Timing = field(default_factory=Timing)
    label_path: Timing = field(default_factory=Timing)

    @property
    def acoustic(self) -> float:
        """Natural logarithm of the sum over all paths."""
        return add_logs(self.blank, self.label)

    @property
    def path(self) -> Timing:
        """The better of both."""
        return self.label_path if self.label_path.score > self.blank_path.score else self.blank_path


def add_logs(a: float, b: float) -> float:
    """ln(e^a + e^b)."""
    a, b = max(a, b), min(a, b)
    return a if b == IMPOSSIBLE else a + math.log1p(math.exp(b - a))


class ReferenceStream:
    """One utterance on its way. Any cut into chunks gives the same result."""

    def __init__(self, language: Language) -> None:
        self._language, self._frame = language, 0
        self._entries = [Entry(language.start(), blank=0.0, blank_path=Timing(0.0))]

    def feed(self, log_probs: NDArray[np.float32]) -> None:
        """Go on with `(S, V)` natural log probabilities."""
        for frame in log_probs.astype(np.float64):
            threshold = min(self._language.settings.token_threshold, frame.max())
            self._advance({int(label): float(frame[label]) for label in np.flatnonzero(frame >= threshold)})
            self._frame += 1

    def _advance(self, scores: dict[int, float]) -> None:
        """One frame, of which `scores` has the labels that are tried."""
        stayed = [self._stay(old, scores) for old in self._entries]
        children = {(entry.prefix.parent, entry.prefix.label): entry for entry in stayed}
        fresh: list[Entry] = []
        for old in self._entries:
            for label, score in scores.items():
                fresh += self._extend(old, label, score, children)
        ranked = [(entry.acoustic + entry.prefix.fusion, entry) for entry in [*stayed, *fresh]]
        limit = max(score for score, _ in ranked) - self._language.settings.beam_threshold
        kept = [(score, entry) for score, entry in ranked if score >= limit and score != IMPOSSIBLE]
        kept.sort(key=lambda pair: -pair[0])
        if kept:  # a frame in which nothing is possible is passed over
            self._entries = self._choose(kept)

    def _choose(self, ranked: Sequence[tuple[float, Entry]]) -> list[Entry]:
        """The first `beam_width`, of those that go on alike `num_best`."""
        settings, chosen = self._language.settings, list[Entry]()
        alike: dict[tuple[object, ...], list[tuple[float, Entry]]] = {}
        for score, entry in ranked:
            if len(chosen) == settings.beam_width:
                break
            group = alike.setdefault(self._language.find_future(entry.prefix), [])
            if len(group) == settings.num_best:
                best_score, best = group[0]
                self._remember(best.prefix, entry.prefix, score - best_score)
                continue
            group.append((score, entry))
            chosen.append(entry)
        return chosen

    def _remember(self, kept: Prefix, other: Prefix, log_odds: float) -> None:
        """Which of the kept prefix's labels another, that is dropped, has otherwise, and how likely that was."""
        if log_odds < LEAST_ODDS:
            return
        one, two, touch = kept, other, 1
        while one.parent and two.parent and one.label == two.label:  # they end alike
            if one.parent is two.parent:
                return  # the same text: dropped once, and come back
            one, two = one.parent, two.parent
        if not one.parent and not two.parent:
            return
        end_back = kept.length - one.length
        while one.parent is not two.parent or one.label != two.label:  # up to where they part
            longer = max(one.length, two.length)
            if two.parent and two.length == longer:
                two = two.parent
            if one.parent and one.length == longer:
                touch = 0 if self._language.tokenizer.texts[one.label] else touch
                one = one.parent
        rival = Rival(kept.length - one.length, end_back, touch)
        kept.rivals[rival] = max(kept.rivals.get(rival, IMPOSSIBLE), log_odds)

    def _stay(self, old: Entry, scores: dict[int, float]) -> Entry:
        """Paths that write nothing new: a blank, the last label again, a space where a word has yet to begin."""
        tokenizer, now, path = self._language.tokenizer, Entry(old.prefix), old.path
        for label, score in scores.items():
            longer = path._replace(score=path.score + score)
            if label == tokenizer.blank_id:
                now.blank, now.blank_path = old.acoustic + score, longer
            elif old.prefix.at_word_start and not tokenizer.texts[label]:
                now.label = add_logs(now.label, old.acoustic + score)
                now.label_path = max(now.label_path, longer, key=lambda timing: timing.score)
            elif label == old.prefix.label:
                now.label = add_logs(now.label, old.label + score)
                last = old.label_path
                now.label_path = Timing(last.score + score, last.mark, self._frame + 1, max(last.peak, score))
        return now

    def _extend(
        self, old: Entry, label: int, score: float, children: dict[tuple[Prefix | None, int], Entry]
    ) -> list[Entry]:
        """Paths that write one label more: into the entry that stands for them, or into a new one."""
        tokenizer, is_double = self._language.tokenizer, label == old.prefix.label
        if label == tokenizer.blank_id or (old.prefix.at_word_start and not tokenizer.texts[label]):
            return []
        total = (old.blank if is_double else old.acoustic) + score
        if total == IMPOSSIBLE:
            return []
        before = old.blank_path if is_double else old.path
        mark = Mark(before.mark, label, self._frame, before.end, before.peak)
        timing = Timing(before.score + score, mark, self._frame + 1, score)
        child = children.get((old.prefix, label))
        if child is None:
            return [Entry(self._language.append(old.prefix, label), label=total, label_path=timing)]
        child.label = add_logs(child.label, total)
        if timing.score > child.label_path.score:
            child.label_path = timing
        return []

    def read(self, *, is_finished: bool) -> list[Spoken]:
        """The best hypotheses, best first."""
        found: dict[str, tuple[float, Entry, float]] = {}  # by text: score, the better entry, and that one's score
        for entry in self._entries:
            score = entry.acoustic + self._language.end(entry.prefix, is_finished=is_finished)
            text = " ".join(word for word, *_ in self._spell(entry))
            total, best, best_score = found.get(text, (IMPOSSIBLE, entry, IMPOSSIBLE))
            if score > best_score:
                best, best_score = entry, score
            found[text] = (add_logs(total, score), best, best_score)
        texts = sorted(found, key=lambda text: -found[text][0])
        spelt = {text: list(self._spell(found[text][1])) for text in texts}
        total = -math.inf
        for text in texts:
            total = add_logs(total, found[text][0])
        shares = {text: math.exp(found[text][0] - total) for text in texts}
        kept = texts[: self._language.settings.num_best]
        return [
            Spoken(text, found[text][0], _judge(text, spelt, shares, list(_list_rivals(found[text][1].prefix))))
            for text in kept
        ]

    def _spell(self, entry: Entry) -> Iterator[Piece]:
        """Words of the best path."""
        tokenizer, marks = self._language.tokenizer, []
        _, mark, end, peak = entry.path
        while mark is not None:
            marks.append((mark.label, mark.first, end, peak))
            end, peak, mark = mark.end_before, mark.peak_before, mark.before
        word: Piece | None = None
        is_new = True
        for place, (label, first, end, peak) in enumerate(reversed(marks)):
            is_new = is_new or tokenizer.starts_word(label)
            if not tokenizer.texts[label]:
                continue
            if is_new and word:
                yield word
            before = Piece("", first, end, (), place, place) if is_new or not word else word
            word = Piece(
                before.text + tokenizer.texts[label],
                before.first,
                end,
                (*before.peaks, peak),
                before.first_label,
                place + 1,
            )
            is_new = False
        if word:
            yield word


def _list_rivals(prefix: Prefix) -> Iterator[tuple[int, int, float]]:
    """What was dropped beside a prefix: first and end of the labels in doubt, and its odds."""
    place: Prefix | None = prefix
    while place:
        for rival, log_odds in place.rivals.items():
            first, end = place.length - rival.first_back, place.length - rival.end_back
            yield first - rival.touch, end + rival.touch, math.exp(log_odds)
        place = place.parent


def _judge(
    text: str, spelt: dict[str, list[Piece]], shares: dict[str, float], rivals: Sequence[tuple[int, int, float]]
) -> NDArray[np.float64]:
    """A row for each word of a text; its posterior is the share of hypotheses with this word at this time."""
    rows = []
    for word in spelt[text]:
        posterior = sum(
            shares[other]
            for other, words in spelt.items()
            if any(one.text == word.text and one.first < word.end and one.end > word.first for one in words)
        )
        odds = sum(odds for first, end, odds in rivals if word.first_label < end and word.end_label > first)
        rows.append((word.first, word.end, posterior / (1 + odds), sum(word.peaks) / len(word.peaks)))
    return np.array(rows, np.float64).reshape(-1, 4)
