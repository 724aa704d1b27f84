"""Live streams over a websocket, with clients that behave and clients that do not."""

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("websockets", reason="the extra serve is not installed")

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.serving.guard import Access
from mindaudio_ds2.serving.limits import Limits
from recipes.benchmark.senseless import make_message
from tests.serving.tones import CLIENT, RATE_HZ, Running, make_wav, run_server
from tests.tiny_corpus import speak

TEXT = "BAD CAB DACB"
Message = dict[str, Any]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with run_server(Limits(max_streams=3, requests_per_minute=0)) as each:
        yield each


def open_socket(running: Running, **options: Any) -> ClientConnection:
    socket: ClientConnection = connect(
        f"ws://127.0.0.1:{running.port}/v1/stream", open_timeout=60, close_timeout=2, **options
    )
    return socket


def make_samples(text: str = TEXT) -> NDArray[np.int16]:
    samples: NDArray[np.int16] = np.round(speak(text, seed=4) * 32767).astype(np.int16)
    return samples


@contextlib.contextmanager
def begin(running: Running, **settings: Any) -> Iterator[ClientConnection]:
    with open_socket(running) as socket:
        socket.send(json.dumps({"type": "start", "sample_rate_hz": RATE_HZ, **settings}))
        ready = json.loads(socket.recv(60))
        assert ready["type"] == "ready", ready
        assert ready["model"] == "tones"
        yield socket


def read_all(socket: ClientConnection) -> list[Message]:
    """Every message until the server closes."""
    messages = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            messages.append(json.loads(socket.recv(60)))
    return messages


def say(running: Running, chunk: int = 400, **settings: Any) -> tuple[list[Message], int | None]:
    with begin(running, **settings) as socket:
        samples = make_samples()
        for start in range(0, len(samples), chunk):
            socket.send(samples[start : start + chunk].tobytes())
        socket.send(json.dumps({"type": "finish"}))
        return read_all(socket), socket.close_code


@pytest.mark.parametrize("chunk", [16, 77, 400, 100_000])
def test_words_come_in_messages_and_are_the_same_for_any_cut(running: Running, chunk: int) -> None:
    messages, code = say(running, chunk)
    finals = [message for message in messages if message["type"] == "final"]
    assert " ".join(message["text"] for message in finals) == TEXT
    words = [word for message in finals for word in message["words"]]
    assert [word["start_seconds"] for word in words] == pytest.approx([0.1, 0.5, 0.9], abs=0.03)
    assert messages[-1]["type"] == "done"
    assert messages[-1]["text"] == TEXT
    assert messages[-1]["duration_seconds"] == pytest.approx(len(make_samples()) / RATE_HZ)
    assert code == 1000


def test_words_come_while_more_is_being_said(running: Running) -> None:
    with begin(running) as socket:
        samples = make_samples("BAD CAB")
        socket.send(samples[: round(0.75 * RATE_HZ)].tobytes())
        kinds = []
        while "final" not in kinds:
            kinds.append(json.loads(socket.recv(60))["type"])
        socket.send(samples[round(0.75 * RATE_HZ) :].tobytes())
        socket.send('{"type": "finish"}')
        assert read_all(socket)[-1]["text"] == "BAD CAB"


def test_floating_point_samples_are_heard_too(running: Running) -> None:
    with begin(running, encoding="pcm_f32le") as socket:
        socket.send((make_samples() / 32768).astype("<f4").tobytes())
        socket.send('{"type": "finish"}')
        assert read_all(socket)[-1]["text"] == TEXT


def test_hotwords_of_a_stream_are_expected_in_it(kernels: Any) -> None:
    with run_server(choice=DecoderChoice("beam")) as running:
        running.network.is_unsure = True
        assert say(running)[0][-1]["text"] == TEXT
        assert say(running, hotwords=["cad\t14"])[0][-1]["text"] == TEXT.replace("CAB", "CAD")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("no json", "invalid_message"),
        ("[1]", "invalid_message"),
        ('{"type": "finish"}', "invalid_message"),
        ('{"type": "start", "rate": 3}', "invalid_message"),
        ('{"type": "start", "sample_rate_hz": "8000"}', "invalid_message"),
        ('{"type": "start", "sample_rate_hz": true}', "invalid_message"),
        ('{"type": "start", "sample_rate_hz": 1}', "invalid_message"),
        ('{"type": "start", "sample_rate_hz": 192001}', "invalid_message"),
        ('{"type": "start", "encoding": "mp3"}', "invalid_message"),
        ('{"type": "start", "hotwords": [1]}', "invalid_message"),
        ('{"type": "start", "hotwords": ["Ä"]}', "invalid_hotwords"),
        ('{"type": "start", "model": "other"}', "model_not_found"),
        ("[" * 100_000, "invalid_message"),
        (b"\x00\x01", "invalid_message"),
    ],
)
def test_a_bad_beginning_is_told(running: Running, first: Any, code: str) -> None:
    with open_socket(running) as socket:
        socket.send(first)
        (message,) = read_all(socket)
        assert (message["type"], message["code"]) == ("error", code)
        assert socket.close_code == 1008


