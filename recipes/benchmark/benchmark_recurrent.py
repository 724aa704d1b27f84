#!/usr/bin/env python3
"""Measure how threads share a recurrent layer: one team for both directions in turn, or a team for each.

    python recipes/benchmark/benchmark_recurrent.py
    python recipes/benchmark/benchmark_recurrent.py --hidden 320 --batches 1 --other_library /tmp/kernels-before.so

The native kernels are called from NumPy, in turn, on the same random input: *forward* as in training, *backward*, or
*inference*. The rule of ops/csrc/split.h should be within 5 % of the better way on every line. The fastest call of each
counts. Each waits for its turn asleep, because systems let a thread that has slept go first: so on a machine with other
work, too, some calls of a few milliseconds have both cores. With --other_library an older build takes its turns. With
--record the lines go to recipes/benchmark/recurrent.jsonl and into the table of the README there.
"""

import argparse
import ctypes
import datetime
import itertools
import json
import os
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
from mindaudio_ds2.files import write_text
from mindaudio_ds2.ops.library import find_kernels
from recipes.benchmark.others import OthersClock
from recipes.benchmark.tables import put_table

FOLDER = Path(__file__).resolve().parent
NUM_GATES = {"lstm": 4, "gru": 3}
WAYS = {"rule": 0, "one team": 1, "two teams": 2}  # what ds2_set_teams is told
CORES = os.sched_getaffinity(0)  # before OpenMP binds this thread
OTHER = "other library"
TOLERANCE = 1.05
ASLEEP_SECONDS = 0.005

Array = NDArray[Any]
Line = dict[str, Any]


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
        is_bfloat16: multiply in bfloat16.
    """

    kind: str
    num_hidden: int
    num_utterances: int
    num_frames: int
    is_bfloat16: bool = False

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"{self.kind} {self.num_hidden}" + " bf16" * self.is_bfloat16

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
        biases = [*draw(width), *draw(width)]
        lengths = np.full(self.num_utterances, self.num_frames, np.int32)
        y, gates, previous = make(self.num_hidden, 1), make(4 * self.num_hidden), make(self.num_hidden)
        cells = make(self.num_hidden) if is_lstm else []
        gradients = make(width, 2 if is_lstm else 4)
        inputs, prefix = [*projected, *weights, *biases, lengths], "Lstm2" if is_lstm else "Gru2"
        prefix = "Bf16" * self.is_bfloat16 + prefix
        calls = {}
        for name, library in libraries.items():
            forward = prepare(library, f"{prefix}Forward", inputs, [*y, *gates, *cells, *previous])
            saved = [*gates, *(cells if is_lstm else previous)]
            calls[name, "forward"] = forward
            calls[name, "backward"] = prepare(library, f"{prefix}Backward", [*y, *weights, *saved, lengths], gradients)
            calls[name, "inference"] = prepare(library, f"{prefix}Inference", inputs, y)
            forward()  # so that the other two have something to work on
        return calls


@dataclass(frozen=True)
class Turn:
    """What a contender does when it is its turn.

    Attributes:
        library: which build.
        num_teams: what it is told first; None for a build that knows of no teams.
        call: of the layer.
    """

    library: ctypes.CDLL
    num_teams: int | None
    call: Callable[[], None]

    def take(self) -> float:
        """The seconds of the second call of two: the first wakes the threads and fills the caches."""
        if self.num_teams is not None:
            self.library.ds2_set_teams(self.num_teams)
        time.sleep(ASLEEP_SECONDS)
        self.call()
        started = time.perf_counter()
        self.call()
        return time.perf_counter() - started


def take_turns(turns: dict[str, Turn], seconds: float) -> dict[str, float]:
    """The fastest call of each contender, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 3:
        for name, turn in turns.items():
            times[name].append(turn.take())
    return {name: min(values) for name, values in times.items()}


def measure(layer: Layer, libraries: dict[str, ctypes.CDLL], tasks: Sequence[str], seconds: float) -> list[Line]:
    """A line for each task."""
    calls = layer.make_calls(libraries)
    lines = []
    for task in tasks:
        turns = {way: Turn(libraries["ours"], number, calls["ours", task]) for way, number in WAYS.items()}
        if OTHER in libraries:
            turns[OTHER] = Turn(libraries[OTHER], None, calls[OTHER, task])
        others = OthersClock(CORES)
        times = take_turns(turns, seconds)
        libraries["ours"].ds2_set_teams(WAYS["rule"])
        lines.append(
            {
                "layer": layer.name,
                "task": task,
                "num_utterances": layer.num_utterances,
                "num_frames": layer.num_frames,
                "milliseconds": {name: round(1e3 * value, 3) for name, value in times.items()},
                "others_share": others.read_share(),
            }
        )
    return lines


