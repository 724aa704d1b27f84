"""The package's English network behind a server: whoever sends a file gets the same text."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("python_multipart", reason="the extra serve is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from mindaudio_ds2 import Recognizer, models
from mindaudio_ds2.decoding.choice import find_choice
from mindaudio_ds2.serving.guard import Access
from mindaudio_ds2.serving.limits import Limits
from mindaudio_ds2.serving.server import Server, ServerOptions, listen, open_service


@pytest.fixture(scope="module")
def recording(shared_data: Path) -> Path:
    path = shared_data / "mini_librispeech" / "LibriSpeech" / "dev-mini" / "19" / "198" / "19-198-0000.flac"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    return path


@pytest.fixture(scope="module")
def model() -> Path:
    (english,) = [each for each in models.list_models() if each.name == models.DEFAULT]
    return english.folder / models.RECOGNITION


@pytest.fixture(scope="module")
def text(recording: Path, model: Path) -> str:
    """What `transcribe` writes, with the model's own decoder."""
    return Recognizer.load(model).transcribe(recording).text


@pytest.fixture(scope="module")
def address(model: Path) -> Iterator[str]:
    options = ServerOptions(model, port=0, name="english")
    service = open_service(options, find_choice(model), Limits(requests_per_minute=0))
    server = Server(service, Access(), options)
    listener = listen(options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.handle_exit(15, None)
    thread.join(60)
    assert not thread.is_alive()


def test_openai_s_client_gets_the_text_of_transcribe(address: str, recording: Path, text: str) -> None:
    openai = pytest.importorskip("openai", reason="the package openai is not installed")
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    assert client.audio.transcriptions.create(model="english", file=recording).text == text
    verbose = client.audio.transcriptions.create(
        model="english", file=recording, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert [word.word for word in verbose.words] == text.split()


def test_curl_gets_the_text_of_transcribe(address: str, recording: Path, text: str) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    command = ["curl", "-sS", "-F", f"file=@{recording}", "-F", "response_format=text"]
    done = subprocess.run(
        [*command, f"{address}/v1/audio/transcriptions"], capture_output=True, text=True, timeout=90, check=True
    )
    assert done.stdout == f"{text}\n"


def test_the_page_shows_the_text_of_transcribe(address: str, recording: Path, text: str, tmp_path: Path) -> None:
    pytest.importorskip("selenium", reason="selenium is not installed")
    from tests.chromium import fill_folder, find, open_chromium, read_words, send, wait

    fill_folder(tmp_path)
    with open_chromium(tmp_path) as page:
        page.get(f"{address}/")
        wait(lambda: find(page, "model").text == "english")
        send(page, recording)
        wait(lambda: f"{len(text.split())} words in" in find(page, "status").text)
        assert read_words(page) == text.split()
