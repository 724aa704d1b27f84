"""Every command line that the documentation shows is one that its program understands."""

import argparse
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonargparse
import pytest

from mindaudio_ds2.commands import train, transcribe  # now, because first imported below they would keep the stand-ins
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.machine import runtime

ROOT = Path(__file__).resolve().parents[2]


class ParsedError(Exception):
    """The command line was understood; what would follow is not done."""


COMMAND = re.compile(
    r"^\s*(?:\$ )?(?:python (?=\S+\.py\b)|(?=mindaudio-ds2))"
    r"((?:train|eval|transcribe|export)\.py|recipes/\S+\.py|mindaudio-ds2 \w+)\b(.*)$"
)
PATTERNS = (
    "*.md",
    "docs/*.md",
    "recipes/*.md",
    "recipes/*/*.md",
    "recipes/benchmark/*.py",
    "mindaudio_ds2/commands/*.py",
)
DOCUMENTS = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))


def find_commands() -> dict[str, str]:
    """Every documented command line of ours, with the first place where it stands."""
    commands: dict[str, str] = {}
    for path in DOCUMENTS:
        text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
        for line in text.splitlines():
            found = COMMAND.match(line)
            if found:
                commands.setdefault(found[1] + found[2], str(path.relative_to(ROOT)))
    return commands


@pytest.mark.parametrize(("command", "place"), find_commands().items())
def test_every_documented_command_is_understood(monkeypatch: pytest.MonkeyPatch, command: str, place: str) -> None:
    def stop(*_: Any) -> None:
        raise ParsedError

    def parse_and_stop(parse_args: Callable[..., Any]) -> Callable[..., Any]:
        def parse(*arguments: Any, **keywords: Any) -> None:
            parse_args(*arguments, **keywords)
            raise ParsedError

        return parse

    for made_by_another_command in ("data/mine/hparams.yaml", "runs/theirs/start.yaml"):
        command = command.replace(made_by_another_command, "hparams/an4.yaml")
    script, *arguments = shlex.split(command.partition(" > ")[0], comments=True)
    if script == "mindaudio-ds2":
        script = "mindaudio_ds2/__main__.py"
    assert (ROOT / script).exists(), f"{place} shows {command!r}, but there is no {script}"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    if "/" in script:
        for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
            monkeypatch.setattr(parser, "parse_args", parse_and_stop(parser.parse_args))
    monkeypatch.setattr(runtime, "start", stop)
    monkeypatch.setattr(train, "check_start", stop)
    monkeypatch.setattr("mindaudio_ds2.transcribe.find_recordings", stop)
    monkeypatch.setattr("mindaudio_ds2.models.find_file", stop)  # of a live stream, which has no files to find
    monkeypatch.setattr(transcribe, "find_recordings", stop)
    monkeypatch.setattr("mindaudio_ds2.decoding.choice.load_choice", lambda _: DecoderChoice("beam"))
    monkeypatch.setattr(sys, "path", [*sys.path])  # scripts put the repository's folder there
    with pytest.raises(ParsedError):
        runpy.run_path(script, run_name="__main__")


@pytest.mark.parametrize("verb", ["train", "eval", "transcribe", "export"])
def test_every_verb_shows_an_example_of_itself(verb: str) -> None:
    examples = (f"{verb}.py", f"mindaudio-ds2 {verb}")
    text = (ROOT / "mindaudio_ds2" / "commands" / f"{verb}.py").read_text(encoding="utf-8")
    assert any(found and (found[1] + found[2]).startswith(examples) for found in map(COMMAND.match, text.splitlines()))
