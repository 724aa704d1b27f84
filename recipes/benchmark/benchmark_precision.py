#!/usr/bin/env python3
"""Measure what bfloat16 is worth on this processor: whole steps of training, or forward only, beside float32.

    python recipes/benchmark/benchmark_precision.py -c hparams/deepspeech2.yaml --num_utterances 8 --seconds 15

Both networks begin with the same weights and take the same random batch in turn, in one process. What counts is the
processor's time, so that a machine with other work gives nearly the same ratio as a quiet one. Each run adds a line to
recipes/benchmark/precision.jsonl, and the table in the README there is written anew.
"""

import dataclasses
import datetime
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from tqdm import tqdm

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import parse_command_line
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.files import write_text
from mindaudio_ds2.machine import runtime
from recipes.benchmark.case import Case, make_batches
from recipes.benchmark.command import FOLDER, ROOT, name_network
from recipes.benchmark.others import OthersClock
from recipes.benchmark.tables import put_table

Line = dict[str, Any]
PRECISIONS = ("fp32", "bf16")


def add_options(parser: Any) -> None:
    """The script's own options."""
    parser.add_argument("--task", default="train", choices=["train", "inference"], help="whole steps, or forward only")
    parser.add_argument("--num_utterances", type=int, default=16, help="in the batch (count)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each utterance (seconds)")
    parser.add_argument("--num_steps", type=int, default=3, help="timed steps of each, after one that compiles (count)")
    parser.add_argument("--results", default=str(FOLDER), help="folder of precision.jsonl and README.md (path)")


def measure(config: Config, case: Case) -> Line:
    """Let both take steps in turn.

    Returns:
        For each precision the processor's and the clock's seconds of each timed step, and the last result.

    Raises:
        DeviceError: this processor has no bfloat16, or there are no native kernels.
    """
    backend = runtime.start("CPU", config.seed, "on", precision="bf16")
    import mindspore as ms

    from recipes.benchmark.ours import Ours

    (batch,) = make_batches(config, case)
    networks = {}
    for name in PRECISIONS:
        ms.set_seed(config.seed)
        networks[name] = Ours(config, case.task, dataclasses.replace(backend, is_bfloat16=name == "bf16"))
    line: Line = {name: {"processor_seconds": [], "seconds": []} for name in PRECISIONS}
    for step in tqdm(range(case.num_steps + 1), unit="step"):
        for name, network in networks.items():
            before = time.process_time(), time.perf_counter()
            line[name]["result"] = network.take(batch.arrays)
            after = time.process_time(), time.perf_counter()
            if step > 0:
                line[name]["processor_seconds"].append(round(after[0] - before[0], 4))
                line[name]["seconds"].append(round(after[1] - before[1], 4))
    return line


def make_table(lines: Sequence[Line]) -> str:
    """The newest line of each network and case: seconds of the processor for a step (medians) and their ratio."""
    newest = {(line["network"], line["case"]): line for line in lines}
    rows = [
        "| network | case | float32 | bfloat16 | times as fast | by the clock | others took | CPU | date | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in newest.values():
        single, half = (statistics.median(line[name]["processor_seconds"]) for name in PRECISIONS)
        ratio = statistics.median(line["fp32"]["seconds"]) / statistics.median(line["bf16"]["seconds"])
        others = "?" if line["others_share"] is None else f"{100 * line['others_share']:.0f} %"
        cells = [line["network"], line["case"], f"{single:.2f} s", f"{half:.2f} s", f"{single / half:.2f}"]
        commit = line["commit"] + "+" * line["dirty"]
        rows.append(f"| {' | '.join(cells)} | {ratio:.2f} | {others} | {line['cpu']} | {line['date']} | {commit} |")
    return "\n".join(rows)


def keep(folder: Path, line: Line) -> None:
    """Add a line to precision.jsonl, and rewrite the table of the README beside it, where there is one."""
    path = folder / "precision.jsonl"
    rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows.append(json.dumps(line))
    write_text(path, "".join(f"{row}\n" for row in rows))
    readme = folder / "README.md"
    if readme.exists():
        table = make_table([json.loads(row) for row in rows])
        write_text(readme, put_table(readme.read_text(encoding="utf-8"), "precision", table))


@exit_on_error
def main() -> None:
    """Parse the command line, measure, keep, show."""
    config, options = parse_command_line(
        __doc__ or "", sys.argv[1:], add_options, ROOT / "hparams" / "deepspeech2.yaml"
    )
    assert config is not None
    case = Case(options.task, options.num_utterances, options.seconds, None, options.num_steps)
    others = OthersClock()
    measured = measure(config, case)
    environment = runtime.describe_environment()
    line = {
        "date": datetime.date.today().isoformat(),
        **{key: environment[key] for key in ("commit", "dirty", "cpu", "num_cores", "mindspore_version")},
        "others_share": others.read_share(),
        "network": name_network(config, str(options.config)),
        "case": case.name,
        **measured,
    }
    keep(Path(options.results), line)
    print(make_table([line]))


if __name__ == "__main__":
    main()
