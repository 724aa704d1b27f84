"""How long recordings and word times are measured."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.transcription import Span, Transcription
from recipes.benchmark.benchmark_long import MemoryWatch, find_uncovered_seconds, join
from recipes.benchmark.benchmark_word_times import compare, summarize


def test_recordings_are_joined_from_the_first_again_until_it_is_long_enough(tmp_path: Path) -> None:
    utterances = []
    for number, level in enumerate((0.25, 0.5)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.full(8000, level), 8000, subtype="FLOAT")
        utterances.append(Utterance(str(number), str(path), 1.0, "A", "x"))
    for each in utterances:  # no constants: the reader would take them away
        samples = soundfile.read(each.audio_path)[0]
        samples[::2] *= -1
        soundfile.write(each.audio_path, samples, 8000, subtype="FLOAT")
    chosen = join(utterances, 2.5, 8000, tmp_path / "long.wav")
    assert [each.id for each in chosen] == ["0", "1", "0"]
    joined = np.abs(soundfile.read(tmp_path / "long.wav")[0]).reshape(3, 8000)
    assert joined.mean(axis=1) == pytest.approx([0.25, 0.5, 0.25], abs=1e-3)


def test_seconds_that_nothing_holds_are_counted() -> None:
    spans = (Span(0.0, 2.0), Span(1.5, 4.0))
    found = Transcription(Path("x"), 10.0, None, "", recognized=spans, silences=(Span(5.0, 9.0),))
    assert find_uncovered_seconds(found) == pytest.approx(1.0 + 1.0)


def test_memory_that_is_taken_shows_in_the_slope() -> None:
    watch = MemoryWatch()
    watch.rows = [(float(i), 100.0 + 2 * i) for i in range(11)]
    assert watch.summarize(audio_hours=1.0) == {"peak_mb": 120.0, "slope_mb_per_hour_of_audio": 20.0}


def test_only_words_that_were_recognised_right_are_compared() -> None:
    times = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    found = [Word("A", 0.1, 1.0, 1), Word("X", 1.0, 2.0, 1), Word("NEW", 2.0, 2.1, 1), Word("C", 2.2, 2.9, 1)]
    distances = compare("A B C", times, found)
    assert np.array(distances) == pytest.approx(np.array([(0.1, 0.0), (0.2, -0.1)]))
    row = summarize(distances)
    assert (row["words"], row["start_median_ms"], row["end_bias_ms"]) == (2, 150.0, -50.0)
