"""Chromium with a microphone that plays a file, and what one does with the page in it."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from recipes.benchmark.benchmark_browser import FLAGS
from tests.tiny_corpus import speak

SPOKEN = "BAD CAB DACB"
TELEPHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}


def fill_folder(folder: Path) -> None:
    """`spoken.wav` for the microphone, and `downloads`."""
    (folder / "downloads").mkdir()
    silence = np.zeros(48000)
    soundfile.write(folder / "spoken.wav", np.concatenate([silence, speak(SPOKEN, 4, 48000), silence]), 48000)


@contextlib.contextmanager
def open_chromium(folder: Path) -> Iterator[Any]:
    """A browser for a folder that `fill_folder` has filled; skips where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--use-file-for-fake-audio-capture={folder / 'spoken.wav'}%noloop"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def find(browser: Any, name: str) -> WebElement:
    element: WebElement = browser.find_element(By.ID, name)
    return element


def wait(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)
    return found


def read_words(browser: Any) -> list[str]:
    return [word.text for word in browser.find_elements(By.CSS_SELECTOR, "#transcript button.word")]


def send(browser: Any, path: Path) -> None:
    find(browser, "file").send_keys(str(path))


def download(browser: Any, folder: Path, name: str) -> str:
    browser.find_element(By.CSS_SELECTOR, f"[data-format={name.rpartition('.')[2]}]").click()
    path = folder / "downloads" / name
    wait(lambda: path.exists() and path.stat().st_size)
    return path.read_text(encoding="utf-8")


def watch_playing(browser: Any) -> Callable[[], list[str]]:
    """What is marked as playing from now on; a mark may be gone before anybody asks for it."""
    browser.execute_script("""
    window.played = [];
    new MutationObserver((changes) => changes.forEach(({ target }) => {
      if (target.classList.contains("playing")) window.played.push(target.textContent);
    })).observe(document.getElementById("transcript"), { subtree: true, attributeFilter: ["class"] });
    """)
    return lambda: list(browser.execute_script("return window.played"))


def list_complaints(browser: Any) -> list[str]:
    """What the browser's console holds."""
    return [each["message"] for each in browser.get_log("browser") if each["level"] in ("SEVERE", "WARNING")]
