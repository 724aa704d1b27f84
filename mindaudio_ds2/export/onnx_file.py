"""A trained network as an ONNX file, loaded again and compared with its checkpoint before it stands there."""

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.checkpoint import Checkpoint, load_checkpoint, restore_network
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.opening import open_manifest, require_named_manifest
from mindaudio_ds2.errors import CheckpointError, ManifestError
from mindaudio_ds2.export.comparison import (
    Recognise,
    count_manifest_errors,
    find_largest_difference,
    make_trial_waveforms,
    recognise_with_mindspore,
    recognise_with_onnx,
)
from mindaudio_ds2.export.destination import require_exportable
from mindaudio_ds2.export.onnx_model import OnnxForm, build_onnx, find_scores, write_vocabulary
from mindaudio_ds2.files import removed_by_sigterm, write_atomically, write_text
from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.model.deepspeech2 import Recognizer
from mindaudio_ds2.text.tokenizer import Tokenizer

TOLERANCE = 1e-4
VOCABULARY = "vocab.txt"
MOST_TRIAL_RECORDINGS = 8


@dataclass(frozen=True)
class WrittenOnnx:
    """An exported file and how it compares.

    Attributes:
        path: of the file.
        num_bytes: its size.
        largest_difference: of log-probabilities, from the checkpoint's.
        full_wer: on the manifest with float32 weights; NaN where it was not scored.
        wer: on the manifest with the file's weights; NaN where it was not scored.
    """

    path: Path
    num_bytes: int
    largest_difference: float
    full_wer: float = math.nan
    wer: float = math.nan


def export_onnx(
    checkpoint_path: str | Path,
    output_dir: str | Path,
    form: OnnxForm,
    manifest: str | None = None,
    max_wer_loss: float = 0.02,
    backend: Backend = STOCK,
) -> WrittenOnnx:
    """Write an ONNX file and `vocab.txt`.

    With float32 weights the log-probabilities of trial sounds, and of some recordings of the manifest, must be the
    checkpoint's to 1e-4. With smaller weights the word error rate on the manifest must not rise by more than a share.

    Args:
        checkpoint_path: a checkpoint of ours.
        output_dir: made if need be.
        form: which file.
        manifest: None takes the checkpoint's `data.dev_manifest`, where that is there; smaller weights need one.
        max_wer_loss: largest rise of the word error rate, as a share of that with float32 weights.
        backend: how this process computes, from `runtime.start`.

    Raises:
        CheckpointError: the checkpoint cannot be used, or the file differs too much; nothing is left then.
        ManifestError, AudioError: the manifest cannot be scored.
        OutputError: the folder cannot be written.
    """
    checkpoint_path, output_dir = Path(checkpoint_path), Path(output_dir)
    checkpoint = load_checkpoint(checkpoint_path)
    config, scores = checkpoint.config, find_scores(checkpoint_path)
    utterances = _read_utterances(checkpoint, checkpoint_path, manifest, form)
    require_exportable(output_dir, [form.file_name, VOCABULARY], [checkpoint_path, manifest])
    model = build_onnx(checkpoint, form, scores)
    exact = _Exact(checkpoint, str(checkpoint_path), utterances, backend)
    written = WrittenOnnx(output_dir / form.file_name, 0, math.nan)

    def write(partial: Path) -> None:
        nonlocal written
        onnx.save(model, partial)
        compared, description = recognise_with_onnx(partial, form.is_stream)
        difference = exact.compare(compared)
        written = replace(written, num_bytes=partial.stat().st_size, largest_difference=difference)
        if form.weights == "fp32":
            if not difference <= TOLERANCE:
                raise CheckpointError(
                    f"the exported file differs from the network by {difference:.1e}, more than {TOLERANCE:.0e}; "
                    "nothing was written"
                )
            return
        full_model = build_onnx(checkpoint, replace(form, weights="fp32"), scores)
        with tempfile.TemporaryDirectory() as folder, removed_by_sigterm(Path(folder)):
            onnx.save(full_model, Path(folder) / "full.onnx")
            full, _ = recognise_with_onnx(Path(folder) / "full.onnx", form.is_stream)
        full_wer = count_manifest_errors(full, utterances, description, "fp32").wer
        wer = count_manifest_errors(compared, utterances, description, form.weights).wer
        written = replace(written, full_wer=full_wer, wer=wer)
        if not wer <= full_wer * (1 + max_wer_loss):
            raise CheckpointError(
                f"{form.weights} weights raise the word error rate from {100 * full_wer:.2f} to {100 * wer:.2f} %, by "
                f"more than a share of {max_wer_loss:g}; nothing was written. Raise --max_wer_loss or keep fp32"
            )

    write_atomically(written.path, write)
    write_text(output_dir / VOCABULARY, write_vocabulary(Tokenizer(config.text)))
    return written


class _Exact:
    """The checkpoint's own network, and the sounds that it is asked about."""

    def __init__(self, checkpoint: Checkpoint, source: str, utterances: list[Utterance], backend: Backend) -> None:
        features = checkpoint.config.features
        network = restore_network(checkpoint, source, backend)
        self._recognise = recognise_with_mindspore(Recognizer(network).prepare(features.num_bins), features)
        spread = utterances[:: max(1, len(utterances) // MOST_TRIAL_RECORDINGS)][:MOST_TRIAL_RECORDINGS]
        recordings = [read_audio(utterance.audio_path, features.sample_rate_hz) for utterance in spread]
        self._waveforms = [*make_trial_waveforms(features), *recordings]

    def compare(self, other: Recognise) -> float:
        return find_largest_difference(self._recognise, other, self._waveforms)


def _read_utterances(
    checkpoint: Checkpoint, checkpoint_path: Path, manifest: str | None, form: OnnxForm
) -> list[Utterance]:
    path = manifest or checkpoint.config.data.dev_manifest
    if manifest is None:
        try:
            require_named_manifest(checkpoint_path, path)
        except ManifestError as error:
            if form.weights == "fp32":
                return []
            raise ManifestError(f"{form.weights} weights are compared by their word errors, but {error}") from None
    return open_manifest(path, checkpoint.config.data.root)
