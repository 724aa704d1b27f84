"""Words in groups: segments between pauses, and subtitles within the field's limits."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mindaudio_ds2.decoding.hypothesis import Word

PAUSE_SECONDS = 1.0
"""A longer pause ends a segment."""

LINE_CHARACTERS, MOST_LINES = 42, 2
LONGEST_SECONDS, LEAST_SECONDS, CHARACTERS_A_SECOND = 7.0, 1.0, 17.0
"""Netflix's timed text guide for English: what a reader can follow."""

GAP_MILLISECONDS = 80
"""Between two subtitles, so that the eye sees the change; about two pictures of a film."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Words in a row, without a long pause among them.

    Attributes:
        text: the words, with one space between them.
        start_seconds: of the first word.
        end_seconds: of the last word.
        words: at least one.
    """

    text: str
    start_seconds: float
    end_seconds: float
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle.

    Attributes:
        start_milliseconds: when it appears.
        end_milliseconds: when it goes; later than its start, and before the next one's.
        lines: what is shown, within `LINE_CHARACTERS` and `MOST_LINES`; a single word that needs more lines has them.
    """

    start_milliseconds: int
    end_milliseconds: int
    lines: tuple[str, ...]


def split_at_pauses(words: Sequence[Word]) -> tuple[Segment, ...]:
    """Segments that end at pauses of more than `PAUSE_SECONDS`."""
    return _group(words, lambda group, word: word.start_seconds - group[-1].end_seconds <= PAUSE_SECONDS)


def make_cues(words: Sequence[Word]) -> tuple[Cue, ...]:
    """Subtitles of words: each stands while they are said, and longer for the reader where there is room.

    Args:
        words: in order, of one recording.

    Returns:
        Cues that begin and end one after the other. Who speaks faster than `CHARACTERS_A_SECOND` without a pause is
        shown faster, too.
    """
    segments = _group(words, _fits)
    starts, least = [], 0
    for segment in segments:
        starts.append(max(round(1000 * segment.start_seconds), least))
        least = starts[-1] + 2
    cues = []
    for number, (segment, start) in enumerate(zip(segments, starts, strict=True), start=1):
        following = starts[number] if number < len(starts) else None
        reading = max(LEAST_SECONDS, len(segment.text) / CHARACTERS_A_SECOND)
        end = max(round(1000 * segment.end_seconds), start + min(round(1000 * reading), round(1000 * LONGEST_SECONDS)))
        if following is not None:
            gap = GAP_MILLISECONDS if following - start > 2 * GAP_MILLISECONDS else 1
            end = min(end, following - gap)
        cues.append(Cue(start, max(end, start + 1), tuple(_wrap(segment.text))))
    return tuple(cues)


def _fits(group: list[Word], word: Word) -> bool:
    """Whether a word may join a subtitle."""
    if word.start_seconds - group[-1].end_seconds > PAUSE_SECONDS:
        return False
    if word.end_seconds - group[0].start_seconds > LONGEST_SECONDS:
        return False
    return len(_wrap(" ".join(one.text for one in (*group, word)))) <= MOST_LINES


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, LINE_CHARACTERS, break_on_hyphens=False)


def _group(words: Sequence[Word], joins: Callable[[list[Word], Word], bool]) -> tuple[Segment, ...]:
    groups: list[list[Word]] = []
    for word in words:
        if groups and joins(groups[-1], word):
            groups[-1].append(word)
        else:
            groups.append([word])
    return tuple(
        Segment(" ".join(word.text for word in g), g[0].start_seconds, g[-1].end_seconds, tuple(g)) for g in groups
    )
