"""The page in Chromium, from a server of files; in place of ONNX Runtime stands a script that hears tones."""

import functools
import json
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.browser.folder import ABOUT, PageNetwork, write_page
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.portable.description import Description
from tests.chromium import (
    SPOKEN,
    TELEPHONE,
    download,
    fill_folder,
    find,
    list_complaints,
    open_chromium,
    read_words,
    send,
    wait,
)
from tests.tiny_corpus import RATE_HZ, YAML, speak

LONG = "BAD CAB DACB AB DA CABD"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page, sounds to open and to speak, and where downloads go."""
    folder = tmp_path_factory.mktemp("page")
    config = from_mapping(YAML, "tones")
    description = Description(config.features, config.text, "waveform", "fp32", False, 2, 0.02, 4.0)
    runtime = {"ort.js": Path(__file__).with_name("tone_runtime.js").read_bytes()}
    write_page(folder / "page", "tones", PageNetwork(b"tones", description), runtime)
    soundfile.write(folder / "talk.wav", speak("BAD CAB", 4), RATE_HZ)
    soundfile.write(folder / "stereo.flac", np.stack([speak("CAB", 4, 44100)] * 2, axis=1), 44100)
    pause = np.zeros(RATE_HZ)
    words = [np.concatenate([speak(word, seed), pause]) for seed, word in enumerate(LONG.split())]
    soundfile.write(folder / "long.wav", np.concatenate(words), RATE_HZ)
    (folder / "noise.txt").write_text("this is no sound")
    fill_folder(folder)
    return folder


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    handler = functools.partial(Handler, directory=str(folder / "page"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join(60)


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Any]:
    with open_chromium(folder) as browser:
        yield browser


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page with its network; a complaint of the browser, its content security policy's included, fails the test."""
    browser.get_log("browser")
    browser.get(address)
    wait(lambda: find(browser, "status").text == "Ready.")
    yield browser
    assert not list_complaints(browser)


def test_a_file_becomes_words_with_times_and_the_speed_is_shown(page: Any, folder: Path) -> None:
    assert find(page, "model").text == "tones"
    send(page, folder / "talk.wav")
    wait(lambda: read_words(page) == ["BAD", "CAB"])
    wait(lambda: "2 words in 0.9 s of sound. Recognised in" in find(page, "status").text)
    assert "× real time" in find(page, "status").text
    assert download(page, folder, "talk.txt") == "BAD CAB\n"
    assert download(page, folder, "talk.srt").splitlines()[1:3] == ["00:00:00,100 --> 00:00:01,100", "BAD CAB"]
    assert download(page, folder, "talk.vtt").startswith("WEBVTT")
    row = json.loads(download(page, folder, "talk.json"))
    assert [word["start_seconds"] for word in row["words"]] == pytest.approx([0.1, 0.5], abs=0.03)


def test_other_rates_and_channels_are_heard(page: Any, folder: Path) -> None:
    send(page, folder / "stereo.flac")
    wait(lambda: "1 word in" in find(page, "status").text)
    assert read_words(page) == ["CAB"]


def test_a_long_recording_is_cut_in_its_pauses(page: Any, folder: Path) -> None:
    send(page, folder / "long.wav")
    wait(lambda: f"{len(LONG.split())} words in" in find(page, "status").text)
    assert read_words(page) == LONG.split()


def test_the_microphone_s_words_come_after_their_pause(page: Any, folder: Path) -> None:
    find(page, "mic").click()
    wait(lambda: find(page, "mic-label").text == "Stop")
    wait(lambda: read_words(page) == SPOKEN.split())
    assert find(page, "mic-label").text == "Stop"
    find(page, "mic").click()
    wait(lambda: "3 words" in find(page, "status").text)
    assert "× real time" in find(page, "status").text
    row = json.loads(download(page, folder, "microphone.json"))
    starts = [word["start_seconds"] for word in row["words"]]
    assert np.diff(starts) == pytest.approx([0.4, 0.4], abs=0.05)


