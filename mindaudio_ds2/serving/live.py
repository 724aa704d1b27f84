"""`/v1/stream`: samples in, words out while they are being said. docs/serving.md has the messages."""

import asyncio
import contextlib
import json
import time
import traceback
from collections import deque
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from starlette.websockets import WebSocket, WebSocketDisconnect

from mindaudio_ds2 import console
from mindaudio_ds2.audio.samples import require_rate, require_samples
from mindaudio_ds2.errors import AudioError, DeepSpeechError
from mindaudio_ds2.reading import ReadError, parse_json
from mindaudio_ds2.serving.guard import Access, read_bearer
from mindaudio_ds2.serving.limits import CLIENT_LEFT, Refusal, require_no_query
from mindaudio_ds2.serving.service import Service
from mindaudio_ds2.streaming.events import Event

ENCODINGS: dict[str, np.dtype[Any]] = {"pcm_s16le": np.dtype("<i2"), "pcm_f32le": np.dtype("<f4")}
START_SECONDS = 10.0
CHUNK_SECONDS = 1.0
"""A worker hears so much of a stream at a time, so that others have their turn."""

PENDING_BYTES = 8 * 2**20
"""Sound that waits, over four minutes at 16 kHz; beyond this nothing is read from the client until there is room.

It is much, because clients that hear no answer to their pings, which stand behind the sound, close after a while."""

CLOSE_CODES = {400: 1008, 401: 1008, 408: 1008, 413: 1008, 429: 1013, 503: 1012, 500: 1011}


def parse_message(text: str, expected: str, fields: dict[str, type]) -> dict[str, Any]:
    """A message of JSON.

    Raises:
        Refusal: it is another, or its fields are unknown or of another type.
    """
    try:
        row = parse_json(text)
    except ReadError as error:
        _refuse(f'a message of type "{expected}" is expected, and this is no JSON: {error}; found {text[:100]!r}')
    if not isinstance(row, dict) or row.get("type") != expected:
        found = row.get("type") if isinstance(row, dict) else text
        _refuse(f'a message of type "{expected}" is expected, found {str(found)[:100]!r}')
    for name, value in row.items():
        if name != "type" and name not in fields:
            _refuse(f"{name[:100]!r} is not understood in {expected!r}; known: {', '.join(fields)}")
        if name != "type" and (not isinstance(value, fields[name]) or isinstance(value, bool)):
            _refuse(f"{name!r} must be of type {fields[name].__name__}, found {str(value)[:100]!r}")
    return row


def _refuse(message: str) -> NoReturn:
    raise Refusal(400, "invalid_message", message)


