"""From a network's file to a running server, and to its end: what was begun is finished, or named."""

import asyncio
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import h11
import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mindaudio_ds2 import console
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.errors import ConfigError, DeviceError, Interrupted
from mindaudio_ds2.serving.application import make_application
from mindaudio_ds2.serving.dispatcher import Dispatcher, count_cores
from mindaudio_ds2.serving.guard import Access
from mindaudio_ds2.serving.limits import Limits
from mindaudio_ds2.serving.metrics import Metrics
from mindaudio_ds2.serving.service import Service
from mindaudio_ds2.transcribe import Recognizer

MOST_CONNECTIONS = 512
LARGEST_MESSAGE_BYTES = 2**20
HEAD_SECONDS = 15.0
SWITCH_SECONDS = 0.001
"""How long a thread may keep the interpreter while others want it; Python's default is five times that."""

CLOSING_SECONDS = 2.0
"""For the last bytes of answers, when all work is done."""


@dataclass(frozen=True)
class ServerOptions:
    """What a server is started with.

    Attributes:
        model: a checkpoint or an `.onnx` file.
        name: of the model for clients; None for the file's name, or for its run folder's where that says nothing.
        device_target: CPU, GPU or Ascend, for checkpoints.
        weights: fp32, or for a checkpoint bf16 or int8, as `transcribe.Recognizer.load` takes them.
        host: the interface's address or name.
        port: 0 for a free one.
        num_workers: that compute at a time, for `.onnx`; None for as many as cores. A checkpoint has one.
        grace_seconds: how long files may go on after a signal (s).
    """

    model: Path
    name: str | None = None
    device_target: str = "CPU"
    weights: Literal["fp32", "bf16", "int8"] = "fp32"
    host: str = "127.0.0.1"
    port: int = 8000
    num_workers: int | None = None
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port must be from 0 to 65535, found {self.port}")
        if self.num_workers is not None and self.num_workers < 1:
            raise ConfigError(f"--workers must be at least 1, found {self.num_workers}; leave it out for all cores")
        if not 0 <= self.grace_seconds < 1e6:
            raise ConfigError(f"--grace_seconds must be from 0 to 1000000, found {self.grace_seconds:g}")

    def choose_name(self) -> str:
        """The name for clients."""
        parts = [self.model.stem, *(part for part in reversed(self.model.resolve().parent.parts))]
        telling = [part for part in parts if part.partition(".")[0] not in ("best", "last", "model", "export", "/")]
        return self.name or (telling or parts)[0]


def open_service(options: ServerOptions, choice: DecoderChoice, limits: Limits) -> Service:
    """Load the network and try it once.

    Raises:
        CheckpointError, DeviceError, ConfigError, LanguageModelError: as `Recognizer.load`.
    """
    is_portable = options.model.suffix == ".onnx"
    metrics = Metrics()
    dispatcher = Dispatcher((options.num_workers or count_cores()) if is_portable else 1, metrics)

    def load() -> Recognizer:
        loaded = (options.model, options.device_target, choice)
        recognizer = Recognizer.load(*loaded, weights=options.weights, num_threads=1)  # a worker of many has its core
        recognizer.recognize([np.zeros(recognizer.network.features.sample_rate_hz, np.float32)])  # the first is slow
        return recognizer

    recognizer = dispatcher.run_live(load).result()
    created = int(options.model.stat().st_mtime)
    return Service(options.choose_name(), created, recognizer, choice, dispatcher, metrics, limits)


class PromptProtocol(H11Protocol):
    """Closes connections on which no whole request head comes in time; uvicorn itself would keep them for ever."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes; wait on where they do not complete a head."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self not in self.connections:  # not there: it is a websocket now
            self._stop_waiting()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and self in self.connections:
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """Ends in order: the first signal lets work be finished, the second one does not wait.

    Args:
        service: what is served.
        access: to whom.
        options: where.
    """

    def __init__(self, service: Service, access: Access, options: ServerOptions) -> None:
        config = uvicorn.Config(
            make_application(service, access),
            host=options.host,
            port=options.port,
            http=PromptProtocol,
            log_config=None,
            log_level="critical",  # `application.py` tells what matters
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_max_size=LARGEST_MESSAGE_BYTES,
            ws_max_queue=8,
            ws_per_message_deflate=False,
            ws_ping_interval=None,  # an answer would stand behind sound that waits; `idle_seconds` finds who has left
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=round(CLOSING_SECONDS),
            h11_max_incomplete_event_size=64 * 1024,
        )
        super().__init__(config)
        self.service, self.options = service, options
        self.signal_number = 0
        self.num_unfinished = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or end at once. A handler may not take locks, so a thread tells the rest."""
        if self.signal_number:
            self.should_exit = self.force_exit = True
            return
        self.signal_number = sig
        if self._loop is None:  # nothing was taken yet, so there is nothing to finish
            self.should_exit = True
        else:
            threading.Thread(target=self._tell, args=(self._loop,), daemon=True).start()

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        num_files, num_streams = self.service.num_files, self.service.dispatcher.num_streams
        try:
            if num_files or num_streams:
                console.write_line(
                    f"stopping: {num_files} files and {num_streams} streams are given "
                    f"{self.options.grace_seconds:g} s; once more ends it at once"
                )
        finally:  # whatever became of the line
            asyncio.run_coroutine_threadsafe(self._finish(), loop)

    async def _finish(self) -> None:
        self.num_unfinished = await self.service.stop(self.options.grace_seconds)
        self.service.dispatcher.close(0.0)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if sockets and self.started and not self.should_exit:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            console.write_line(f"{self.service.name} at http://{shown}:{port}/ (Ctrl-C ends it)")


def listen(options: ServerOptions) -> socket.socket:
    """Take the address, before the network is loaded.

    Raises:
        DeviceError: it is taken, not permitted, or not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DeviceError(
            f"cannot listen on {options.host}:{options.port}: {reason}; choose another --port or --host"
        ) from None
    return listener


def serve(options: ServerOptions, choice: DecoderChoice, limits: Limits, access: Access) -> None:
    """Serve until a signal comes.

    Raises:
        DeepSpeechError: the address is taken, or the network cannot be loaded.
        Interrupted: a signal ended it before all requests were answered.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    with listen(options) as listener:
        console.write_line(f"loading {options.model}")
        started = time.monotonic()
        service = open_service(options, choice, limits)
        server = Server(service, access, options)
        with server.capture_signals():  # who reads that it is loaded may send one before the loop runs
            console.write_line(f"loaded in {time.monotonic() - started:.1f} s")
            server.run(sockets=[listener])
    service.dispatcher.close(CLOSING_SECONDS)
    if server.num_unfinished or server.force_exit:
        name = signal.Signals(server.signal_number).name
        unfinished = server.num_unfinished or service.num_files + service.dispatcher.num_streams
        raise Interrupted(f"{name}: {unfinished} requests were not finished; send them again", server.signal_number)
    console.write_line("stopped; every request was answered")