def test_words_of_the_microphone_do_not_come_into_a_file_that_follows(page: Any, folder: Path) -> None:
    find(page, "mic").click()
    wait(lambda: find(page, "mic-label").text == "Stop")
    time.sleep(1.5)
    send(page, folder / "talk.wav")
    wait(lambda: "2 words in" in find(page, "status").text)
    time.sleep(2)
    assert read_words(page) == ["BAD", "CAB"]
    assert "2 words in" in find(page, "status").text
    assert find(page, "mic-label").text == "Speak"


def test_errors_are_shown_in_words(page: Any, folder: Path) -> None:
    send(page, folder / "noise.txt")
    wait(lambda: "cannot read noise.txt; convert it to WAV" in find(page, "status").text)
    assert find(page, "status").get_attribute("class") == "bad"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", b"ton", "model.onnx is not whole (3 of 5 bytes)"),
        ("model.onnx", b"towns", "this is no network"),
        ("runtime/ort.js", None, "files of the folder are missing"),
    ],
)
def test_a_damaged_folder_is_named(
    browser: Any, address: str, folder: Path, name: str, content: bytes | None, message: str
) -> None:
    path = folder / "page" / name
    whole = path.read_bytes()
    try:
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        browser.execute_cdp_cmd("Network.clearBrowserCache", {})
        browser.get(address)
        wait(lambda: message in find(browser, "status").text)
        assert not find(browser, "choose").is_enabled()
    finally:
        path.write_bytes(whole)
        browser.execute_cdp_cmd("Network.clearBrowserCache", {})
        browser.get_log("browser")


def test_nothing_is_asked_of_others(page: Any, folder: Path, address: str) -> None:
    page.get_log("performance")
    page.get(address)
    wait(lambda: find(page, "status").text == "Ready.")
    send(page, folder / "talk.wav")
    wait(lambda: read_words(page) == ["BAD", "CAB"])
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert f"{address}{ABOUT}" in urls or len(urls) > 5
    assert not [url for url in urls if not url.startswith((address, f"blob:{address}"))]
    blocked = page.execute_async_script(
        "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done(''), (error) => done(String(error)))"
    )
    assert "Failed to fetch" in blocked
    assert "connect-src" in list_complaints(page)[0]


def test_the_worker_obeys_the_page_s_policy(page: Any) -> None:
    """A worker started from an address of its own would not: hosts of files send no policy."""
    script = """
    const done = arguments[0];
    const code = "fetch('http://127.0.0.1:9/').then(() => postMessage(''), (e) => postMessage(String(e)));";
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
    worker.onmessage = (event) => done(event.data);
    """
    assert "Failed to fetch" in page.execute_async_script(script)
    assert "Content Security Policy" in list_complaints(page)[0]


def test_nothing_is_wider_than_a_telephone_and_every_control_has_a_name(page: Any, folder: Path) -> None:
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", TELEPHONE)
    send(page, folder / "talk.wav")
    wait(lambda: read_words(page) == ["BAD", "CAB"])
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    controls = page.find_elements("css selector", "button, input, textarea")
    shown = [each for each in controls if each.is_displayed()]
    assert len(shown) >= 8
    assert not [each.get_attribute("outerHTML") for each in shown if not each.accessible_name]


def test_a_file_that_is_cancelled_gives_no_words(page: Any, folder: Path) -> None:
    page.execute_script("""
    const cancel = document.getElementById("cancel"); // pressed as soon as it is there: a file may be recognised soon
    new MutationObserver((_, observer) => { observer.disconnect(); cancel.click(); })
      .observe(cancel, { attributeFilter: ["hidden"] });
    """)
    send(page, folder / "long.wav")
    wait(lambda: find(page, "status").text == "Cancelled.")
    time.sleep(0.3)
    assert read_words(page) == []
    send(page, folder / "talk.wav")
    wait(lambda: read_words(page) == ["BAD", "CAB"])