class LiveSession:
    """One websocket: what comes is put aside at once, and heard by workers in its turn.

    Args:
        socket: not yet accepted.
        service: whose network listens.
        access: to whom.
    """

    def __init__(self, socket: WebSocket, service: Service, access: Access) -> None:
        self._socket, self._service, self._access = socket, service, access
        self._pending: deque[tuple[NDArray[Any], float]] = deque()  # samples, and when they came
        self._num_pending = self._num_samples = 0
        self._changed = asyncio.Event()  # there is more to hear, or to stop for
        self._drained = asyncio.Event()
        self._ending: Refusal | None = None  # why no more is heard
        self._is_ended = False
        self._texts: list[str] = []
        self.rate_hz, self._dtype = 16000, ENCODINGS["pcm_s16le"]

    async def run(self) -> None:
        """Speak with the client until the end."""
        started, status = time.monotonic(), 101
        await self._socket.accept()
        try:
            await self._converse()
        except Refusal as refusal:
            status = refusal.status
            await self._send_error(refusal)
        except DeepSpeechError as error:
            status = 400
            code = "invalid_audio" if isinstance(error, AudioError) else "unsupported"
            await self._send_error(Refusal(400, code, str(error)))
        except (WebSocketDisconnect, asyncio.TimeoutError, TimeoutError):
            status = CLIENT_LEFT  # or takes nothing any more
        except Exception as error:
            status = 500
            console.write_line("".join(traceback.format_exception(error)).rstrip())
            await self._send_error(Refusal(500, "internal_error", "the server failed; its console says why"))
        finally:
            with contextlib.suppress(Exception):  # closed by either side
                await self._socket.close()
            seconds = time.monotonic() - started
            self._service.metrics.count_request("/v1/stream", status, seconds)
            heard = self._num_samples / self.rate_hz
            console.write_line(f"stream: {status}, {heard:.1f} s of audio in {seconds:.1f} s")

    def stop(self) -> None:
        """The server stops: hear what is here, and end."""
        self._end(Refusal(503, "stopping", "the server stops; open another stream when it is back"))

    async def _converse(self) -> None:
        require_no_query(self._socket, "the first message")
        is_known = self._access.accepts_token(read_bearer(self._socket.headers))
        text = await self._receive_start()
        row = parse_message(
            text, "start", {"sample_rate_hz": int, "encoding": str, "hotwords": list, "token": str, "model": str}
        )
        if not (is_known or self._access.accepts_token(row.get("token"))):
            raise Refusal(401, "invalid_api_key", "this server wants its token, as `token` of the first message")
        self._take_settings(row)
        async with self._service.admit_stream(self.stop):
            hotwords = tuple(row.get("hotwords", ()))
            stream = await self._compute(lambda: self._service.find_recognizer(hotwords).stream(self.rate_hz))
            await self._send(
                {
                    "type": "ready",
                    "model": self._service.name,
                    "latency_seconds": stream.latency_seconds,
                    "is_incremental": stream.is_incremental,
                    "max_seconds": self._service.limits.max_stream_seconds,
                }
            )
            receiver = asyncio.ensure_future(self._receive())
            try:
                await self._hear(stream, receiver)
            finally:
                receiver.cancel()
                with contextlib.suppress(BaseException):
                    await receiver

    async def _receive_start(self) -> str:
        try:
            message = await asyncio.wait_for(self._socket.receive(), START_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            raise Refusal(408, "no_start", f'{{"type": "start"}} did not come within {START_SECONDS:g} s') from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if message.get("text") is None:
            _refuse('the first message must be text: {"type": "start"}')
        return str(message["text"])

    def _take_settings(self, row: dict[str, Any]) -> None:
        self._service.check_model(row.get("model", self._service.name))
        try:
            self.rate_hz = require_rate(row.get("sample_rate_hz", self.rate_hz))
        except AudioError as error:
            _refuse(f"sample_rate_hz: {error}")
        encoding = row.get("encoding", "pcm_s16le")
        if encoding not in ENCODINGS:
            _refuse(f"encoding must be one of {', '.join(ENCODINGS)}, found {encoding[:100]!r}")
        self._dtype = ENCODINGS[encoding]
        if not all(isinstance(word, str) for word in row.get("hotwords", ())):
            _refuse("hotwords must be strings")

    # From the client ----------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        """Put samples aside until the client finishes, errs or falls silent."""
        limits = self._service.limits
        try:
            while not self._is_ended:
                message = await asyncio.wait_for(self._socket.receive(), limits.idle_seconds)
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", 1005))
                if message.get("bytes") is not None:
                    await self._put_aside(message["bytes"])
                else:
                    parse_message(message["text"], "finish", {})
                    self._end(None)
        except (asyncio.TimeoutError, TimeoutError):
            self._end(Refusal(408, "idle", f"nothing came for {limits.idle_seconds:g} s"))
        except Refusal as refusal:
            self._end(refusal)
        except AudioError as error:
            self._end(Refusal(400, "invalid_audio", str(error)))

    async def _put_aside(self, content: bytes) -> None:
        if len(content) % self._dtype.itemsize:
            _refuse(f"{len(content)} bytes are no whole number of samples of {self._dtype.itemsize} bytes")
        samples = require_samples(np.frombuffer(content, self._dtype))
        most = round(self._service.limits.max_stream_seconds * self.rate_hz)
        if self._num_samples + len(samples) > most:
            samples = samples[: most - self._num_samples]
        if len(samples):
            self._num_samples += len(samples)
            self._pending.append((samples, time.monotonic()))
            self._num_pending += len(samples)
            self._changed.set()
        if len(samples) * self._dtype.itemsize < len(content):
            seconds = self._service.limits.max_stream_seconds
            raise Refusal(413, "stream_too_long", f"{seconds:g} s were heard, the rest was not; open another stream")
        while self._num_pending * self._dtype.itemsize > PENDING_BYTES and not self._is_ended:
            self._drained.clear()
            await self._drained.wait()

    def _end(self, why: Refusal | None) -> None:
        if not self._is_ended:
            self._is_ended, self._ending = True, why
        self._changed.set()
        self._drained.set()

    # To the network and back --------------------------------------------------------------------------------------

    async def _hear(self, stream: Any, receiver: "asyncio.Future[None]") -> None:
        """Feed the stream as sound comes, then tell its end."""
        receiver.add_done_callback(lambda _: self._changed.set())
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._pending:
                _raise_error(receiver)
                samples, since = self._take_chunk()
                await self._tell(await asyncio.wrap_future(self._service.dispatcher.feed_live(stream, samples)))
                self._service.metrics.count_chunk(len(samples) / self.rate_hz, time.monotonic() - since)
            _raise_error(receiver)
            if self._is_ended:
                break
        await self._tell(await self._compute(stream.finish))
        seconds = self._num_samples / self.rate_hz
        await self._send({"type": "done", "text": " ".join(self._texts), "duration_seconds": seconds})
        if self._ending:
            raise self._ending

    def _take_chunk(self) -> tuple[NDArray[Any], float]:
        """Up to CHUNK_SECONDS of what waits, as one array, and when its first sample came."""
        room = round(CHUNK_SECONDS * self.rate_hz)
        since = self._pending[0][1]
        taken: list[NDArray[Any]] = []
        while self._pending and room:
            samples, when = self._pending.popleft()
            taken.append(samples[:room])
            if len(samples) > room:
                self._pending.appendleft((samples[room:], when))
            room -= len(taken[-1])
        chunk = np.concatenate(taken)
        self._num_pending -= len(chunk)
        self._drained.set()
        return chunk, since

    async def _compute(self, work: Any) -> Any:
        return await asyncio.wrap_future(self._service.dispatcher.run_live(work))

    # To the client ------------------------------------------------------------------------------------------------

    async def _tell(self, events: list[Event]) -> None:
        for event in events:
            if event.kind == "final":
                self._texts.append(event.text)
            row = event.to_json()
            await self._send({"type": row.pop("kind"), **row})

    async def _send(self, row: dict[str, Any]) -> None:
        text = json.dumps(row, ensure_ascii=False)
        await asyncio.wait_for(self._socket.send_text(text), self._service.limits.idle_seconds)

    async def _send_error(self, refusal: Refusal) -> None:
        row: dict[str, Any] = {"type": "error", "code": refusal.code, "message": refusal.message}
        if refusal.retry_after_seconds is not None:
            row["retry_after_seconds"] = refusal.retry_after_seconds
        with contextlib.suppress(Exception):  # it may have left
            await self._send(row)
            await self._socket.close(CLOSE_CODES.get(refusal.status, 1008))


def _raise_error(task: "asyncio.Future[None]") -> None:
    """Go on only if a task has not failed."""
    if task.done() and not task.cancelled() and (error := task.exception()):
        raise error


async def stream(socket: WebSocket) -> None:
    """Answer one websocket."""
    await LiveSession(socket, socket.app.state.service, socket.app.state.access).run()
