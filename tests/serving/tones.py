"""A server in this process, around a network that hears tones."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("python_multipart", reason="the extra serve is not installed")
pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
pytest.importorskip("httpx2", reason="httpx2 is not installed")

import httpx2 as httpx

from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.segmentation.sources import Samples
from mindaudio_ds2.serving.dispatcher import Dispatcher
from mindaudio_ds2.serving.guard import Access
from mindaudio_ds2.serving.limits import Limits
from mindaudio_ds2.serving.metrics import Metrics
from mindaudio_ds2.serving.server import Server, ServerOptions, listen
from mindaudio_ds2.serving.service import Service
from mindaudio_ds2.streaming.events import Event, make_event
from mindaudio_ds2.transcribe import Recognizer
from tests.tiny_corpus import RATE_HZ, speak
from tests.tone_network import ToneNetwork

CLIENT = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
"""For requests of tests; machines are slow at times."""


class ToneStream:
    """What `Recognizer.stream` gives, for short sounds: hears all of it anew with every chunk."""

    is_incremental = True
    latency_seconds = 0.1

    def __init__(self, recognizer: Recognizer, rate_hz: int) -> None:
        self._recognizer, self.rate_hz = recognizer, rate_hz
        self._heard = np.zeros(0, np.float32)
        self._num_final = 0
        self._partial = ""

    def feed(self, samples: NDArray[Any]) -> list[Event]:
        scale = 32768 if samples.dtype == np.int16 else 1
        if not np.isfinite(samples).all():
            raise AudioError("samples are not finite")
        self._heard = np.concatenate([self._heard, (samples / scale).astype(np.float32)])
        words = self._hear()
        later = len(self._heard) / self.rate_hz - 0.15
        settled = [word for word in words[self._num_final :] if word.end_seconds < later]
        events = [make_event("final", 0, (word,), 0.0) for word in settled]
        self._num_final += len(settled)
        rest = words[self._num_final :]
        partial = " ".join(word.text for word in rest)
        if partial != self._partial:
            events.append(make_event("partial", 0, tuple(rest), later))
            self._partial = partial
        return events

    def finish(self) -> list[Event]:
        words = self._hear()
        events = [make_event("final", 0, (word,), 0.0) for word in words[self._num_final :]]
        return [*events, make_event("endpoint", 0, tuple(words), 0.0, "end")] if words else []

    def _hear(self) -> list[Word]:
        if not len(self._heard):
            return []
        (found,) = self._recognizer.run([Samples(self._heard, self.rate_hz)]).transcriptions
        return list(found.words)


class ToneRecognizer(Recognizer):
    def stream(self, rate_hz: int | None = None, endpointing: Any = None) -> Any:
        return ToneStream(self, rate_hz or RATE_HZ)


def make_wav(transcript: str, seconds_of_silence: float = 0.0, kind: str = "WAV") -> bytes:
    samples = speak(transcript, seed=4)
    if seconds_of_silence:
        samples = np.concatenate([samples, np.zeros(round(seconds_of_silence * RATE_HZ))])
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format=kind)
    return file.getvalue()


class Running:
    """A server that runs: its address, its service, its network."""

    def __init__(self, limits: Limits, access: Access, num_workers: int, choice: DecoderChoice) -> None:
        self.network = ToneNetwork()
        metrics = Metrics()
        recognizer = ToneRecognizer(self.network, choice)
        dispatcher = Dispatcher(num_workers, metrics)
        self.service = Service("tones", 1, recognizer, choice, dispatcher, metrics, limits)
        options = ServerOptions(model=None, port=0, grace_seconds=5.0)  # type: ignore[arg-type]
        self.listener = listen(options)
        self.server = Server(self.service, access, options)
        self.port = self.listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True)

    def wait_for(self, condition: Any, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it never came to that"
            time.sleep(0.01)


@contextlib.contextmanager
def run_server(
    limits: Limits | None = None,
    access: Access | None = None,
    num_workers: int = 2,
    choice: DecoderChoice | None = None,
) -> Iterator[Running]:
    """Serve on a free port of this machine until the block ends."""
    limits = limits or Limits(requests_per_minute=0)
    running = Running(limits, access or Access(), num_workers, choice or DecoderChoice())
    running.thread.start()
    running.wait_for(lambda: running.server.started)
    try:
        yield running
    finally:
        running.network.gate.set()
        running.server.handle_exit(15, None)
        running.thread.join(60)
        assert not running.thread.is_alive()
