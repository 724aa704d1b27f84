"""`POST /v1/audio/transcriptions`, in the form that OpenAI's clients speak: a file in, its text out."""

import asyncio
import math
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from mindaudio_ds2.errors import AudioError, LongAudioError
from mindaudio_ds2.serving.jobs import FileJob
from mindaudio_ds2.serving.limits import CLIENT_LEFT, Refusal, require_no_query
from mindaudio_ds2.serving.service import Service
from mindaudio_ds2.serving.uploads import receive_form, take_file
from mindaudio_ds2.transcript_formats import as_srt, as_vtt
from mindaudio_ds2.transcription import Transcription

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = ("word", "segment")
KNOWN_FIELDS = {
    *("file", "model", "response_format", "timestamp_granularities[]", "timestamp_granularities", "hotwords"),
    *("language", "temperature", "stream"),
}
REPEATABLE = {"timestamp_granularities[]", "timestamp_granularities", "hotwords"}


@dataclass(frozen=True)
class Wish:
    """The fields of a form beside its file."""

    response_format: str
    granularities: frozenset[str]
    hotwords: tuple[str, ...]


def read_wish(form: FormData, service: Service) -> Wish:
    """Read and check a form's fields. What cannot be done is refused, not passed over.

    Raises:
        Refusal: a field is unknown, wrong, or asks for what this server does not do.
    """
    values: dict[str, list[str]] = {}
    counts = Counter(name for name, _ in form.multi_items())
    for name, value in form.multi_items():
        if isinstance(value, str):
            values.setdefault(name, []).append(value)
    if unknown := sorted(set(values) - KNOWN_FIELDS):
        known = ", ".join(sorted(KNOWN_FIELDS - {"timestamp_granularities"}))
        raise Refusal(
            400, "unknown_parameter", f"{unknown[0][:100]!r} is not understood; known: {known}", unknown[0][:100]
        )
    if repeated := [name for name, count in counts.items() if count > 1 and name not in REPEATABLE]:
        message = f"{repeated[0]} is given {counts[repeated[0]]} times; give it once"
        raise Refusal(400, "repeated_parameter", message, repeated[0])
    service.check_model(values.get("model", [service.name])[-1])
    _require_default(
        values, "stream", ("", "false", "False", "0"), "use the websocket /v1/stream for words as they come"
    )
    _require_default(values, "temperature", ("", "0", "0.0"), "decoding is not random; leave it out")
    response_format = values.get("response_format", ["json"])[-1]
    if response_format not in FORMATS:
        message = f"response_format {response_format[:100]!r} is not one of {', '.join(FORMATS)}"
        raise Refusal(400, "invalid_value", message, "response_format")
    asked = values.get("timestamp_granularities[]", []) + values.get("timestamp_granularities", [])
    if wrong := sorted(set(asked) - set(GRANULARITIES)):
        message = f"timestamp_granularities[] {wrong[0][:100]!r} is neither word nor segment"
        raise Refusal(400, "invalid_value", message, "timestamp_granularities[]")
    if asked and response_format != "verbose_json":
        message = "timestamp_granularities[] needs response_format verbose_json"
        raise Refusal(400, "invalid_value", message, "timestamp_granularities[]")
    lines = [line for value in values.get("hotwords", []) for line in value.splitlines() if line.strip()]
    return Wish(response_format, frozenset(asked or ["segment"]), tuple(lines))


def _require_default(values: dict[str, list[str]], name: str, allowed: tuple[str, ...], remedy: str) -> None:
    value = values.get(name, [""])[-1]
    if value not in allowed:
        raise Refusal(400, "unsupported_parameter", f"{name} {value[:100]!r} is not supported: {remedy}", name)


async def transcribe(request: Request) -> Response:
    """Answer one request."""
    service: Service = request.app.state.service
    require_no_query(request, "the form")
    try:
        return await _transcribe(request, service)
    except asyncio.CancelledError:
        if not service.is_stopping:
            raise
        raise Refusal(503, "stopping", "the server stops; send the file again", retry_after_seconds=5) from None


async def _transcribe(request: Request, service: Service) -> Response:
    async with service.admit_file():
        try:
            form = await receive_form(request, service.limits)
        except ClientDisconnect:
            service.metrics.count_cancelled()
            return Response(status_code=CLIENT_LEFT)
        async with _closing(form):
            wish = read_wish(form, service)
            spooled, name = take_file(form)
            recognizer = service.find_recognizer(wish.hotwords)
            # the reader closes its own descriptor, when nobody can read from it any more
            job = FileJob(spooled, name, recognizer, service.limits.max_file_seconds)
            form = FormData([])
        service.dispatcher.submit(job)
        found = await _wait(request, job, service)
    if found is None:
        return Response(status_code=CLIENT_LEFT)
    request.state.audio_seconds = found.duration_seconds
    return write_answer(found, wish, service)


@asynccontextmanager
async def _closing(form: FormData) -> AsyncIterator[None]:
    """Close a form's files where it comes to nothing."""
    try:
        yield
    except BaseException:
        await form.close()
        raise


async def _wait(request: Request, job: FileJob, service: Service) -> Transcription | None:
    """The text of a file; None where the client goes away, which ends the work."""
    result = asyncio.ensure_future(asyncio.wrap_future(job.result))
    leaving = asyncio.ensure_future(_wait_for_leaving(request))
    try:
        await asyncio.wait((result, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            service.metrics.count_cancelled()
            return None
        return result.result()
    except LongAudioError as error:
        raise Refusal(413, "audio_too_long", str(error), "file") from None
    except AudioError as error:
        raise Refusal(400, "invalid_audio", str(error), "file") from None
    finally:
        leaving.cancel()
        job.cancel()
        result.cancel()


async def _wait_for_leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def write_answer(found: Transcription, wish: Wish, service: Service) -> Response:
    """A transcription in the format asked for."""
    if wish.response_format == "verbose_json":
        return JSONResponse(_make_verbose(found, wish.granularities, service))
    if wish.response_format == "json":
        return JSONResponse({"text": found.text, **_make_notes(found)})
    if wish.response_format == "srt":
        return PlainTextResponse(as_srt([found]), media_type="application/x-subrip")
    if wish.response_format == "vtt":
        return PlainTextResponse(as_vtt([found]), media_type="text/vtt")
    return PlainTextResponse(found.text + "\n")


def _make_notes(found: Transcription) -> dict[str, Any]:
    return {"notes": list(found.notes)} if found.notes else {}


def _make_verbose(found: Transcription, granularities: frozenset[str], service: Service) -> dict[str, Any]:
    tokenizer = service.recognizer.network.tokenizer
    row: dict[str, Any] = {"task": "transcribe", "language": "", "duration": found.duration_seconds, "text": found.text}
    if "word" in granularities:
        row["words"] = [
            {"word": w.text, "start": w.start_seconds, "end": w.end_seconds, "confidence": w.confidence}
            for w in found.words
        ]
    if "segment" in granularities:
        row["segments"] = [
            {
                "id": number,
                "seek": round(100 * s.start_seconds),
                "start": s.start_seconds,
                "end": s.end_seconds,
                "text": s.text,
                "tokens": [int(label) for label in tokenizer.encode(s.text)],
                "temperature": 0.0,
                "avg_logprob": sum(math.log(max(w.confidence, 1e-9)) for w in s.words) / len(s.words),
                "compression_ratio": len(s.text.encode()) / len(zlib.compress(s.text.encode())),
            }
            for number, s in enumerate(found.segments)
        ]
    return row | _make_notes(found)
