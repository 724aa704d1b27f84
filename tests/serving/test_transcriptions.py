"""Files over HTTP, as OpenAI's clients, curl and nobody in their right mind send them."""

import json
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("httpx2", reason="httpx2 is not installed")

import httpx2 as httpx

from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.serving.jobs import FileJob
from mindaudio_ds2.serving.limits import Limits
from recipes.benchmark.senseless import PATH, make_request
from tests.serving.tones import CLIENT, Running, make_wav, run_server

TEXT = "BAD CAB"
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with run_server(Limits(max_upload_bytes=2**20, max_file_seconds=60, requests_per_minute=0)) as each:
        yield each


def post(running: Running, content: bytes | None = None, name: str = "a.wav", **fields: Any) -> Any:
    files = {"file": (name, make_wav(TEXT) if content is None else content)}
    return CLIENT.post(running.address + PATH, files=files, data={"model": "tones", **fields}, timeout=90)


def read_error(response: Any) -> tuple[int, str]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"]) > 10
    return response.status_code, error["code"]


def test_a_file_becomes_text_in_every_format(running: Running) -> None:
    assert post(running).json() == {"text": TEXT}
    assert post(running, response_format="text").text == f"{TEXT}\n"
    assert post(running, response_format="srt").text.splitlines()[2] == TEXT
    assert post(running, response_format="vtt").text.startswith("WEBVTT\n\n00:00:00.")
    assert post(running, make_wav(TEXT, kind="FLAC"), name="a.flac").json() == {"text": TEXT}


def test_verbose_json_has_words_and_segments_with_times(running: Running) -> None:
    fields: Fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    found = post(running, **fields).json()
    assert [word["word"] for word in found["words"]] == ["BAD", "CAB"]
    assert [segment["text"] for segment in found["segments"]] == [TEXT]
    times = [time for word in found["words"] for time in (word["start"], word["end"])]
    assert times == pytest.approx([0.1, 0.4, 0.5, 0.8], abs=0.03)  # each letter lasts 0.1 s
    assert found["duration"] == pytest.approx(0.9)
    assert all(0.8 < word["confidence"] <= 1 for word in found["words"])
    assert "words" not in post(running, response_format="verbose_json").json()


def test_digital_silence_has_no_words_and_a_note_that_says_so(running: Running) -> None:
    import io

    import numpy as np
    import soundfile

    from tests.tiny_corpus import RATE_HZ

    for seconds in (1.0, 25.0):  # whole, and cut
        buffer = io.BytesIO()
        soundfile.write(buffer, np.zeros(round(seconds * RATE_HZ)), RATE_HZ, format="WAV")
        found = post(running, buffer.getvalue()).json()
        assert found["text"] == ""
        assert found["notes"][-1] == "a.wav: no speech was found in it"


def test_openai_s_client_gets_the_same(running: Running) -> None:
    openai = pytest.importorskip("openai", reason="the package openai is not installed")
    client = openai.OpenAI(base_url=f"{running.address}/v1", api_key="none", max_retries=0)
    file = ("talk.wav", make_wav(TEXT))
    assert client.audio.transcriptions.create(model="tones", file=file).text == TEXT
    assert client.audio.transcriptions.create(model="tones", file=file, response_format="text") == f"{TEXT}\n"
    assert TEXT in client.audio.transcriptions.create(model="tones", file=file, response_format="srt")
    verbose = client.audio.transcriptions.create(
        model="tones", file=file, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert [word.word for word in verbose.words] == TEXT.split()
    assert [model.id for model in client.models.list()] == ["tones"]
    assert client.models.retrieve("tones").owned_by == "mindaudio_ds2"
    with pytest.raises(openai.NotFoundError, match="this server has 'tones'"):
        client.audio.transcriptions.create(model="whisper-1", file=file)


def test_curl_gets_the_same(running: Running, tmp_path: Any) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    (tmp_path / "a.wav").write_bytes(make_wav(TEXT))
    command = ["curl", "-sS", "-F", f"file=@{tmp_path}/a.wav", "-F", "response_format=text", running.address + PATH]
    assert subprocess.run(command, capture_output=True, text=True, timeout=90).stdout == f"{TEXT}\n"


def test_a_long_file_is_cut_in_its_pauses_and_keeps_its_words(running: Running) -> None:
    import io

    import numpy as np
    import soundfile

    from tests.tiny_corpus import RATE_HZ, speak

    words = ["BAD", "CAB", "DACB", "AD", "CBA"] * 4
    parts = [np.concatenate([speak(word, seed=1), np.zeros(2 * RATE_HZ)]) for word in words]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts) + 1e-4, RATE_HZ, format="WAV")
    fields: Fields = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    found = post(running, file.getvalue(), **fields).json()
    assert found["text"] == " ".join(words)
    starts = np.cumsum([0] + [len(part) for part in parts[:-1]]) / RATE_HZ
    # a tenth of a second of noise goes before the tones; after zeros it may count as sound
    assert [word["start"] for word in found["words"]] == pytest.approx(starts + 0.05, abs=0.1)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": "xml"}, (400, "invalid_value")),
        ({"model": "whisper-1"}, (404, "model_not_found")),
        ({"temperature": "0.7"}, (400, "unsupported_parameter")),
        ({"stream": "true"}, (400, "unsupported_parameter")),
        ({"prompt": "spell well"}, (400, "unknown_parameter")),
        ({"timestamp_granularities[]": "phoneme", "response_format": "verbose_json"}, (400, "invalid_value")),
        ({"timestamp_granularities[]": "word"}, (400, "invalid_value")),
        ({"hotwords": "ÄÖ"}, (400, "invalid_hotwords")),
        ({"hotwords": "AB\tmuch"}, (400, "invalid_hotwords")),
        ({"hotwords": "A\n" * 300}, (400, "too_many_hotwords")),
        ({"response_format": ["json", "text"]}, (400, "repeated_parameter")),
        ({"model": ["tones", "tones"]}, (400, "repeated_parameter")),
    ],
)
def test_what_cannot_be_done_is_refused(running: Running, fields: Fields, expected: tuple[int, str]) -> None:
    assert read_error(post(running, **fields)) == expected


