"""The page in Chromium, with a microphone that plays a file."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mindaudio_ds2.serving.guard import Access
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
    watch_playing,
)
from tests.serving.tones import Running, make_wav, run_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds to send and to speak, and where downloads go."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "talk.wav").write_bytes(make_wav("BAD CAB"))
    (folder / "noise.txt").write_text("this is no sound")
    fill_folder(folder)
    return folder


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with run_server(access=Access("secret")) as each:
        yield each


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Any]:
    with open_chromium(folder) as browser:
        yield browser


@pytest.fixture
def page(browser: Any, running: Running) -> Iterator[Any]:
    """The page with its token; whatever the browser complained about fails the test."""
    browser.get_log("browser")
    browser.get(f"{running.address}/")
    wait(lambda: find(browser, "model").text == "tones")
    browser.execute_script("document.getElementById('token').value = 'secret'")
    yield browser
    complaints = list_complaints(browser)
    assert not [text for text in complaints if "status of 400" not in text and "status of 401" not in text]


def test_a_file_becomes_words_that_can_be_heard_and_kept(page: Any, folder: Path) -> None:
    send(page, folder / "talk.wav")
    wait(lambda: read_words(page) == ["BAD", "CAB"])
    wait(lambda: "2 words in 0.9 s" in find(page, "status").text)
    assert page.execute_script("return getComputedStyle(document.getElementById('sound')).display") == "block"
    assert download(page, folder, "talk.txt") == "BAD CAB\n"
    assert download(page, folder, "talk.srt").splitlines()[2] == "BAD CAB"
    assert download(page, folder, "talk.vtt").startswith("WEBVTT")
    row = json.loads(download(page, folder, "talk.json"))
    assert [word["text"] for word in row["words"]] == ["BAD", "CAB"]
    second = page.find_elements(By.CSS_SELECTOR, "#transcript button.word")[1]
    list_played = watch_playing(page)
    second.click()
    wait(lambda: "CAB" in list_played())
    wait(lambda: "playing" not in second.get_attribute("class"))


def test_words_are_reached_with_the_keyboard(page: Any, folder: Path) -> None:
    send(page, folder / "talk.wav")
    wait(lambda: read_words(page) == ["BAD", "CAB"])
    page.execute_script("document.querySelector('#transcript button').focus()")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.text == "CAB"
    list_played = watch_playing(page)
    page.switch_to.active_element.send_keys(Keys.ENTER)
    wait(lambda: "CAB" in list_played())
    page.switch_to.active_element.send_keys(Keys.HOME)
    assert page.switch_to.active_element.text == "BAD"


def test_the_microphone_s_words_come_while_it_is_open(page: Any, folder: Path) -> None:
    find(page, "mic").click()
    wait(lambda: find(page, "mic-label").text == "Stop")
    wait(lambda: read_words(page)[:2] == SPOKEN.split()[:2])
    assert find(page, "mic-label").text == "Stop"
    time.sleep(1)
    find(page, "mic").click()
    wait(lambda: find(page, "mic-label").text == "Speak")
    assert read_words(page) == SPOKEN.split()
    assert "3 words" in find(page, "status").text
    row = json.loads(download(page, folder, "microphone.json"))
    starts = [word["start_seconds"] for word in row["words"]]
    assert np.diff(starts) == pytest.approx([0.4, 0.4], abs=0.05)
    drawn = "const c = document.getElementById('spectrogram'); return new Set(c.getContext('2d').getImageData(0, 0, "
    assert page.execute_script(f"{drawn}c.width, c.height).data).size") > 20


def test_words_of_the_microphone_do_not_come_into_a_file_that_follows(page: Any, folder: Path) -> None:
    find(page, "mic").click()
    wait(lambda: read_words(page))
    send(page, folder / "talk.wav")
    wait(lambda: "2 words in 0.9 s" in find(page, "status").text)
    time.sleep(2)
    assert read_words(page) == ["BAD", "CAB"]
    assert "2 words in 0.9 s" in find(page, "status").text
    assert find(page, "mic-label").text == "Speak"
    assert page.find_element(By.CSS_SELECTOR, "[data-format=json]").is_enabled()


def test_the_newest_words_are_in_sight_while_one_speaks(page: Any) -> None:
    find(page, "mic").click()
    wait(lambda: find(page, "mic-label").text == "Stop")
    wait(lambda: read_words(page))
    page.execute_script("document.querySelector('#transcript p').append('WORD '.repeat(600))")
    box = page.execute_script("return document.getElementById('transcript').getBoundingClientRect().toJSON()")
    assert box["bottom"] <= page.execute_script("return window.innerHeight")
    assert box["height"] >= 100
    assert find(page, "mic").rect["y"] >= page.execute_script("return window.scrollY")
    find(page, "mic").click()
    wait(lambda: find(page, "mic-label").text == "Speak")
    after = page.execute_script("return document.getElementById('transcript').getBoundingClientRect().toJSON()")
    assert after["height"] > box["height"]


def test_another_theme_and_width_are_those_of_what_was_drawn_before(page: Any) -> None:
    def read_corner() -> list[int]:
        """Of a copy: browsers complain about canvases that are read often."""
        return list(
            page.execute_script(
                "const copy = new OffscreenCanvas(1, 1).getContext('2d');"
                "copy.drawImage(document.getElementById('spectrogram'), -1, -1);"
                "return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3)"
            )
        )

    def emulate(scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    emulate("light")
    find(page, "mic").click()
    wait(lambda: read_corner() == [246, 247, 249])  # the microphone begins with silence
    emulate("dark")
    wait(lambda: read_corner() == [17, 21, 27])
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", TELEPHONE)
    wait(lambda: page.execute_script("const c = document.getElementById('wave'); return c.width === 2 * c.clientWidth"))
    wait(lambda: read_corner() == [17, 21, 27])
    assert find(page, "mic-label").text == "Stop"  # drawn anew while one speaks, not after it
    assert read_corner() == [17, 21, 27]
    find(page, "mic").click()
    wait(lambda: find(page, "mic-label").text == "Speak")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    emulate("light")


def test_errors_are_shown_in_words(page: Any, folder: Path) -> None:
    send(page, folder / "noise.txt")
    wait(lambda: "noise.txt" in find(page, "status").text and find(page, "status").get_attribute("class") == "bad")
    page.execute_script("document.getElementById('token').value = 'wrong'")
    send(page, folder / "talk.wav")
    wait(lambda: "token" in find(page, "status").text)
    assert page.switch_to.active_element.get_attribute("id") == "token"


def test_nothing_is_wider_than_a_telephone_and_every_control_has_a_name(page: Any, folder: Path) -> None:
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", TELEPHONE)
    send(page, folder / "talk.wav")
    wait(lambda: read_words(page) == ["BAD", "CAB"])
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.execute_script("document.querySelector('details').open = true")
    controls = page.find_elements(By.CSS_SELECTOR, "button, input, textarea")
    shown = [each for each in controls if each.is_displayed()]
    assert len(shown) >= 10
    assert not [each.get_attribute("outerHTML") for each in shown if not each.accessible_name]


def test_the_theme_follows_the_system_and_the_button(page: Any) -> None:
    def background() -> str:
        return str(page.execute_script("return getComputedStyle(document.body).backgroundColor"))

    def emulate(scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    emulate("light")
    light = wait(background)
    emulate("dark")
    wait(lambda: background() != light)
    find(page, "theme").click()
    assert background() == light
    find(page, "theme").click()
    assert background() != light
    find(page, "theme").click()
