#!/usr/bin/env python3
"""How late the words of a live stream come, whether any cut gives the same, and whether an hour does.

python recipes/benchmark/benchmark_streaming.py runs/an4_stream/best.ckpt data/an4/test.jsonl
python recipes/benchmark/benchmark_streaming.py stream.onnx data/an4/test.jsonl --num_cuts 1000 --hour_seconds 3600
taskset -c 0 python recipes/benchmark/benchmark_streaming.py stream.onnx data/an4/test.jsonl --side_by_side 1 2 4 8 16

The recordings of the manifest are joined, with pauses between them. Delays are counted in sound, with the computing of
each chunk added: as if the microphone were there.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.decoding.choice import add_decoding_options, read_choice
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.streaming.events import Event
from mindaudio_ds2.streaming.stream import Stream
from mindaudio_ds2.transcribe import Recognizer

Waveform = NDArray[np.float32]


@dataclass
class Timing:
    """What one stream took.

    Attributes:
        chunk_seconds: of computing, for each chunk (s).
        shown_seconds: from the end of each word to when it was first shown as it stayed (s).
        final_seconds: from the end of each word to when it was final (s).
        memory_mebibytes: of the process, every ten minutes of sound.
        words: all that were final.
    """

    chunk_seconds: list[float] = field(default_factory=list)
    shown_seconds: list[float] = field(default_factory=list)
    final_seconds: list[float] = field(default_factory=list)
    memory_mebibytes: list[float] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


def join_recordings(manifest: Path, rate_hz: int, seconds: float, pause_seconds: float = 1.5) -> Waveform:
    """Recordings one behind the other with faint noise between them, again from the first, for so many seconds."""
    utterances = read_manifest(manifest)
    pause = np.random.default_rng(0).standard_normal(round(pause_seconds * rate_hz)).astype(np.float32) * 1e-4
    parts: list[Waveform] = []
    num_samples, place = 0, 0
    while num_samples < seconds * rate_hz:
        waveform = read_audio(utterances[place % len(utterances)].audio_path, rate_hz)
        parts += [waveform, pause]
        num_samples += len(waveform) + len(pause)
        place += 1
    return np.concatenate(parts)[: round(seconds * rate_hz)]


def cut_evenly(waveform: Waveform, size: int) -> Iterator[Waveform]:
    """Chunks of so many samples."""
    for start in range(0, len(waveform), size):
        yield waveform[start : start + size]


def time_stream(recognizer: Recognizer, waveform: Waveform, chunk_seconds: float) -> Timing:
    """Feed a waveform in chunks, and note when what was said."""
    rate_hz = recognizer.network.features.sample_rate_hz
    timing, stream = Timing(), recognizer.stream(rate_hz)
    shown: list[tuple[str, float]] = []  # words as they stand on the screen, and since when
    chunks = list(cut_evenly(waveform, round(chunk_seconds * rate_hz)))
    for number, chunk in enumerate(tqdm(chunks, unit="chunk", disable=None, delay=5)):
        started = time.perf_counter()
        events = stream.feed(chunk)
        timing.chunk_seconds.append(time.perf_counter() - started)
        _note(timing, shown, events, stream.num_samples / rate_hz + timing.chunk_seconds[-1])
        if number % max(1, round(600 / chunk_seconds)) == 0:
            timing.memory_mebibytes.append(read_memory_mebibytes())
    _note(timing, shown, stream.finish(), len(waveform) / rate_hz)
    timing.memory_mebibytes.append(read_memory_mebibytes())
    return timing


def _note(timing: Timing, shown: list[tuple[str, float]], events: list[Event], now: float) -> None:
    for event in events:
        if event.kind == "endpoint":
            continue
        first = len(timing.words)
        for place, word in enumerate(event.words, start=first):
            if place >= len(shown) or shown[place][0] != word.text:
                shown[place:] = [(word.text, now)]
            if event.kind == "final":
                timing.words.append(word.text)
                timing.shown_seconds.append(shown[place][1] - word.end_seconds)
                timing.final_seconds.append(now - word.end_seconds)
        del shown[first + len(event.words) :]


def read_memory_mebibytes() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def count_differing_cuts(recognizer: Recognizer, waveform: Waveform, num_cuts: int) -> int:
    """How many of so many random cuts give other finals or endpoints than the first."""
    expected: list[Any] = []
    num_differing = 0
    for seed in tqdm(range(num_cuts), unit="cut", disable=None, delay=5):
        generator = np.random.default_rng(seed)
        places = np.sort(generator.integers(0, len(waveform) + 1, int(generator.integers(0, 200))))
        stream = recognizer.stream(recognizer.network.features.sample_rate_hz)
        events = [event for chunk in np.split(waveform, places) for event in stream.feed(chunk)] + stream.finish()
        found = [(event.kind, event.text) for event in events if event.kind != "partial"]
        expected = expected or found
        num_differing += found != expected
    return num_differing


def count_sustained(recognizer: Recognizer, waveform: Waveform, chunk_seconds: float, num_streams: int) -> float:
    """How many live streams could be heard by what this process may use, when so many go side by side.

    Each stream begins at another place of the waveform.
    """
    rate_hz = recognizer.network.features.sample_rate_hz
    size = round(chunk_seconds * rate_hz)
    sounds = [np.roll(waveform, -i * len(waveform) // num_streams) for i in range(num_streams)]
    streams = [stream for _ in sounds if isinstance(stream := recognizer.stream(rate_hz), Stream)]
    started = time.perf_counter()
    for place in range(0, len(waveform), size):
        Stream.feed_together(streams, [sound[place : place + size] for sound in sounds])
    return num_streams * len(waveform) / rate_hz / (time.perf_counter() - started)


def describe(timing: Timing, latency_seconds: float, chunk_seconds: float) -> str:
    """The rows of a table: how late, how much computing."""
    rows = [f"| algorithmic | {latency_seconds:.3f} s | |"]
    for name, values in (
        ("word shown after its end", timing.shown_seconds),
        ("word final after its end", timing.final_seconds),
        (f"computing of a chunk of {1000 * chunk_seconds:.0f} ms", timing.chunk_seconds),
    ):
        middle, late = np.percentile(values, [50, 99]) if values else (np.nan, np.nan)
        rows.append(f"| {name} | {middle:.3f} s | {late:.3f} s |")
    factor = sum(timing.chunk_seconds) / (len(timing.chunk_seconds) * chunk_seconds)
    memory = ", ".join(f"{value:.0f}" for value in timing.memory_mebibytes)
    return "\n".join(
        [
            "| latency | median | 99 % |",
            "| --- | --- | --- |",
            *rows,
            "",
            f"real-time factor {factor:.4f}; {len(timing.words)} words; memory {memory} MiB",
        ]
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="checkpoint or .onnx of a network for streams (path)")
    parser.add_argument("manifest", metavar="M.jsonl", type=Path, help="whose recordings are joined (path)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of sound for the delays (default: 120)")
    parser.add_argument("--chunk_seconds", type=float, default=0.32, help="default: 0.32")
    parser.add_argument("--num_cuts", type=int, default=0, help="random cuts of 20 s to compare (default: 0)")
    parser.add_argument("--side_by_side", type=int, nargs="+", metavar="N", help="how many streams N at a time sustain")
    parser.add_argument("--hour_seconds", type=float, default=0.0, help="of a long stream, compared with the whole")
    add_decoding_options(parser)
    return parser.parse_args()


@exit_on_error
def main() -> None:
    """Measure, and print."""
    options = _parse()
    recognizer = Recognizer.load(options.model, choice=read_choice(options, options.model))
    rate_hz = recognizer.network.features.sample_rate_hz
    waveform = join_recordings(options.manifest, rate_hz, options.seconds)
    latency_seconds = recognizer.stream().latency_seconds
    print(describe(time_stream(recognizer, waveform, options.chunk_seconds), latency_seconds, options.chunk_seconds))
    for count in options.side_by_side or ():
        sustained = count_sustained(recognizer, waveform, options.chunk_seconds, count)
        print(f"{count} side by side: {sustained:.0f} streams sustained")
    if options.num_cuts:
        sound = waveform[: 20 * rate_hz]
        print(f"{count_differing_cuts(recognizer, sound, options.num_cuts)} of {options.num_cuts} random cuts differ")
    if options.hour_seconds:
        waveform = join_recordings(options.manifest, rate_hz, options.hour_seconds)
        timing = time_stream(recognizer, waveform, options.chunk_seconds)
        print(describe(timing, latency_seconds, options.chunk_seconds))
        log_probs, lengths = recognizer.network.recognize([waveform])
        whole = recognizer.decoder.decode(log_probs[0, : lengths[0]])[0].text
        print(f"the words of the whole are {'the same' if whole.split() == timing.words else 'others'}")


if __name__ == "__main__":
    main()
