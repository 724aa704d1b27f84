#!/usr/bin/env python3
"""Measure model files beside each other: parameters, zeros, bytes, milliseconds for 10 s of speech, first result, WER.

    python recipes/benchmark/benchmark_models.py runs/an4/best.ckpt runs/an4/export/model.onnx
    python recipes/benchmark/benchmark_models.py runs/*/best.ckpt runs/*/export/model*.onnx \\
        --manifest data/an4/test.jsonl --pytorch --browser browser.jsonl --output models.jsonl

Checkpoints run in MindSpore with our kernels, .onnx files in onnxruntime, as `transcribe` runs them: sound, features,
network, greedy decoding. With --pytorch checkpoints run there as well, with our features and decoding, with --int8 they
run once more, as `transcribe --weights int8` runs them. All take turns, each time in a process of its own, all on the
same cores (--threads). Where others share these, look at the processors' time. The table goes to the console and, with
--output, beside the lines of JSON.
"""

import argparse
import datetime
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from mindaudio_ds2 import models
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.errors import CheckpointError, ConfigError, exit_on_error
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.ops.library import find_kernels
from mindaudio_ds2.portable.stream import open_onnx
from mindaudio_ds2.reading import parse_json
from mindaudio_ds2.transcribe import Recognizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed
from recipes.benchmark import apart
from recipes.benchmark.apart import Result
from recipes.benchmark.benchmark_long import count_run_errors, join
from recipes.benchmark.model_files import describe_file
from recipes.benchmark.others import QUIET_SHARE, OthersClock, keep_to
from recipes.benchmark.torch_model import TorchModel, unpack_apart

SCRIPT = Path(__file__).resolve()
SOUND_HZ = 16000
NUM_WARM = 3

BROWSER = ("browser_milliseconds", "browser_processor_milliseconds")
HEADS = (
    *("model", "parameters", "zeros", "bytes"),
    *("MindSpore", "PyTorch", "onnxruntime", "browser"),
    *("first result after", "WER", "others took"),
)


# One turn of one file, in a process of its own ---------------------------------------------------------------------


def measure(text: str) -> Result:
    """Measure a file in this process.

    Args:
        text: the job as JSON: `model`, `way` (of `Entry`), `sound` (WAV to be recognised), `num_steps`, `num_threads`,
            `started` (of the monotonic clock, when this process was asked for), for the first turn `is_first` and
            `manifest`, and for PyTorch `unpacked`, see `torch_model.unpack_apart`.

    Returns:
        Seconds of each timed step, by the clock and of the processors, and until the first result; in the first turn
        what `describe_file` says, too.

    Raises:
        CheckpointError, DeviceError, AudioError, ManifestError: the file, the sound or the manifest cannot be used.
    """
    job = parse_json(text)
    path, others = Path(job["model"]), OthersClock()
    recognizer = _open(path, job)
    waveform = read_audio(job["sound"], recognizer.network.features.sample_rate_hz)
    _hear(recognizer, waveform)
    first_seconds = time.monotonic() - job["started"]
    for _ in range(NUM_WARM):
        _hear(recognizer, waveform)
    steps, own = [], []
    for _ in range(job["num_steps"]):
        started, started_own = time.perf_counter(), time.process_time()
        _hear(recognizer, waveform)
        steps.append(round(time.perf_counter() - started, 6))
        own.append(round(time.process_time() - started_own, 6))
    result: Result = {"first_seconds": first_seconds, "step_seconds": steps, "processor_seconds": own}
    result["others_share"] = others.read_share()
    if job["is_first"]:
        result |= describe_file(path) | ({"kind": "PyTorch"} if job["unpacked"] else {})
        if job["manifest"] and not job["unpacked"]:  # it would be the checkpoint's again
            score = {"wer": _score(recognizer, job["manifest"]), "decoder": "greedy"}
            result["scores"] = {Path(job["manifest"]).stem: score}
    return result


def _open(path: Path, job: Result) -> Recognizer:
    if job["way"] == "PyTorch":
        return Recognizer(TorchModel(Path(job["unpacked"]), job["num_threads"]), DecoderChoice())
    if path.suffix != ".onnx":
        return Recognizer.load(path, choice=DecoderChoice(), weights="int8" if job["way"] == "int8" else "fp32")
    return Recognizer(
        open_onnx(path, job["num_threads"]), DecoderChoice()
    )  # onnxruntime does not look at the process's cores


def _hear(recognizer: Recognizer, waveform: NDArray[np.float32]) -> str:
    """The text of a waveform in one piece, however long the recordings were that the network has learnt from."""
    ((rows,), (length,)) = recognizer.network.recognize([waveform])
    return recognizer.decoder.decode(rows[:length])[0].text