def test_what_is_wrong_with_a_first_message_is_named(running: Running) -> None:
    with open_socket(running) as socket:
        socket.send('{"type": "start", "sample_rate_hz": 8000, "sample_rate_hz": 16000}')
        (message,) = read_all(socket)
    assert "'sample_rate_hz' stands twice" in message["message"]


def test_fields_in_the_address_are_refused(running: Running) -> None:
    address = running.address.replace("http", "ws")
    with connect(f"{address}/v1/stream?sample_rate_hz=8000") as socket:
        (message,) = read_all(socket)
        assert (message["type"], message["code"]) == ("error", "unknown_parameter")
        assert message["message"] == "'sample_rate_hz' stands in the address; fields belong into the first message"


def test_a_request_that_is_no_websocket_is_told_what_the_path_is_for(running: Running) -> None:
    for method in ("GET", "POST"):
        response = CLIENT.request(method, f"{running.address}/v1/stream")
        assert (response.status_code, response.headers["Upgrade"]) == (426, "websocket")
        error = response.json()["error"]
        assert error["code"] == "upgrade_required"
        assert "is a websocket for live speech" in error["message"]


def test_a_bad_continuation_is_told_after_what_was_heard(running: Running) -> None:
    for bad, code in (
        (b"\x00", "invalid_message"),
        ("more", "invalid_message"),
        ('{"type": "start"}', "invalid_message"),
    ):
        with begin(running) as socket:
            socket.send(make_samples("AB").tobytes())
            socket.send(bad)
            *_, done, error = read_all(socket)
            assert (done["type"], done["text"]) == ("done", "AB")
            assert (error["type"], error["code"]) == ("error", code)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 300.0])
def test_samples_that_cannot_be_end_a_stream_after_what_was_heard(running: Running, bad: float) -> None:
    good = (make_samples("AB") / 32768).astype("<f4")
    with begin(running, encoding="pcm_f32le") as socket:
        socket.send(good.tobytes())
        socket.send(np.full(400, bad, "<f4").tobytes())
        *_, endpoint, done, error = read_all(socket)
        assert (endpoint["type"], endpoint["text"]) == ("endpoint", "AB")
        assert (done["type"], done["text"]) == ("done", "AB")
        assert done["duration_seconds"] == pytest.approx(len(good) / RATE_HZ)
        assert (error["type"], error["code"]) == ("error", "invalid_audio")
        assert socket.close_code == 1008


def test_a_message_that_is_too_large_closes_the_stream(running: Running) -> None:
    with begin(running) as socket:
        with contextlib.suppress(ConnectionClosed):  # the server may close before all of it is sent
            socket.send(bytes(3 * 2**20))
        read_all(socket)
        assert socket.close_code == 1009
    running.wait_for(lambda: running.service.dispatcher.num_streams == 0)


def test_too_many_streams_are_told_so(running: Running) -> None:
    with begin(running), begin(running), begin(running), open_socket(running) as socket:
        socket.send('{"type": "start"}')
        (message,) = read_all(socket)
        assert message["code"] == "too_many_streams"
        assert message["retry_after_seconds"] >= 1
        assert socket.close_code == 1013
    running.wait_for(lambda: running.service.dispatcher.num_streams == 0)


def test_silence_and_length_end_a_stream_with_what_was_heard() -> None:
    with run_server(Limits(idle_seconds=3, max_stream_seconds=1, requests_per_minute=0)) as running:
        with begin(running) as socket:
            socket.send(make_samples("AB").tobytes())
            *_, done, error = read_all(socket)
            assert (done["text"], error["code"]) == ("AB", "idle")
        with begin(running) as socket:
            socket.send(make_samples("AB CD AB CD").tobytes())
            *_, done, error = read_all(socket)
            assert (done["duration_seconds"], error["code"]) == (1, "stream_too_long")


def test_a_page_of_others_and_a_client_without_token_hear_nothing() -> None:
    with run_server(access=Access("secret")) as running:
        with pytest.raises(InvalidStatus) as refused:
            open_socket(running, origin="http://evil.example.org")
        assert refused.value.response.status_code == 403
        with open_socket(running) as socket:
            socket.send('{"type": "start", "token": "wrong"}')
            assert read_all(socket)[0]["code"] == "invalid_api_key"
        with begin(running, token="secret"):
            pass
        with open_socket(running, additional_headers={"Authorization": "Bearer secret"}) as socket:
            socket.send('{"type": "start"}')
            assert json.loads(socket.recv(60))["type"] == "ready"


