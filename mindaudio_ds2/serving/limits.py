"""What the server allows, and how it says no: a status, a code and a sentence, never a cut in silence."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from mindaudio_ds2.errors import ConfigError

MOST_CLIENTS = 10_000
"""Addresses whose requests are counted at a time; the one that was quiet for longest is forgotten."""


OPTIONS = {
    "max_upload_bytes": ("--max_upload_mb", 2**20, "a byte"),
    "max_file_seconds": ("--max_minutes", 60, "a second"),
    "max_stream_seconds": ("--max_minutes", 60, "a second"),
}
"""Where the command line has another name or unit than `Limits`: that, its size here, and the least in words."""


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        max_upload_bytes: size of a request's body.
        max_file_seconds: duration of a file (s).
        max_files: files being uploaded, waiting or being recognised at a time.
        max_streams: live streams at a time.
        max_stream_seconds: duration of a live stream (s).
        requests_per_minute: of one address; 0 for no limit.
        upload_seconds: time for a whole upload (s).
        idle_seconds: silence of a client in the middle of an upload or a stream (s).
    """

    max_upload_bytes: int = 100 * 2**20
    max_file_seconds: float = 3600.0
    max_files: int = 16
    max_streams: int = 8
    max_stream_seconds: float = 3600.0
    requests_per_minute: int = 240
    upload_seconds: float = 300.0
    idle_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "requests_per_minute" else 1
            if not least <= value < math.inf:
                option, unit, shown = OPTIONS.get(name, (f"--{name}", 1, str(least)))
                raise ConfigError(f"{option} must be at least {shown}, found {value / unit:g}")


CLIENT_LEFT = 499
"""nginx's status for a request whose client did not wait; nobody sees it but the metrics."""


class Refusal(Exception):
    """A request that is not served, in the words and the form of OpenAI's errors.

    Args:
        status: of HTTP.
        code: a word for programs.
        message: a sentence for people, with what to do.
        param: the parameter that was wrong, or None.
        retry_after_seconds: when to try again, or None (s).
    """

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.retry_after_seconds = retry_after_seconds

    def to_response(self) -> JSONResponse:
        """The answer to an HTTP request. The connection ends where its body may not have been read."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        headers = {"Connection": "close"} if self.status in (408, 413) else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_seconds)))
        return JSONResponse({"error": error}, self.status, headers)


class RateLimit:
    """Counts the requests of each address: a bucket that fills evenly and holds a quarter of a minute's at most.

    Args:
        requests_per_minute: 0 for no limit.
        clock: seconds that never run back.
    """

    def __init__(self, requests_per_minute: int, clock: Callable[[], float]) -> None:
        self._per_second = requests_per_minute / 60
        self._room = max(1.0, requests_per_minute / 4)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def check(self, client: str) -> None:
        """Count a request.

        Raises:
            Refusal: 429, with the time after which there is room again.
        """
        if not self._per_second:
            return
        now = self._clock()
        left, since = self._buckets.pop(client, (self._room, now))
        left = min(self._room, left + (now - since) * self._per_second)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = (1 - left) / self._per_second
            message = (
                f"too many requests: {self._room:.0f} may come at once, and {60 * self._per_second:.0f} a minute after "
                f"that; try again in {wait:.1f} s"
            )
            raise Refusal(429, "rate_limit_exceeded", message, retry_after_seconds=wait)


def require_no_query(connection: HTTPConnection, place: str) -> None:
    """Nothing stands behind a `?` in the address: it would be passed over.

    Args:
        connection: a request or a websocket.
        place: where its fields belong.

    Raises:
        Refusal: something does.
    """
    if query := connection.url.query:
        name = query.partition("&")[0].partition("=")[0][:100]
        raise Refusal(400, "unknown_parameter", f"{name!r} stands in the address; fields belong into {place}", name)
