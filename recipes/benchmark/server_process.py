"""A server in a process of its own, and what it says of itself."""

import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MAX_UPLOAD_MB = 20


@contextmanager
def serve(model: Path, num_streams: int, decoding: Sequence[str] = (), cores: Collection[int] = ()) -> Iterator[int]:
    """A server in a process of its own, with options of decoding, on some cores or on all; gives its port."""
    command = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
    command += [sys.executable, "-m", "mindaudio_ds2", "serve", str(model), "--port", "0", "--requests_per_minute", "0"]
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


def read_metric(port: int, name: str) -> float:
    """One of the server's counters; 0 where it has none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


class Memory:
    """Watches the server's resident memory by its own counters, once a second."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._samples: list[float] = []
        self.chunk_latency: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(1.0):
            self._samples.append(read_metric(self._port, "process_resident_memory_bytes") / 2**20)

    def stop(self) -> None:
        """Watch no longer."""
        self._is_over.set()
        self._thread.join()
        name = "mindaudio_ds2_stream_latency_seconds"
        count = read_metric(self._port, f"{name}_count")
        self.chunk_latency = {"count": count, "mean": round(read_metric(self._port, f"{name}_sum") / max(count, 1), 4)}

    def describe(self) -> dict[str, float]:
        """Resident memory at the start, at most, and the medians of the last two thirds (MB)."""
        thirds = np.array_split(np.array(self._samples), 3)
        return {
            "start": round(self._samples[0], 1),
            "most": round(max(self._samples), 1),
            "median_of_second_third": round(float(np.median(thirds[1])), 1),
            "median_of_last_third": round(float(np.median(thirds[2])), 1),
        }
