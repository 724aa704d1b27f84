"""What stands in for msrun's missing words, with processes in the places of msrun, scheduler and worker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mindaudio_ds2.machine import msrun

ROOT = Path(__file__).resolve().parents[2]

# A launcher whose scheduler waits for ever, as one inside MindSpore does, and whose worker ends after a while.
LAUNCHER = """
import os, subprocess, sys, time
scheduler = '''
import signal, time
from mindaudio_ds2.machine import msrun
msrun.POLL_SECONDS, msrun.GRACE_SECONDS = 0.05, {grace_seconds}
msrun.end_with_workers()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep({scheduler_seconds})
'''
first = subprocess.Popen([sys.executable, "-c", scheduler])
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep({worker_seconds}); raise SystemExit(2)"])
worker.wait()
print(first.wait(timeout=110), flush=True)
"""


def launch(scheduler_seconds: float, worker_seconds: float, grace_seconds: float) -> tuple[int, float, str]:
    """The scheduler's status, how long all took, and what was said."""
    script = LAUNCHER.format(
        scheduler_seconds=scheduler_seconds, worker_seconds=worker_seconds, grace_seconds=grace_seconds
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    return int(done.stdout), time.monotonic() - started, done.stderr


def test_a_scheduler_does_not_wait_for_processes_that_have_failed() -> None:
    status, seconds, said = launch(scheduler_seconds=100, worker_seconds=1, grace_seconds=0.5)
    assert status == -signal.SIGKILL
    assert seconds < 60
    assert "the processes have ended before the scheduler" in said


def test_a_scheduler_that_ends_with_its_processes_is_left_in_peace() -> None:
    status, _, said = launch(scheduler_seconds=1.0, worker_seconds=0.5, grace_seconds=60)
    assert (status, said) == (0, "")


@pytest.mark.parametrize("name", ["msrun", "other"])
def test_the_command_of_msrun_is_found_also_behind_a_script(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.write_text("import subprocess, sys; subprocess.run(['bash', '-c', sys.argv[2] + '; true'])", "utf-8")
    ask = f"{sys.executable} -c 'from mindaudio_ds2.machine.msrun import find_command; print(find_command())'"
    command = [sys.executable, str(program), "--local_worker_num=3", ask]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.strip() == repr(tuple(command) if name == "msrun" else ())


def test_a_process_that_has_ended_and_waits_to_be_reaped_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 30
    while msrun._is_alive(child.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not msrun._is_alive(child.pid)
    assert child.wait() == 0
    assert msrun._is_alive(os.getpid())
