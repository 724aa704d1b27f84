"""The ladder of live streams, on servers that are made up."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra serve is not installed")

from websockets.sync.server import ServerConnection, serve

from recipes.benchmark import sustained
from recipes.benchmark.sustained import Bounds, Crowd, Rung, climb, show

RATE_HZ = 1000
BOUNDS = Bounds(1.25, 2.25, 0.3)


def make_rung(num_streams: int, seconds: float, delay: float, growth: float = 0.0, late: float = 0.0) -> Rung:
    ends = np.linspace(0, seconds, 201)
    delays = delay + growth * ends / seconds
    delays[::50] += late
    return Rung(num_streams, seconds, list(zip(ends.tolist(), delays.tolist(), strict=True)))


def test_words_that_are_late_or_become_later_are_not_sustained() -> None:
    row = make_rung(5, 9.0, 1.0).describe(BOUNDS)
    assert row["is_sustained"]
    assert (row["num_words"], row["median_seconds"], row["lag_seconds"]) == (201, 1.0, 0.0)
    assert not make_rung(5, 9.0, 1.3).describe(BOUNDS)["is_sustained"]
    assert not make_rung(5, 9.0, 1.0, late=1.5).describe(BOUNDS)["is_sustained"]
    growing = make_rung(5, 9.0, 0.5, growth=0.6).describe(BOUNDS)
    assert growing["lag_seconds"] == pytest.approx(0.4, abs=0.02)
    assert not growing["is_sustained"]
    assert not Rung(5, 9.0).describe(BOUNDS)["is_sustained"]  # who hears nothing keeps up with nothing
    refused = make_rung(5, 9.0, 1.0)
    refused.problems.append("too_many_streams")
    assert not refused.describe(BOUNDS)["is_sustained"]


@pytest.mark.parametrize("most", [0, 1, 7, 16, 17, 50, 83, 479, 480, 1000])
def test_the_most_streams_are_found_to_a_tenth_and_held(most: int) -> None:
    asked = []

    def measure(num_streams: int, seconds: float) -> Rung:
        asked.append((num_streams, seconds))
        return make_rung(num_streams, seconds, 1.0 if num_streams <= most else 3.0)

    rows = list(climb(measure, 10.0, BOUNDS, 16))
    possible = min(most, sustained.MOST_STREAMS)
    assert max(count for count, _ in asked) <= sustained.MOST_STREAMS
    assert len(asked) < 16
    if most == 0:
        assert not any(row["is_sustained"] for row in rows)
        return
    assert rows[-1]["is_sustained"]
    assert rows[-1]["seconds"] == 30.0
    assert possible - max(1, possible // 10) <= rows[-1]["num_streams"] <= possible


def test_what_cannot_be_held_for_longer_gives_way() -> None:
    def measure(num_streams: int, seconds: float) -> Rung:
        return make_rung(num_streams, seconds, 1.0 if num_streams <= (50 if seconds == 10.0 else 40) else 3.0)

    rows = list(climb(measure, 10.0, BOUNDS, 16))
    held = [row for row in rows if row["seconds"] == 30.0]
    assert [row["is_sustained"] for row in held] == [False] * (len(held) - 1) + [True]
    assert 35 <= held[-1]["num_streams"] <= 40
    assert show(rows).count("too many") == sum(not row["is_sustained"] for row in rows)


@contextmanager
def answer(behind_seconds: float, most: int) -> Iterator[int]:
    """A server that makes what it has heard, but for so much, one word after each chunk; gives its port."""
    open_streams = []

    def hear(socket: ServerConnection) -> None:
        def send(kind: str, **fields: Any) -> None:
            socket.send(json.dumps({"type": kind, **fields}))

        assert json.loads(socket.recv())["sample_rate_hz"] == RATE_HZ
        open_streams.append(socket)
        if len(open_streams) > most:
            send("error", code="too_many_streams")
            return
        send("ready")
        num_samples = 0
        for message in socket:
            if isinstance(message, str):
                break
            num_samples += len(message) // 2
            send("partial", words=[], text="")
            send("final", words=[{"end_seconds": num_samples / RATE_HZ - behind_seconds}])
        send("done")

    with serve(hear, "127.0.0.1", 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]
        server.shutdown()


def test_delays_count_from_the_sound_of_a_word_at_the_pace_of_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sustained, "APART_SECONDS", 0.4)
    monkeypatch.setattr(sustained, "CHUNK_SECONDS", 0.1)
    samples = np.zeros(10 * RATE_HZ, np.int16)
    with answer(behind_seconds=0.7, most=3) as port:
        started = time.monotonic()
        rung = Crowd(port, samples, RATE_HZ, lambda: 0.0).measure(3, 1.0)
        assert 1.8 < time.monotonic() - started < 5
    assert rung.problems == []
    ends, delays = np.array(rung.words).T
    assert 24 <= len(ends) <= 33  # ten in a second of each
    assert ends.min() >= 0
    assert ends.max() <= 1
    assert delays.min() >= 0.7 - 1e-3
    assert np.median(delays) < 0.9


def test_streams_that_are_refused_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sustained, "APART_SECONDS", 0.0)
    with answer(behind_seconds=0.3, most=1) as port:
        rung = Crowd(port, np.zeros(10 * RATE_HZ, np.int16), RATE_HZ, lambda: 0.0).measure(2, 0.7)
    assert rung.problems == ["too_many_streams"]
    assert not rung.describe(BOUNDS)["is_sustained"]
