"""Who goes first, and what goes together."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("prometheus_client", reason="the extra serve is not installed")

from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.serving.dispatcher import MOST_STREAMS, Dispatcher
from mindaudio_ds2.serving.metrics import Metrics
from mindaudio_ds2.streaming.events import Event
from mindaudio_ds2.transcribe import Recognizer
from tests.streaming.babbler import RATE_HZ, Babbler, make_sound


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    made = Dispatcher(1, Metrics())
    yield made
    made.close(10)


@pytest.fixture
def release(dispatcher: Dispatcher) -> Callable[[], None]:
    """The only worker is busy until this is called, so that what is asked for meanwhile waits."""
    begun, gate = threading.Event(), threading.Event()
    dispatcher.run_live(lambda: begun.set() or gate.wait(60))
    assert begun.wait(60)
    return gate.set


def test_chunks_that_wait_are_computed_side_by_side(dispatcher: Dispatcher, release: Callable[[], None]) -> None:
    """One wait is enough; nobody waits for more, nor for a network that is not its own."""
    babbler, other = Babbler(), Babbler()
    recognizer, sound = Recognizer(babbler), make_sound(4.0)
    expected = recognizer.stream(RATE_HZ).feed(sound)
    streams = [recognizer.stream(RATE_HZ) for _ in range(5)]
    found = [dispatcher.feed_live(stream, sound) for stream in streams]
    stranger = dispatcher.feed_live(Recognizer(other).stream(RATE_HZ), sound)
    again = [dispatcher.feed_live(stream, sound) for stream in streams[:2]]  # after what they are fed before
    bad = dispatcher.feed_live(recognizer.stream(RATE_HZ), np.full(100, np.nan, np.float32))
    release()
    assert [future.result(60) for future in found] == [expected] * 5
    assert stranger.result(60) == expected
    assert [future.result(60) for future in again] == [feed_twice(recognizer, sound)] * 2
    with pytest.raises(AudioError, match="not finite"):
        bad.result(60)
    assert babbler.batch_sizes == [5, 2]
    assert other.batch_sizes == []
    dispatcher.feed_live(recognizer.stream(RATE_HZ), sound).result(60)
    assert babbler.batch_sizes == [5, 2], "alone again"


def feed_twice(recognizer: Recognizer, sound: NDArray[np.float32]) -> list[Event]:
    stream = recognizer.stream(RATE_HZ)
    stream.feed(sound)
    return stream.feed(sound)


def test_a_batch_of_streams_has_an_end(dispatcher: Dispatcher, release: Callable[[], None]) -> None:
    babbler = Babbler()
    recognizer, sound = Recognizer(babbler), make_sound(0.5)
    found = [dispatcher.feed_live(recognizer.stream(RATE_HZ), sound) for _ in range(MOST_STREAMS + 3)]
    release()
    for future in found:
        future.result(60)
    assert babbler.batch_sizes == [MOST_STREAMS, 3]


def test_who_leaves_while_waiting_is_not_computed(dispatcher: Dispatcher, release: Callable[[], None]) -> None:
    babbler = Babbler()
    recognizer, sound = Recognizer(babbler), make_sound(0.5)
    streams = [recognizer.stream(RATE_HZ) for _ in range(3)]
    found = [dispatcher.feed_live(stream, sound) for stream in streams]
    assert found[1].cancel()
    release()
    found[0].result(60)
    found[2].result(60)
    assert streams[1].num_samples == 0
    with pytest.raises(CancelledError):
        found[1].result(0)
