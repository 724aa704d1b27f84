#!/usr/bin/env python3
"""Measure how threads share a recurrent layer: one team for both directions in turn, or a team for each.

    python recipes/benchmark/benchmark_recurrent.py
    python recipes/benchmark/benchmark_recurrent.py --hidden 320 --batches 1 --other_library /tmp/kernels-before.so

The native kernels are called from NumPy, in turn, on the same random input: *train* is forward and backward, *inference*
is forward alone. The rule of ops/csrc/split.h should be within 5 % of the better of both on every line. With
--other_library an older build takes its turns, too. Lines go to recipes/benchmark/recurrent.jsonl with --record.
"""

import argparse
import ctypes
import datetime
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.ops.library import find_kernels
from recipes.benchmark.others import OthersClock

FOLDER = Path(__file__).resolve().parent
NUM_GATES = {"lstm": 4, "gru": 3}
WAYS = {"rule": 0, "one team": 1, "two teams": 2}  # what ds2_set_teams is told
TOLERANCE = 1.05

Array = NDArray[Any]


def prepare(library: ctypes.CDLL, name: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> Callable[[], None]:
    """A call of an operator on these arrays, without the cost of describing them each time."""
    arrays = [*inputs, *outputs]
    num = len(arrays)
    pointers = (ctypes.c_void_p * num)(*[array.ctypes.data for array in arrays])
    ranks = (ctypes.c_int * num)(*[array.ndim for array in arrays])
    dims = [(ctypes.c_int64 * array.ndim)(*array.shape) for array in arrays]
    shapes = (ctypes.POINTER(ctypes.c_int64) * num)(*[ctypes.cast(d, ctypes.POINTER(ctypes.c_int64)) for d in dims])
    function = getattr(library, name)

    def call(_: object = (arrays, dims)) -> None:
        status = function(num, pointers, ranks, shapes, None, None, None)
        assert status == 0, f"{name} returned {status}"

    return call


@dataclass(frozen=True)
class Layer:
    """A bidirectional layer on utterances of one length.

    Attributes:
        kind: "lstm" or "gru".
        num_hidden, num_utterances, num_frames: H, B, S.
    """

    kind: str
    num_hidden: int
    num_utterances: int
    num_frames: int

    def make_calls(self, libraries: dict[str, ctypes.CDLL]) -> dict[tuple[str, str], Callable[[], None]]:
        """By library and task, on arrays that all libraries share."""
        rng = np.random.default_rng(self.num_hidden)
        frames, width = (self.num_frames, self.num_utterances), NUM_GATES[self.kind] * self.num_hidden
        is_lstm = self.kind == "lstm"

        def draw(*shape: int) -> list[Array]:
            return [rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(self.num_hidden)) for _ in range(2)]

        def make(size: int, number: int = 2) -> list[Array]:
            return [np.zeros((*frames, size), np.float32) for _ in range(number)]

        projected, weights = draw(*frames, width), draw(width, self.num_hidden)
        biases = draw(width) if is_lstm else [*draw(width), *draw(width)]
        lengths = np.full(self.num_utterances, self.num_frames, np.int32)
        y, gates, previous = make(self.num_hidden, 1), make(4 * self.num_hidden), make(self.num_hidden)
        cells = make(self.num_hidden) if is_lstm else []
        gradients = make(width, 2 if is_lstm else 4)
        inputs, prefix = [*projected, *weights, *biases, lengths], "Lstm2" if is_lstm else "Gru2"
        calls = {}
        for name, library in libraries.items():
            outputs = [*y, *gates, *cells, *previous]
            forward = prepare(library, f"{prefix}Forward", inputs, outputs)
            saved = [*gates, *(cells if is_lstm else previous)]
            backward = prepare(library, f"{prefix}Backward", [*y, *weights, *saved, lengths], gradients)
            calls[name, "train"] = lambda first=forward, then=backward: (first(), then())[0]
            calls[name, "inference"] = prepare(library, f"{prefix}Inference", inputs, y)
        return calls


def take_turns(contenders: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Seconds of each contender's calls: the fastest, which other programs disturb less than the median."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 3:
        for name, call in contenders.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: min(values) for name, values in times.items()}


def measure(layer: Layer, libraries: dict[str, ctypes.CDLL], tasks: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """A line for each task."""
    calls = layer.make_calls(libraries)
    lines = []
    for task in tasks:
        contenders: dict[str, Callable[[], None]] = {}
        for way, number in WAYS.items():
            contenders[way] = lambda number=number: (libraries["ours"].ds2_set_teams(number), calls["ours", task]())[1]
        if "other" in libraries:
            contenders["other"] = calls["other", task]
        others = OthersClock()
        times = take_turns(contenders, seconds)
        libraries["ours"].ds2_set_teams(WAYS["rule"])
        lines.append(
            {
                "layer": f"{layer.kind} {layer.num_hidden}",
                "task": task,
                "num_utterances": layer.num_utterances,
                "num_frames": layer.num_frames,
                "milliseconds": {name: round(1e3 * value, 3) for name, value in times.items()},
                "others_share": others.read_share(),
            }
        )
    return lines


def show(line: dict[str, Any]) -> str:
    """One line of text: the times, and how the rule compares with the better way."""
    times = line["milliseconds"]
    best = min(times["one team"], times["two teams"])
    text = "  ".join(f"{name} {value:8.3f} ms" for name, value in times.items())
    remark = "" if times["rule"] <= TOLERANCE * best else "  MISSES"
    ratio = f"  teams {times['one team'] / times['two teams']:.2f}, rule {best / times['rule']:.2f} of the better"
    if "other" in times:
        ratio += f", {times['other'] / times['rule']:.2f} x other"
    busy = f"  others {line['others_share']:.0%}" if line["others_share"] else ""
    return f"{line['layer']:>9} {line['task']:>9} {line['num_utterances']:3} x {line['num_frames']}: {text}{ratio}{busy}{remark}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def integers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser.add_argument("--kinds", default="lstm,gru", type=lambda text: text.split(","), help="of layers")
    parser.add_argument("--hidden", default="192,320,512", type=integers, help="hidden units (counts)")
    parser.add_argument("--batches", default="1,4,16", type=integers, help="utterances (counts)")
    parser.add_argument("--tasks", default="train,inference", type=lambda text: text.split(","))
    parser.add_argument("--frames", default=100, type=int, help="of every utterance (count)")
    parser.add_argument("--seconds", default=1.0, type=float, help="for each line (s)")
    parser.add_argument("--library", type=Path, help="a build of the kernels; else this checkout's")
    parser.add_argument("--other_library", type=Path, help="an older build of the kernels")
    parser.add_argument("--record", action="store_true", help="append the lines to recurrent.jsonl")
    return parser.parse_args()


@exit_on_error
def main() -> None:
    """Parse the command line, measure, show, keep."""
    options = parse()
    paths = {"ours": options.library or find_kernels("on", "CPU"), "other": options.other_library}
    libraries = {name: ctypes.CDLL(str(path)) for name, path in paths.items() if path}
    for kind, num_hidden, num_utterances in itertools.product(options.kinds, options.hidden, options.batches):
        layer = Layer(kind, num_hidden, num_utterances, options.frames)
        for line in measure(layer, libraries, options.tasks, options.seconds):
            print(show(line), flush=True)


if __name__ == "__main__":
    main()
