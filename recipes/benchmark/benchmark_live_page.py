#!/usr/bin/env python3
"""How long after it was said a word stands on the page, in Chromium with a microphone that plays recordings.

    python recipes/benchmark/benchmark_live_page.py english_stream data/english/test_mini.jsonl
    python recipes/benchmark/benchmark_live_page.py english_stream M.jsonl --decoder english --output live_page.jsonl
    python recipes/benchmark/benchmark_live_page.py english_stream M.jsonl --page static --runtime DIR|TGZ

The recordings of the manifest are joined, with pauses between them, and played into the page of `mindaudio-ds2 serve`,
or into that of `mindaudio-ds2 page`. A word ends where decoding all samples that the page got, as a whole, places its
end in the sound; it stands on the page when the frame that shows it as it stayed has been drawn. What a sample took
from the microphone to the page's code is not in it but for what it varies; `opening_milliseconds` bounds it. Beside it
stand the delays of the same stream in sound alone, as if computing and drawing took no time. On a machine that others
use, --real_time shows what the page itself takes.
"""

import argparse
import contextlib
import datetime
import difflib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.browser.folder import read_network, write_page
from mindaudio_ds2.browser.runtime import find_runtime
from mindaudio_ds2.decoding.choice import DecoderChoice, add_decoding_options, read_choice
from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.errors import ConfigError, DeviceError, exit_on_error
from mindaudio_ds2.transcribe import Recognizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed
from recipes.benchmark import apart, benchmark_browser, server_process
from recipes.benchmark.benchmark_streaming import join_recordings

MICROPHONE_HZ = 48000
AROUND_SECONDS = 2.0
DONE = re.compile(r"words? in [0-9.]+ s of sound")
PERCENTILES = (50, 90, 99)

WATCH = """
window.heard = []; window.arrivals = []; window.frames = []; window.opened = null;
let numHeard = 0;
const keep = (samples) => {
  window.heard.push(samples.slice());
  window.arrivals.push([numHeard += samples.length, performance.now()]);
};
const { postMessage } = Worker.prototype, { send } = WebSocket.prototype, { getUserMedia } = MediaDevices.prototype;
Worker.prototype.postMessage = function (message, ...rest) {
  if (message.type === "feed") keep(message.samples);
  return postMessage.call(this, message, ...rest);
};
WebSocket.prototype.send = function (content) {
  if (content instanceof ArrayBuffer) keep(new Int16Array(content));
  return send.call(this, content);
};
MediaDevices.prototype.getUserMedia = function (...rest) {
  window.opened = performance.now();
  return getUserMedia.apply(this, rest);
};
document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("transcript"), words = page.getElementsByClassName("word");
  const partial = page.getElementsByClassName("partial");
  let isAsked = false;
  const note = () => {
    isAsked = false;
    window.frames.push([performance.now(), words.length, partial[0]?.textContent || ""]);
  };
  new MutationObserver(() => { // noted by a task behind the frame that draws it
    if (!isAsked) requestAnimationFrame(() => setTimeout(note));
    isAsked = true;
  }).observe(page, { subtree: true, childList: true, characterData: true });
});
"""

Frames = list[tuple[float, int, str]]
"""What is shown: since when (ms), how many words that stay, the text behind them."""


@dataclass(frozen=True)
class Heard:
    """What the page got and showed. Milliseconds of the page's clock.

    Attributes:
        samples: `(n,)` int16 of the network's rate.
        arrivals: `(m, 2)`: how many samples had come, and when.
        frames: what was shown.
        words: that stayed.
        opened: when the microphone was asked for.
    """

    samples: NDArray[np.int16]
    arrivals: NDArray[np.float64]
    frames: Frames
    words: list[str]
    opened: float


def listen(
    address: str, spoken: Path, seconds: float, pictures: Path | None = None, in_real_time: bool = False
) -> Heard:
    """Open the page, let it hear the microphone for so long, and read what became of it."""
    browser = benchmark_browser.Browser(address, spoken, WATCH)
    try:
        if in_real_time:
            put_first()
        browser.press("mic")
        time.sleep(seconds)
        if pictures:
            browser.take_pictures(pictures)
        browser.press("mic")
        browser.wait(lambda: DONE.search(browser.status))
        read = browser.driver.execute_script
        samples = read("return window.heard.flatMap((block) => Array.from(block))")
        return Heard(
            np.array(samples, np.int16),
            np.array(read("return window.arrivals"), np.float64),
            [(float(when), int(count), str(text)) for when, count, text in read("return window.frames")],
            browser.text.split(),
            float(read("return window.opened")),
        )
    finally:
        browser.driver.quit()


