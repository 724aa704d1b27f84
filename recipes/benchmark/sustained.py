"""How many live streams a server keeps up with: more and more of them, at the pace of speech, until words come late."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

CHUNK_SECONDS = 0.32
MOST_STREAMS = 480  # the server has 512 connections
OPEN_AT_ONCE = 20
HELD = 3  # times the seconds of a rung
APART_SECONDS = 2.0  # all streams begin and end at once, which none of the words that count may feel
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Bounds:
    """What a number of streams must keep to, to be sustained.

    Attributes:
        median_seconds: from the end of a word until it is final.
        late_seconds: the same, of 99 % of the words.
        lag_seconds: by how much the median of the last third of the sound may be above that of the first.
    """

    median_seconds: float
    late_seconds: float
    lag_seconds: float


@dataclass
class Rung:
    """What so many streams took.

    Attributes:
        num_streams: side by side.
        seconds: of sound of each, without what is `APART_SECONDS` before and behind it (s).
        words: the end of each in that sound, and how long after it the word was final (s).
        problems: why streams ended before their sound did.
        server_cores, client_cores: processor time over time.
    """

    num_streams: int
    seconds: float
    words: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    server_cores: float = 0.0
    client_cores: float = 0.0

    def describe(self, bounds: Bounds) -> dict[str, Any]:
        """As plain values, `is_sustained` with them: whether the server kept up."""
        ends, delays = np.array(self.words or [(np.nan, np.nan)]).T
        median, late = np.percentile(delays, [50, 99])
        first, last = delays[ends < self.seconds / 3], delays[ends > self.seconds * 2 / 3]
        lag = float(np.median(last) - np.median(first)) if len(first) and len(last) else np.nan
        is_early = median <= bounds.median_seconds and late <= bounds.late_seconds and lag <= bounds.lag_seconds
        return {
            "num_streams": self.num_streams,
            "seconds": self.seconds,
            "num_words": len(self.words),
            "median_seconds": round(float(median), 3),
            "percentile_99_seconds": round(float(late), 3),
            "lag_seconds": round(lag, 3),
            "server_cores": round(self.server_cores, 2),
            "client_cores": round(self.client_cores, 2),
            "problems": sorted(set(self.problems)),
            "is_sustained": bool(is_early) and not self.problems,
        }


class Crowd:
    """Speakers of one server, each from another place of the same sound.

    Args:
        port: of the server on 127.0.0.1.
        samples: (n,) at `rate_hz`, longer than a rung.
        rate_hz: of the samples (Hz).
        read_cpu_seconds: the server's processor time so far.
    """

    def __init__(
        self, port: int, samples: NDArray[np.int16], rate_hz: int, read_cpu_seconds: Callable[[], float]
    ) -> None:
        self._url, self._samples, self._rate_hz = f"ws://127.0.0.1:{port}/v1/stream", samples, rate_hz
        self._read_cpu_seconds = read_cpu_seconds

    def measure(self, num_streams: int, seconds: float) -> Rung:
        """Let so many speak for so long."""
        rung = Rung(num_streams, seconds)
        started, own, server = time.monotonic(), time.process_time(), self._read_cpu_seconds()
        asyncio.run(self._speak(rung))
        passed = time.monotonic() - started
        rung.client_cores = (time.process_time() - own) / passed
        rung.server_cores = (self._read_cpu_seconds() - server) / passed
        return rung

    async def _speak(self, rung: Rung) -> None:
        gate = asyncio.Semaphore(OPEN_AT_ONCE)
        opened = await asyncio.gather(*(self._open(rung, gate) for _ in range(rung.num_streams)))
        begin = time.monotonic() + CHUNK_SECONDS
        speakers = [
            self._follow(rung, socket, number, begin + CHUNK_SECONDS * number / rung.num_streams)
            for number, socket in enumerate(opened)
            if socket is not None
        ]
        await asyncio.gather(*speakers)

    async def _open(self, rung: Rung, gate: asyncio.Semaphore) -> ClientConnection | None:
        """A stream that is ready to hear; None, and the reason, where the server refuses it."""
        async with gate:
            socket = await connect(self._url, open_timeout=TIMEOUT_SECONDS)
            await socket.send(json.dumps({"type": "start", "sample_rate_hz": self._rate_hz}))
            answer = json.loads(await asyncio.wait_for(socket.recv(), TIMEOUT_SECONDS))
        if answer["type"] == "ready":
            return socket
        rung.problems.append(str(answer.get("code")))
        return None

    async def _follow(self, rung: Rung, socket: ClientConnection, number: int, begin: float) -> None:
        """One stream from its first sample, which is said at `begin` of the monotonic clock, until it is done."""
        own = np.roll(self._samples, -number * len(self._samples) // rung.num_streams)
        size = round(CHUNK_SECONDS * self._rate_hz)
        listener = asyncio.create_task(listen(rung, socket, begin))
        for place in range(round((rung.seconds + 2 * APART_SECONDS) / CHUNK_SECONDS)):
            due = begin + (place + 1) * CHUNK_SECONDS  # a microphone has it no sooner
            await asyncio.sleep(due - time.monotonic())
            if listener.done():
                break
            await socket.send(own[place * size : (place + 1) * size].tobytes())
        with contextlib.suppress(ConnectionClosed):
            await socket.send('{"type": "finish"}')
        try:
            await asyncio.wait_for(listener, TIMEOUT_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            rung.problems.append("no end")
        await socket.close()


async def listen(rung: Rung, socket: ClientConnection, begin: float) -> None:
    """Note how late each word is final, until the stream is done."""
    async for message in socket:
        event, now = json.loads(message), time.monotonic()
        if event["type"] == "final":
            ends = [word["end_seconds"] - APART_SECONDS for word in event["words"]]
            rung.words += [(end, now - begin - APART_SECONDS - end) for end in ends if 0 <= end <= rung.seconds]
        elif event["type"] == "error":
            rung.problems.append(event["code"])
        elif event["type"] == "done":
            return
    rung.problems.append("closed")


def climb(
    measure: Callable[[int, float], Rung], seconds: float, bounds: Bounds, first: int
) -> Iterator[dict[str, Any]]:
    """Half as many streams more each time until it is too many, then the middles between; the most is held for longer.

    Args:
        measure: so many streams, for so long (s).
        seconds: of each rung (s).
        bounds: to be kept to.
        first: number of streams.

    Yields:
        What was measured. The last one was held and decides, unless even one stream was too many.
    """
    good, count, bad = 0, first, MOST_STREAMS + 1
    while bad - good > max(1, good // 10):
        yield (row := measure(count, seconds).describe(bounds))
        good, bad = (count, bad) if row["is_sustained"] else (good, count)
        count = (good + bad) // 2 if bad <= MOST_STREAMS else min(MOST_STREAMS, count * 3 // 2 + 1)
    while good:
        yield (row := measure(good, HELD * seconds).describe(bounds))
        if row["is_sustained"]:
            return
        good = good * 9 // 10


def show(rungs: list[dict[str, Any]]) -> str:
    """The ladder as a table in Markdown."""
    heads = "| streams | for | words | final after, median | 99 % | later at the end by | cores: server | clients | |"
    rows = [
        f"| {row['num_streams']} | {row['seconds']:.0f} s | {row['num_words']} | {row['median_seconds']:.2f} s "
        f"| {row['percentile_99_seconds']:.2f} s | {row['lag_seconds']:.2f} s | {row['server_cores']:.2f} "
        f"| {row['client_cores']:.2f} | {'kept' if row['is_sustained'] else 'too many'} |"
        for row in rungs
    ]
    return "\n".join([heads, "|" + " --- |" * 9, *rows])