def _score(recognizer: Recognizer, manifest: str) -> float:
    """The word error rate (fraction) of a manifest."""
    utterances = open_manifest(manifest)
    found = recognizer.run([Path(each.audio_path) for each in utterances])
    return round(count_run_errors(recognizer, utterances, found).wer, 6)


class Entry(NamedTuple):
    """A line: what a model was called, its file, and how it runs: as it is, in PyTorch, or in eight bits here."""

    name: str
    path: Path
    way: Literal["as it is", "PyTorch", "int8"]


# Turns ----------------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> list[Result]:
    """Let the files take turns; a line for each.

    Raises:
        ConfigError, CheckpointError, ManifestError, AudioError: what was given cannot be used.
    """
    paths = [models.find_file(name, "recognition") for name in options.models]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise CheckpointError(f"{', '.join(missing)} does not exist; name checkpoints, .onnx files or models")
    find_kernels("auto", "CPU")  # compiled now, should that be needed
    keep_to(options.threads)  # inherited by the processes, whose libraries count cores when they are loaded
    environment, browser = apart.describe_environment(), read_browser(options.browser)
    entries = []
    for name, path in zip(options.models, paths, strict=True):
        entries.append(Entry(name, path, "as it is"))
        if options.pytorch and path.suffix != ".onnx":
            entries.append(Entry(name, path, "PyTorch"))
        if options.int8 and path.suffix != ".onnx":
            entries.append(Entry(f"{name}, --weights int8", path, "int8"))
    results: dict[Entry, list[Result]] = {entry: [] for entry in entries}
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.wav"
        _write_sound(sound, options.manifest, options.seconds)
        unpacked: dict[Entry, str] = {}
        for number, entry in enumerate(entry for entry in results if entry.way == "PyTorch"):
            unpacked[entry] = str(Path(folder) / f"{number}.npz")
            unpack_apart(entry.path, Path(unpacked[entry]))
        turns = [(number, entry) for number in range(options.rounds) for entry in results]
        for number, entry in tqdm(turns, desc="turns", unit="turn"):
            if any("failure" in result for result in results[entry]):  # it would only fail again
                continue
            job = {
                **{"model": str(entry.path), "way": entry.way, "sound": str(sound), "num_threads": options.threads},
                **{"num_steps": options.num_steps, "manifest": options.manifest, "is_first": number == 0},
                **{"unpacked": unpacked.get(entry), "started": time.monotonic()},
            }
            results[entry].append(apart.ask(SCRIPT, json.dumps(job)))
    about = {
        "date": datetime.date.today().isoformat(),
        **{key: environment[key] for key in ("commit", "dirty", "cpu", "mindspore_version")},
        **{"seconds": options.seconds, "sound": options.manifest or "noise", "num_threads": options.threads},
        "rounds": options.rounds,
    }
    nothing = (None, None)
    return [
        {**about, "model": entry.name, **combine(results[entry])}
        | dict(
            zip(
                BROWSER, browser.get(entry.path.resolve(), nothing) if entry.way == "as it is" else nothing, strict=True
            )
        )
        for entry in entries
    ]


def _write_sound(path: Path, manifest: str | None, seconds: float) -> None:
    """The manifest's recordings one behind the other; without one noise, which takes as long."""
    num_samples = round(seconds * SOUND_HZ)
    samples = 0.05 * np.random.default_rng(0).standard_normal(num_samples)
    if manifest is not None:
        join(open_manifest(manifest), seconds, SOUND_HZ, path)
        samples = soundfile.read(path)[0][:num_samples]
    soundfile.write(path, samples, SOUND_HZ)


