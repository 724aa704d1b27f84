"""A trained network as one MINDIR file for any batch size and duration, with a description beside it."""

import json
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.files import write_atomically, write_text
from mindaudio_ds2.model.deepspeech2 import Recognizer, feature_signature
from mindaudio_ds2.text.tokenizer import Tokenizer

TOLERANCE = 1e-4
TRIAL_SHAPES = ((1, 60), (3, 257))  # (batch, frames)


def export(checkpoint_path: str | Path, output_dir: str | Path) -> dict[str, Any]:
    """Write `model.mindir` and `model.json`, after comparing the first with the network at several shapes.

    The graph takes features (B, T, F) float32 and lengths (B,) int32, and gives log-probabilities (B, S, V) float32 and
    their lengths (B,) int32. Batch and time are open.

    Args:
        checkpoint_path: a checkpoint of ours.
        output_dir: made if need be.

    Returns:
        What `model.json` holds, with `mindir` (path) and `largest_difference` of the log-probabilities.

    Raises:
        CheckpointError: the checkpoint cannot be used, its network cannot be exported, or the export differs.
        OutputError: the folder cannot be written.
    """
    output_dir = Path(output_dir)
    checkpoint = load_checkpoint(checkpoint_path)
    if checkpoint.config.model.rnn_type != "lstm":
        raise CheckpointError(f"{checkpoint_path}: MindSpore exports open shapes for lstm only, this network has gru")
    recognizer = Recognizer(restore_network(checkpoint, str(checkpoint_path)))
    num_bins = checkpoint.config.features.num_bins
    recognizer.set_train(False)
    recognizer.set_inputs(*feature_signature(num_bins))
    mindir = output_dir / "model.mindir"
    difference = 0.0

    def write(partial: Path) -> None:
        nonlocal difference
        ms.export(recognizer, *feature_signature(num_bins), file_name=str(partial), file_format="MINDIR")
        partial.chmod(0o644)  # MindSpore writes it for its owner alone
        difference = _compare(recognizer, partial, num_bins)

    write_atomically(mindir, write)
    description = {**describe(checkpoint.config), "largest_difference": difference}
    write_text(output_dir / "model.json", json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    return {**description, "mindir": str(mindir)}


def describe(config: Config) -> dict[str, Any]:
    """What a program needs to use an exported network: features, labels, blank, and seconds an output frame."""
    tokenizer = Tokenizer(config.text)
    return {
        "features": to_mapping(config.features),
        "labels": list(tokenizer.symbols),
        "blank_id": tokenizer.blank_id,
        "seconds_per_output_frame": config.seconds_per_output_frame,
    }


def _compare(recognizer: Recognizer, mindir: Path, num_bins: int) -> float:
    """Largest difference of log-probabilities between the network and the file, over real frames."""
    loaded = nn.GraphCell(ms.load(str(mindir)))
    generator = np.random.default_rng(0)
    largest = 0.0
    for batch, frames in TRIAL_SHAPES:
        features = Tensor(generator.standard_normal((batch, frames, num_bins)).astype(np.float32))
        lengths = Tensor(np.linspace(frames, frames // 2, batch).astype(np.int32))
        expected, expected_lengths = (output.asnumpy() for output in recognizer(features, lengths))
        actual, actual_lengths = (output.asnumpy() for output in loaded(features, lengths))
        if not np.array_equal(expected_lengths, actual_lengths):
            raise CheckpointError(f"the exported graph gives lengths {actual_lengths}, the network {expected_lengths}")
        for row, length in enumerate(expected_lengths):
            largest = max(largest, float(np.abs(expected[row, :length] - actual[row, :length]).max()))
    if largest > TOLERANCE:
        raise CheckpointError(
            f"the exported graph differs from the network by {largest:.1e}, more than {TOLERANCE:.0e}; "
            "nothing was written"
        )
    return largest
