"""A trained network as one file that MindSpore writes, MINDIR or AIR, with a description beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.checkpoint import Checkpoint, load_checkpoint, restore_network
from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.export.comparison import (
    LogProbs,
    Recognise,
    Waveform,
    find_largest_difference,
    make_trial_waveforms,
)
from mindaudio_ds2.export.destination import require_exportable
from mindaudio_ds2.export.waveform import WaveformRecognizer
from mindaudio_ds2.files import write_atomically, write_text
from mindaudio_ds2.model.deepspeech2 import Recognizer, feature_signature
from mindaudio_ds2.models import CARD
from mindaudio_ds2.network_config import FeatureConfig
from mindaudio_ds2.text.tokenizer import Tokenizer

TOLERANCE = 1e-4
FIXED_SHAPE = (1, 5.0)  # utterances and seconds, where no others are asked for


@dataclass(frozen=True, slots=True)
class GraphForm:
    """What kind of file is wanted.

    Attributes:
        file_format: "MINDIR", or "AIR", which MindSpore writes on Ascend alone.
        input: "waveform", or "features" for a caller that computes them.
        fixed_shape: utterances of a batch and their longest duration (seconds); None leaves both open.
    """

    file_format: str = "MINDIR"
    input: str = "features"
    fixed_shape: tuple[int, float] | None = None


def export(checkpoint_path: str | Path, output_dir: str | Path, form: GraphForm = GraphForm()) -> dict[str, Any]:
    """Write `model.mindir` or `model.air`, and `model.json`; a MINDIR after comparing it with the network.

    The graph takes features (B, T, F) float32 or waveforms (B, L) float32, and lengths (B,) int32 in frames or samples;
    it gives log-probabilities (B, S, V) float32 and their lengths (B,) int32. Batch and time are open, unless they are
    asked to be fixed, or have to be: MindSpore's GRU is unrolled over time, and AIR knows no open shapes.

    Args:
        checkpoint_path: a checkpoint of ours.
        output_dir: made if need be.
        form: what kind of file.

    Returns:
        What `model.json` holds, with `path`, and `largest_difference` of the log-probabilities, which is None for AIR:
        MindSpore cannot load it again.

    Raises:
        CheckpointError: the checkpoint cannot be used, or the export differs.
        OutputError: the folder cannot be written.
    """
    output_dir, checkpoint = Path(output_dir), load_checkpoint(checkpoint_path)
    config = checkpoint.config
    file_name = f"model.{form.file_format.lower()}"
    require_exportable(output_dir, [file_name, CARD], [checkpoint_path])
    fixed = form.fixed_shape
    if fixed is None and (form.file_format == "AIR" or config.model.rnn_type != "lstm"):
        fixed = FIXED_SHAPE
    recognizer, graph = _build(checkpoint, str(checkpoint_path), form.input)
    inputs = list_inputs(config.features, form.input, fixed)
    graph.set_inputs(*inputs)
    difference: float | None = None

    def write(partial: Path) -> None:
        nonlocal difference
        ms.export(graph, *inputs, file_name=str(partial), file_format=form.file_format)
        partial.chmod(0o644)  # MindSpore writes it for its owner alone
        if form.file_format == "MINDIR":
            difference = _compare(recognizer, partial, config.features, form.input, fixed)

    path = output_dir / file_name
    write_atomically(path, write)
    shape = {"input": form.input, "fixed_shape": list(fixed) if fixed else None, "largest_difference": difference}
    description = {**describe(config), **shape}
    write_text(output_dir / CARD, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    return {**description, "path": str(path)}


def describe(config: Config) -> dict[str, Any]:
    """What a program needs to use an exported network: features, labels, blank, and seconds an output frame."""
    tokenizer = Tokenizer(config.text)
    return {
        "features": to_mapping(config.features),
        "labels": list(tokenizer.symbols),
        "blank_id": tokenizer.blank_id,
        "seconds_per_output_frame": config.seconds_per_output_frame,
    }


def list_inputs(config: FeatureConfig, kind: str, fixed_shape: tuple[int, float] | None) -> tuple[Tensor, Tensor]:
    """What a graph is exported for: symbols of open dimensions, or tensors of a shape."""
    if fixed_shape is None:
        signature = feature_signature(config.num_bins)
        return (Tensor(shape=[None, None], dtype=ms.float32), signature[1]) if kind == "waveform" else signature
    batch, length = fixed_shape[0], _find_length(config, kind, fixed_shape[1])
    shape = (batch, length) if kind == "waveform" else (batch, length, config.num_bins)
    return Tensor(np.zeros(shape, np.float32)), Tensor(np.full(batch, length, np.int32))


def _find_length(config: FeatureConfig, kind: str, seconds: float) -> int:
    """Samples or frames of a duration."""
    return round(seconds * config.sample_rate_hz) if kind == "waveform" else config.num_frames(seconds)


def _build(checkpoint: Checkpoint, source: str, kind: str) -> tuple[Recognizer, nn.Cell]:
    """The network as it is compared with, and the same weights as they are exported."""
    networks = [Recognizer(restore_network(checkpoint, source)) for _ in range(2)]
    features = checkpoint.config.features
    graph = WaveformRecognizer(networks[1], features) if kind == "waveform" else networks[1]
    return networks[0].prepare(features.num_bins), graph.set_train(False)


def _compare(
    recognizer: Recognizer, path: Path, config: FeatureConfig, kind: str, fixed: tuple[int, float] | None
) -> float:
    """Largest difference of log-probabilities between the network and the file, over real frames of trial sounds."""
    loaded = nn.GraphCell(ms.load(str(path)))
    expected = _recognise_with(recognizer, config, "features", fixed)
    actual = _recognise_with(loaded, config, kind, fixed)
    waveforms = make_trial_waveforms(config)
    if fixed:
        waveforms = [waveform[: _find_length(config, "waveform", fixed[1])] for waveform in waveforms]
    largest = find_largest_difference(expected, actual, waveforms)
    if not largest <= TOLERANCE:
        raise CheckpointError(
            f"the exported graph differs from the network by {largest:.1e}, more than {TOLERANCE:.0e}; "
            "nothing was written"
        )
    return largest


def _recognise_with(graph: nn.Cell, config: FeatureConfig, kind: str, fixed: tuple[int, float] | None) -> Recognise:
    """A graph that takes features or waveforms, of open or of one fixed shape, for waveforms of any number."""

    def recognise(waveforms: Sequence[Waveform]) -> list[LogProbs]:
        whole = [w if kind == "waveform" else compute_features(w, config) for w in waveforms]
        rows = fixed[0] if fixed else len(whole)
        found = []
        for start in range(0, len(whole), rows):
            part = whole[start : start + rows]
            length = _find_length(config, kind, fixed[1]) if fixed else max(map(len, part))
            padded = np.zeros((rows, length, *part[0].shape[1:]), np.float32)
            lengths = np.ones(rows, np.int32)  # rows beyond the last only fill up the shape
            for row, values in enumerate(part):
                padded[row, : len(values)], lengths[row] = values, len(values)
            outputs = [output.asnumpy() for output in graph(Tensor(padded), Tensor(lengths))]
            found += [log_probs[:size] for log_probs, size in zip(*outputs, strict=True)][: len(part)]
        return found

    return recognise
