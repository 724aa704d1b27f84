"""Put a server on this machine under mixed load: live streams alone, then with everything beside them.

python recipes/benchmark/benchmark_serving.py runs/synthetic/export/model.onnx data/synthetic/audio/test --minutes 3
python recipes/benchmark/benchmark_serving.py english_stream data/LibriSpeech/dev-clean --sustain 1 2

Streams speak at their own pace. In the second part short and long files, clients that leave, slow uploads, garbage and
uploads beyond the limit run beside them; then senseless requests and messages. A fault is what the client did not
cause: 5xx, a timeout, another text for the same file. Memory is the server's resident set.

With `--sustain 1 2` there are live streams only, more and more, until words come later than the bounds or the server
lags behind the sound: on one core, then on two. The server has the first of the cores that this
process may use, the clients what is left, or all if nothing is.
"""

import argparse
import dataclasses
import datetime
import io
import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mindaudio_ds2.audio.sound_files import find_sounds

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed
from recipes.benchmark import apart, sustained
from recipes.benchmark.server_process import MAX_UPLOAD_MB, Memory, read_metric, serve
from recipes.benchmark.serving_clients import Clients, read_samples


def main() -> None:
    """Parse the command line, serve, load, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="checkpoint or .onnx (path)")
    parser.add_argument("recordings", type=Path, help="a folder of speech, of one sample rate (path)")
    parser.add_argument("--minutes", type=float, default=3.0, help="of both parts together (min; default: 3)")
    parser.add_argument("--streams", type=int, default=2, help="live ones (count; default: 2)")
    parser.add_argument("--long_minutes", type=float, default=5.0, help="of a long file (min; default: 5)")
    parser.add_argument("--pause_factor", type=float, default=1.0, help="times the clients' usual pauses (default: 1)")
    parser.add_argument("--senseless", type=int, default=2000, help="requests and messages (count; default: 2000)")
    parser.add_argument("--sustain", type=int, nargs="+", metavar="CORES", help="of a server; see above")
    parser.add_argument("--first", type=int, default=16, help="streams of the first rung (count; default: 16)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a rung; held thrice as long (s; default: 10)")
    parser.add_argument("--most_median", type=float, default=1.25, help="of words until final (s; default: 1.25)")
    parser.add_argument("--most_late", type=float, default=2.25, help="the same, 99 %% of them (s; default: 2.25)")
    parser.add_argument(
        "--most_lag", type=float, default=0.3, help="words of a rung's end come later than of its begin (s)"
    )
    parser.add_argument("--output", type=Path, help="append the result there, a line of JSON each (path)")
    options = parser.parse_args()
    has_faults = False
    for found in find_sustained(options) if options.sustain else run_mixed(options):
        row = {**describe_machine(), "model": str(options.model), **found}
        print(json.dumps(row, indent=None if options.sustain else 2))
        if options.output:
            with options.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        has_faults |= bool(row.get("faults"))
    sys.exit(1 if has_faults else 0)


def describe_machine() -> dict[str, Any]:
    """When, on what, and of which commit."""
    environment = apart.describe_environment()
    return {"date": datetime.date.today().isoformat(), **{key: environment[key] for key in ("commit", "dirty", "cpu")}}


def find_sustained(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """How many live streams servers on so many cores keep up with; shows the ladder of each."""
    bounds = sustained.Bounds(options.most_median, options.most_late, options.most_lag)
    samples, rate_hz = read_samples(find_sounds([options.recordings]).paths, 60 * options.long_minutes)
    own = sorted(os.sched_getaffinity(0))
    for num_cores in options.sustain:
        if num_cores > len(own):
            sys.exit(f"error: a server on {num_cores} cores was asked for, and there are {len(own)}")
        with serve(options.model, sustained.MOST_STREAMS, cores=own[:num_cores]) as port:
            os.sched_setaffinity(0, own[num_cores:] or own)
            crowd = sustained.Crowd(port, samples, rate_hz, partial(read_metric, port, "process_cpu_seconds_total"))
            crowd.measure(1, 2.0)  # everything is loaded once
            rungs = []
            for row in sustained.climb(crowd.measure, options.seconds, bounds, options.first):
                rungs.append(row)
                print(sustained.show(rungs[-1:]).splitlines()[-1], file=sys.stderr)
            os.sched_setaffinity(0, own)
        print(f"\na server on {num_cores} of {len(own)} cores:\n\n{sustained.show(rungs)}\n")
        yield {
            "num_cores": num_cores,
            "num_cores_of_clients": len(own[num_cores:] or own),
            "chunk_seconds": sustained.CHUNK_SECONDS,
            "bounds": dataclasses.asdict(bounds),
            "sustained_streams": rungs[-1]["num_streams"] if rungs[-1]["is_sustained"] else 0,
            "rungs": rungs,
        }


def run_mixed(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The mixed load."""
    with serve(options.model, options.streams) as port:
        yield run(options, port)


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
    run_part(clients, options.streams, long_samples, rate_hz, seconds, None)
    alone, clients.tally.delays = describe(clients.tally.delays), []
    print(f"the same beside everything else for {seconds:.0f} s", file=sys.stderr)
    run_part(clients, options.streams, long_samples, rate_hz, seconds, options.pause_factor)
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
        "num_streams": options.streams,
        "words_behind_speech_alone_seconds": alone,
        "words_behind_speech_beside_files_seconds": beside,
        "memory_mb": memory.describe(),
        "server_chunk_latency_seconds": memory.chunk_latency,
        "outcomes": outcomes,
        "faults": clients.tally.faults,
    }


def run_part(
    clients: Clients, num_streams: int, samples: Any, rate_hz: int, seconds: float, pause_factor: float | None
) -> None:
    """Streams for some time, with all the others, whose pauses are multiplied, or without them (None)."""
    until = time.monotonic() + seconds
    threads = []
    for number in range(num_streams):
        own = np.roll(samples, -number * len(samples) // num_streams)
        threads.append(threading.Thread(target=clients.stream, args=(own, rate_hz, until)))
    if pause_factor is not None:
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
            threads.append(threading.Thread(target=clients.repeat, args=(act, until, seed, pause * pause_factor)))
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


if __name__ == "__main__":
    main()
