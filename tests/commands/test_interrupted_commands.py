"""`build_lm` and `tune`, stopped or killed at any moment, leave nothing half-written, and the next run works."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mindaudio_ds2.commands import build_lm, tune
from mindaudio_ds2.decoding.choice import load_choice
from mindaudio_ds2.decoding.language_model import LanguageModel, write_language_model
from mindaudio_ds2.decoding.ngram_estimate import estimate
from mindaudio_ds2.decoding.tuning import PRIORS
from mindaudio_ds2.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
LINES = ["THE CAT SAT ON THE MAT", "A DOG SAT ON A MAT", "THE MAT IS WHERE THE CAT HAS SAT"] * 20

# A command in a process of its own, which a signal meets at a known moment.
DRIVER = """
import os, signal, sys
sys.path.insert(0, {root!r})
from mindaudio_ds2 import files
from mindaudio_ds2.commands import {command}
from {module} import {owner}

def meet(*args, **kwargs):
    if {about!r} in repr(args):
        os.kill(os.getpid(), signal.{signal_name})
    return before(*args, **kwargs)

before = {moment}
{moment} = meet
sys.argv = ["mindaudio-ds2 {command}", *{arguments!r}]
{command}.main()
"""


def run_and_meet(signal_name: str, moment: tuple[str, ...], command: str, *arguments: str) -> tuple[int, str]:
    """The exit status and what was said. A moment is a module, a call of it, and perhaps what its arguments name."""
    module, call, about = (*moment, "")[:3]
    script = DRIVER.format(
        root=str(ROOT),
        command=command,
        module=module,
        owner=call.partition(".")[0],
        moment=call,
        about=about,
        signal_name=signal_name,
        arguments=arguments,
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


COUNTING = ("mindaudio_ds2.commands", "build_lm.encode_sentences")
JUDGING = ("mindaudio_ds2.commands", "build_lm._judge")
RENAMING = ("mindaudio_ds2", "files.os.replace", "en.lm")
TRYING = ("mindaudio_ds2.commands", "tune.search")
STORING = ("mindaudio_ds2", "files.os.replace", "decoder.json")


@pytest.mark.parametrize(
    ("signal_name", "moment"),
    [("SIGINT", RENAMING), ("SIGTERM", COUNTING), ("SIGTERM", JUDGING), ("SIGTERM", RENAMING), ("SIGKILL", RENAMING)],
)
def test_an_interrupted_build_leaves_the_old_model_and_the_next_one_works(
    signal_name: str, moment: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("\n".join(LINES))
    output = tmp_path / "en.lm"
    output.write_text("old")
    arguments = [str(tmp_path / "text.txt"), "--output", str(output)]
    status, said = run_and_meet(signal_name, moment, "build_lm", *arguments)
    expected = 130 if signal_name == "SIGINT" else -getattr(signal, signal_name)
    assert (status, "Traceback" in said) == (expected, False), said
    assert output.read_text() == "old"
    assert len(list(tmp_path.glob(".partial-*"))) == (signal_name == "SIGKILL")
    monkeypatch.setattr(sys, "argv", ["build_lm", *arguments])
    build_lm.main()
    LanguageModel(output).verify()
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "en.lm"}


def test_interrupted_tuning_leaves_the_old_decoder_and_the_next_one_works(
    corpus: Path,
    learned_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    tables = estimate(["AB DC", "BAC", "C A B"] * 9, 2)
    write_language_model(tmp_path / "en.lm", tables, {}, scores_labels=False)
    output = tmp_path / "decoder.json"
    output.write_text("old")
    arguments = [str(learned_run / "last.ckpt"), str(corpus / "dev.jsonl"), "--lm", str(tmp_path / "en.lm")]
    arguments += ["--output", str(output), "--beam_width", "5"]
    for signal_name, moment in (("SIGINT", TRYING), ("SIGTERM", STORING), ("SIGKILL", STORING)):
        status, said = run_and_meet(signal_name, moment, "tune", *arguments)
        assert status in (130, -signal.SIGTERM, -signal.SIGKILL), said
        assert "Traceback" not in said, said
        assert output.read_text() == "old"
        assert len(list(tmp_path.glob(".partial-*"))) == (signal_name == "SIGKILL")
    monkeypatch.setattr(sys, "argv", ["tune", *arguments])
    tune.main()
    choice, found = load_choice(output), json.loads(output.read_text())["found"]
    assert choice.model_path == tmp_path / "en.lm"
    assert choice.label_prior is not None
    assert choice.label_prior.labels == Tokenizer(load_checkpoint(learned_run / "last.ckpt").config.text).symbols
    assert found["columns"] == ["weight", "bonus", "unknown", "prior_weight", "word_errors"]
    assert {row[3] for row in found["trials"]} >= set(PRIORS)
    assert found["trials"][0][3] == choice.settings.prior_weight
    assert "the same without the label prior (prior 0): WER" in capsys.readouterr().out
    assert not list(tmp_path.glob(".partial-*"))
