"""The command: contenders take turns in processes of their own, results are kept and shown."""

import dataclasses
import datetime
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.config_reader import parse_command_line
from mindaudio_ds2.errors import ConfigError, exit_on_error
from mindaudio_ds2.model.arithmetic import count_gflop_per_second, describe_sizes
from recipes.benchmark import apart, tables
from recipes.benchmark.apart import Result
from recipes.benchmark.case import Case
from recipes.benchmark.contender import (
    CONTENDERS,
    DEEPSPEECH_PYTORCH,
    EXPORTED,
    MINDSPORE_OFFICIAL,
    OURS,
    SAME_NETWORK,
)
from recipes.benchmark.worker import Job, measure

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "recipes" / "benchmark"
SCRIPT = Path(__file__).with_name("benchmark.py")


def add_options(parser: Any) -> None:
    """The script's own options."""
    parser.add_argument("--task", default="train", choices=["train", "inference"], help="whole steps, or forward only")
    parser.add_argument("--batches", default="16", help="utterances in a batch, a case for each: 1,8,16,32 (counts)")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each utterance (seconds)")
    parser.add_argument(
        "--durations", default=None, help="instead of both: a manifest whose durations are batched as training does it"
    )
    parser.add_argument("--threads", default=None, help="of each contender, cases for each: 1,2; without it all cores")
    parser.add_argument("--num_steps", type=int, default=3, help="timed steps of a contender in each round (count)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (count)")
    parser.add_argument(
        "--contenders",
        default=None,
        help="some of " + ",".join(CONTENDERS) + "; without it all that can do the task, the last two where their "
        "checkouts are given",
    )
    parser.add_argument("--deepspeech_pytorch", default=None, help="checkout of SeanNaren/deepspeech.pytorch (path)")
    parser.add_argument("--mindspore_models", default=None, help="checkout of mindspore-ai/models (path)")
    parser.add_argument("--pieces", action="store_true", help="measure the pieces of our steps instead of whole steps")
    parser.add_argument("--results", default=str(FOLDER), help="folder of results.jsonl and README.md (path)")


@dataclass
class Turns:
    """The measurements of a run in their order, and how long those of each kind took, for the time that is left."""

    jobs: list[tuple[Case, str]]
    elapsed: dict[tuple[Case, str], float] = field(default_factory=dict)
    num_done: int = 0

    def announce(self) -> str:
        """What comes next, and about how long everything from there on will take."""
        case, contender = self.jobs[self.num_done]
        text = f"[{self.num_done + 1}/{len(self.jobs)}] {contender}: {case.name}"
        if not self.elapsed:
            return text
        mean = statistics.mean(self.elapsed.values())
        left = sum(self.elapsed.get(job, mean) for job in self.jobs[self.num_done :])
        return f"{text} (about {left / 60:.0f} min left)"

    def finish(self, seconds: float) -> None:
        """Note how long the announced measurement took."""
        self.elapsed[self.jobs[self.num_done]] = seconds
        self.num_done += 1


def list_cases(options: Any) -> list[Case]:
    """The cases that the command line asks for.

    Raises:
        ConfigError: an option has an impossible value.
    """
    batches = _read_counts("batches", options.batches)
    threads = _read_counts("threads", options.threads) if options.threads else [None]
    num_cores = len(os.sched_getaffinity(0))
    if max(number or 0 for number in threads) > num_cores:
        raise ConfigError(f"--threads is {options.threads}, and this process may use {num_cores} cores; give fewer")
    for name in ("seconds", "num_steps", "rounds"):
        _check_positive(name, getattr(options, name))
    if options.durations is not None:
        if options.pieces:
            raise ConfigError("--pieces measures one batch; give --batches and --seconds instead of --durations")
        cases = [Case(options.task, 0, 0.0, str(Path(options.durations).resolve()), options.num_steps)]
    else:
        cases = [Case(options.task, batch, options.seconds, None, options.num_steps) for batch in batches]
    return [dataclasses.replace(case, num_threads=number) for number in threads for case in cases]


