"""Put a server on this machine under mixed load: live streams alone, then with everything beside them.

python recipes/benchmark/benchmark_serving.py runs/synthetic/export/model.onnx data/synthetic/audio/test --minutes 3

Streams speak at their own pace. In the second part short and long files, clients that leave, slow uploads, garbage and
uploads beyond the limit run beside them; then senseless requests and messages. A fault is what the client did not
cause: 5xx, a timeout, another text for the same file. Memory is the server's resident set.
"""

import argparse
import io
import json
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mindaudio_ds2.audio.sound_files import find_sounds

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed
from recipes.benchmark.serving_clients import Clients, read_samples

ROOT = Path(__file__).resolve().parents[2]
MAX_UPLOAD_MB = 20


def main() -> None:
    """Parse the command line, serve, load, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="checkpoint or .onnx (path)")
    parser.add_argument("recordings", type=Path, help="a folder of speech, of one sample rate (path)")
    parser.add_argument("--minutes", type=float, default=3.0, help="of both parts together (min; default: 3)")
    parser.add_argument("--streams", type=int, default=2, help="live ones (count; default: 2)")
    parser.add_argument("--long_minutes", type=float, default=5.0, help="of a long file (min; default: 5)")
    parser.add_argument("--senseless", type=int, default=2000, help="requests and messages (count; default: 2000)")
    parser.add_argument("--output", type=Path, help="append the result there as a line of JSON (path)")
    options = parser.parse_args()
    with serve(options.model, options.streams) as port:
        row = run(options, port)
    print(json.dumps(row, indent=2))
    if options.output:
        with options.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    sys.exit(1 if row["faults"] else 0)


@contextmanager
def serve(model: Path, num_streams: int, decoding: Sequence[str] = ()) -> Iterator[int]:
    """A server in a process of its own, with options of decoding; gives its port."""
    command = [sys.executable, "-m", "mindaudio_ds2", "serve", str(model), "--port", "0", "--requests_per_minute", "0"]
    command += ["--max_upload_mb", str(MAX_UPLOAD_MB), "--max_streams", str(num_streams + 8), *decoding]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        port = None
        for line in process.stderr:
            if found := re.search(r" at http://127\.0\.0\.1:(\d+)/", line):
                port = int(found[1])
                break
            print(line, end="", file=sys.stderr)
        if port is None:
            sys.exit(f"error: {model} is not served, see above")
        threading.Thread(target=show_defects, args=(process.stderr,), daemon=True).start()
        yield port
    finally:
        process.terminate()
        process.wait(60)


def show_defects(lines: Any) -> None:
    """Show what the server says, but for its account of each request."""
    for line in lines:
        if not line.startswith(("file: ", "stream: ")):
            print(f"server: {line}", end="", file=sys.stderr)


def run(options: argparse.Namespace, port: int) -> dict[str, Any]:
    """Both parts, then what makes no sense; returns the figures."""
    paths = find_sounds([options.recordings]).paths
    long_samples, rate_hz = read_samples(paths, 60 * options.long_minutes)
    clients = Clients(
        port, [path.read_bytes() for path in paths[:20]], as_flac(long_samples, rate_hz), MAX_UPLOAD_MB * 2**20
    )
    for seed, act in enumerate((clients.send_file, clients.send_long_file)):  # everything is loaded once
        act(random.Random(seed))
    memory = Memory(port)
    seconds = 30 * options.minutes
    print(f"{options.streams} streams alone for {seconds:.0f} s", file=sys.stderr)
    run_part(clients, options.streams, long_samples, rate_hz, seconds, others=False)
    alone, clients.tally.delays = describe(clients.tally.delays), []
    print(f"the same beside everything else for {seconds:.0f} s", file=sys.stderr)
    run_part(clients, options.streams, long_samples, rate_hz, seconds, others=True)
    beside = describe(clients.tally.delays)
    print(f"{options.senseless} senseless requests and messages", file=sys.stderr)
    chooser = random.Random(1)
    for number in range(options.senseless):
        (clients.send_senseless_request, clients.send_senseless_messages)[number % 2](chooser)
    clients.send_file(chooser)
    memory.stop()
    outcomes: dict[str, dict[str, int]] = {}
    for (client, outcome), count in sorted(clients.tally.outcomes.items()):
        outcomes.setdefault(client, {})[outcome] = count
    return {
        "model": str(options.model),
        "num_streams": options.streams,
        "words_behind_speech_alone_seconds": alone,
        "words_behind_speech_beside_files_seconds": beside,
        "memory_mb": memory.describe(),
        "server_chunk_latency_seconds": memory.chunk_latency,
        "outcomes": outcomes,
        "faults": clients.tally.faults,
    }


def run_part(clients: Clients, num_streams: int, samples: Any, rate_hz: int, seconds: float, others: bool) -> None:
    """Streams for some time, alone or with all the others."""
    until = time.monotonic() + seconds
    threads = []
    for number in range(num_streams):
        own = np.roll(samples, -number * len(samples) // num_streams)
        threads.append(threading.Thread(target=clients.stream, args=(own, rate_hz, until)))
    if others:
        acts = [
            (clients.send_file, 0.2),
            (clients.send_file, 0.5),
            (clients.send_long_file, 0.5),
            (clients.leave, 2.0),
            (clients.send_slowly, 0.5),
            (clients.send_garbage, 1.0),
            (clients.send_too_much, 3.0),
        ]
        for seed, (act, pause) in enumerate(acts):
            threads.append(threading.Thread(target=clients.repeat, args=(act, until, seed, pause)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def as_flac(samples: Any, rate_hz: int) -> bytes:
    """The content of a FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="FLAC")
    return file.getvalue()


def describe(delays: list[float]) -> dict[str, float]:
    """Median, 95 % and 99 % (s), and how many."""
    if not delays:
        return {"count": 0}
    values = np.percentile(delays, [50, 95, 99])
    names = ("median", "percentile_95", "percentile_99")
    return {"count": len(delays), **{name: round(float(v), 3) for name, v in zip(names, values, strict=True)}}


class Memory:
    """Watches the server's resident memory by its own counters, once a second."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._samples: list[float] = []
        self.chunk_latency: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(1.0):
            self._samples.append(self._read("process_resident_memory_bytes") / 2**20)

    def _read(self, name: str) -> float:
        with urllib.request.urlopen(self._url, timeout=60) as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stop(self) -> None:
        """Watch no longer."""
        self._is_over.set()
        self._thread.join()
        name = "mindaudio_ds2_stream_latency_seconds"
        count = self._read(f"{name}_count")
        self.chunk_latency = {"count": count, "mean": round(self._read(f"{name}_sum") / max(count, 1), 4)}

    def describe(self) -> dict[str, float]:
        """Resident memory at the start, at most, and the medians of the last two thirds (MB)."""
        thirds = np.array_split(np.array(self._samples), 3)
        return {
            "start": round(self._samples[0], 1),
            "most": round(max(self._samples), 1),
            "median_of_second_third": round(float(np.median(thirds[1])), 1),
            "median_of_last_third": round(float(np.median(thirds[2])), 1),
        }


if __name__ == "__main__":
    main()
