"""Starts several processes with the mpirun of this environment."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS_TO_END = 30.0
"""How long a failed run may take to end all its processes."""


def find_mpirun() -> str:
    """The path of Open MPI's mpirun; skips where there is none, or no mpi4py."""
    pytest.importorskip("mpi4py", reason="no mpi4py: pip install 'mindaudio_ds2[mpi]'")
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        pytest.skip("no mpirun: pip install 'mindaudio_ds2[mpi]'")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    if "Open MPI" not in version:
        pytest.skip(f"{found} is not Open MPI's, whose options these tests use")
    return found


def run_processes(num_processes: int, *arguments: object, timeout_seconds: float = 300) -> tuple[int, str]:
    """Run Python `num_processes` times in the repository.

    Returns:
        The exit status of mpirun, and what it and the processes wrote to either stream.
    """
    command = [find_mpirun(), "--oversubscribe", "--bind-to", "none", "-n", str(num_processes), sys.executable]
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **allowed},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_seconds,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def expect_end(started: float) -> None:
    """Make sure that processes ended soon after something happened.

    Args:
        started: when it happened, in seconds of `time.time`, which all processes share.
    """
    assert time.time() - started < SECONDS_TO_END
