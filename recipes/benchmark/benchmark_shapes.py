#!/usr/bin/env python3
"""Measure open against static shapes: how long compiling takes, and how fast training steps are.

    python recipes/benchmark/benchmark_shapes.py -c hparams/an4.yaml

Both contenders train the same network on the same batches, in turn, in one process: random features of the training
manifest's durations, as benchmark.py has them. `open` is compiled once for all shapes. `static` compiles for
every new shape; its batches are padded up to the bucket's edge and to whole tens of labels, so that there are few. One
line for each goes to recipes/benchmark/results.jsonl, and the tables in the README there are written anew.
"""

import dataclasses
import datetime
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

import numpy as np
from tqdm import tqdm

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import parse_command_line
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.text.tokenizer import Tokenizer
from recipes.benchmark import tables
from recipes.benchmark.case import Case, ContenderError, make_batches
from recipes.benchmark.command import FOLDER, ROOT, name_network
from recipes.benchmark.contender import Contender
from recipes.benchmark.others import OthersClock

NUM_LABELS = 10  # static batches have a multiple of it


def add_options(parser: Any) -> None:
    """The script's own options."""
    parser.add_argument("--num_steps", type=int, default=30, help="steps of each contender (count)")
    parser.add_argument("--results", default=str(FOLDER), help="folder of results.jsonl and README.md (path)")


def pad_to_bucket(batch: Batch, config: Config) -> Batch:
    """The same batch with features up to its bucket's edge and labels up to a multiple of NUM_LABELS."""
    num_frames, num_labels = batch.features.shape[1], batch.labels.shape[1]
    edges = [config.features.num_frames(seconds) for seconds in config.batching.bucket_edges_seconds]
    num_missing = min(edge for edge in edges if edge >= num_frames) - num_frames
    return dataclasses.replace(
        batch,
        features=np.pad(batch.features, ((0, 0), (0, num_missing), (0, 0))),
        labels=np.pad(
            batch.labels, ((0, 0), (0, -num_labels % NUM_LABELS)), constant_values=Tokenizer(config.text).blank_id
        ),
    )


@dataclass
class Account:
    """What a contender's steps have cost: those that compiled, and the others.

    Attributes:
        contender: takes the batches.
        shapes: of the batches so far.
        first_seconds: of steps that compiled.
        step_seconds: of all other steps.
        audio_seconds: in those others.
    """

    contender: Contender
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    first_seconds: float = 0.0
    step_seconds: float = 0.0
    audio_seconds: float = 0.0

    def take(self, batch: Batch, audio_seconds: float) -> None:
        """Let the contender take a batch with so much audio in it."""
        shape = (*batch.features.shape, batch.labels.shape[1])
        started = time.perf_counter()
        self.contender.take(batch)
        elapsed = time.perf_counter() - started
        if shape in self.shapes or (self.shapes and not self.contender.compiles_each_shape):
            self.step_seconds += elapsed
            self.audio_seconds += audio_seconds
        else:
            self.first_seconds += elapsed
        self.shapes.add(shape)

    def summarize(self) -> dict[str, Any]:
        """Fields of a line of results.jsonl.

        Raises:
            ContenderError: each step was the first of its shape.
        """
        if not self.step_seconds:
            raise ContenderError("every step met a new shape, so that all compiled; raise --num_steps")
        return {
            "num_shapes": len(self.shapes),
            "seconds_on_new_shapes": round(self.first_seconds, 2),
            "audio_seconds_per_second": round(self.audio_seconds / self.step_seconds, 2),
        }


def measure(config: Config, num_steps: int, accounts: dict[str, Account]) -> None:
    """Let `open` and `static` take the same batches in turn."""
    batches = make_batches(config, Case("train", 0, 0.0, config.data.train_manifest, num_steps))
    for i in tqdm(range(num_steps), unit="step"):
        batch = batches[i % len(batches)]
        for name, account in accounts.items() if i % 2 else reversed(accounts.items()):
            arrays = pad_to_bucket(batch.arrays, config) if name == "static" else batch.arrays
            account.take(arrays, batch.audio_seconds)


@exit_on_error
def main() -> None:
    """Parse the command line, measure, keep, show."""
    config, options = parse_command_line(__doc__ or "", sys.argv[1:], add_options, ROOT / "hparams" / "an4.yaml")
    assert config is not None
    backend = runtime.start("CPU", config.seed, config.ops.native)
    from recipes.benchmark.ours import Ours

    accounts = {
        "open": Account(Ours(config, "train", backend)),
        "static": Account(Ours(config, "train", backend, is_static=True)),
    }
    others = OthersClock()
    measure(config, options.num_steps, accounts)
    environment = runtime.describe_environment()
    lines = [
        {
            "date": datetime.date.today().isoformat(),
            **{key: environment[key] for key in ("commit", "dirty", "cpu", "mindspore_version")},
            "others_share": others.read_share(),
            "contender": name,
            "case": "training step, open against static shapes",
            "network": name_network(config, str(options.config)),
            "batch": "as planned",
            "kernels": "native" if backend.kernels else "stock",
            **account.summarize(),
        }
        for name, account in accounts.items()
    ]
    tables.keep(Path(options.results), lines)
    print(tables.make_shapes_table(lines))


if __name__ == "__main__":
    main()
