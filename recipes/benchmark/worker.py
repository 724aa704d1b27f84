"""One measurement, in a process of its own: oneDNN's settings are those of a process, and so is the peak of memory."""

import dataclasses
import json
import math
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.ops.library import find_kernels
from recipes.benchmark.case import Case, ContenderError, TimedBatch, make_batches
from recipes.benchmark.contender import EXPORTED, GEMM_SIZES, NATIVE, Contender, build_contender
from recipes.benchmark.others import OthersClock, keep_to

MULTIPLYING_SECONDS = 1.0  # for each size


@dataclass(frozen=True)
class Job:
    """What one process is to measure.

    Attributes:
        contender: one of CONTENDERS.
        config: the network and its training, as a plain mapping.
        case: what the contender does.
        checkout: of the contender's own project, or None.
        has_pieces: measure the pieces of a step instead of whole steps.
        has_limit: measure the fastest matrix product, too, which takes some five seconds.
    """

    contender: str
    config: dict[str, Any]
    case: Case
    checkout: str | None
    has_pieces: bool
    has_limit: bool

    def to_json(self) -> str:
        """The job as one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """What `to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "case": Case(**values["case"])})


def measure(job: Job) -> dict[str, Any]:
    """Measure one contender in this process.

    Returns:
        Figures named as in results.jsonl, of this round alone; the limit only where the job asks for it.

    Raises:
        ContenderError: it cannot take part, or what it computes is not finite.
        DeviceError: there are no native kernels.
    """
    config: Config = from_mapping(job.config, "the job")
    batches = make_batches(config, job.case)
    if job.case.num_threads:
        keep_to(job.case.num_threads)
    with tempfile.TemporaryDirectory() as folder:
        source = _prepare(job, config, Path(folder))
        started, others = time.perf_counter(), OthersClock()
        contender = build_contender(job.contender, config, job.case.task, batches, source)
    if job.has_pieces:
        from recipes.benchmark.pieces import measure_pieces

        figures = measure_pieces(contender, config, batches[0], job.case)
    else:
        figures = _measure_steps(contender, batches, job.case.num_steps, started)
    return {
        **figures,
        "others_share": others.read_share(),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "num_parameters": contender.num_parameters,
        "num_threads": contender.num_threads,
        # Last: its matrices are not part of that peak.
        **({"gemm_gflops": round(measure_gemm(contender), 1)} if job.has_limit else {}),
    }


def _prepare(job: Job, config: Config, folder: Path) -> Path | None:
    """Do what is done once for a machine or a network, and is not measured; what the contender is made from, if any."""
    if job.contender in NATIVE:
        find_kernels("on", "CPU")  # compiled now, should that be needed
    if job.contender in EXPORTED:
        from recipes.benchmark.with_onnx import export_apart

        export_apart(config, EXPORTED[job.contender], folder / "model.onnx")
        return folder / "model.onnx"
    return Path(job.checkout) if job.checkout else None


def _measure_steps(contender: Contender, batches: list[TimedBatch], num_steps: int, started: float) -> dict[str, Any]:
    """First a step that compiles, then the timed ones.

    A contender that compiles for each shape takes a batch of new shapes once without being timed.
    """
    first_seconds = _time_step(contender, batches[0])
    to_first_step = time.perf_counter() - started
    seen = {_shape_of(batches[0])}
    step_seconds = []
    for number in tqdm(range(num_steps), desc="steps", unit="step", leave=False):
        batch = batches[number % len(batches)]
        if contender.compiles_each_shape and _shape_of(batch) not in seen:
            _time_step(contender, batch)
            seen.add(_shape_of(batch))
        step_seconds.append(_time_step(contender, batch))
    like_first = step_seconds[:: len(batches)]
    return {
        "audio_seconds": [round(batches[i % len(batches)].audio_seconds, 3) for i in range(num_steps)],
        "step_seconds": [round(seconds, 4) for seconds in step_seconds],
        "first_step_seconds": round(to_first_step, 2),
        "compile_seconds": round(max(0.0, first_seconds - statistics.median(like_first)), 2),
    }


def _time_step(contender: Contender, batch: TimedBatch) -> float:
    started = time.perf_counter()
    value = contender.take(batch.arrays)
    elapsed = time.perf_counter() - started
    if not math.isfinite(value):
        raise ContenderError(f"its result is {value}, so that its time means nothing")
    return elapsed


def _shape_of(batch: TimedBatch) -> tuple[int, ...]:
    return (*batch.arrays.features.shape, batch.arrays.labels.shape[1])


def measure_gemm(contender: Contender) -> float:
    """The fastest of many large matrix products in the contender's own framework, in GFLOP/s.

    There are many because a short one is only as fast as the machine when each thread has a processor of its own from
    beginning to end.
    """
    return max(_measure_product(contender, size) for size in GEMM_SIZES)


def _measure_product(contender: Contender, size: int) -> float:
    contender.multiply(size)
    seconds: list[float] = []
    while sum(seconds) < MULTIPLYING_SECONDS:
        started = time.perf_counter()
        contender.multiply(size)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e9