def test_a_stream_does_not_wait_for_files() -> None:
    with run_server(num_workers=2) as running:
        with begin(running) as socket:
            blocked = threading.Event()
            recognize = running.network.recognize

            def block_files(waveforms: Any, shape: Any = None) -> Any:
                if max(map(len, waveforms)) > 5 * RATE_HZ:
                    blocked.set()
                    assert running.network.gate.wait(90)
                return recognize(waveforms, shape)

            running.network.recognize = block_files  # type: ignore[method-assign]
            running.network.gate = threading.Event()
            long_file = make_wav("AB", seconds_of_silence=8)
            url = f"{running.address}/v1/audio/transcriptions"
            threads = [
                threading.Thread(target=CLIENT.post, args=(url,), kwargs={"files": {"file": long_file}, "timeout": 120})
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            assert blocked.wait(60)
            running.network.gate, gate = open_gate(), running.network.gate
            started = time.monotonic()
            socket.send(make_samples().tobytes())
            socket.send('{"type": "finish"}')
            assert read_all(socket)[-1]["text"] == TEXT
            assert time.monotonic() - started < 45
            gate.set()
        for thread in threads:
            thread.join()


def test_a_network_that_is_late_loses_no_client_that_pings() -> None:
    """Half a minute of sound waits; what stands behind it in the socket is answered all the same."""
    with run_server() as running:
        running.network.gate = threading.Event()
        with begin(running) as socket:
            for _ in range(30):
                socket.send(make_samples()[:RATE_HZ].tobytes())
            assert socket.ping().wait(30)
            assert not running.network.gate.is_set()
            assert running.server.config.ws_ping_interval is None  # its own pings would be answered behind the sound


def open_gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


def test_a_server_that_stops_lets_streams_end_with_their_words() -> None:
    with run_server() as running, begin(running) as socket:
        socket.send(make_samples("AB").tobytes())
        json.loads(socket.recv(60))
        running.server.handle_exit(15, None)
        *_, done, error = read_all(socket)
        assert (done["text"], error["code"]) == ("AB", "stopping")
        assert socket.close_code == 1012


def test_subtitles_follow_the_rules_of_files(running: Running) -> None:
    url = f"{running.address}/v1/subtitles"
    words = [{"text": "BAD", "start_seconds": 0.1, "end_seconds": 0.4, "confidence": 1}]
    answer = CLIENT.post(url, json={"format": "srt", "words": words})
    assert answer.text.startswith("1\n00:00:00,100 --> ")
    assert CLIENT.post(url, json={"format": "vtt", "words": []}).text.startswith("WEBVTT")
    word = words[0]
    for wrong in (
        b"",
        b"[]",
        {"format": "srt"},
        {"format": "doc", "words": words},
        {"format": ["srt"], "words": words},
        {"format": "srt", "words": {"text": "a"}},
        {"format": "srt", "words": [{**word, "text": "a b"}]},
        {"format": "srt", "words": [{**word, "text": 3}]},
        {"format": "srt", "words": [{**word, "end_seconds": 0}]},
        {"format": "srt", "words": [{**word, "start_seconds": None}]},
        {"format": "srt", "words": [{**word, "start_seconds": 0.2}, word]},
        b'{"format": "srt", "words": [{"text": "a", "start_seconds": NaN, "end_seconds": 1}]}',
    ):
        given: Any = {"content": wrong} if isinstance(wrong, bytes) else {"json": wrong}
        answer = CLIENT.post(url, **given)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_words"), wrong
        message = answer.json()["error"]["message"]
        assert not [word for word in ("Error", "None") if word in message]
    missing = CLIENT.post(url, json={"words": words}).json()["error"]["message"]
    assert missing.startswith("`format` must be srt or vtt; send such as {")
    odd = CLIENT.post(url, json={"format": "vtt", "words": [word, 3]}).json()["error"]["message"]
    assert odd.startswith("word 2 must be an object")


def test_a_hundred_and_fifty_senseless_conversations_cause_no_defect(running: Running) -> None:
    chooser = random.Random(3)
    ends: dict[int | None, int] = {}
    for _ in range(150):
        with open_socket(running) as socket:
            with contextlib.suppress(ConnectionClosed):
                if chooser.random() < 0.7:
                    socket.send(json.dumps({"type": "start", "sample_rate_hz": RATE_HZ}))
                for _ in range(chooser.randrange(6)):
                    socket.send(make_message(make_samples("AB").tobytes(), chooser))
                if chooser.random() < 0.3:
                    socket.close()
                else:
                    socket.send('{"type": "finish"}')
            messages = read_all(socket)
        ends[socket.close_code] = ends.get(socket.close_code, 0) + 1
        assert not [message for message in messages if message.get("code") == "internal_error"]
    assert set(ends) <= {1000, 1008, 1005}, ends
    running.wait_for(lambda: running.service.dispatcher.num_streams == 0)
    assert say(running)[0][-1]["text"] == TEXT
    assert b'route="/v1/stream",status="500"' not in running.service.metrics.write()
