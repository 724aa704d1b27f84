#!/usr/bin/env python3
"""Measure what several processes on this machine gain, and compute what many machines would.

    python recipes/benchmark/benchmark_scaling.py -c hparams/an4.yaml --num_utterances 16 --seconds 4

The contenders train on the same joint batch of random features, in turn, each turn in fresh processes: one process with
as many threads as there are cores, as many processes with one thread each, and these with batch norm over all of them.
From the step of one process and the bytes it would have to sum, a table of 8 and 64 such machines is computed. One line
goes to recipes/benchmark/scaling.jsonl, and the tables in the README there are written anew.
"""

import dataclasses
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.config_reader import from_mapping, parse_command_line
from mindaudio_ds2.errors import DeviceError, exit_on_error
from mindaudio_ds2.files import write_text
from mindaudio_ds2.machine import collectives, runtime
from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.machine.collectives import Ranks

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed
from recipes.benchmark.case import Case, TimedBatch, make_batches
from recipes.benchmark.tables import put_table

Line = dict[str, Any]

FOLDER = Path(__file__).resolve().parent
ONE, APART, JOINT = "one process", "processes", "processes, joint batch norm"
NUM_WARM_STEPS = 2
NUM_MACHINES = (8, 64)
GIGABITS = (10, 100)
LEARNING_RATE = 1e-5


def add_options(parser: Any) -> None:
    """The script's own options."""
    parser.add_argument("--num_utterances", type=int, default=16, help="of the joint batch (count)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each utterance (seconds)")
    parser.add_argument("--num_steps", type=int, default=20, help="timed steps of each turn (count)")
    parser.add_argument("--num_rounds", type=int, default=3, help="turns of each contender (count)")
    parser.add_argument("--output_dir", default=str(FOLDER), help="has scaling.jsonl and README.md (path)")


# One process of a contender -------------------------------------------------------------------------------------------


def work(job: Line, ranks: Ranks) -> Line:
    """Train as one of the processes of a contender.

    Args:
        job: the configuration, the case and the number of threads.
        ranks: the processes.

    Returns:
        Seconds of each timed step, seconds that this process waited for others and summed with them, and the bytes of
        one update's sum.
    """
    config: Config = from_mapping(job["config"], "the job")
    backend = runtime.start("CPU", config.seed, config.ops.native, job["num_threads"])
    step, num_bytes = build_step(config, ranks, backend)
    (batch,) = make_batches(config, Case(**job["case"]))
    inputs, share = choose_part(batch, ranks)
    for _ in range(NUM_WARM_STEPS):
        step.take([inputs], [share], LEARNING_RATE, lambda: False)
    waiting, moving = ranks.waiting_seconds, ranks.moving_seconds
    step_seconds = []
    for _ in range(job["case"]["num_steps"]):
        started = time.perf_counter()
        step.take([inputs], [share], LEARNING_RATE, lambda: False)
        step_seconds.append(time.perf_counter() - started)
    return {
        "step_seconds": step_seconds,
        "waiting_seconds": ranks.waiting_seconds - waiting,
        "moving_seconds": ranks.moving_seconds - moving,
        "bytes": num_bytes,
    }


def build_step(config: Config, ranks: Ranks, backend: Backend) -> tuple[Any, int]:
    """The step as training builds it, and the bytes of one update's sum: gradients, statistics, loss, wish to stop."""
    from mindaudio_ds2.checkpoint import build_network
    from mindaudio_ds2.ops.joint import JointSum
    from mindaudio_ds2.text.tokenizer import Tokenizer
    from mindaudio_ds2.training.compiled.joint_step import make_step
    from mindaudio_ds2.training.compiled.loss import CTCLoss
    from mindaudio_ds2.training.compiled.loss_scale import LossScale
    from mindaudio_ds2.training.compiled.optimizer import Adam
    from mindaudio_ds2.training.compiled.step import TrainStep

    is_joint = config.processes.sync_batch_norm and ranks.world_size > 1
    joint = dataclasses.replace(backend, joint_sum=JointSum(ranks.sum)) if is_joint else backend
    network = build_network(config, joint)
    optimizer = Adam(network.trainable_params(), config.optimizer)
    loss = CTCLoss(Tokenizer(config.text).blank_id, backend)
    scale = LossScale(config.precision)
    step = TrainStep(network, loss, optimizer, config.optimizer.max_gradient_norm, scale)
    num_bytes = 4 * (sum(parameter.size for parameter in [*optimizer.weights, *step.update.next_running]) + 2)
    open_shapes = (config.features.num_bins, None) if network.takes_open_shapes else None
    return make_step(step, ranks, 1, open_shapes, stays_on_device=False), num_bytes


