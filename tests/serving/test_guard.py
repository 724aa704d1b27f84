"""Pages of others, names that were led here, and clients without the token are kept out."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")


from mindaudio_ds2.serving.guard import Access
from mindaudio_ds2.serving.limits import RateLimit, Refusal
from tests.serving.tones import CLIENT, Running, make_wav, run_server


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with run_server(access=Access("secret", frozenset({"speech.example.org"}))) as each:
        yield each


def ask(running: Running, path: str = "/v1/models", token: str | None = "secret", **headers: str) -> Any:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return CLIENT.get(running.address + path, headers=headers)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:9", "[::1]:80", "192.168.1.7", "speech.example.org", "LOCALHOST:1"]
)
def test_own_names_and_numbers_are_served(running: Running, host: str) -> None:
    assert ask(running, Host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example.org", "localhost.evil.org", "127.0.0.1.evil.org", "x y", "a@localhost", ""]
)
def test_other_names_are_refused_everywhere(running: Running, host: str) -> None:
    for path in ("/v1/models", "/", "/health"):
        response = ask(running, path, Host=host)
        assert (response.status_code, response.json()["error"]["code"]) == (421, "unknown_host")


def test_health_alone_answers_without_a_host(running: Running) -> None:
    for path, status in (("/health", b"200"), ("/", b"421"), ("/v1/models", b"421"), ("/metrics", b"421")):
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert connection.recv(100).split()[1] == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", "http://localhost:8000", 200),
        ("speech.example.org", "https://speech.example.org", 200),
        ("localhost:8000", "http://localhost:3000", 403),
        ("localhost:8000", "http://evil.example.org", 403),
        ("localhost:8000", "http://localhost:8000.evil.org", 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "file://", 403),
        ("localhost:8000", "http://[", 403),
    ],
)
def test_pages_of_others_are_refused(running: Running, host: str, origin: str, status: int) -> None:
    assert ask(running, Host=host, Origin=origin).status_code == status


def test_the_token_opens_what_is_not_the_page(running: Running) -> None:
    for path in ("/v1/models", "/metrics", "/v1/nothing"):
        for token in (None, "secre", "secret2", "sécret"):
            assert CLIENT.get(running.address + path, headers=encode(token)).status_code == 401
    assert ask(running, "/metrics").status_code == 200
    assert ask(running, "/", token=None).status_code == 200
    assert ask(running, "/health", token=None).status_code == 200
    response = CLIENT.post(f"{running.address}/v1/audio/transcriptions", files={"file": make_wav("AB")})
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")


def encode(token: str | None) -> dict[bytes, bytes]:
    return {} if token is None else {b"Authorization": f"Bearer {token}".encode()}


def test_every_answer_forbids_foreign_content(running: Running) -> None:
    for response in (ask(running, "/"), ask(running, token=None), ask(running, Host="evil.org"), ask(running, "/x")):
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in response.headers


def test_a_bucket_of_requests_fills_evenly() -> None:
    now = 0.0
    limit = RateLimit(60, lambda: now)
    for _ in range(15):
        limit.check("a")
    with pytest.raises(Refusal) as refused:
        limit.check("a")
    assert refused.value.status == 429
    assert "15 may come at once, and 60 a minute after that; try again in 1.0 s" in refused.value.message
    assert refused.value.retry_after_seconds == pytest.approx(1.0)
    limit.check("b")
    now = 1.0
    limit.check("a")
    with pytest.raises(Refusal):
        limit.check("a")
