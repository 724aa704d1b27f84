"""Words one behind the other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.decoding.hypothesis import LEAST_WORD_SECONDS, Word, part_words

SECONDS = st.floats(-1, 12)


def test_words_that_share_no_time_stay() -> None:
    words = (Word("A", 0.5, 1.0, 0.1), Word("B", 1.0, 1.5, 0.2), Word("C", 2.0, 2.01, 0.3))
    assert part_words(words, 0.0, np.inf) == words
    assert part_words([], 0.0, 1.0) == ()


def test_a_word_without_duration_takes_it_from_the_next_or_at_the_end_from_the_last() -> None:
    words = [Word("A", 1.0, 1.0, 1.0), Word("B", 1.0, 2.0, 1.0), Word("C", 2.0, 2.0, 1.0)]
    parted = part_words(words, 0.0, 2.0)
    assert [(word.start_seconds, word.end_seconds) for word in parted] == [(1.0, 1.01), (1.01, 1.99), (1.99, 2.0)]


@given(st.lists(st.tuples(SECONDS, SECONDS), max_size=30), st.floats(0, 5), st.floats(0, 5))
def test_whatever_the_times_each_word_has_its_own(times: list[tuple[float, float]], first: float, room: float) -> None:
    words = [Word(str(number), start, end, 1.0) for number, (start, end) in enumerate(times)]
    parted = part_words(words, first, first + room)
    assert [word.text for word in parted] == [word.text for word in words]
    edges = [edge for word in parted for edge in (word.start_seconds, word.end_seconds)]
    assert edges == sorted(edges)
    if parted:
        assert first <= edges[0]
        assert edges[-1] <= first + room
        least = min(LEAST_WORD_SECONDS, room / len(words))
        assert all(word.end_seconds - word.start_seconds >= least - 1e-9 for word in parted)