def read_browser(path: Path | None) -> dict[Path, tuple[float, float]]:
    """Milliseconds for 10 s by model, by the clock and of the processor, as benchmark_browser.py wrote them; the newest
    line counts.

    Raises:
        ConfigError: the file cannot be read, or is another's.
    """
    if path is None:
        return {}
    try:
        rows = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
        names = ("milliseconds_for_10_s", "processor_milliseconds_for_10_s")
        return {Path(row["model"]).resolve(): (float(row[names[0]]), float(row[names[1]])) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--browser {path} has no lines of benchmark_browser.py --output: {error}") from None


def combine(results: Sequence[Result]) -> Result:
    """Figures of one file from those of its turns: medians, and the quartiles of all steps."""
    failures = [result["failure"] for result in results if "failure" in result]
    if failures:
        return {"failure": failures[0]}
    milliseconds = [1000 * seconds for result in results for seconds in result["step_seconds"]]
    low, median, high = (round(float(value), 2) for value in np.percentile(milliseconds, (25, 50, 75)))
    own = [1000 * seconds for result in results for seconds in result["processor_seconds"]]
    shares = [result["others_share"] for result in results if result["others_share"] is not None]
    first = {key: results[0][key] for key in ("kind", "num_parameters", "zeros_share", "bytes", "scores")}
    return {
        **first,
        "milliseconds": median,
        "milliseconds_quartiles": [low, high],
        "processor_milliseconds": round(statistics.median(own), 2),
        "first_seconds": round(statistics.median(result["first_seconds"] for result in results), 2),
        "others_share": round(statistics.median(shares), 3) if shares else None,
    }


def make_table(lines: Sequence[Result]) -> str:
    """The lines as Markdown."""
    seconds, threads = lines[0]["seconds"], lines[0]["num_threads"]
    names = f"MindSpore, onnxruntime, browser: milliseconds for {seconds:g} s on {threads} thread{'s' * (threads > 1)}"
    rows = [f"| {' | '.join(HEADS)} |", f"| --- |{' ---: |' * (len(HEADS) - 1)}"]
    rows += [f"| {' | '.join(_make_cells(line))} |" for line in lines]
    kinds = "of the processors; by the clock, median (quartiles); browser: for 10 s"
    return "\n".join([*rows, "", f"{names}, {kinds}. {lines[0]['cpu']}."])


def _make_cells(line: Result) -> list[str]:
    if "failure" in line:
        failure = line["failure"].replace("|", "\\|").replace("\n", " ")
        return [line["model"], f"failed: {failure}", *[""] * (len(HEADS) - 2)]
    low, high = line["milliseconds_quartiles"]
    own = f"{line['processor_milliseconds']:.1f}; {line['milliseconds']:.1f} ({low:.1f}–{high:.1f})"
    (browser, browser_own), share = (line[name] for name in BROWSER), line["others_share"]
    return [
        line["model"],
        f"{line['num_parameters']:,}",
        f"{line['zeros_share']:.1%}",
        f"{line['bytes']:,}",
        *(own if line["kind"] == kind else "" for kind in ("MindSpore", "PyTorch", "onnxruntime")),
        f"{browser_own:.0f}; {browser:.0f}" if browser else "",
        f"{line['first_seconds']:.1f} s",
        ", ".join(_show_score(name, **score) for name, score in line["scores"].items()),
        "" if share is None else f"{share:.0%}" + (", busy machine" if share > QUIET_SHARE else ""),
    ]


def _show_score(name: str, wer: float, decoder: str | None) -> str:
    kind = "" if decoder in (None, "greedy") else f", {decoder.split(',')[0]}"
    return f"{100 * wer:.2f} % ({name}{kind})"


def check(options: argparse.Namespace) -> None:
    """Find before all measuring what would end it, or make its result worthless.

    Raises:
        ConfigError, OutputError: names the option.
    """
    for name in ("seconds", "threads", "num_steps", "rounds"):
        if not 0 < getattr(options, name) < math.inf:
            raise ConfigError(f"--{name} is {getattr(options, name)}; it must be above 0, and finite")
    num_cores = len(os.sched_getaffinity(0))
    if options.threads > num_cores:
        raise ConfigError(f"--threads is {options.threads}; cores that this process may use: {num_cores}")
    if options.output is not None:
        if options.output.suffix == ".md":
            raise ConfigError(f"--output {options.output} is where the table would stand; name a .jsonl")
        require_writable(options.output)


@exit_on_error
def main() -> None:
    """Parse, measure, show; or be the process of one turn."""
    if apart.is_asked():
        apart.answer(measure)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="checkpoints, .onnx files, names of models")
    parser.add_argument("--manifest", help="scored; its recordings are what is timed (path; default: WER of the files)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech that is timed")
    parser.add_argument("--threads", type=int, default=1, help="of each file (count)")
    parser.add_argument("--num_steps", type=int, default=20, help="timed results in each turn (count)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each file (count)")
    parser.add_argument("--pytorch", action="store_true", help="checkpoints in PyTorch as well")
    parser.add_argument("--int8", action="store_true", help="checkpoints also with --weights int8")
    parser.add_argument("--browser", type=Path, help="lines of benchmark_browser.py --output (path)")
    parser.add_argument("--output", type=Path, help="of the lines; the table stands beside it as .md (path)")
    options = parser.parse_args()
    check(options)
    lines = run(options)
    table = make_table(lines)
    print(table)
    if options.output is not None:
        write_text(options.output, "".join(f"{json.dumps(line)}\n" for line in lines))
        write_text(options.output.with_suffix(".md"), f"{table}\n")
    failed = [line["model"] for line in lines if "failure" in line]
    if failed:
        raise CheckpointError(f"{', '.join(failed)} could not be measured; the table says why")


if __name__ == "__main__":
    main()
