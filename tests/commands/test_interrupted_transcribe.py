"""Ctrl-C or SIGTERM in a long call of `transcribe` keeps what was finished, and says what that is."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mindaudio_ds2.commands import transcribe
from mindaudio_ds2.transcribe import Recognizer
from tests.tiny_corpus import RATE_HZ, speak
from tests.tone_network import ToneNetwork


class MetNetwork(ToneNetwork):
    """A signal comes while the second batch is recognised; a recording is a batch."""

    def __init__(self, number: signal.Signals | None) -> None:
        super().__init__()
        self.number = number

    def plan(self, durations_seconds: Any) -> Any:
        return [batch for seconds in enumerate(durations_seconds) for batch in self._plan_one(*seconds)]

    def _plan_one(self, place: int, seconds: float) -> Any:
        from dataclasses import replace

        return [replace(batch, indices=(place,)) for batch in super().plan([seconds])]

    def recognize(self, waveforms: Any, shape: Any = None) -> Any:
        if self.number and self.num_batches == 1:
            os.kill(os.getpid(), self.number)
        return super().recognize(waveforms, shape)


def run(monkeypatch: pytest.MonkeyPatch, number: signal.Signals | None, *arguments: object) -> int:
    recognizer = Recognizer(MetNetwork(number))
    monkeypatch.setattr(Recognizer, "load", lambda *_: recognizer)
    monkeypatch.setattr(sys, "argv", ["transcribe", *map(str, arguments)])
    try:
        transcribe.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "s").mkdir()
    for name in ("CAB", "BAD CAB", "BAD CAB DAD"):
        soundfile.write(tmp_path / "s" / f"{name}.wav", speak(name, seed=1), RATE_HZ)
    return tmp_path / "s"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_finished_is_kept_and_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sounds: Path,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    statuses = (128 + number, 128 + signal.SIGTERM)  # once MindSpore has run, Ctrl-C arrives as SIGTERM
    assert run(monkeypatch, number, "--output_dir", tmp_path / "o", sounds) in statuses
    assert [path.read_text() for path in (tmp_path / "o").iterdir()] == ["CAB\n"]
    assert "stopped: 1 of 3 transcripts are in" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_would_have_been_kept_in_a_folder_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sounds: Path, tmp_path: Path
) -> None:
    for options in ((), ("--output", tmp_path / "all.txt")):
        assert run(monkeypatch, signal.SIGTERM, *options, sounds) == 143
        said = capsys.readouterr()
        assert "stopped: nothing is written; with --output_dir" in said.err
        assert said.out == ""
    assert not (tmp_path / "all.txt").exists()


def test_without_a_signal_all_are_written(monkeypatch: pytest.MonkeyPatch, sounds: Path, tmp_path: Path) -> None:
    assert run(monkeypatch, None, "--output_dir", tmp_path / "o", sounds) == 0
    written = {path.stem: path.read_text() for path in (tmp_path / "o").iterdir()}
    assert written == {name: f"{name}\n" for name in ("CAB", "BAD CAB", "BAD CAB DAD")}


def test_an_interrupted_folder_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sounds: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "o"
    assert run(monkeypatch, signal.SIGTERM, "--output_dir", folder, sounds) == 143
    assert "--resume makes the others" in capsys.readouterr().err
    assert run(monkeypatch, None, "--output_dir", folder, sounds) == 2
    assert "keep it with --resume" in capsys.readouterr().err
    (first,) = folder.iterdir()
    first.write_text("MENDED BY HAND")
    assert run(monkeypatch, None, "--resume", "--output_dir", folder, sounds) == 0
    assert "1 of 3 transcripts are in" in capsys.readouterr().err
    said = {path.name: path.read_text() for path in folder.iterdir()}
    assert said == {f"{name}.txt": f"{name}\n" for name in ("CAB", "BAD CAB", "BAD CAB DAD")} | {
        first.name: "MENDED BY HAND"
    }
    assert run(monkeypatch, None, "--resume", "--output_dir", folder, sounds) == 0
    assert run(monkeypatch, None, "--resume", sounds) == 2
    assert "name it with --output_dir" in capsys.readouterr().err
