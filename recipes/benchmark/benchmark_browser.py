#!/usr/bin/env python3
"""Recognise recordings in Chromium, offline, and compare each text with that of transcribe.py.

    python recipes/benchmark/benchmark_browser.py runs/an4/export/model.int8.onnx RECORDING... [--runtime DIR|TGZ]

Writes the page of `mindaudio-ds2 page`, serves its folder on the loopback interface, and opens it in Chromium, which
can reach nothing else. Each recording is opened as a file; then the first is played into the microphone, and the text
compared with what `Recognizer.stream` makes of the samples that the page got from it. Shows both texts where they
differ, and the real-time factors; exit status 1 where one is another. --screenshots DIR keeps pictures of the page:
light, dark, as wide as a telephone. Needs chromium, chromedriver and selenium.
"""

import argparse
import contextlib
import functools
import json
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.browser.folder import read_network, write_page
from mindaudio_ds2.browser.runtime import find_runtime
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.errors import DeviceError, exit_on_error
from mindaudio_ds2.files import write_text
from mindaudio_ds2.transcribe import Recognizer

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--window-size=1000,900",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SPEED = re.compile(r"Recognised in ([0-9.]+) s, ([0-9.]+) × real time")
MICROPHONE_HZ = 48000
PATIENCE_SECONDS = 300.0
KEEP_SAMPLES = """
window.heard = [];
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...rest) {
  if (message.type === "feed") window.heard.push(...message.samples);
  return post.call(this, message, ...rest);
};
"""


class Browser:
    """Chromium with the page open.

    Args:
        address: of the page.
        spoken: WAV file that the microphone plays, once.
        script: JavaScript that runs before the page's own.
    """

    def __init__(self, address: str, spoken: Path, script: str = KEEP_SAMPLES) -> None:
        from selenium import webdriver

        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not (chromium and driver):
            raise DeviceError(
                "there is no chromium or no chromedriver; Debian: apt-get install chromium chromium-driver"
            )
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--use-file-for-fake-audio-capture={spoken}%noloop"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver: Any = webdriver.Chrome(options, webdriver.ChromeService(driver))
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        began = time.monotonic()
        self.driver.get(address)
        self.wait(lambda: self.status == "Ready.")
        self.start_seconds = time.monotonic() - began

    @property
    def status(self) -> str:
        """The line that says what happens."""
        return str(self.driver.execute_script("return document.getElementById('status').textContent"))

    @property
    def text(self) -> str:
        """The words of the transcript."""
        words = "return [...document.querySelectorAll('#transcript button.word')].map((word) => word.textContent)"
        return " ".join(self.driver.execute_script(words))

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Until it is true; an error that the page shows ends it."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := condition()):
            is_bad = "return document.getElementById('status').classList.contains('bad')"
            if self.driver.execute_script(is_bad) or time.monotonic() > end:
                raise DeviceError(f"the page says: {self.status} {self.driver.get_log('browser')}")
            time.sleep(0.02)
        return found

    def press(self, name: str) -> None:
        """A button, by its id."""
        self.driver.find_element("id", name).click()

    def open_file(self, path: Path) -> tuple[str, float, float]:
        """The text of a recording, the real-time factor, and the seconds that its processor had for the worker."""
        started = read_worker_seconds(self.driver.service.process.pid)
        self.driver.execute_script("document.getElementById('status').textContent = ''")
        self.driver.find_element("id", "file").send_keys(str(path.resolve()))
        found = self.wait(lambda: SPEED.search(self.status))
        seconds = read_worker_seconds(self.driver.service.process.pid) - started
        return self.text, float(found[2]), seconds

    def speak(self, seconds: float) -> tuple[str, float]:
        """The text of what the microphone hears in so many seconds, and the real-time factor."""
        self.press("mic")
        time.sleep(seconds)
        self.press("mic")
        found = self.wait(lambda: SPEED.search(self.status))
        return self.text, float(found[2])

    def read_samples(self) -> NDArray[np.int16]:
        """What the page got from the microphone, at the network's rate."""
        return np.array(self.driver.execute_script("return window.heard"), np.int16)

    def list_requests(self) -> list[str]:
        """Addresses that were asked for since the start."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return [str(each["request"]["url"]) for each in sent]

    def take_pictures(self, folder: Path) -> None:
        """As it is now: light, dark, and as wide as a telephone."""
        folder.mkdir(parents=True, exist_ok=True)
        call = self.driver.execute_cdp_cmd
        for theme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": theme}]
            call("Emulation.setEmulatedMedia", {"features": features})
            time.sleep(0.5)
            self.driver.save_screenshot(str(folder / f"{theme}.png"))
        telephone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
        call("Emulation.setDeviceMetricsOverride", telephone)
        time.sleep(0.5)
        self.driver.save_screenshot(str(folder / "telephone.png"))


def list_descendants(process: int) -> set[str]:
    """A process and all that it, and they, have started: their numbers."""
    parents = {path.parent.name: text.rpartition(")")[2].split()[1] for path, text in _read("[0-9]*/stat")}
    found, newest = set[str](), {str(process)}
    while newest:
        found |= newest
        newest = {each for each, parent in parents.items() if parent in newest}
    return found


def read_worker_seconds(driver: int) -> float:
    """What processors have done so far for workers of pages, in browsers that the process `driver` started (s)."""
    threads = [each for process in list_descendants(driver) for each in _read(f"{process}/task/*/comm")]
    workers = [path.parent.relative_to("/proc") for path, name in threads if name.startswith("DedicatedWorker")]
    return sum(int(text.split()[0]) for worker in workers for _, text in _read(f"{worker}/schedstat")) / 1e9


def _read(pattern: str) -> list[tuple[Path, str]]:
    """Files of /proc; those of processes that have ended meanwhile are left out."""
    found = []
    for path in Path("/proc").glob(pattern):
        with contextlib.suppress(OSError):
            found.append((path, path.read_text()))
    return found


class Quiet(SimpleHTTPRequestHandler):
    """Tells nobody of its requests."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Any server of files will do; this is Python's. Gives the page's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()


