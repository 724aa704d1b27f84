"""Console writing that never ends the work."""

import subprocess
import sys

import pytest

from mindaudio_ds2 import console

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


def test_control_characters_are_shown_and_not_sent() -> None:
    assert console.escape("a\x1b[2J\x9b\u202eb\udcff\n\té") == "a\\x1b[2J\\x9b\\u202eb\\udcff\n\té"