def put_first() -> None:
    """Let what this process has started, but not itself, come before all other programs.

    Raises:
        DeviceError: the system does not permit it.
    """
    for process in benchmark_browser.list_descendants(os.getpid()) - {str(os.getpid())}:
        for thread in Path(f"/proc/{process}/task").glob("*"):
            try:
                os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))
            except ProcessLookupError:  # it has ended
                continue
            except PermissionError:
                raise DeviceError(
                    "--real_time needs root; leave it out, on a machine that has nothing else to do"
                ) from None


def find_shown(frames: Frames, words: Sequence[str]) -> list[tuple[float, float]]:
    """Since when each word stood as it stayed, and since when it could not change any more (ms)."""
    shown: list[tuple[str, float]] = []
    final: list[float] = []
    for when, num_final, partial in frames:
        standing = [*words[:num_final], *partial.split()]
        for place in range(min(len(final), len(standing)), len(standing)):
            if place >= len(shown) or shown[place][0] != standing[place]:
                shown[place : place + 1] = [(standing[place], when)]
        del shown[len(standing) :]
        final += [when] * (num_final - len(final))
    return [(since, settled) for (_, since), settled in zip(shown, final, strict=False)]


def find_moments(arrivals: NDArray[np.float64], seconds: NDArray[np.float64], rate_hz: int) -> NDArray[np.float64]:
    """When moments of the sound came to the page (ms), had each block been as quick as the quickest around it.

    Blocks wait for the page now and then; that is part of a delay. A microphone that loses samples moves all that
    follows, so that the quickest is looked for within AROUND_SECONDS.
    """
    ends = arrivals[:, 0] / rate_hz
    offsets = arrivals[:, 1] - 1000 * ends
    quickest = [offsets[np.abs(ends - moment) <= AROUND_SECONDS].min() for moment in seconds]
    return np.asarray(1000 * seconds + quickest)


def decode_whole(recognizer: Recognizer, samples: NDArray[np.int16]) -> tuple[Word, ...]:
    """The words of all samples in one piece, placed in the sound."""
    waveform = (samples / 32768).astype(np.float32)
    rows, lengths = recognizer.network.recognize([waveform])
    own = rows[0, : lengths[0]]
    return recognizer.placer.place(recognizer.decoder.decode(own)[0], own, waveform).words


def follow(recognizer: Recognizer, samples: NDArray[np.int16], block: int) -> tuple[Frames, list[str]]:
    """What a page without any delay of its own would show, by milliseconds of sound."""
    rate_hz = recognizer.network.features.sample_rate_hz
    stream = recognizer.stream(rate_hz)
    frames: Frames = []
    words: list[str] = []
    for start in range(0, len(samples), block):
        partial = frames[-1][2] if frames else ""
        for event in stream.feed(samples[start : start + block]):
            partial = event.text if event.kind == "partial" else ""
            words += event.text.split() if event.kind == "final" else []
        frames.append((1000 * stream.num_samples / rate_hz, len(words), partial))
    rest = [word for event in stream.finish() if event.kind == "final" for word in event.text.split()]
    words += rest
    return [*frames, (frames[-1][0], len(words), "")], words


def measure_delays(
    expected: Sequence[Word], moments: NDArray[np.float64], words: Sequence[str], frames: Frames
) -> dict[str, Any]:
    """Percentiles of seconds from the end of a word in the sound to when it is shown, and final.

    Args:
        expected: the words of the whole.
        moments: when each of them ended (ms).
        words: that stayed; those that the whole has, too, count.
        frames: what was shown, by the same clock.
    """
    shown = find_shown(frames, words)
    matcher = difflib.SequenceMatcher(None, [word.text for word in expected], list(words), autojunk=False)
    pairs = [(b.a + i, b.b + i) for b in matcher.get_matching_blocks() for i in range(b.size)]
    delays = np.array([[each - moments[i] for each in shown[j]] for i, j in pairs]) / 1000
    row: dict[str, Any] = {"num_words": len(words), "num_counted": len(pairs)}
    for name, values in zip(("shown", "final"), delays.T, strict=True):
        row[f"{name}_seconds"] = [round(float(each), 3) for each in np.percentile(values, PERCENTILES)]
    row["shown_within_a_second"] = round(float((delays[:, 0] <= 1.0).mean()), 4)
    return row


