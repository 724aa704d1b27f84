"""What stands in front of every request: Host, Origin, token, rate; and the headers of every answer.

A server on the loopback interface is reached by every page that the user's browser shows. Host names keep out pages
whose name was led to 127.0.0.1 (DNS rebinding), and origins those that send requests from elsewhere.
"""

import hmac
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from mindaudio_ds2.serving.limits import RateLimit, Refusal

OPEN_PATHS = re.compile(r"/(?:health|page/[^/]*)?")
"""What needs no token: the page, which asks for one, and whether the server lives."""

HEALTH = "/health"
"""Answers without a `Host` as well, for probes that speak HTTP/1.0; browsers always send one."""

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::\d{1,5})?")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: that requests must show as `Authorization: Bearer TOKEN`; None for none.
        hosts: names by which the server may be called, beside localhost and numbers.
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()

    def accepts_token(self, shown: str | None) -> bool:
        """Whether this is the token, in a time that tells nothing about it."""
        return self.token is None or (
            shown is not None and hmac.compare_digest(shown.encode(errors="replace"), self.token.encode())
        )

    def check_host(self, headers: Headers) -> str:
        """The `Host` header.

        Raises:
            Refusal: it is missing or not one of ours.
        """
        host = headers.get("host", "")
        found = HOST.fullmatch(host)
        name = found[1].lower() if found else ""
        if not (name == "localhost" or name in self.hosts or _is_address(name)):
            message = f"this server is not called {host[:100]!r}; start it with --allowed_host to give it that name"
            raise Refusal(421, "unknown_host", message)
        return host

    def check_origin(self, headers: Headers, host: str) -> None:
        """A browser says which page sends a request; it must be ours.

        Raises:
            Refusal: it is another's.
        """
        origin = headers.get("origin")
        if origin is not None and (len(headers.getlist("origin")) > 1 or not _is_same(origin, host)):
            message = f"pages of {origin[:100]!r} may not use this server; open its own page"
            raise Refusal(403, "foreign_origin", message)


def read_bearer(headers: Headers) -> str | None:
    """The token of an `Authorization` header."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    return shown.strip() if scheme.lower() == "bearer" else None


class Guard:
    """Checks a request before anything else sees it.

    Args:
        app: what follows.
        access: who may ask.
        rate: how often.
    """

    def __init__(self, app: ASGIApp, access: Access, rate: RateLimit) -> None:
        self._app, self._access, self._rate = app, access, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = "localhost"

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                added = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    added.setdefault(name, value)
                added["Content-Security-Policy"] = POLICY.format(host=host)
            await send(message)

        try:
            if "host" in headers or scope["path"] != HEALTH:
                host = self._access.check_host(headers)
            self._access.check_origin(headers, host)
            self._check_client(scope, headers)
        except Refusal as refusal:
            await answer(scope, receive, send_with_headers, refusal.to_response())
        else:
            await self._app(scope, receive, send_with_headers)

    def _check_client(self, scope: Scope, headers: Headers) -> None:
        if OPEN_PATHS.fullmatch(scope["path"]):
            return
        self._rate.check(scope["client"][0] if scope.get("client") else "")
        if scope["type"] == "http" and not self._access.accepts_token(read_bearer(headers)):
            raise Refusal(401, "invalid_api_key", "this server wants its token: `Authorization: Bearer TOKEN`")


async def answer(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    """Answer a request, or a websocket's handshake instead of opening it."""
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    socket = WebSocket(scope, receive, send)
    await socket.receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close(1008)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
        default = {"http": 80, "https": 443}[parts.scheme]
        ours = urlsplit(f"//{host}")
        return (parts.hostname, parts.port or default) == (ours.hostname, ours.port or default)
    except (KeyError, ValueError):  # "null", or no origin at all
        return False
