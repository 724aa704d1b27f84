"""Live sound through a network that needs whole utterances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.streaming.events import Endpointing, Event
from mindaudio_ds2.streaming.segments import SegmentStream

RATE_HZ = 1000
WORD_SECONDS = 0.3
LEVELS = np.linspace(0.1, 0.9, 20)
"""A word is a burst of one of these amplitudes, and this is its number."""


def recognize(waveform: NDArray[np.float32]) -> Hypothesis:
    """Bursts that are whole, by their loudest sample."""
    loud = np.abs(waveform) > 0.05
    edges = np.flatnonzero(np.diff(loud.astype(int), prepend=0, append=0)).reshape(-1, 2)
    words = []
    for start, end in edges:
        if end - start > 0.8 * WORD_SECONDS * RATE_HZ:
            number = int(np.abs(LEVELS - np.abs(waveform[start:end]).max()).argmin())
            words.append(Word(f"w{number}", start / RATE_HZ, end / RATE_HZ, 0.5))
    return Hypothesis(" ".join(word.text for word in words), 0.0, tuple(words))


def make_sound(plan: list[tuple[int, float]]) -> NDArray[np.float32]:
    """Words by their number, each with a silence behind it (s)."""
    generator = np.random.default_rng(1)
    signs = np.where(np.arange(round(WORD_SECONDS * RATE_HZ)) % 2, 1, -1)
    parts = [np.zeros(RATE_HZ)]
    for number, silence in plan:
        parts += [LEVELS[number] * signs, np.zeros(round(silence * RATE_HZ))]
    sound = np.concatenate([*parts, np.zeros(500)])
    noise = 1e-4 * generator.standard_normal(len(sound))
    return np.asarray(sound + noise, np.float32)


def hear(sound: NDArray[np.float32], cuts: list[int], endpointing: Endpointing | None) -> list[Event]:
    stream = SegmentStream(recognize, RATE_HZ, RATE_HZ, endpointing)
    events: list[Event] = []
    for chunk in np.split(sound, sorted(cuts)):
        events += stream.feed(chunk)
    return events + stream.finish()


def read_text(events: list[Event], kind: str = "final") -> str:
    return " ".join(event.text for event in events if event.kind == kind)


PLAN = [(n % 20, 1.5 if n % 4 == 3 else 0.12) for n in range(30)]


@given(st.lists(st.integers(0, 20000), max_size=30))
def test_words_and_endpoints_are_the_same_for_any_cut(cuts: list[int]) -> None:
    sound = make_sound(PLAN)
    events = hear(sound, cuts, Endpointing())
    assert read_text(events) == " ".join(f"w{number}" for number, _ in PLAN)
    endpoints = [event for event in events if event.kind == "endpoint"]
    assert [len(event.words) for event in endpoints] == [4] * 7 + [2]
    assert [event.reason for event in endpoints] == ["silence"] * 7 + ["end"]
    assert [event.utterance for event in endpoints] == list(range(8))


def test_times_count_from_the_first_sample() -> None:
    events = hear(make_sound(PLAN), [], Endpointing())
    starts, now = [], 1.0
    for _, silence in PLAN:
        starts.append(now)
        now += WORD_SECONDS + silence
    words = [word for event in events if event.kind == "final" for word in event.words]
    assert [word.start_seconds for word in words] == pytest.approx(starts, abs=0.01)


def test_speech_without_pauses_is_cut_and_each_word_comes_once() -> None:
    plan = [(n % 20, 0.03) for n in range(200)]
    events = hear(make_sound(plan), [], Endpointing(max_seconds=10))
    assert read_text(events) == " ".join(f"w{number}" for number, _ in plan)
    assert len([event for event in events if event.kind == "endpoint"]) == 1
    assert len([event for event in events if event.kind == "final"]) > 6


def test_words_come_at_most_two_seconds_behind_their_pause() -> None:
    stream = SegmentStream(recognize, RATE_HZ, RATE_HZ, Endpointing())
    sound = make_sound([(3, 5.0)])
    for place in range(0, len(sound), 100):
        if stream.feed(sound[place : place + 100]):
            break
    assert place / RATE_HZ <= 1 + WORD_SECONDS + stream.latency_seconds + 0.1
    assert stream.latency_seconds < 2


def test_one_utterance_without_end_has_one_endpoint() -> None:
    events = hear(make_sound(PLAN), [], None)
    assert [event.kind for event in events].count("endpoint") == 1
    assert read_text(events, "endpoint") == read_text(events) == " ".join(f"w{number}" for number, _ in PLAN)


def test_memory_does_not_grow_in_silence_or_speech() -> None:
    stream = SegmentStream(recognize, RATE_HZ, RATE_HZ, Endpointing())
    for _ in range(3):
        stream.feed(np.zeros(600 * RATE_HZ, np.float32))
        stream.feed(make_sound(PLAN))
        assert len(stream._kept) < 60 * RATE_HZ


def test_an_ended_stream_takes_no_more_and_an_empty_one_says_nothing() -> None:
    stream = SegmentStream(recognize, RATE_HZ, RATE_HZ, Endpointing())
    assert stream.feed(np.zeros(0, np.float32)) == []
    assert stream.finish() == []
    with pytest.raises(AudioError, match="finished"):
        stream.feed(np.zeros(1, np.float32))
