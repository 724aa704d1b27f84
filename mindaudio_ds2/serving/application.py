"""The routes, what they answer where something goes wrong, and what is told of each request."""

import time
import traceback
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mindaudio_ds2 import console
from mindaudio_ds2.serving.guard import Access, Guard
from mindaudio_ds2.serving.limits import CLIENT_LEFT, RateLimit, Refusal
from mindaudio_ds2.serving.live import stream
from mindaudio_ds2.serving.service import Service
from mindaudio_ds2.serving.subtitles import make_subtitles
from mindaudio_ds2.serving.transcriptions import transcribe

PAGE = Path(__file__).with_name("page")
PAGE_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def make_application(service: Service, access: Access) -> Starlette:
    """The server as an ASGI application; its `state` has both arguments.

    Args:
        service: what it shares.
        access: who may ask.
    """
    routes: list[BaseRoute] = [
        Route("/v1/audio/transcriptions", transcribe, methods=["POST"]),
        Route("/v1/subtitles", make_subtitles, methods=["POST"]),
        WebSocketRoute("/v1/stream", stream),
        Route("/v1/stream", explain_stream, methods=["GET", "POST"]),
        Route("/v1/models", list_models),
        Route("/v1/models/{name:path}", show_model),
        Route("/health", show_health),
        Route("/metrics", show_metrics),
        Route("/", show_page),
        Route("/page/{name}", show_page),
    ]
    application = Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, access=access, rate=RateLimit(service.limits.requests_per_minute, time.monotonic)),
            Middleware(Log, service=service),
        ],
        exception_handlers={Refusal: answer_refusal, HTTPException: answer_http_error, Exception: answer_defect},
    )
    application.state.service, application.state.access = service, access
    return application


async def explain_stream(request: Request) -> Response:
    """`/v1/stream` as a plain request: 426, because only a websocket can carry what is said there."""
    message = (
        "/v1/stream is a websocket for live speech: connect to it with ws:// or wss:// and send samples of 16 bits; "
        "/v1/audio/transcriptions takes whole files"
    )
    response = Refusal(426, "upgrade_required", message).to_response()
    response.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
    return response


async def list_models(request: Request) -> Response:
    """`GET /v1/models`."""
    return JSONResponse({"object": "list", "data": [_describe_model(request.app.state.service)]})


async def show_model(request: Request) -> Response:
    """`GET /v1/models/NAME`."""
    service: Service = request.app.state.service
    service.check_model(request.path_params["name"])
    return JSONResponse(_describe_model(service))


def _describe_model(service: Service) -> dict[str, object]:
    return {"id": service.name, "object": "model", "created": service.created, "owned_by": "mindaudio_ds2"}


async def show_health(request: Request) -> Response:
    """`GET /health`: 200 while requests are taken, 503 while the server stops."""
    service: Service = request.app.state.service
    limits = service.limits
    row = {
        "status": "stopping" if service.is_stopping else "ok",
        "model": service.name,
        "sample_rate_hz": service.recognizer.network.features.sample_rate_hz,
        "files": service.num_files,
        "streams": service.dispatcher.num_streams,
        "max_upload_bytes": limits.max_upload_bytes,
        "max_file_seconds": limits.max_file_seconds,
    }
    return JSONResponse(row, 503 if service.is_stopping else 200)


async def show_metrics(request: Request) -> Response:
    """`GET /metrics`, in Prometheus's text format."""
    service: Service = request.app.state.service
    return Response(service.metrics.write(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def show_page(request: Request) -> Response:
    """`GET /` and the files that the page is made of."""
    path = PAGE / request.path_params.get("name", "index.html")
    if path.parent != PAGE or path.suffix not in PAGE_TYPES or not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, media_type=PAGE_TYPES[path.suffix])


async def answer_refusal(request: Request, error: Exception) -> Response:
    """A refusal in OpenAI's form."""
    assert isinstance(error, Refusal)
    return error.to_response()


async def answer_http_error(request: Request, error: Exception) -> Response:
    """An unknown path or method, in the same form."""
    assert isinstance(error, HTTPException)
    texts = {404: f"there is no {request.url.path[:200]}", 405: f"{request.method[:20]} is not allowed here"}
    refusal = Refusal(error.status_code, "invalid_request", texts.get(error.status_code, error.detail))
    response = refusal.to_response()
    response.headers.update(error.headers or {})
    return response


async def answer_defect(request: Request, error: Exception) -> Response:
    """A defect of ours: the client learns that, and the console why."""
    console.write_line("".join(traceback.format_exception(error)).rstrip())
    message = "the server failed; its console says why. Please report it"
    return Refusal(500, "internal_error", message).to_response()


class Log:
    """Counts every request, and tells of each transcription in a line.

    Args:
        app: what follows.
        service: whose metrics count.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._metrics = app, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and watch its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            seconds = time.monotonic() - started
            endpoint: Any = scope.get("endpoint")
            names = {show_page: "/page", show_model: "/v1/models", None: "unknown"}
            route = str(names.get(endpoint, scope["path"]))
            self._metrics.count_request(route, status, seconds)
            if endpoint is transcribe:
                heard = scope.get("state", {}).get("audio_seconds")
                detail = f"{heard:.1f} s of audio in " if heard is not None else ""
                outcome = "its client left" if status == CLIENT_LEFT else str(status)
                console.write_line(f"file: {outcome}, {detail}{seconds:.2f} s")