def compare(name: str, found: tuple[str, float], expected: str) -> bool:
    """Whether the texts are the same; shows it."""
    text, factor = found
    is_same = text == expected
    print(f"{name}: {'the same text' if is_same else 'another text'}, {factor:.3f} × real time")
    if not is_same:
        print(f"  page       {text}\n  transcribe {expected}")
    return is_same


def put_into_room(recording: NDArray[np.float32]) -> NDArray[np.float32]:
    """A second of its own background before it and three behind: a microphone hears no digital silence."""
    level = recording[: MICROPHONE_HZ // 20].std()
    noise = np.random.default_rng(1).normal(0, level, 4 * MICROPHONE_HZ).astype(np.float32)
    return np.concatenate([noise[:MICROPHONE_HZ], recording, noise[MICROPHONE_HZ:]])


def hear_live(recognizer: Recognizer, waveform: NDArray[np.int16]) -> str:
    """The final words of a stream."""
    stream = recognizer.stream()
    events = [*stream.feed(waveform), *stream.finish()]
    return " ".join(event.text for event in events if event.kind == "final")


def keep(
    output: Path, model: Path, factors: Sequence[float], own_factors: Sequence[float], start_seconds: float
) -> None:
    """Append a line for benchmark_models.py; of recordings that are given several times the median knows no start.

    Args:
        output: of lines.
        model: that was measured.
        factors: seconds by the clock for a second of each recording.
        own_factors: seconds of the processor.
        start_seconds: until the page was ready.
    """
    row = {
        "model": str(model.resolve()),
        "milliseconds_for_10_s": round(10_000 * statistics.median(factors), 1),
        "processor_milliseconds_for_10_s": round(10_000 * statistics.median(own_factors), 1),
        "open_seconds": round(start_seconds, 2),
    }
    old = output.read_text(encoding="utf-8") if output.exists() else ""
    write_text(output, f"{old}{json.dumps(row)}\n")


def run(options: argparse.Namespace) -> int:
    """Write, serve, recognise, compare; the exit status."""
    network = read_network(options.model)
    runtime = find_runtime(options.runtime)
    recognizer = Recognizer.load(options.model, choice=DecoderChoice())
    expected = [recognizer.transcribe(path).text for path in options.recordings]
    spoken = put_into_room(read_audio(options.recordings[0], MICROPHONE_HZ))
    with tempfile.TemporaryDirectory() as folder:
        write_page(Path(folder) / "page", options.model.stem, network, runtime)
        wav = Path(folder) / "spoken.wav"
        soundfile.write(wav, spoken, MICROPHONE_HZ)
        with serve(Path(folder) / "page") as address:
            browser = Browser(address, wav)
            try:
                print(f"{network.description.weights}, open after {browser.start_seconds:.1f} s")
                found = [browser.open_file(path) for path in options.recordings]
                alike = [
                    compare(str(path), each[:2], text)
                    for path, each, text in zip(options.recordings, found, expected, strict=True)
                ]
                if options.output:
                    durations = [soundfile.info(path).duration for path in options.recordings]
                    own = [each[2] / duration for each, duration in zip(found, durations, strict=True)]
                    keep(options.output, options.model, [each[1] for each in found], own, browser.start_seconds)
                if options.screenshots:
                    browser.take_pictures(options.screenshots)
                heard = browser.speak(len(spoken) / MICROPHONE_HZ)
                alike.append(compare("microphone", heard, hear_live(recognizer, browser.read_samples())))
                strangers = [url for url in browser.list_requests() if not url.startswith((address, "blob:", "data:"))]
            finally:
                browser.driver.quit()
    print(f"asked of others: {', '.join(strangers) or 'nothing'}")
    return 0 if all(alike) and not strangers else 1


@exit_on_error
def main() -> None:
    """Parse, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="with the waveform in (path)")
    parser.add_argument("recordings", type=Path, nargs="+", metavar="RECORDING", help="sound files (paths)")
    parser.add_argument("--runtime", type=Path, metavar="DIR|TGZ", help="onnxruntime-web (path; default: npm's)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a line for benchmark_models.py is added (path)")
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="where pictures go (path)")
    sys.exit(run(parser.parse_args()))


if __name__ == "__main__":
    main()
