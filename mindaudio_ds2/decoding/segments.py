"""Words in groups: segments between pauses, and subtitles within the field's limits."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
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
        speakers: whose each line is; empty where one alone speaks.
    """

    start_milliseconds: int
    end_milliseconds: int
    lines: tuple[str, ...]
    speakers: tuple[str, ...] = ()


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
    return _time([[segment] for segment in _group(words, _Fits(LINE_CHARACTERS, MOST_LINES))], ())


def make_dialogue_cues(speakers: Mapping[str, Sequence[Word]]) -> tuple[Cue, ...]:
    """Subtitles of several speakers, a line for each, for which `SPEAKER: ` is to fit in front.

    Args:
        speakers: the words of each by name, in order.

    Returns:
        As `make_cues`. What two say at the same time stands in one subtitle; where even more do, one after the other.
    """
    said: list[tuple[Segment, str]] = []
    for name, words in speakers.items():
        said += [(each, name) for each in _group(words, _Fits(LINE_CHARACTERS - len(f"{name}: "), 1))]
    said.sort(key=lambda each: each[0].start_seconds)
    shared: list[list[Segment]] = []
    names: list[tuple[str, ...]] = []
    for segment, name in said:
        overlaps = bool(shared) and segment.start_seconds < max(each.end_seconds for each in shared[-1])
        if overlaps and len(shared[-1]) < MOST_LINES and name not in names[-1]:
            shared[-1].append(segment)
            names[-1] += (name,)
        else:
            shared.append([segment])
            names.append((name,))
    return _time(shared, names)


def _time(shared: Sequence[Sequence[Segment]], names: Sequence[tuple[str, ...]]) -> tuple[Cue, ...]:
    """Give each subtitle, which shows segments of different speakers, its time."""
    starts, least = [], 0
    for segments in shared:
        starts.append(max(round(1000 * segments[0].start_seconds), least))
        least = starts[-1] + 2
    cues = []
    for number, (segments, start) in enumerate(zip(shared, starts, strict=True)):
        following = starts[number + 1] if number + 1 < len(starts) else None
        reading = max(LEAST_SECONDS, sum(len(each.text) for each in segments) / CHARACTERS_A_SECOND)
        said_until = max(round(1000 * each.end_seconds) for each in segments)
        end = max(said_until, start + min(round(1000 * reading), round(1000 * LONGEST_SECONDS)))
        if following is not None:
            gap = GAP_MILLISECONDS if following - start > 2 * GAP_MILLISECONDS else 1
            end = min(end, following - gap)
        wrapped = [_wrap(each.text, LINE_CHARACTERS) for each in segments]
        owners = tuple(name for name, lines in zip(names[number], wrapped, strict=True) for _ in lines) if names else ()
        cues.append(Cue(start, max(end, start + 1), tuple(line for lines in wrapped for line in lines), owners))
    return tuple(cues)


@dataclass(frozen=True, slots=True)
class _Fits:
    """Whether a word may join a subtitle."""

    characters: int
    lines: int

    def __call__(self, group: list[Word], word: Word) -> bool:
        if word.start_seconds - group[-1].end_seconds > PAUSE_SECONDS:
            return False
        if word.end_seconds - group[0].start_seconds > LONGEST_SECONDS:
            return False
        return len(_wrap(" ".join(one.text for one in (*group, word)), self.characters)) <= self.lines


def _wrap(text: str, characters: int) -> list[str]:
    return textwrap.wrap(text, characters, break_on_hyphens=False)


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
