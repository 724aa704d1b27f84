"""The rule by which threads share a recurrent layer. recipes/benchmark/benchmark_recurrent.py measures its worth."""

import pytest

from tests.ops.native_library import NativeLibrary

CACHE = 32 << 20
LSTM, GRU = (2, 4), (2, 3)  # directions, gates


@pytest.mark.parametrize(
    ("size", "layout", "threads", "expected"),
    [
        ((125, 1, 320), LSTM, 2, (2, 1)),  # AN4's network, one recording
        ((100, 4, 320), LSTM, 2, (2, 1)),
        ((100, 16, 320), LSTM, 2, (2, 1)),  # a training step of it
        ((100, 16, 320), LSTM, 3, (1, 3)),  # two teams would leave a thread idle
        ((100, 16, 320), LSTM, 4, (2, 2)),
        ((100, 16, 512), LSTM, 2, (1, 2)),  # weights too large to be read at the same time, and frames of some work
        ((100, 8, 192), LSTM, 2, (2, 1)),
        ((100, 16, 192), GRU, 2, (2, 1)),
        ((125, 1, 512), LSTM, 2, (2, 1)),
        ((375, 16, 1024), LSTM, 2, (1, 2)),
        ((125, 1, 1024), LSTM, 2, (1, 2)),  # work enough to meet for
        ((100, 4, 320), LSTM, 7, (2, 1)),  # a frame has no work for more
        ((100, 5, 320), LSTM, 7, (2, 1)),
        ((100, 2, 512), LSTM, 4, (2, 2)),
        ((375, 16, 1024), LSTM, 7, (1, 7)),
        ((100, 4, 320), LSTM, 1, (1, 1)),
        ((100, 1, 320), (1, 4), 2, (1, 1)),  # one direction has one team
        ((100, 16, 320), (1, 4), 2, (1, 2)),
        ((1, 1, 320), LSTM, 2, (1, 1)),  # not worth a second thread
    ],
)
def test_the_rule_says(
    library: NativeLibrary, size: tuple[int, int, int], layout: tuple[int, int], threads: int, expected: tuple[int, int]
) -> None:
    assert library.choose_split(size, layout, threads, CACHE) == expected


def test_both_directions_have_to_fit_into_the_cache(library: NativeLibrary) -> None:
    num_bytes = 2 * 4 * 512 * 512 * 4
    assert library.choose_split((100, 1, 512), LSTM, 2, num_bytes) == (2, 1)
    assert library.choose_split((100, 1, 512), LSTM, 2, num_bytes - 1) == (1, 1)
    assert library.choose_split((100, 16, 512), LSTM, 2, 8 * num_bytes) == (2, 1)
    assert library.choose_split((100, 16, 512), LSTM, 2, 8 * num_bytes - 1) == (1, 2)


@pytest.mark.parametrize("threads", range(1, 8))
def test_no_more_threads_than_there_are(library: NativeLibrary, threads: int) -> None:
    for num_utterances in (1, 2, 4, 8, 16, 64):
        for num_hidden in (5, 64, 320, 512, 1024):
            teams, team_size = library.choose_split((50, num_utterances, num_hidden), LSTM, threads, CACHE)
            assert 1 <= teams * team_size <= threads