def compare(line: Line) -> float:
    """The time of the better way over that of the rule: 1, but for chance, where the rule is right."""
    times = line["milliseconds"]
    return float(min(times["one team"], times["two teams"]) / times["rule"])


def make_row(line: Line) -> list[str]:
    """The cells of a line."""
    times = line["milliseconds"]
    share = line["others_share"]
    return [
        *(line["layer"], line["task"], f"{line['num_utterances']} x {line['num_frames']}"),
        *(f"{times[name]:.2f} ms" if name in times else "" for name in (OTHER, *WAYS)),
        f"{times['one team'] / times['two teams']:.2f}",
        f"{compare(line):.2f}" + ("" if compare(line) * TOLERANCE >= 1 else " (misses)"),
        f"{times[OTHER] / times['rule']:.2f}" if OTHER in times else "",
        "" if share is None else f"{share:.0%}",
    ]


def make_table(lines: Sequence[Line]) -> str:
    """The newest line for each layer, task and number of utterances, as Markdown; empty without any."""
    if not lines:
        return ""
    newest = {(line["layer"], line["task"], line["num_utterances"]): line for line in lines}
    head = ["date", "commit", "processor", "layer", "task", "utterances x frames", "before", *WAYS]
    head += ["two teams are faster by", "rule against the better", "rule against before", "others took"]
    rows = [head, ["---"] * len(head)]
    for line in newest.values():
        commit = line["commit"] + ("+" if line["dirty"] else "")
        rows.append([line["date"], commit, line["cpu"], *make_row(line)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def keep(folder: Path, lines: Sequence[Line]) -> None:
    """Append lines to recurrent.jsonl, with what they were measured on, and rewrite the README's table."""
    from mindaudio_ds2.machine import runtime

    environment = runtime.describe_environment()
    about = {"date": datetime.date.today().isoformat(), **{key: environment[key] for key in ("commit", "dirty", "cpu")}}
    path, readme = folder / "recurrent.jsonl", folder / "README.md"
    rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows += [json.dumps({**about, **line}) for line in lines]
    write_text(path, "".join(f"{row}\n" for row in rows))
    table = make_table([json.loads(row) for row in rows])
    write_text(readme, put_table(readme.read_text(encoding="utf-8"), "recurrent", table))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def integers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def words(text: str) -> list[str]:
        return text.split(",")

    parser.add_argument("--kinds", default=["lstm", "gru"], type=words, help="of layers")
    parser.add_argument("--bf16", action="store_true", help="multiply in bfloat16")
    parser.add_argument("--hidden", default=[192, 256, 320, 400, 512], type=integers, help="hidden units (counts)")
    parser.add_argument("--batches", default=[1, 2, 4, 8, 16], type=integers, help="utterances (counts)")
    parser.add_argument("--tasks", default=["forward", "backward", "inference"], type=words, help="which of these")
    parser.add_argument("--frames", default=50, type=int, help="of every utterance (count)")
    parser.add_argument("--seconds", default=1.0, type=float, help="for each line (s)")
    parser.add_argument("--library", type=Path, help="a build of the kernels; else this checkout's")
    parser.add_argument("--other_library", type=Path, help="an older build of the kernels")
    parser.add_argument("--record", action="store_true", help="keep the lines")
    return parser.parse_args()


@exit_on_error
def main() -> None:
    """Parse the command line, measure, show, keep."""
    options = parse()
    paths = {"ours": options.library or find_kernels("on", "CPU"), OTHER: options.other_library}
    libraries = {name: ctypes.CDLL(str(path)) for name, path in paths.items() if path}
    lines = []
    for kind, num_hidden, num_utterances in itertools.product(options.kinds, options.hidden, options.batches):
        layer = Layer(kind, num_hidden, num_utterances, options.frames, options.bf16)
        for line in measure(layer, libraries, options.tasks, options.seconds):
            print(" | ".join(make_row(line)), flush=True)
            lines.append(line)
    if options.record:
        keep(FOLDER, lines)


if __name__ == "__main__":
    main()
