"""What msrun leaves to find out: how many processes it has started on this host, and whether they still live.

msrun starts each process as a child of its own, and one more, the scheduler, that brings them together. When one fails,
it kills the others but not the scheduler, which goes on waiting for processes (MindSpore 2.10: for ten minutes).
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

POLL_SECONDS = 1.0
GRACE_SECONDS = 20.0
"""How long a scheduler may go on after the last process: after a good end it has some tidying up to do."""
MAX_ANCESTORS = 8
MODULE = "mindspore.parallel.cluster.run"  # what msrun runs
DEFAULT_LOCAL_SIZE = 8


def find_command() -> tuple[str, ...]:
    """The command line of the msrun that has started this process; empty where that cannot be found out."""
    pid = os.getppid()
    for _ in range(MAX_ANCESTORS):
        command = _read_command(pid)
        if any(Path(part).name == "msrun" or part == MODULE for part in command[:4]):
            return command
        pid = _find_parent(pid)
        if pid <= 1:
            break
    return ()


def count_local(command: Sequence[str], world_size: int) -> int:
    """Processes that an msrun starts on its host.

    Args:
        command: its command line; may be empty.
        world_size: processes on all hosts; the answer where the command line does not tell.
    """
    for part, following in zip(command, (*command, "")[1:], strict=True):
        name, _, value = part.partition("=")
        value = value or following
        if name.startswith("--local") and value.isdigit():  # argparse takes any beginning that is no other option's
            return min(int(value), world_size)
    return min(DEFAULT_LOCAL_SIZE, world_size) if command else world_size


def end_with_workers() -> None:
    """Let this process, a scheduler, be ended soon after the last process of its host, if it does not end by itself.

    A child watches, because a process that waits inside MindSpore runs no Python.
    """
    scheduler = os.getpid()
    if os.fork() == 0:
        status = 1
        try:
            status = _watch(scheduler)
        finally:
            os._exit(status)


def _watch(scheduler: int) -> int:
    launcher, own = _find_parent(scheduler), {scheduler, os.getpid()}
    has_seen, alone_since = False, 0.0
    while os.getppid() == scheduler:
        num_workers = sum(_is_alive(pid) for pid in _list_children(launcher) - own)
        has_seen = has_seen or num_workers > 0
        if num_workers or not has_seen:
            alone_since = time.monotonic()
        elif time.monotonic() - alone_since > GRACE_SECONDS:
            sys.stderr.write("error: the processes have ended before the scheduler; see their logs beside this one\n")
            sys.stderr.flush()
            os.kill(scheduler, signal.SIGKILL)  # MindSpore 2.10 waits on after a SIGTERM
            return 0
        time.sleep(POLL_SECONDS)
    return 0


def _list_children(pid: int) -> set[int]:
    """The children of a process, from the list that Linux keeps of those of each of its threads."""
    children: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children.update(map(int, path.read_text(encoding="ascii").split()))
        except OSError:  # the thread has ended
            continue
    return children


def _read_status(pid: int) -> list[str]:
    """State, parent and what follows in /proc/PID/stat; empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    status = _read_status(pid)
    return bool(status) and status[0] not in "ZX"


def _find_parent(pid: int) -> int:
    status = _read_status(pid)
    return int(status[1]) if status else 0


def _read_command(pid: int) -> tuple[str, ...]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(part.decode("utf-8", "replace") for part in raw.split(b"\0")[:-1])
