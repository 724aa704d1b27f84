#!/usr/bin/env python3
"""Measure how fast a configuration trains on this device: utterances a second, loading included.

    python recipes/benchmark/performance.py -c hparams/an4.yaml
    python recipes/benchmark/performance.py -c hparams/deepspeech2.yaml --device_target GPU --batching.num_workers 4

A part of the training manifest, as much as --num_steps updates take, is trained on for two epochs in a folder that is
thrown away. The first compiles what is to be compiled, and the second is measured, from its first update to its last.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from mindaudio_ds2.batching.plan import plan_epoch
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import parse_command_line
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.errors import ConfigError, TrainingError, exit_on_error
from mindaudio_ds2.machine import runtime

ROOT = Path(__file__).resolve().parents[2]


def add_options(parser: Any) -> None:
    """The script's own options."""
    parser.add_argument("--num_steps", type=int, default=20, help="updates measured (count)")


def choose(utterances: list[Utterance], config: Config, num_steps: int) -> list[Utterance]:
    """The utterances of so many updates, as an epoch would bring them together."""
    durations = [utterance.duration_seconds for utterance in utterances]
    num_frames = config.features.num_frames
    plan = plan_epoch(durations, config.batching, epoch=1, seed=config.seed, num_frames=num_frames)
    batches = plan.batches[: num_steps * config.batching.accumulation_steps]
    return [utterances[index] for batch in batches for index in batch.indices]


def measure(config: Config, num_steps: int) -> str:
    """Train, and say how fast that was.

    Raises:
        ConfigError, TrainingError: too few updates to measure, or of which all were skipped.
        ManifestError, AudioError, DeviceError, OutputError: see training.
    """
    if num_steps < 2:
        raise ConfigError(f"--num_steps {num_steps} leaves no time between two updates; choose at least 2")
    compute = config.precision.compute
    backend = runtime.start(config.device_target, config.seed, config.ops.native, precision=compute)
    from mindaudio_ds2.training.trainer import train
    from mindaudio_ds2.training.training_set import read_training_set

    chosen = choose(list(read_training_set(config).utterances), config, num_steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(folder / "train.jsonl", chosen)
        write_manifest(folder / "dev.jsonl", chosen[:1])
        data = dataclasses.replace(
            config.data, train_manifest=str(folder / "train.jsonl"), dev_manifest=str(folder / "dev.jsonl")
        )
        training = dataclasses.replace(
            config.training, epochs=2, early_stopping_epochs=0, average_best=0, frozen_norm_share=0.0
        )
        schedule = dataclasses.replace(config.schedule, name="constant", warmup_epochs=0.0)
        batching = dataclasses.replace(config.batching, sortagrad=False)
        short = dataclasses.replace(
            config, run_dir=str(folder / "run"), data=data, training=training, schedule=schedule, batching=batching
        )
        train(short, False, None, backend)
        return describe(folder / "run", short, chosen)


def describe(run: Path, config: Config, utterances: list[Utterance]) -> str:
    """The speed of the second epoch of a run, without its first update.

    Raises:
        TrainingError: too few of its updates were finite.
    """
    durations = [utterance.duration_seconds for utterance in utterances]
    plan = plan_epoch(durations, config.batching, epoch=1, seed=config.seed, num_frames=config.features.num_frames)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row for row in rows if row["kind"] == "step" and row["epoch"] == 2]
    if len(steps) < plan.num_updates or len(steps) < 2:
        raise TrainingError(f"only {len(steps)} of {plan.num_updates} updates were finite; see what was printed above")
    seconds = steps[-1]["train_seconds"] - steps[0]["train_seconds"]
    parts = config.batching.accumulation_steps
    counted = [index for batch in plan.batches[parts:] for index in batch.indices]
    audio_seconds = sum(durations[index] for index in counted)
    environment = runtime.describe_environment()
    return (
        f"{len(counted) / seconds:.2f} utterances a second, {audio_seconds / seconds:.1f} hours of audio an hour: "
        f"{plan.num_updates - 1} updates of {len(counted)} utterances in {seconds:.2f} s, "
        f"{config.precision.compute} on {config.device_target} ({environment['cpu']}), "
        f"{config.batching.num_workers} loading workers"
    )


@exit_on_error
def main() -> None:
    """Parse the command line, measure, print."""
    config, options = parse_command_line(
        __doc__ or "", sys.argv[1:], add_options, ROOT / "hparams" / "deepspeech2.yaml"
    )
    assert config is not None
    runtime.require_one_process("performance.py")
    print(measure(config, options.num_steps))


if __name__ == "__main__":
    main()
