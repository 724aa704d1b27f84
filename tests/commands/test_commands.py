"""What all commands have in common, and the shell completion that is made of it."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mindaudio_ds2.commands import list_commands
from mindaudio_ds2.commands._command import Command, read_words

NAMES = list(list_commands())
MAX_HELP_LINES = 60


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch) -> object:
    """Runs a command in this process and returns its exit status."""

    def run(name: str, *arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", [f"mindaudio-ds2 {name}", *arguments])
        try:
            importlib.import_module(f"mindaudio_ds2.commands.{name}").main()
        except SystemExit as ended:
            return ended.code
        return 0

    return run


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_options_and_a_run_behind_one_main(name: str) -> None:
    module = importlib.import_module(f"mindaudio_ds2.commands.{name}")
    assert isinstance(module.main, Command), "end the module with: main = Command(__doc__, add_options, run)"
    assert (module.main.add_options, module.main.run) == (module.add_options, module.run)
    assert module.main.text == module.__doc__
    assert not re.search(r"\S {4,}--", module.__doc__ or ""), "a backslash that ends a line of help is written twice"


@pytest.mark.skipif(not Path("/proc/self/task").exists() or os.cpu_count() == 1, reason="threads are counted in /proc")
def test_numpy_multiplies_on_one_thread() -> None:
    """OpenBLAS's other threads wait in a loop, on the cores that a training has work for."""
    multiply = "import os, numpy as np; a = np.ones((600, 600)); a @ a; print(len(os.listdir('/proc/self/task')))"
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", f"import mindaudio_ds2.commands\n{multiply}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"


