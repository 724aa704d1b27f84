"""The figures of live streams, on a network that babbles."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.streaming.events import Event
from mindaudio_ds2.transcribe import Recognizer
from recipes.benchmark import benchmark_streaming as script
from tests.streaming.babbler import RATE_HZ, Babbler, make_sound


@pytest.fixture
def recognizer() -> Recognizer:
    return Recognizer(Babbler())


def test_words_are_shown_before_they_are_final_and_both_after_they_were_said(recognizer: Recognizer) -> None:
    timing = script.time_stream(recognizer, make_sound(8.0), 0.1)
    assert timing.words == recognizer.transcribe(make_sound(8.0), RATE_HZ).text.split()
    assert len(timing.chunk_seconds) == 80
    assert np.all(np.array(timing.shown_seconds) <= timing.final_seconds)
    assert 0 < np.median(timing.shown_seconds) < recognizer.stream().latency_seconds + 1.0
    table = script.describe(timing, 0.5, 0.1)
    assert "| algorithmic | 0.500 s | |" in table
    assert f"{len(timing.words)} words" in table


def test_a_word_counts_from_when_it_stood_as_it_stayed() -> None:
    from mindaudio_ds2.decoding.hypothesis import Word
    from mindaudio_ds2.streaming.events import make_event

    def say(kind: str, *texts: str) -> list[Event]:
        words = tuple(Word(text, 1.0, 2.0, 0.9) for text in texts)
        return [make_event(kind, 0, words, 0.0)]  # type: ignore[arg-type]

    timing, shown = script.Timing(), []  # type: ignore[var-annotated]
    for now, events in (
        (3.0, say("partial", "A", "BET")),
        (4.0, say("partial", "A", "B")),
        (5.0, say("partial", "A", "BEE", "C")),
        (6.0, say("final", "A", "BEE")),
        (7.0, say("partial", "C")),
        (8.0, say("final", "C")),
    ):
        script._note(timing, shown, events, now)
    assert timing.words == ["A", "BEE", "C"]
    assert timing.shown_seconds == [1.0, 3.0, 5.0]  # C was taken back, and shown again
    assert timing.final_seconds == [4.0, 4.0, 6.0]


def test_cuts_that_differ_are_counted(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert script.count_differing_cuts(recognizer, make_sound(5.0), 5) == 0
    original, opened = recognizer.stream, []

    def spoil(rate_hz: int) -> object:
        opened.append(rate_hz)
        stream = original(rate_hz)
        if len(opened) == 3:
            stream.feed(make_sound(9.0)[:RATE_HZ])
        return stream

    monkeypatch.setattr(recognizer, "stream", spoil)
    assert script.count_differing_cuts(recognizer, make_sound(5.0), 5) == 1


def test_recordings_are_joined_again_and_again(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", make_sound(1.0), RATE_HZ)
    write_manifest(tmp_path / "one.jsonl", [Utterance("a", str(tmp_path / "a.wav"), 1.0, "X")])
    joined = script.join_recordings(tmp_path / "one.jsonl", RATE_HZ, 4.0)
    assert len(joined) == 4 * RATE_HZ
    np.testing.assert_array_equal(joined[:RATE_HZ], joined[int(2.5 * RATE_HZ) : int(3.5 * RATE_HZ)])
