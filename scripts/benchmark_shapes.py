#!/usr/bin/env python3
"""Measure open against static shapes: how long compiling takes, and how fast training steps are.

    python scripts/benchmark_shapes.py -c hparams/an4.yaml

Both contenders train the same network on the same batches of random features, in turn, in one run. `open` is compiled
once for all shapes. `static` compiles for every new shape; its batches are padded up to the bucket's edge and to whole
tens of labels, so that there are few of them. One line a contender goes to recipes/benchmark/results.jsonl.
"""

import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import runtime
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import parse_command_line
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.files import write_text

RESULTS = Path(__file__).parent.parent / "recipes" / "benchmark" / "results.jsonl"
CHARACTERS_PER_SECOND = 10


def add_options(parser: Any) -> None:
    """The script's own options."""
    parser.add_argument("--num_steps", type=int, default=40, help="steps of each contender (count)")


class Contender:
    """One way to compile the training step, and what it has cost so far."""

    def __init__(self, name: str, config: Config) -> None:
        from mindaudio_ds2.checkpoint import build_network
        from mindaudio_ds2.text.alphabet import Alphabet
        from mindaudio_ds2.training.loss import CTCLoss
        from mindaudio_ds2.training.optimizer import Adam
        from mindaudio_ds2.training.step import TrainStep

        self.name = name
        self.config = config
        network = build_network(config)
        optimizer = Adam(network.trainable_params(), config.optimizer)
        loss = CTCLoss(Alphabet(config.text).blank_id)
        self.step = TrainStep(network, loss, optimizer, config.optimizer.max_gradient_norm)
        self.step.set_train(True)
        if name == "open":
            self.step.open_shapes(config.features.num_bins)
        self.shapes: set[tuple[int, ...]] = set()
        self.first_seconds = self.step_seconds = self.audio_seconds = 0.0

    def take(self, durations: NDArray[np.float64], generator: np.random.Generator) -> None:
        """Train on one batch of random features of these durations (seconds); a step on a new shape counts apart."""
        from mindspore import Tensor

        features, lengths, labels, label_lengths = self._make_batch(durations, generator)
        shape = (*features.shape, labels.shape[1])
        started = time.monotonic()
        outputs = self.step(
            Tensor(features), Tensor(lengths), Tensor(labels), Tensor(label_lengths), Tensor(np.float32(1e-4))
        )
        outputs[0].asnumpy()
        elapsed = time.monotonic() - started
        is_compiled = bool(self.shapes) if self.name == "open" else shape in self.shapes
        self.shapes.add(shape)
        if is_compiled:
            self.step_seconds += elapsed
            self.audio_seconds += float(durations.sum())
        else:
            self.first_seconds += elapsed

    def _make_batch(self, durations: NDArray[np.float64], generator: np.random.Generator) -> tuple[NDArray[Any], ...]:
        lengths = np.array([self.config.features.num_frames(float(d)) for d in durations], dtype=np.int32)
        label_lengths = np.maximum(1, durations * CHARACTERS_PER_SECOND / 2).astype(np.int32)
        num_frames, num_labels = int(lengths.max()), int(label_lengths.max())
        if self.name == "static":
            edges = self.config.batching.bucket_edges_seconds
            edge = next(edge for edge in edges if edge >= durations.max())
            num_frames = self.config.features.num_frames(edge)
            num_labels = -(-num_labels // 10) * 10
        features = generator.standard_normal(
            (len(durations), num_frames, self.config.features.num_bins), dtype=np.float32
        )
        labels = generator.integers(1, 28, (len(durations), num_labels)).astype(np.int32)
        return features, lengths, labels, label_lengths


def run(config: Config, num_steps: int) -> list[dict[str, Any]]:
    """Let both contenders take the same steps in turn; one line of results for each."""
    from mindaudio_ds2.batching.plan import plan_epoch
    from mindaudio_ds2.corpus.manifest import read_manifest

    durations = np.array([utterance.duration_seconds for utterance in read_manifest(config.data.train_manifest)])
    plan = plan_epoch(durations, config.batching, epoch=1, seed=config.seed, num_frames=config.features.num_frames)
    contenders = [Contender("open", config), Contender("static", config)]
    generator = np.random.default_rng(config.seed)
    for i in range(num_steps):
        batch = plan.batches[i % len(plan.batches)]
        for contender in contenders if i % 2 else reversed(contenders):
            contender.take(durations[list(batch.indices)], generator)
        print(f"step {i + 1}/{num_steps}", end="\r", file=sys.stderr)
    environment = runtime.describe_environment()
    return [
        {
            "date": datetime.date.today().isoformat(),
            "commit": environment["commit"],
            "dirty": environment["dirty"],
            "cpu": environment["cpu"],
            "contender": contender.name,
            "case": "training step, open against static shapes",
            "network": f"{config.model.rnn_num_layers}x{config.model.rnn_hidden_size} {config.model.rnn_type}",
            "batch": config.batching.max_batch_utterances,
            "num_shapes": len(contender.shapes),
            "seconds_on_new_shapes": round(contender.first_seconds, 2),
            "audio_seconds_per_second": round(contender.audio_seconds / contender.step_seconds, 2),
        }
        for contender in contenders
    ]


@exit_on_error
def main() -> None:
    """Parse the command line, measure, append, show."""
    default = Path(__file__).parent.parent / "hparams" / "an4.yaml"
    config, options = parse_command_line(__doc__ or "", sys.argv[1:], add_options, default)
    assert config is not None
    runtime.start(config.device_target, config.seed)
    lines = [json.dumps(line) for line in run(config, options.num_steps)]
    old = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    write_text(RESULTS, "\n".join([*old, *lines]) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
