"""The two scripts: what they print, what they write, how they end."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2.commands import export_weights, import_checkpoint
from mindaudio_ds2.machine import runtime
from tests.importers import foreign
from tests.importers.foreign import DEEPSPEECH_PYTORCH, MINDSPORE

pytest.importorskip("torch", reason="PyTorch is an extra")
pytestmark = pytest.mark.usefixtures("mindspore_cpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a script in this process, where MindSpore runs already; gives its exit status, output and errors."""
    monkeypatch.setattr(runtime, "start", lambda *arguments: None)

    def call(script: Any, *arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["script.py", *map(str, arguments)])
        status: Any = 0
        try:
            script.main()
        except SystemExit as ended:
            status = ended.code
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


def test_a_file_is_imported_and_what_was_assumed_is_said(run: Any, tmp_path: Path) -> None:
    from tests.importers import ours

    source, output = ours.write(tmp_path, DEEPSPEECH_PYTORCH[1]), tmp_path / "runs" / "ours.ckpt"
    status, out, err = run(import_checkpoint, source, output)
    assert (status, err) == (0, "")
    assert "2 lstm layers of 5, forward, 4 frames of lookahead" in out
    assert out.count("assumed, since the file does not tell") == 5  # alphabet, and four values of the features
    assert "left out: 4 entries" in out
    assert f"train.py -c {output.with_suffix('.yaml')} --pre_trained_model_path {output}" in out
    assert sorted(path.name for path in output.parent.iterdir()) == ["ours.ckpt", "ours.yaml"]


def test_options_are_heeded(run: Any, tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from tests.importers import ours

    labels = [*foreign.LETTERS.lower(), "'", " ", "_"]
    (tmp_path / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    options = ["--format", "mindaudio", "--alphabet", tmp_path / "labels.json", "--window", "hamming"]
    options += ["--sample_rate", "8000", "--window_seconds", "0.04", "--hop_seconds", "0.02"]
    status, out, _ = run(import_checkpoint, ours.write(tmp_path, MINDSPORE), tmp_path / "ours.ckpt", *options)
    assert status == 0
    assert "assumed" not in out
    config = load_checkpoint(tmp_path / "ours.ckpt").config
    assert (config.text.characters, config.text.blank) == ("abcdefghijklmnopqrstuvwxyz' ", "last")
    features = config.features
    assert (features.sample_rate_hz, features.window, features.fft_size) == (8000, "hamming", 320)
    assert (features.window_seconds, features.hop_seconds) == (0.04, 0.02)


def test_errors_are_one_message_and_status_2(run: Any, tmp_path: Path) -> None:
    from tests.importers import ours

    source = ours.write(tmp_path, MINDSPORE)
    status, out, err = run(import_checkpoint, source, tmp_path / "ours.ckpt")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {source}")
    assert "--format" in err
    assert not (tmp_path / "ours.ckpt").exists()
    status, _, err = run(export_weights, source, tmp_path / "back.ckpt", "--format", "mindaudio")
    assert status == 2
    assert "not written by this package" in err


def test_weights_are_exported_with_the_settings_to_make_over_there(run: Any, tmp_path: Path) -> None:
    from tests.importers import ours

    ours.run_import(ours.write(tmp_path, DEEPSPEECH_PYTORCH[0]))
    options = [tmp_path / "ours.ckpt", tmp_path / "back.pth", "--format", "deepspeech.pytorch"]
    status, out, err = run(export_weights, *options)
    assert (status, err) == (0, "")
    assert "hidden_size 5, hidden_layers 2, rnn_type lstm, sample_rate 16000, window hamming" in out
    assert (tmp_path / "back.labels.json").is_file()
