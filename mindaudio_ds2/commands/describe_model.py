#!/usr/bin/env python3
"""Describe a network: its layers with their shapes, weights and arithmetic, how far it sees, what training it means.

    mindaudio-ds2 describe_model -c hparams/an4.yaml
    mindaudio-ds2 describe_model -c hparams/an4.yaml --model.rnn_hidden_size 512 --model.conv_stride_time "[3, 1]"
    mindaudio-ds2 describe_model runs/an4/best.ckpt
    mindaudio-ds2 describe_model english

A YAML and an .onnx take no time; a checkpoint takes MindSpore's start.
"""

import dataclasses
from pathlib import Path
from typing import Any

from mindaudio_ds2 import models
from mindaudio_ds2.audio.normalization import LOOKAHEAD_SECONDS
from mindaudio_ds2.commands._command import Command, add_model_options, take_model
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import override, read_config
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.hparams import find_hparams
from mindaudio_ds2.model.arithmetic import (
    Layer,
    count_convolved_frames,
    count_lookahead_frames,
    describe_sizes,
    list_layers,
)
from mindaudio_ds2.portable.description import read_sizes
from mindaudio_ds2.portable.network import open_session
from mindaudio_ds2.reading import parse_json
from mindaudio_ds2.text.units import read_units

BENCHMARKS = Path(__file__).resolve().parents[2] / "recipes" / "benchmark" / "results.jsonl"
AUDIO_HOURS = 100
TRAINING_FACTOR = 3
"""Arithmetic of a training step over that of recognising: see `mindaudio_ds2/model/arithmetic.py`."""

BYTES_PER_WEIGHT = 4
NORMALIZATIONS = {
    "utterance": "features are normalised over the utterance",
    "speech": "features are normalised over the speech in the utterance",
    "corpus": f"features are normalised by the training set, and by the level up to {LOOKAHEAD_SECONDS} s after it",
}
HEADINGS = ("layer", "what it is", "output of 1 s", "parameters", "MiB", "GFLOP a second", "share")

LEAST_PRUNED_SHARE = 1e-3  # weights of 16 bits have some zeros that nobody pruned


def add_options(parser: Any) -> None:
    """The script's own options."""
    add_model_options(parser, "checkpoint, .onnx or name of a model")


def describe(config: Config) -> str:
    """A table of the layers and a line for each thing that concerns all of them."""
    layers = list_layers(config)
    return "\n".join([*make_table(layers, config), "", *describe_whole(layers, config)])


