import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.decoding.segments import (
    LINE_CHARACTERS,
    LONGEST_SECONDS,
    MOST_LINES,
    make_cues,
    split_at_pauses,
)


def speak_words(seed: int, count: int, longest_pause: float) -> list[Word]:
    rng = np.random.default_rng(seed)
    words, now = [], 0.0
    for _ in range(count):
        now += float(rng.choice([0.0, 0.02, longest_pause]))
        end = now + float(rng.choice([0.02, 0.2, 0.6]))
        words.append(Word("X" * int(rng.integers(1, 30)), now, end, 0.5))
        now = end
    return words


@given(seed=st.integers(0, 10**6), count=st.integers(0, 200), pause=st.sampled_from([0.02, 0.5, 1.5, 30.0]))
def test_subtitles_keep_every_word_and_every_limit(seed: int, count: int, pause: float) -> None:
    words = speak_words(seed, count, pause)
    cues = make_cues(words)
    assert " ".join(line for cue in cues for line in cue.lines).split() == [word.text for word in words]
    assert all(len(cue.lines) <= MOST_LINES and max(map(len, cue.lines)) <= LINE_CHARACTERS for cue in cues)
    assert all(0 < cue.end_milliseconds - cue.start_milliseconds <= 1000 * LONGEST_SECONDS + 1 for cue in cues)
    assert all(one.end_milliseconds < other.start_milliseconds for one, other in zip(cues, cues[1:], strict=False))


def test_a_short_word_stands_long_enough_to_be_read_where_there_is_room() -> None:
    first, second = make_cues([Word("NO", 1.0, 1.1, 0.9), Word("YES", 9.0, 9.2, 0.9)])
    assert (first.start_milliseconds, first.end_milliseconds) == (1000, 2000)
    assert second.start_milliseconds == 9000


def test_words_of_the_same_time_get_times_of_their_own() -> None:
    cues = make_cues([Word("A" * 40, 1.0, 1.0, 0.9)] * 9)
    assert len({cue.start_milliseconds for cue in cues}) == len(cues) == 5


@pytest.mark.parametrize(("pause", "expected"), [(0.9, ["A B"]), (1.1, ["A", "B"])])
def test_a_segment_ends_at_a_pause(pause: float, expected: list[str]) -> None:
    words = [Word("A", 0.0, 0.5, 0.9), Word("B", 0.5 + pause, 2.0, 0.9)]
    assert [segment.text for segment in split_at_pauses(words)] == expected
