"""Console writing that never ends the work."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mindaudio_ds2 import console
from mindaudio_ds2.errors import exit_on_error

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import sys
from mindaudio_ds2 import console
for _ in range(3):
    console.write_line("x" * 70000, to_stdout=True)
sys.stderr.write("; ".join(console.trouble()))
"""


def run_into(target: str) -> "subprocess.CompletedProcess[str]":
    command = f"{sys.executable} -c '{PROGRAM}' {target}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize(("target", "reason"), [("| true", "Broken pipe"), (">/dev/full", "No space left on device")])
def test_a_stream_that_takes_no_more_ends_no_work_and_is_told(target: str, reason: str) -> None:
    done = run_into(target)
    assert done.returncode == 0
    assert done.stderr == f"stdout takes no more ({reason}); the work goes on without it"


def test_what_an_ascii_console_cannot_show_is_escaped() -> None:
    program = r"from mindaudio_ds2 import console; console.write_line('\u00e9 \u65e5', to_stdout=True)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\\xe9 \\u65e5\n"


def test_a_line_is_written_while_another_thread_loads_the_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", ModuleType("tqdm"))  # as it is before its first line has run
    assert console.write_line("seen")
    assert capsys.readouterr().err == "seen\n"


def test_control_characters_are_shown_and_not_sent() -> None:
    assert console.escape("a\x1b[2J\x9b\u202eb\udcff\n\té") == "a\\x1b[2J\\x9b\\u202eb\\udcff\n\té"


def test_want_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def build() -> None:
        raise MemoryError("Unable to allocate 238 GiB")

    with pytest.raises(SystemExit, match="1"):
        exit_on_error(build)()
    assert capsys.readouterr().err == (
        "error: out of memory (Unable to allocate 238 GiB); make the network or its batches smaller\n"
    )


TRAINING = """
import sys
from pathlib import Path
from mindaudio_ds2.errors import exit_on_error
from tqdm import tqdm

@exit_on_error
def main():
    for step in tqdm(range(3), mininterval=0):
        print("step", step)
        sys.stdout.flush()
    Path(sys.argv[1]).write_text("done")

main()
"""


@pytest.mark.parametrize("target", ["2>&1 | true", ">/dev/full 2>/dev/full", ">&- 2>&-"])
def test_bars_and_prints_of_a_verb_go_on_without_a_console(target: str, tmp_path: Path) -> None:
    (tmp_path / "verb.py").write_text(TRAINING)
    command = f"{sys.executable} {tmp_path}/verb.py {tmp_path}/out {target}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "done"