def test_a_file_given_twice_and_fields_in_the_address_are_refused(running: Running) -> None:
    content = make_wav(TEXT)
    assert read_error(post(running, content, file="text")) == (400, "repeated_parameter")
    url = f"{running.address}/v1/audio/transcriptions?response_format=text&x=1"
    response = CLIENT.post(url, files={"file": ("talk.wav", content)})
    assert read_error(response) == (400, "unknown_parameter")
    assert "'response_format' stands in the address" in response.text
    subtitles = CLIENT.post(f"{running.address}/v1/subtitles?format=srt", json={"format": "srt", "words": []})
    assert read_error(subtitles) == (400, "unknown_parameter")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", (400, "empty_file")),
        (b"this is no sound", (400, "invalid_audio")),
        (make_wav(TEXT)[:900], (400, "invalid_audio")),
        (bytes(2 * 2**20), (413, "file_too_large")),
        (make_wav(TEXT, seconds_of_silence=61, kind="FLAC"), (413, "audio_too_long")),
    ],
    ids=["empty", "garbage", "cut off", "too large", "too long"],
)
def test_bad_files_are_refused_with_a_reason(running: Running, content: bytes, expected: tuple[int, str]) -> None:
    response = post(running, content)
    assert read_error(response) == expected
    assert "/dev/fd" not in response.text


def test_a_body_of_unknown_length_is_stopped_at_the_limit(running: Running) -> None:
    def send() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(64):
            yield bytes(2**16)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = CLIENT.post(running.address + PATH, content=send(), headers=headers, timeout=90)
    assert read_error(response) == (413, "file_too_large")


def test_forms_without_a_file_and_bodies_that_are_no_form_are_refused(running: Running) -> None:
    url = running.address + PATH
    assert read_error(CLIENT.post(url, json={"file": "a.wav"})) == (415, "no_form")
    assert read_error(CLIENT.post(url, files={"audio": b"x"})) == (400, "missing_file")
    assert read_error(CLIENT.post(url, files=[("file", b"x"), ("file", b"y")])) == (400, "invalid_form")
    assert read_error(CLIENT.post(url, headers={"Content-Type": "multipart/form-data"}, content=b"x"))[0] == 400
    assert read_error(CLIENT.get(url)) == (405, "invalid_request")
    assert read_error(CLIENT.get(running.address + "/v1/nothing")) == (404, "invalid_request")
    assert read_error(CLIENT.get(running.address + "/page/..%2flimits.py")) == (404, "invalid_request")


@pytest.mark.parametrize("num_bytes_lost", [4, 40, 500])
def test_a_form_without_its_end_was_cut_off(running: Running, num_bytes_lost: int) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    rest = b'\r\n--x\r\nContent-Disposition: form-data; name="response_format"\r\n\r\ntext\r\n--x--\r\n'
    body = head + make_wav("AB") + rest
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    url = running.address + PATH
    assert CLIENT.post(url, content=body, headers=headers).text.split() == ["AB"]
    response = CLIENT.post(url, content=body[:-num_bytes_lost], headers=headers)
    assert read_error(response) == (400, "upload_cut_off")
    assert "the upload was cut off" in response.json()["error"]["message"]


def test_a_slow_upload_is_told_so() -> None:
    with run_server(Limits(idle_seconds=1, requests_per_minute=0)) as running:

        def send() -> Iterator[bytes]:
            yield b"--x\r\n"
            threading.Event().wait(2)
            yield b"more"

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = CLIENT.post(running.address + PATH, content=send(), headers=headers, timeout=90)
        assert read_error(response) == (408, "upload_too_slow")


def test_too_many_files_and_requests_are_told_when_to_come_back() -> None:
    with run_server(Limits(max_files=1, requests_per_minute=16)) as running:
        running.network.gate.clear()
        first = threading.Thread(target=post, args=(running,))
        first.start()
        running.wait_for(lambda: running.network.num_batches)
        response = post(running)
        assert read_error(response) == (429, "too_many_files")
        assert int(response.headers["Retry-After"]) >= 1
        running.network.gate.set()
        first.join()
        while response.json()["error"]["code"] != "rate_limit_exceeded":
            response = CLIENT.get(f"{running.address}/v1/none")
        assert response.status_code == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 4
        assert CLIENT.get(f"{running.address}/health").status_code == 200


