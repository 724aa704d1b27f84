"""A server in this process, around a network that hears the tones of `tests.tiny_corpus` by their Fourier transform."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
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

from mindaudio_ds2.batching.plan import plan_evaluation
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.portable.network import BATCHES
from mindaudio_ds2.serving.dispatcher import Dispatcher
from mindaudio_ds2.serving.guard import Access
from mindaudio_ds2.serving.limits import Limits
from mindaudio_ds2.serving.metrics import Metrics
from mindaudio_ds2.serving.server import Server, ServerOptions, listen
from mindaudio_ds2.serving.service import Service
from mindaudio_ds2.streaming.events import Event, make_event
from mindaudio_ds2.text.alphabet import Alphabet
from mindaudio_ds2.transcribe import Recognizer, Samples
from tests.tiny_corpus import RATE_HZ, TONES_HZ, YAML, speak

CLIENT = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
"""For requests of tests; machines are slow at times."""

FRAME = RATE_HZ // 50
SPACE_FRAMES = 4
"""Silence of 80 ms is a space; letters fade for less."""


class ToneNetwork:
    """Log-probabilities from the strongest frequency of each 20 ms. `gate` lets it compute; where it `is_unsure`, a B
    may be a D."""

    def __init__(self) -> None:
        config = from_mapping(YAML, "tones")
        self.features = config.features
        self.alphabet = Alphabet(config.text)
        self.seconds_per_output_frame = FRAME / RATE_HZ
        self.longest_seconds = 20.0
        self.streaming = None
        self.gate = threading.Event()
        self.gate.set()
        self.is_unsure = False
        self.num_batches = 0
        self.batch_sizes: list[int] = []

    def plan(self, durations_seconds: Sequence[float]) -> Any:
        return plan_evaluation(durations_seconds, BATCHES, num_frames=self.features.num_frames)

    def recognize(
        self, waveforms: Sequence[NDArray[np.float32]], shape: Any = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        self.num_batches += 1
        self.batch_sizes.append(len(waveforms))
        assert self.gate.wait(90)
        rows = [self._hear(waveform) for waveform in waveforms]
        log_probs = np.full((len(rows), max(map(len, rows)), self.alphabet.size), np.log(1e-6), np.float32)
        for each, row in zip(log_probs, rows, strict=True):
            each[np.arange(len(row)), row] = np.log(0.9)
        if self.is_unsure:
            b, d = self.alphabet.encode("BD")
            log_probs[log_probs[..., b] > -1, d] = np.log(0.1)
        return log_probs, np.array([len(row) for row in rows], np.int32)

    def _hear(self, waveform: NDArray[np.float32]) -> NDArray[np.intp]:
        padded = np.pad(waveform, (0, -len(waveform) % FRAME)).reshape(-1, FRAME)
        spectrum = np.abs(np.fft.rfft(padded * np.hanning(FRAME)))
        hertz = spectrum.argmax(axis=1) * RATE_HZ / FRAME
        letters = list(TONES_HZ)
        labels = self.alphabet.encode("".join(letters))
        nearest = np.abs(hertz[:, None] - np.array([TONES_HZ[c] for c in letters])).argmin(axis=1)
        heard: NDArray[np.intp] = labels[nearest].astype(np.intp)
        quiet = np.sqrt((padded**2).mean(axis=1)) < 0.05
        heard[quiet] = self.alphabet.blank_id
        for start, end in np.flatnonzero(np.diff(quiet.astype(int), prepend=0, append=0)).reshape(-1, 2):
            if end - start >= SPACE_FRAMES:
                heard[start:end] = self.alphabet.encode("A A")[1]
        return heard


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
