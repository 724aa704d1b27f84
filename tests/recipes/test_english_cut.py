import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.corpus.manifest import Utterance
from recipes.english.cut import MOST_SECONDS, Pause, align, choose_cuts, cut, find_pauses

RATE = 16000
FRAME_SECONDS = 0.04


def collapse(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label]


def score_best_path(log_probs: NDArray[np.float32], labels: list[int]) -> float:
    """The likeliest of all paths that collapse to the labels, by trying each."""
    paths = itertools.product(range(log_probs.shape[1]), repeat=len(log_probs))
    return max(sum(float(log_probs[t, k]) for t, k in enumerate(p)) for p in paths if collapse(p) == labels)


@pytest.mark.parametrize("labels", [[1], [1, 2], [1, 1], [2, 1, 2], [1, 1, 2]])
def test_the_alignment_is_the_best_of_all_paths(labels: list[int]) -> None:
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(0, 2, (6, 3))
        log_probs = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
        path = align(log_probs, np.array(labels, np.int32), blank=0)
        assert path is not None
        said = tuple(labels[index] if index >= 0 else 0 for index in path)
        assert collapse(said) == labels
        assert sum(log_probs[t, k] for t, k in enumerate(said)) == pytest.approx(score_best_path(log_probs, labels))


def test_labels_that_do_not_fit_are_not_aligned() -> None:
    assert align(np.zeros((2, 3), np.float32), np.array([1, 1], np.int32), blank=0) is None
    assert align(np.zeros((2, 3), np.float32), np.array([1, 2, 1], np.int32), blank=0) is None


def speak(*spans: tuple[float, bool]) -> NDArray[np.float32]:
    """Noise where somebody speaks, and a thousandth of it in pauses."""
    noise = np.random.default_rng(0)
    parts = [noise.normal(0, 0.1 if loud else 1e-4, round(seconds * RATE)) for seconds, loud in spans]
    waveform: NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
    return waveform


def align_evenly(*words: tuple[str, int, int]) -> NDArray[np.int64]:
    """A path in which each word's letters fill its frames, `(word, first, end)`."""
    path = np.full(words[-1][2] + 5, -1)
    position = 0
    for word, first, end in words:
        path[first:end] = position + np.arange(end - first) * len(word) // (end - first)
        position += len(word) + 1
    return path


def test_pauses_are_quiet_gaps_between_words() -> None:
    waveform = speak((1.0, True), (0.4, False), (2.0, True))
    path = align_evenly(("ONE", 0, 25), ("TWO", 35, 55), ("SIX", 65, 80))  # nothing is quiet between two and six
    (pause,) = find_pauses(path, "ONE TWO SIX", waveform, RATE, FRAME_SECONDS)
    assert pause.index == 1
    assert 1.0 < pause.seconds < 1.4


def test_words_without_a_gap_are_not_cut_apart() -> None:
    path = align_evenly(("ONE", 0, 25), ("TWO", 26, 55))
    assert not find_pauses(path, "ONE TWO", speak((2.5, False)), RATE, FRAME_SECONDS)


def test_parts_are_as_long_as_may_be_and_longer_where_nobody_pauses() -> None:
    pauses = [Pause(i, s) for i, s in enumerate([1.0, 3.0, 5.5, 6.5, 15.0, 19.5], 1)]
    cuts = [pause.seconds for pause in choose_cuts(pauses, 20.0)]
    assert cuts == [5.5, 15.0]
    assert choose_cuts(pauses, MOST_SECONDS) == []
    assert choose_cuts([], 20.0) == []


def test_parts_together_are_the_whole(tmp_path: Path) -> None:
    waveform = speak((2.0, True), (1.0, False), (3.0, True))
    whole = Utterance("19-1-0000", "whole.flac", 6.0, "HAVE A LOOK AT IT", "19")
    parts = list(cut(whole, waveform, RATE, [Pause(2, 2.5)], tmp_path))
    assert [part.transcript for part in parts] == ["HAVE A", "LOOK AT IT"]
    assert [part.duration_seconds for part in parts] == [2.5, 3.5]
    assert {part.speaker for part in parts} == {"19"}
    assert len({part.id for part in parts}) == 2
    sound = np.concatenate([soundfile.read(part.audio_path, dtype="float32")[0] for part in parts])
    np.testing.assert_allclose(sound, waveform, atol=1 / 32768)
    assert list(cut(whole, waveform, RATE, [], tmp_path)) == [whole]