def make_table(layers: list[Layer], config: Config) -> list[str]:
    """The lines of a Markdown table whose columns stand below each other.

    "Output of 1 s" is C x F x S after a convolution, else H x S or V x S; the first row is the network's input, F x T.
    """
    num_frames = config.features.num_frames(1.0)
    total = sum(layer.gflop for layer in layers)
    rows = [HEADINGS, ("", config.features.kind, f"{config.features.num_bins} x {num_frames}", "", "", "", "")]
    strides = [*config.model.conv_stride_time, *[1] * len(layers)]
    for layer, stride in zip(layers, strides, strict=False):
        num_frames = (num_frames - 1) // stride + 1
        shape = " x ".join(map(str, (*layer.output_shape, num_frames)))
        rows.append((layer.name, layer.description, shape, *_list_figures([layer], total)))
    rows.append(("all", "", "", *_list_figures(layers, total)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        [
            cell.rjust(width) if i > 1 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    ruler = ["-" * (width - 1) + (":" if i > 1 else "-") for i, width in enumerate(widths)]
    return [f"| {' | '.join(cells)} |" for cells in (lines[0], ruler, *lines[1:])]


def _list_figures(layers: list[Layer], total_gflop: float) -> tuple[str, str, str, str]:
    gflop = sum(layer.gflop for layer in layers)
    num_parameters = sum(layer.num_parameters for layer in layers)
    return f"{num_parameters:,}", f"{_count_mebibytes(layers):.2f}", f"{gflop:.3f}", f"{gflop / total_gflop:.1%}"


def _count_mebibytes(layers: list[Layer]) -> float:
    return BYTES_PER_WEIGHT * sum(layer.num_parameters + layer.num_statistics for layer in layers) / 2**20


def describe_whole(layers: list[Layer], config: Config) -> list[str]:
    """Memory, frame rate, view and arithmetic of the network, one line each."""
    gflop = sum(layer.gflop for layer in layers)
    hop, window = config.features.hop_seconds, config.features.window_seconds
    convolved, lookahead = count_convolved_frames(config.model), count_lookahead_frames(config.model)
    rate = layers[-1].frames_per_second
    seen = "the whole utterance, in both directions"
    if lookahead is not None:
        seen = (
            f"all before it, and {lookahead * hop + window / 2:.3f} s after it ({lookahead} frames and half a window)"
        )
    hours = TRAINING_FACTOR * gflop * AUDIO_HOURS
    return [
        f"weights:       {_count_mebibytes(layers):.1f} MiB in float32, with the running statistics of the batch norms",
        f"output:        {rate:g} frames a second, {1000 / rate:g} ms each, {layers[-1].output_shape[0]} labels",
        f"convolutions:  see {convolved} frames, {(convolved - 1) * hop + window:.3f} s, around an output frame",
        f"output frame:  depends on {seen}; {NORMALIZATIONS[config.features.normalization]}",
        f"recognising:   {gflop:.3f} GFLOP a second of audio",
        f"training step: {TRAINING_FACTOR * gflop:.3f} GFLOP a second of audio; {AUDIO_HOURS} h of audio take "
        f"{hours / 100:.1f} h at 100 GFLOP/s",
        *describe_measured(config, BENCHMARKS),
    ]


def describe_measured(config: Config, results: Path) -> list[str]:
    """How long training took where `recipes/benchmark` has a network of these sizes; empty if nowhere.

    Args:
        config: the network.
        results: results.jsonl of the benchmark.
    """
    if not results.exists():
        return []
    rows = [parse_json(line) for line in results.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row.get("task") == "train" and row["contender"] == "ours-native"]
    rows = [row for row in rows if row["network"].endswith(f": {describe_sizes(config)}")]
    measured = [row for row in rows if "audio_seconds_per_second" in row]
    if not measured:
        return []
    best = max(measured, key=lambda row: float(row["audio_seconds_per_second"]))
    rate = best["audio_seconds_per_second"]
    return [
        f"measured:      {rate:.1f} hours of audio an hour on {best['cpu']} ({best['case']}, {best['date']}); "
        f"{AUDIO_HOURS} h of audio take {AUDIO_HOURS / rate:.1f} h"
    ]


def read_network(path: Path) -> tuple[Config, list[str]]:
    """The configuration that a network was trained with; of an ONNX file, which has features, text and model only, the
    rest is that of deepspeech2.yaml.

    Returns:
        The configuration, and lines about weights that are zero, if a checkpoint has any.

    Raises:
        CheckpointError: it cannot be used.
        DeviceError: an ONNX file, and onnxruntime is missing.
    """
    if path.suffix == ".onnx":
        description = open_session(path, 1)[1]
        model = read_sizes(description.network, str(path))
        base = read_config(find_hparams("deepspeech2"))
        return dataclasses.replace(base, features=description.features, text=description.text, model=model), []
    models.require_checkpoint(path)
    from mindaudio_ds2.machine import runtime

    runtime.start("CPU", 0)
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.training.pruning import measure_zeros

    checkpoint = load_checkpoint(path)
    zeros = measure_zeros(checkpoint.weights)
    if zeros < LEAST_PRUNED_SHARE:
        return checkpoint.config, []
    return checkpoint.config, [f"pruned:        {zeros:.1%} of recurrent and output matrices are zero"]


def describe_origin(path: Path) -> list[str]:
    """Lines of what stands on the card of a model; none for other files."""
    name = models.find_model(path)
    found = [model for model in models.list_models() if name and model.folder.samefile(path.parent)]
    return [
        f"{key.replace('_', ' ') + ':':<15}{model.card[key]}"
        for model in found
        for key in ("licence", "training_data")
        if model.card.get(key)
    ]


def run(config: Config | None, options: Any) -> None:
    """Describe, print."""
    named = take_model(options)
    if (config is None) == (named is None):
        raise ConfigError("name either a YAML with -c or a checkpoint, an .onnx or a model such as english")
    path, origin = Path(str(options.config)), list[str]()
    if named is not None:
        path = models.find_file(named, "recognition")
        trained, notes = read_network(path)
        config = override(trained, options.changes)
        origin = [*notes, *describe_origin(path)]
    assert config is not None, "one of both was named"
    config = dataclasses.replace(config, text=read_units(config.text))
    print("\n".join([f"{path}\n\n{describe(config)}", *origin]))


main = Command(__doc__, add_options, run, takes_keys=True)

if __name__ == "__main__":
    main()
