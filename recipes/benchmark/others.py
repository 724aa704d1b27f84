"""The processors: how many a measurement has, and how much other programs took meanwhile. Linux only."""

import os
import resource
import time
from collections.abc import Set
from pathlib import Path

STAT = Path("/proc/stat")
QUIET_SHARE = 0.05  # of the processors' time; where others take more, threads wait for each other far longer than that
BUSY_FIELDS = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: what is neither idle nor waiting for a disk


def keep_to(num_cores: int) -> None:
    """Leave this process as many of its cores. Call it before a framework is imported: each starts as many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_cores])


class OthersClock:
    """Runs from when it is made.

    Args:
        cores: the processors that count; None for those that this thread may use, which are fewer once OpenMP has bound
            it to one.
    """

    def __init__(self, cores: Set[int] | None = None) -> None:
        self._cores = os.sched_getaffinity(0) if cores is None else cores
        self._started, self._busy, self._own = time.perf_counter(), self._read_busy_seconds(), _read_own_seconds()

    def read_share(self) -> float | None:
        """Share of the time of the processors that this process may use, from 0 to 1, that went to other programs.

        That includes a hypervisor. None where the system does not say, as outside Linux.
        """
        busy = self._read_busy_seconds()
        if busy is None or self._busy is None:
            return None
        there_were = (time.perf_counter() - self._started) * len(self._cores)
        others = (busy - self._busy) - (_read_own_seconds() - self._own)
        return min(1.0, max(0.0, others / there_were))

    def _read_busy_seconds(self) -> float | None:
        """Of the processors that count, since the system started."""
        try:
            rows = [line.split() for line in STAT.read_text(encoding="ascii").splitlines()]
        except OSError:
            return None
        names = {f"cpu{number}" for number in self._cores}
        ticks = sum(int(row[1 + field]) for row in rows if row and row[0] in names for field in BUSY_FIELDS)
        return ticks / os.sysconf("SC_CLK_TCK")


def _read_own_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