def test_work_ends_when_its_client_leaves() -> None:
    with run_server(num_workers=1) as running:
        running.network.gate.clear()
        blocker = threading.Thread(target=post, args=(running,))
        blocker.start()
        running.wait_for(lambda: running.network.num_batches == 1)
        with pytest.raises(httpx.TimeoutException):
            CLIENT.post(running.address + PATH, files={"file": make_wav(TEXT)}, timeout=2)
        running.wait_for(lambda: running.service.num_files == 1)
        running.network.gate.set()
        blocker.join()
        assert post(running).json() == {"text": TEXT}
        assert running.network.num_batches == 2  # the blocker and the last: nothing was computed for who had left
        assert b"mindaudio_ds2_cancelled_total 1.0" in running.service.metrics.write()


def test_a_file_whose_client_left_while_it_was_read_is_not_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    read = FileJob.read

    def read_when_its_client_has_left(job: FileJob) -> None:
        running.wait_for(lambda: job.is_over)
        read(job)

    with run_server() as running:
        monkeypatch.setattr(FileJob, "read", read_when_its_client_has_left)
        with pytest.raises(httpx.TimeoutException):
            httpx.post(running.address + PATH, files={"file": make_wav(TEXT)}, timeout=2)
        running.wait_for(lambda: running.service.num_files == 0)
        monkeypatch.setattr(FileJob, "read", read)
        assert post(running).json() == {"text": TEXT}
        assert running.network.num_batches == 1


def test_files_that_wait_are_recognised_together() -> None:
    with run_server(num_workers=1) as running:
        running.network.gate.clear()
        threads = [threading.Thread(target=post, args=(running,)) for _ in range(6)]
        threads[0].start()
        running.wait_for(lambda: running.network.num_batches == 1)  # or the first batch has those that come meanwhile
        for thread in threads[1:]:
            thread.start()
        running.wait_for(lambda: running.service.dispatcher.measure_waiting_seconds() > 4.4)
        running.network.gate.set()
        for thread in threads:
            thread.join()
        assert sorted(running.network.batch_sizes) == [1, 5]


def test_a_server_that_stops_finishes_what_it_has_and_takes_nothing_new() -> None:
    with run_server() as running:
        running.network.gate.clear()
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(post(running)))
        thread.start()
        running.wait_for(lambda: running.network.num_batches == 1)
        running.server.handle_exit(15, None)
        running.wait_for(lambda: running.service.is_stopping)
        assert read_error(post(running)) == (503, "stopping")
        assert CLIENT.get(f"{running.address}/health").status_code == 503
        running.network.gate.set()
        thread.join()
        assert answers[0].json() == {"text": TEXT}
        running.thread.join(60)
        assert running.server.num_unfinished == 0


def test_hotwords_win_where_the_sound_leaves_a_doubt(kernels: Any) -> None:
    with run_server(choice=DecoderChoice("beam")) as running:
        running.network.is_unsure = True
        assert post(running).json() == {"text": TEXT}
        assert post(running, hotwords="cad\t14").json() == {"text": "BAD CAD"}
        assert post(running).json() == {"text": TEXT}


def test_a_connection_that_sends_no_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindaudio_ds2.serving.server.HEAD_SECONDS", 0.3)
    with run_server() as running:
        for head in (b"", b"GET /health HTTP/1.1\r\nHo"):
            with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
                connection.sendall(head)
                assert connection.recv(100) == b""
        connection = socket.create_connection(("127.0.0.1", running.port), timeout=60)
        with connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # Starlette leaves half a file to Python
def test_two_hundred_broken_requests_cause_no_defect_and_no_hang(running: Running) -> None:
    chooser = random.Random(7)
    statuses: dict[str, int] = {}
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
            answer = b""
            try:
                connection.sendall(make_request(make_wav("AB"), chooser))
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    answer += chunk
            except ConnectionError:
                pass
        status = answer[9:12].decode()
        statuses[status] = statuses.get(status, 0) + 1
        assert not status.startswith("5"), answer
    assert statuses["400"] > 20, statuses
    assert post(running).json() == {"text": TEXT}
    running.wait_for(lambda: running.service.num_files == 0)


def test_metrics_tell_what_was_done(running: Running) -> None:
    post(running)
    text = CLIENT.get(f"{running.address}/metrics").text
    assert 'mindaudio_ds2_requests_total{route="/v1/audio/transcriptions",status="200"}' in text
    assert "mindaudio_ds2_files 0.0" in text
    seconds = float(text.split('mindaudio_ds2_audio_seconds_total{kind="file"} ')[1].split("\n")[0])
    assert seconds >= 0.9
    health = json.loads(CLIENT.get(f"{running.address}/health").text)
    assert (health["status"], health["model"], health["sample_rate_hz"]) == ("ok", "tones", 8000)