def test_a_mistyped_command_or_section_is_named_with_what_was_meant(
    run_command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mindaudio_ds2.__main__ import main

    monkeypatch.setattr(sys, "argv", ["mindaudio-ds2", "trainn"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "error: there is no command 'trainn'; did you mean train?\n"
    assert callable(run_command)
    assert run_command("train", "--help", "nosuch") == 2
    assert "there is no section 'nosuch'; there are data, text, features" in capsys.readouterr().err
    assert run_command("train", "--help", "augmentaton") == 2
    assert "there is no section 'augmentaton'; did you mean augmentation?" in capsys.readouterr().err


def test_the_list_of_commands_survives_a_full_device() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mindaudio_ds2", "--help"], stdout=full, stderr=subprocess.PIPE, check=True
        )
    assert done.stderr == b""


@pytest.mark.parametrize("name", ["train", "transcribe"])
def test_an_option_of_another_project_is_answered_in_the_form_of_all_errors(
    name: str, run_command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(run_command)
    assert run_command(name, *["a.wav"] * (name == "transcribe"), "--device", "cuda") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: the command line: ")
    assert "device_target (CPU, GPU or Ascend)" in shown


@pytest.mark.parametrize("name", NAMES)
def test_help_is_a_page_of_words(
    name: str, run_command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert callable(run_command)
    assert run_command(name, "--help") == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < MAX_HELP_LINES
    assert shown.startswith(f"usage: mindaudio-ds2 {name}")
    assert not re.search(r"<class|<function|lambda|Literal\[|default: (null|None)", shown)
    assert not re.search(r"\)\s+\((type|default): ", shown), "a second pair of brackets behind the first"


@pytest.mark.parametrize("name", NAMES)
def test_an_option_is_not_taken_for_a_longer_one(
    name: str, run_command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(run_command)
    options = [
        option
        for action in importlib.import_module(f"mindaudio_ds2.commands.{name}").main.make_parser()._actions
        for option in action.option_strings
        if len(option) > 6
    ]
    for option in options[-1:]:
        assert run_command(name, option[:-1], "x") == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tune", "--max_utterances", "x"), "max_utterances must be a whole number, found 'x'"),
        (("import_checkpoint", "--hop_seconds", "x"), "hop_seconds must be a number, found 'x'"),
        (("manifest", "verify", "--silence", "x"), "silence must be a number, found 'x'"),
        (("manifest", "verify", "m", "--workers", "x"), "--workers: must be a whole number, found 'x'"),
        (("build_lm", "--output", "x", "--order", "x"), "order must be one of 1, 2, 3, 4, 5, found 'x'"),
    ],
)
def test_a_wrong_type_is_told_in_words_by_every_kind_of_command(
    arguments: tuple[str, ...], words: str, run_command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(run_command)
    assert run_command(*arguments) == 2
    assert words in capsys.readouterr().err


# Completion -----------------------------------------------------------------------------------------------------------

ASK_BASH = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_mindaudio_ds2 mindaudio-ds2 "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the scripts, one named after each shell."""
    pytest.importorskip("shtab", reason="no shtab: pip install 'mindaudio_ds2[completion]'")
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh"):
        with pytest.MonkeyPatch.context() as patch, open(folder / shell, "w", encoding="utf-8") as file:
            patch.setattr(sys, "argv", ["mindaudio-ds2 completion", shell])
            patch.setattr(sys, "stdout", file)
            importlib.import_module("mindaudio_ds2.commands.completion").main()
    return folder


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("tra",), {"train", "transcribe"}),
        (("train", "--resu"), {"--resume"}),
        (("train", "--batching.num"), {"--batching.num_workers"}),
        (("train", "--device_target", ""), {"CPU", "GPU", "Ascend"}),
        (("train", "--batching.sortagrad", "t"), {"true"}),
        (("transcribe", "--format", "s"), {"srt"}),
        (("manifest", "ver"), {"verify"}),
        (("manifest", "verify", "--work"), {"--workers"}),
        (("eval", "--manifest", "a.j"), {"a.jsonl"}),
        (("completion", ""), {"bash", "zsh"}),
    ],
)
def test_bash_completes_commands_options_values_and_paths(
    typed: tuple[str, ...], offered: set[str], scripts: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").touch()
    command = ["bash", "-c", ASK_BASH, "bash", str(scripts / "bash"), "mindaudio-ds2", *typed]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert set(done.stdout.split()) == offered


def test_every_command_is_completed(scripts: Path) -> None:
    for shell in ("bash", "zsh"):
        text = (scripts / shell).read_text(encoding="utf-8")
        assert all(name in text for name in NAMES)
        if shutil.which(shell):
            assert subprocess.run([shell, "-n", str(scripts / shell)], timeout=30).returncode == 0


def test_without_shtab_the_remedy_is_named(
    run_command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert callable(run_command)
    assert run_command("completion", "bash") == 2
    assert "pip install 'mindaudio_ds2[completion]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments", "place"),
    [
        ("transcribe", ("",), "the first word is empty"),
        ("transcribe", ("a.wav", ""), "the word behind a.wav is empty"),
        ("transcribe", ("--output_dir", "", "a.wav"), "the word behind --output_dir is empty"),
        ("transcribe", ("--output=", "a.wav"), "the value of --output is empty"),
        ("train", ("-c", ""), "the word behind -c is empty"),
        ("eval", ("--manifest", ""), "the word behind --manifest is empty"),
        ("manifest", ("stats", ""), "the word behind stats is empty"),
        ("serve", ("--token", ""), "the word behind --token is empty"),
    ],
)
def test_an_empty_word_is_no_path_and_nothing_else(
    run_command: Callable[..., object],
    capsys: pytest.CaptureFixture[str],
    name: str,
    arguments: tuple[str, ...],
    place: str,
) -> None:
    assert run_command(name, *arguments) == 2
    assert f"error: the command line: {place}; is it a variable" in capsys.readouterr().err


def test_the_words_of_a_command_line_stay_but_for_the_file_that_is_standard_output() -> None:
    keys = ["--data.dev_manifest", "", "--data.test_manifest=", "--output_dir", "-"]
    assert read_words(keys) == keys
    written = ["-", "--output", "-", "--json=-", "--output", "x", "-"]
    assert read_words(written) == ["-", "--output", "/dev/stdout", "--json=/dev/stdout", "--output", "x", "-"]


def test_a_minus_is_standard_output(tmp_path: Path) -> None:
    row = {"id": "a", "audio_path": "a.wav", "duration_seconds": 1.0, "transcript": "A"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ("manifest", "filter", "m.jsonl", "--output", "-", "--report", "left_out.txt")
    done = run_module(tmp_path, *arguments)
    assert json.loads(done.stdout)["id"] == "a"
    assert "1 utterances" in done.stderr
    assert not (tmp_path / "-").exists()


def run_module(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mindaudio_ds2", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


IMPORTING = """
import os, signal, sys

class Meet:
    def find_spec(self, name, *_):
        if name == {moment!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Meet())
from {module} import main
sys.argv = [{module!r}, *{arguments!r}]
main()
"""


@pytest.mark.parametrize("moment", ["mindaudio_ds2.commands.transcribe", "numpy", "mindaudio_ds2.portable.stream"])
@pytest.mark.parametrize(
    ("module", "arguments"),
    [("mindaudio_ds2.__main__", ["transcribe", "a.wav"]), ("transcribe", ["a.wav"])],
    ids=["command", "verb"],
)
def test_ctrl_c_while_libraries_are_imported_is_no_traceback(
    module: str, arguments: list[str], moment: str, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    program = IMPORTING.format(module=module, arguments=arguments, moment=moment)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 130, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(("interrupted", "stopped: nothing is written"))