def _read_counts(name: str, text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--{name} is {text!r}; give numbers with commas between: 1,8,16") from None
    for count in counts:
        _check_positive(name, count)
    return counts


def _check_positive(name: str, value: float) -> None:
    if value <= 0:
        raise ConfigError(f"--{name} has {value}; it must be above 0")


def list_contenders(options: Any) -> dict[str, str | None]:
    """The contenders with the checkouts that two of them need.

    Raises:
        ConfigError: an unknown name, or a checkout that is missing.
    """
    checkouts = {DEEPSPEECH_PYTORCH: options.deepspeech_pytorch, MINDSPORE_OFFICIAL: options.mindspore_models}
    if options.contenders is not None:
        names = options.contenders.split(",")
    elif options.pieces:
        names = list(OURS)
    else:
        able = [name for name in CONTENDERS if options.task == "inference" or name not in EXPORTED]
        names = [name for name in able if name not in checkouts or checkouts[name]]
    for name in names:
        if name not in CONTENDERS:
            raise ConfigError(f"--contenders has {name!r}; there are {', '.join(CONTENDERS)}")
        if name in EXPORTED and (options.task == "train" or options.pieces):
            raise ConfigError(f"{name} recognises whole utterances only; give --task inference without --pieces")
        if name in checkouts and not checkouts[name]:
            option = "--deepspeech_pytorch" if name == DEEPSPEECH_PYTORCH else "--mindspore_models"
            raise ConfigError(f"{name} needs {option} with the path of its checkout")
    return {name: str(Path(checkouts[name]).resolve()) if checkouts.get(name) else None for name in names}


def run_worker(job: Job) -> Result:
    """Do a job in a fresh process; gives what `worker.measure` does, or the reason why not, as "failure"."""
    return apart.ask(SCRIPT, job.to_json())


def combine(results: Sequence[Result], config: Config, case: Case) -> Result:
    """Figures of one contender and case from those of its rounds.

    A batch counts with the median of the times that it took, so that what other programs took away counts little.

    Returns:
        The measured fields of a line of results.jsonl but for the limit; "failure" where a round failed.
    """
    failures = [result["failure"] for result in results if "failure" in result]
    if failures:
        return {"failure": failures[0]}
    figures: Result = {
        "peak_memory_mb": max(result["peak_memory_mb"] for result in results),
        "num_parameters": results[0]["num_parameters"],
        "num_threads": results[0]["num_threads"],
        "others_share": _combine_shares([result["others_share"] for result in results]),
    }
    if "pieces" in results[0]:
        return {**figures, "pieces": _combine_pieces([result["pieces"] for result in results])}
    audio, steps = results[0]["audio_seconds"], [result["step_seconds"] for result in results]
    if case.manifest is None:
        seconds = statistics.median(second for its_steps in steps for second in its_steps) * len(audio)
    else:
        seconds = sum(statistics.median(times) for times in zip(*steps, strict=True))
    rate = sum(audio) / seconds
    arithmetic = count_gflop_per_second(config) * (3 if case.task == "train" else 1)
    return {
        **figures,
        "audio_seconds_per_second": round(rate, 3),
        "gflops": round(rate * arithmetic, 1),
        "compile_seconds": statistics.median(result["compile_seconds"] for result in results),
        "first_step_seconds": statistics.median(result["first_step_seconds"] for result in results),
        "step_seconds": steps,
    }


def _combine_shares(shares: Sequence[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return round(statistics.median(known), 3) if known else None


def _combine_pieces(rounds: Sequence[dict[str, Result]]) -> dict[str, Result]:
    """Each piece as in the round in which it was fastest."""
    return {name: min((pieces[name] for pieces in rounds), key=lambda piece: piece["seconds"]) for name in rounds[0]}


def check_parameters(lines: Iterable[Result]) -> None:
    """Mark contenders that should be the same network and have another number of weights as failed."""
    same = [line for line in lines if line["contender"] in SAME_NETWORK and "failure" not in line]
    for line in same[1:]:
        if line["num_parameters"] != same[0]["num_parameters"]:
            line["failure"] = (
                f"it has {line['num_parameters']} weights, {same[0]['contender']} has {same[0]['num_parameters']}"
            )


def run(config: Config, options: Any, hparams: str) -> None:
    """Measure every case, and after each of them keep its lines and write the tables anew."""
    contenders, folder = list_contenders(options), Path(options.results)
    cases = list_cases(options)
    tables.keep(folder, [])  # now, not after hours, an error says what cannot be written
    num_rounds = options.rounds
    started = datetime.datetime.now(datetime.timezone.utc)
    environment = apart.describe_environment()
    turns = Turns([(case, name) for case in cases for _ in range(num_rounds) for name in contenders])
    limits: dict[tuple[str, int | None], float] = {}  # GFLOP/s of a contender with so many threads, from its first turn
    for case in cases:
        results: dict[str, list[Result]] = {name: [] for name in contenders}
        for _ in range(num_rounds):
            for name, checkout in contenders.items():
                print(turns.announce(), file=sys.stderr, flush=True)
                begun = time.monotonic()
                if not any("failure" in result for result in results[name]):  # it would only fail again
                    place = name, case.num_threads
                    result = run_worker(
                        Job(name, to_mapping(config), case, checkout, options.pieces, place not in limits)
                    )
                    results[name].append(result)
                    if "gemm_gflops" in result:
                        limits[place] = result["gemm_gflops"]
                turns.finish(time.monotonic() - begun)
        lines = [
            {
                "date": started.date().isoformat(),
                "run": started.isoformat(timespec="seconds"),
                **{key: environment[key] for key in ("commit", "dirty", "cpu", "mindspore_version")},
                "contender": name,
                "case": case.name,
                "task": case.task,
                "network": name_network(config, hparams),
                "batch": case.num_utterances or "as planned",
                "rounds": num_rounds,
                **({"pieces": {}} if options.pieces else {}),
                **({"gemm_gflops": limits[name, case.num_threads]} if (name, case.num_threads) in limits else {}),
                **combine(results[name], config, case),
            }
            for name in contenders
        ]
        check_parameters(lines)
        tables.keep(folder, lines)
    print(tables.show(folder, started.isoformat(timespec="seconds")))


def name_network(config: Config, hparams: str) -> str:
    """Such as "deepspeech2: 5 x 1024 lstm, 9.71 GFLOP"; a network whose sizes were overridden has its own name."""
    return f"{Path(hparams).stem}: {describe_sizes(config)}"


def main(description: str) -> None:
    """Parse the command line and measure; or be the process of one measurement."""
    if apart.is_asked():
        apart.answer(lambda job: measure(Job.from_json(job)))
    else:
        exit_on_error(lambda: _measure(description))()


def _measure(description: str) -> None:
    default = ROOT / "hparams" / "deepspeech2.yaml"
    config, options = parse_command_line(description, sys.argv[1:], add_options, default)
    assert config is not None
    run(config, options, str(options.config))
