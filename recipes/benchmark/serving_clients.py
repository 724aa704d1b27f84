"""Clients of a server under load: those that behave, and those that do not."""

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from recipes.benchmark.senseless import PATH, make_form, make_message, make_request

CHUNK_SECONDS = 0.1
TIMEOUT_SECONDS = 300.0
HEADERS = {"Content-Type": "multipart/form-data; boundary=x"}


class Tally:
    """What happened, counted by all clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []
        self.delays: list[float] = []

    def count(self, client: str, outcome: object, is_expected: bool) -> None:
        """One request; what was not to be expected is a fault of the server."""
        with self._lock:
            self.outcomes[client, str(outcome)] += 1
            if not is_expected:
                self.faults.append(f"{client}: {outcome}")

    def measure(self, delays: list[float]) -> None:
        """Words of a live stream: how long after they had been said they came (s)."""
        with self._lock:
            self.delays += delays


class Clients:
    """Each method is one client's single request.

    Args:
        port: of the server on 127.0.0.1.
        sounds: files of speech.
        long_sound: a long one.
        max_upload_bytes: the server's limit.
    """

    def __init__(self, port: int, sounds: list[bytes], long_sound: bytes, max_upload_bytes: int) -> None:
        self.port, self.sounds, self.long_sound = port, sounds, long_sound
        self.max_upload_bytes = max_upload_bytes
        self.tally = Tally()
        self._texts: dict[bytes, str] = {}

    def send_file(self, chooser: random.Random) -> None:
        """A short file, whose text must always be the same."""
        self._send("file", chooser.choice(self.sounds))

    def send_long_file(self, chooser: random.Random) -> None:
        """A long file, whose text must always be the same."""
        self._send("long file", self.long_sound)

    def _send(self, name: str, sound: bytes) -> None:
        status, answer = self._post(make_form(sound))
        text = json.loads(answer).get("text", "") if status == 200 else ""
        expected = self._texts.setdefault(sound, text) if status == 200 else ""
        outcome = status if text == expected else "another text"
        self.tally.count(name, outcome, outcome in (200, 429))
        if status == 429:
            time.sleep(1)

    def leave(self, chooser: random.Random) -> None:
        """A long file whose client does not wait for its text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        connection.request("POST", PATH, make_form(self.long_sound), HEADERS)
        time.sleep(chooser.random())
        connection.close()
        self.tally.count("cancelled", "left", True)

    def send_slowly(self, chooser: random.Random) -> None:
        """A short file in small pieces over some seconds."""
        body = make_form(chooser.choice(self.sounds))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.putrequest("POST", PATH)
            for key, value in {**HEADERS, "Content-Length": str(len(body))}.items():
                connection.putheader(key, value)
            connection.endheaders()
            for start in range(0, len(body), max(1, len(body) // 20)):
                connection.send(body[start : start + max(1, len(body) // 20)])
                time.sleep(0.2)
            status = connection.getresponse().status
        self.tally.count("slow", status, status in (200, 429))

    def send_garbage(self, chooser: random.Random) -> None:
        """A file that is no sound."""
        status, _ = self._post(make_form(chooser.randbytes(50_000)))
        self.tally.count("garbage", status, status in (400, 429))

    def send_too_much(self, chooser: random.Random) -> None:
        """A file beyond the limit."""
        status, _ = self._post(make_form(bytes(self.max_upload_bytes + 2**20)))
        self.tally.count("oversize", status, status in (413, 429))

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", PATH, body, HEADERS)
            response = connection.getresponse()
            return response.status, response.read()

    def stream(self, waveform: NDArray[np.int16], rate_hz: int, until: float) -> None:
        """A live stream at the pace of speech, until a time of the monotonic clock; what it raises is a fault."""
        delays: list[float] = []
        try:
            self._speak(waveform, rate_hz, until, delays)
        except Exception as error:
            self.tally.count("stream", type(error).__name__, is_expected=False)
        self.tally.measure(delays)

    def _speak(self, waveform: NDArray[np.int16], rate_hz: int, until: float, delays: list[float]) -> None:
        chunk = round(CHUNK_SECONDS * rate_hz)
        with connect(f"ws://127.0.0.1:{self.port}/v1/stream", max_size=2**22) as opened:
            opened.send(json.dumps({"type": "start", "sample_rate_hz": rate_hz}))
            ready = json.loads(opened.recv(TIMEOUT_SECONDS))
            if ready["type"] != "ready":
                self.tally.count("stream", ready.get("code"), ready.get("code") == "too_many_streams")
                return
            began = time.monotonic()

            def listen() -> None:
                with contextlib.suppress(ConnectionClosed):
                    for message in opened:
                        event = json.loads(message)
                        if event["type"] == "final":
                            delays.append(time.monotonic() - began - event["end_seconds"])
                        if event["type"] in ("done", "error"):
                            is_good = event["type"] == "done"
                            self.tally.count("stream", "done" if is_good else event["code"], is_good)

            listener = threading.Thread(target=listen)
            listener.start()
            number = 0
            while time.monotonic() < until:
                start = number * chunk % (len(waveform) - chunk)
                opened.send(waveform[start : start + chunk].tobytes())
                number += 1
                time.sleep(max(0.0, began + number * CHUNK_SECONDS - time.monotonic()))
            opened.send('{"type": "finish"}')
            listener.join(TIMEOUT_SECONDS)

    def send_senseless_request(self, chooser: random.Random) -> None:
        """A broken HTTP request; an answer of 5xx or none in time is a fault."""
        answer = b""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS)
        with opened as connection, contextlib.suppress(ConnectionError):
            connection.sendall(make_request(self.sounds[0], chooser))
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        status = answer[9:12].decode(errors="replace") or "closed"
        self.tally.count("senseless request", status, not status.startswith("5"))

    def send_senseless_messages(self, chooser: random.Random) -> None:
        """A stream that makes no sense; an internal error or no end in time is a fault."""
        codes = []
        with connect(f"ws://127.0.0.1:{self.port}/v1/stream") as opened, contextlib.suppress(ConnectionClosed):
            if chooser.random() < 0.7:
                opened.send('{"type": "start", "sample_rate_hz": 16000}')
            for _ in range(chooser.randrange(6)):
                opened.send(make_message(self.sounds[0], chooser))
            opened.send('{"type": "finish"}')
            while True:
                codes.append(json.loads(opened.recv(TIMEOUT_SECONDS)).get("code"))
        is_good = "internal_error" not in codes
        self.tally.count("senseless messages", opened.close_code, is_good and opened.close_code != 1011)

    def repeat(self, act: Callable[[random.Random], None], until: float, seed: int, pause_seconds: float) -> None:
        """One client after another until a time of the monotonic clock; what it raises is a fault."""
        chooser = random.Random(seed)
        while time.monotonic() < until:
            try:
                act(chooser)
            except Exception as error:
                self.tally.count(act.__name__, type(error).__name__, is_expected=False)
            time.sleep(pause_seconds)


def read_samples(paths: list[Path], seconds: float) -> tuple[NDArray[np.int16], int]:
    """Recordings of one rate joined with pauses of a second, repeated to at least so long."""
    parts: list[NDArray[np.int16]] = []
    rate_hz = soundfile.info(paths[0]).samplerate
    while sum(map(len, parts)) < seconds * rate_hz:
        for path in paths:
            samples, rate = soundfile.read(path, dtype="int16")
            if rate == rate_hz and samples.ndim == 1:
                parts += [samples, np.zeros(rate_hz, np.int16)]
    joined: NDArray[np.int16] = np.concatenate(parts)
    return joined, rate_hz
