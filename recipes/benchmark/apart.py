"""Measurements in processes of their own, because settings, memory and threads are those of a process."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from mindaudio_ds2.errors import DeepSpeechError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.machine import runtime

WORKER_MODE = "--worker"

Result = dict[str, Any]


def ask(script: Path, job: str) -> Result:
    """Do a job in a fresh process, which starts `script` with WORKER_MODE and calls `answer`.

    Returns:
        What the script measured, or the reason why there is nothing, as "failure".
    """
    # Settings of oneDNN are part of what is measured: each process makes its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ONEDNN_", "DNNL_"))}
    with tempfile.TemporaryDirectory() as folder:
        job_path, result_path = Path(folder) / "job.json", Path(folder) / "result.json"
        write_text(job_path, job)
        command = [sys.executable, str(script), WORKER_MODE, str(job_path), str(result_path)]
        status = subprocess.run(command, env=environment, check=False).returncode
        if result_path.exists():
            result: Result = json.loads(result_path.read_text(encoding="utf-8"))
            return result
    if status == -signal.SIGINT:
        raise KeyboardInterrupt
    reason = f"exit status {status}"
    if status < 0:
        reason = signal.Signals(-status).name
        if status == -signal.SIGKILL:
            reason += ", as the system does when memory is short"
    return {"failure": f"its process was ended by {reason}"}


def is_asked() -> bool:
    """Whether this process is one that `ask` started."""
    return sys.argv[1:2] == [WORKER_MODE]


def answer(measure: Callable[[str], Result]) -> None:
    """Do the job that this process was started for, and write the result; where there is none, why, as "failure"."""
    job_path, result_path = Path(sys.argv[2]), Path(sys.argv[3])
    try:
        result = measure(job_path.read_text(encoding="utf-8"))
    except DeepSpeechError as error:
        result = {"failure": str(error)}
    except Exception as error:  # a defect of what is measured must not end the run
        traceback.print_exc()
        lines = str(error).strip().splitlines() or ["no message"]
        result = {"failure": f"{type(error).__name__}: {lines[0]}"}
    write_text(result_path, json.dumps(result))


def describe_environment() -> Result:
    """`runtime.describe_environment`, by another process: a worker's peak memory is never below its starter's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(runtime.describe_environment).result()
