"""An ONNX file is transcribed where only onnxruntime, NumPy and soundfile can be imported."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.corpus.manifest import read_manifest
from tests.tiny_corpus import TRANSCRIPTS

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytestmark = pytest.mark.usefixtures("mindspore_cpu")

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import importlib.abc, sys

ALLOWED = {"mindaudio_ds2", "numpy", "onnxruntime", "soundfile"}
ALLOWED |= {"_soundfile", "_soundfile_data", "cffi", "_cffi_backend", "pycparser", "typing_extensions"}  # soundfile's
ALLOWED |= {"flatbuffers", "packaging", "google"}  # onnxruntime's

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        root = name.split(".")[0]
        if root not in ALLOWED and root not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {root!r} here", name=root)

sys.meta_path.insert(0, Refuse())
from mindaudio_ds2.commands.transcribe import main
main()
"""


@pytest.fixture(scope="module")
def model(learned_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mindaudio_ds2.export.onnx_file import export_onnx
    from mindaudio_ds2.export.onnx_model import OnnxForm

    folder = tmp_path_factory.mktemp("portable")
    shutil.copy(learned_run / "last.ckpt", folder / "best.ckpt")
    return export_onnx(folder / "best.ckpt", folder, OnnxForm()).path


def transcribe(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PROGRAM, "--pre_trained_model_path", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_recordings_become_text(model: Path, corpus: Path) -> None:
    paths = [utterance.audio_path for utterance in read_manifest(corpus / "test.jsonl")]
    done = transcribe(model, *paths)
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == list(TRANSCRIPTS["test"])


def test_another_rate_names_the_package_that_it_needs(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(4410), 44100)
    done = transcribe(model, tmp_path / "a.wav")
    assert done.returncode == 2
    assert "pip install soxr" in done.stderr


def test_onnx_asr_reads_the_file_and_the_vocabulary(model: Path, corpus: Path) -> None:
    """Its own types compute features of their own; a type that takes waveforms is five lines."""
    pytest.importorskip("onnx_asr", reason="onnx-asr is not installed")
    from onnx_asr.models.nemo import NemoConformerCtc

    class DeepSpeech2(NemoConformerCtc):
        _preprocessor_name = "identity"

        def _encode(self, waveforms: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
            inputs = {"waveforms": waveforms, "waveforms_lens": lengths}
            outputs: list[np.ndarray] = self._model.run(["logprobs", "logprobs_lens"], inputs)
            return outputs

    files = {"model": model, "vocab": model.with_name("vocab.txt")}
    recogniser = DeepSpeech2(files, lambda name: lambda *sound: sound, {"providers": ["CPUExecutionProvider"]})
    for utterance, text in zip(read_manifest(corpus / "test.jsonl"), TRANSCRIPTS["test"], strict=True):
        samples, _ = soundfile.read(utterance.audio_path, dtype="float32")
        (result,) = recogniser.recognize_batch(samples[None], np.array([len(samples)]))
        assert result.text == text
