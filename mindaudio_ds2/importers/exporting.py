"""From a checkpoint of ours to a file that another project loads."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindaudio_ds2.checkpoint import load_checkpoint
from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.importers.labels import from_text_config
from mindaudio_ds2.importers.layouts import LAYOUTS, Layout, find_differences
from mindaudio_ds2.importers.mindspore_files import write_mindspore_file
from mindaudio_ds2.importers.torch_files import write_torch_file
from mindaudio_ds2.models import require_new_checkpoint

_LIGHTNING_VERSION = "1.7.0"  # what deepspeech.pytorch asks for; Lightning refuses files without a version


@dataclass(frozen=True)
class Exported:
    """What was written for another project.

    Attributes:
        project: whose names the file has.
        labels: the alphabet in the order of the file's outputs.
        labels_path: where it was written.
        config: of the checkpoint.
    """

    project: str
    labels: list[str]
    labels_path: Path
    config: Config


def export_weights(checkpoint_path: str | Path, output: str | Path, format_name: str) -> Exported:
    """Write the weights of one of our checkpoints with another project's names, and beside it their `labels.json`.

    MindAudio and the model zoo want the blank last: the rows of the output layer are put into that order.

    Args:
        checkpoint_path: ours.
        output: `.ckpt`, or for deepspeech.pytorch any name.
        format_name: a key of `LAYOUTS`.

    Raises:
        CheckpointError: the network or its features are not what the project computes; everything is listed.
        OutputError: a file cannot be written.
    """
    output, layout = Path(output), LAYOUTS[format_name]
    is_torch = format_name == "deepspeech.pytorch"
    if is_torch:
        require_writable(output, [checkpoint_path])
    else:
        require_new_checkpoint(output, checkpoint_path)
    checkpoint = load_checkpoint(checkpoint_path)
    config = checkpoint.config
    differences = find_differences(config.model, layout) + _find_feature_differences(config, format_name, layout)
    if differences:
        shown = "\n  ".join(differences)
        raise CheckpointError(f"{checkpoint_path} does not fit {layout.project}; nothing was written:\n  {shown}")
    labels, rows = from_text_config(config.text, config.text.blank if is_torch else "last")
    weights = dict(checkpoint.weights)
    weights["head.weight"] = weights["head.weight"][rows]
    if "lookahead.conv.weight" in weights:
        weights["lookahead.conv.weight"] = weights["lookahead.conv.weight"].squeeze(2)
    if layout.model["conv_bias"]:
        for i, num_channels in enumerate(config.model.conv_channels):
            weights.setdefault(f"convs.{i}.conv.bias", np.zeros(num_channels, np.float32))
    named = {layout.name_weight(name): array for name, array in weights.items()}
    if is_torch:
        write_torch_file(output, named, _describe(config, labels))
    else:
        write_mindspore_file(output, named)
    labels_path = output.with_suffix(".labels.json")
    write_text(labels_path, json.dumps(labels, ensure_ascii=False) + "\n")
    return Exported(layout.project, labels, labels_path, config)


def _find_feature_differences(config: Config, format_name: str, layout: Layout) -> list[str]:
    features, found = config.features, []
    if features.normalization != "utterance":
        found.append(f"features.normalization is {features.normalization!r}, {layout.project} has 'utterance'")
    if features.kind != "log_spectrogram":
        found.append(f"features.kind is {features.kind!r}, {layout.project} has 'log_spectrogram'")
    if features.fft_size != features.window_samples:
        found.append(
            f"features.fft_size is {features.fft_size}, {layout.project}'s is a window, {features.window_samples}"
        )
    if format_name == "mindaudio" and features.window != layout.window:
        found.append(f"features.window is {features.window!r}, {layout.project} computes with {layout.window!r} only")
    return found


def _describe(config: Config, labels: list[str]) -> dict[str, object]:
    """What stands beside the weights in a file of deepspeech.pytorch's trainer, in plain values."""
    features = config.features
    sound = {
        "sample_rate": features.sample_rate_hz,
        "window_size": features.window_seconds,
        "window_stride": features.hop_seconds,
        "window": features.window,
    }
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": _LIGHTNING_VERSION,
        "hyper_parameters": {"labels": labels, "spect_cfg": sound},
    }