def choose_part(batch: TimedBatch, ranks: Ranks) -> tuple[tuple[Any, ...], float]:
    """This process's utterances of the joint batch as tensors, and their share."""
    from mindspore import Tensor

    arrays = batch.arrays
    rows = slice(ranks.place.rank, None, ranks.world_size)
    parts = [arrays.features[rows], arrays.feature_lengths[rows], arrays.labels[rows], arrays.label_lengths[rows]]
    return tuple(Tensor(part.copy()) for part in parts), len(parts[1]) / len(arrays.feature_lengths)


def work_and_print(job: Line) -> None:
    """Do a job in this process, which mpirun may have started; the first one prints the result as JSON."""
    with collectives.join(runtime.find_own_place(), 600.0) as ranks:
        result = work(job, ranks)
        if ranks.is_first:
            print(json.dumps(result))


# Turns ----------------------------------------------------------------------------------------------------------------


def take_turn(contender: str, config: Config, case: Case, num_cores: int) -> Line:
    """Start the processes of a contender once; the result of the first.

    Raises:
        DeviceError: there is no mpirun, or the processes fail.
    """
    processes = dataclasses.replace(config.processes, sync_batch_norm=contender == JOINT)
    job = {
        "config": to_mapping(dataclasses.replace(config, processes=processes)),
        "case": dataclasses.asdict(case),
        "num_threads": num_cores if contender == ONE else 1,
    }
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    if contender != ONE:
        command = [find_mpirun(), "-n", str(num_cores), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise DeviceError(f"{contender}: the processes ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    result: Line = json.loads(lines[-1])
    return result


def find_mpirun() -> str:
    """The mpirun of this environment.

    Raises:
        DeviceError: there is none.
    """
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise DeviceError("there is no mpirun; pip install 'mindaudio_ds2[mpi]'")
    return found


def measure(config: Config, case: Case, num_rounds: int) -> Line:
    """All contenders in turn; one line of results."""
    num_cores = len(os.sched_getaffinity(0))
    if num_cores < 2:
        raise DeviceError("scaling needs at least two cores, and this process may use one")
    load_before = os.getloadavg()[0]
    turns: dict[str, list[Line]] = {ONE: [], APART: [], JOINT: []}
    for number in range(num_rounds):
        for contender, results in turns.items():
            results.append(take_turn(contender, config, case, num_cores))
            median = statistics.median(results[-1]["step_seconds"])
            print(f"round {number + 1}, {contender}: {median:.3f} s a step", file=sys.stderr)
    audio_seconds = case.num_utterances * case.seconds
    model = config.model
    return {
        "network": f"{model.rnn_num_layers}x{model.rnn_hidden_size} {model.rnn_type}",
        "case": case.name,
        "num_cores": num_cores,
        "load_before": round(load_before, 2),
        "bytes": turns[ONE][0]["bytes"],
        "contenders": {name: summarize(results, audio_seconds) for name, results in turns.items()},
    }


def summarize(results: Sequence[Line], audio_seconds: float) -> Line:
    """The figures of a contender over all its turns."""
    every = [seconds for result in results for seconds in result["step_seconds"]]
    total = sum(every)
    return {
        "step_seconds": round(statistics.median(every), 4),
        "audio_seconds_per_second": round(audio_seconds / statistics.median(every), 2),
        "waiting_share": round(sum(result["waiting_seconds"] for result in results) / total, 4),
        "sum_share": round(sum(result["moving_seconds"] for result in results) / total, 4),
    }


# Results --------------------------------------------------------------------------------------------------------------


def ring_seconds(num_bytes: int, num_machines: int, gigabits: float) -> float:
    """How long a ring takes to sum `num_bytes` over machines: each sends and receives 2 (n - 1) / n of them.

    Args:
        num_bytes: of the array.
        num_machines: n.
        gigabits: a second, in each direction.
    """
    return 2 * (num_machines - 1) / num_machines * num_bytes * 8 / (gigabits * 1e9)


def make_measured_table(lines: Sequence[Line]) -> str:
    """What was measured, newest last, as a Markdown table."""
    rows = [
        "| date | commit | processor | load | network | joint batch | contender | audio s/s | of one process | waiting "
        "| in the sum |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        one = line["contenders"][ONE]["audio_seconds_per_second"]
        commit = line["commit"] + ("+" if line["dirty"] else "")
        for name, figures in line["contenders"].items():
            count = f"1 x {line['num_cores']} threads" if name == ONE else f"{line['num_cores']} x 1 thread"
            rate = figures["audio_seconds_per_second"]
            cells = [
                *(line["date"], commit, line["cpu"], f"{line['load_before']:g}", line["network"], line["case"]),
                *(f"{name}: {count}", f"{rate:g}", f"{rate / one:.2f}"),
                *(f"{figures['waiting_share']:.1%}", f"{figures['sum_share']:.1%}"),
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def make_computed_table(line: Line) -> str:
    """What many machines like this one would do, computed from one measurement, as a Markdown table."""
    step_seconds = line["contenders"][ONE]["step_seconds"]
    rows = [
        "| network | a machine's step | bytes to sum | machines | Gbit/s | ring | step with it | of the ideal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for num_machines in NUM_MACHINES:
        for gigabits in GIGABITS:
            ring = ring_seconds(line["bytes"], num_machines, gigabits)
            cells = [
                *(line["network"], f"{step_seconds:.3f} s", f"{line['bytes'] / 1e6:.1f} MB", str(num_machines)),
                *(str(gigabits), f"{ring:.3f} s", f"{step_seconds + ring:.3f} s"),
                f"{step_seconds / (step_seconds + ring):.0%}",
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def keep(folder: Path, line: Line) -> None:
    """Append a line to scaling.jsonl and rewrite the tables of the README."""
    results = folder / "scaling.jsonl"
    old = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    write_text(results, "\n".join([*old, json.dumps(line)]) + "\n")
    lines = [json.loads(each) for each in [*old, json.dumps(line)]]
    newest = {each["network"]: each for each in lines}
    readme = folder / "README.md"
    text = put_table(readme.read_text(encoding="utf-8"), "scaling", make_measured_table(lines))
    computed = "\n\n".join(make_computed_table(each) for each in newest.values())
    write_text(readme, put_table(text, "machines", computed))


@exit_on_error
def main() -> None:
    """Parse the command line, measure, append, show."""
    if sys.argv[1:2] == ["--job"]:
        work_and_print(json.loads(sys.argv[2]))
        return
    default = Path(__file__).resolve().parents[2] / "hparams" / "an4.yaml"
    config, options = parse_command_line(__doc__ or "", sys.argv[1:], add_options, default)
    assert config is not None
    case = Case("train", options.num_utterances, options.seconds, None, options.num_steps)
    measured = measure(config, case, options.num_rounds)
    from mindaudio_ds2.ops.library import find_kernels

    environment = runtime.describe_environment()
    kernels = "native" if find_kernels(config.ops.native, "CPU") else "stock"
    line = {
        "date": datetime.date.today().isoformat(),
        **{key: environment[key] for key in ("commit", "dirty", "cpu", "mindspore_version")},
        "kernels": kernels,
        **measured,
    }
    keep(Path(options.output_dir), line)
    print(make_measured_table([line]) + "\n\n" + make_computed_table(line))


if __name__ == "__main__":
    main()