def describe(recognizer: Recognizer, heard: Heard) -> dict[str, Any]:
    """The figures of what the page heard and showed."""
    rate_hz = recognizer.network.features.sample_rate_hz
    expected = decode_whole(recognizer, heard.samples)
    if not (expected and heard.words):
        raise ConfigError("no words were heard; choose recordings that the network recognises")
    ends = np.array([word.end_seconds for word in expected], np.float64)
    moments = find_moments(heard.arrivals, ends, rate_hz)
    block = int(np.median(np.diff(heard.arrivals[:, 0])))
    frames, words = follow(recognizer, heard.samples, block)
    clock_seconds = (heard.arrivals[-1, 1] - heard.arrivals[0, 1]) / 1000
    sound_seconds = (heard.arrivals[-1, 0] - heard.arrivals[0, 0]) / rate_hz
    return {
        "sound_seconds": round(len(heard.samples) / rate_hz, 1),
        "lost_seconds": round(clock_seconds - sound_seconds, 3),
        "latency_seconds": round(recognizer.stream().latency_seconds, 3),
        "block_milliseconds": round(1000 * block / rate_hz, 1),
        "opening_milliseconds": round(heard.arrivals[0, 1] - heard.opened),
        "page": measure_delays(expected, moments, heard.words, heard.frames),
        "sound_alone": measure_delays(expected, np.asarray(1000 * ends), words, frames),
        "same_text_as_stream": words == heard.words,
    }


@contextlib.contextmanager
def open_page(options: argparse.Namespace, model: Path, folder: Path) -> Iterator[str]:
    """The page's address, as long as it is served."""
    if options.page == "static":
        write_page(folder / "page", options.model, read_network(model), find_runtime(options.runtime))
        with benchmark_browser.serve(folder / "page") as address:
            yield address
        return
    names = ("decoder", "lm", "hotwords", "beam_width", "lm_weight", "word_bonus")
    decoding = [f"--{name}={value}" for name in names if (value := getattr(options, name)) is not None]
    with server_process.serve(model, 1, decoding) as port:
        yield f"http://127.0.0.1:{port}/"


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Play, listen, compare; the figures."""
    model = models.find_file(options.model, "recognition")
    choice = read_choice(options, model) or DecoderChoice()
    if options.page == "static" and choice != DecoderChoice():
        raise ConfigError("the static page decodes greedily; leave the decoder's options out")
    recognizer = Recognizer.load(model, choice=choice)
    if not recognizer.stream().is_incremental:
        raise ConfigError(f"{model} needs whole utterances; name a network for streams, such as english_stream")
    pause = np.random.default_rng(1).normal(0, 1e-4, 2 * MICROPHONE_HZ).astype(np.float32)
    speech = join_recordings(options.manifest, MICROPHONE_HZ, options.seconds)
    environment = apart.describe_environment()
    with tempfile.TemporaryDirectory() as name:
        spoken = Path(name) / "spoken.wav"
        soundfile.write(spoken, np.concatenate([pause, speech, pause]), MICROPHONE_HZ)
        with open_page(options, model, Path(name)) as address:
            heard = listen(address, spoken, options.seconds + 4, options.screenshots, options.real_time)
    return {
        "date": datetime.date.today().isoformat(),
        **{key: environment[key] for key in ("commit", "dirty", "cpu")},
        **{"model": options.model, "page_kind": options.page, "decoder": choice.kind},
        "real_time": options.real_time,
        "load_average": round(os.getloadavg()[0], 1),  # of the machine: what else runs makes words late
        **describe(recognizer, heard),
    }


@exit_on_error
def main() -> None:
    """Parse, run, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a network for streams as .onnx, or a model's name")
    parser.add_argument("manifest", metavar="M.jsonl", type=Path, help="whose recordings are joined (path)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of sound (default: 120)")
    parser.add_argument("--page", default="served", choices=("served", "static"), help="default: served")
    parser.add_argument("--runtime", type=Path, metavar="DIR|TGZ", help="onnxruntime-web (path; default: npm's)")
    parser.add_argument("--real_time", action="store_true", help="server and browser before all other programs (root)")
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="where pictures go (path)")
    parser.add_argument("--output", type=Path, help="append the result there as a line of JSON (path)")
    add_decoding_options(parser)
    options = parser.parse_args()
    row = run(options)
    print(json.dumps(row, indent=2))
    if options.output:
        with options.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
