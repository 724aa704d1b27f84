"""What the processes of a run do together: sum, tell, gather, wait, and end as one.

`Ranks` is the one process of a run that was started alone; everything in it has nothing to do, so that callers need not
ask how many there are. `MpiRanks` is one of several that mpirun or srun has started, `DeviceRanks` one of msrun's.
Every process must call the same methods in the same order.
"""

import contextlib
import faulthandler
import os
import pickle
import platform
import time
import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import console
from mindaudio_ds2.errors import DeepSpeechError, DeviceError, Interrupted
from mindaudio_ds2.machine.ranks import Place, share_cores

T = TypeVar("T")
Floats = NDArray[np.float32]

FIRST_PAUSE_SECONDS = 1e-5
LONGEST_PAUSE_SECONDS = 1e-3
HEAD_START_SECONDS = 1.0
LARGEST_MESSAGE = 2**24  # numbers in one sum on a device, 64 MiB
SIZE_DIGIT = 2**20  # sizes are sent as two digits, each of which float32 holds exactly


class Ranks:
    """The one process of a run that was started alone. Enter it around all work of the run.

    Attributes:
        place: which process this is.
        waiting_seconds: spent waiting for other processes to come to a collective.
        moving_seconds: spent in collectives after that.
    """

    def __init__(self, place: Place | None = None) -> None:
        self.place = place or Place()
        self.waiting_seconds = 0.0
        self.moving_seconds = 0.0

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave errors to the caller."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.place.rank == 0

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.place.world_size

    def sum(self, values: Floats) -> Floats:
        """Sum an array over all processes, in place; all get the same bits.

        Args:
            values: of the same shape everywhere, contiguous.

        Returns:
            `values`.
        """
        return values

    def largest(self, value: int) -> int:
        """The largest of the processes' values."""
        return value

    def broadcast(self, value: T) -> T:
        """The first process's value."""
        return value

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of ranks."""
        return [value]

    def wait(self) -> None:
        """Wait until every process has come here."""

    def require_same(self, facts: Mapping[str, str]) -> None:
        """Make sure that what must not differ between processes does not.

        Args:
            facts: values by name.

        Raises:
            DeviceError: names what differs, with both values; on the first process only, because it ends all of them.
        """

    def count_threads(self) -> int | None:
        """How many threads a process should use; None leaves that to the libraries."""
        return None


class JoinedRanks(Ranks):
    """One of several processes, however they talk to each other.

    Where an error leaves the `with` block on one process, all are ended: else the others would wait for it for ever.

    Args:
        place: which process this is.
        timeout_seconds: how long to wait for the others at one point before ending all of them.
    """

    def __init__(self, place: Place, timeout_seconds: float) -> None:
        super().__init__(place)
        self.timeout_seconds = timeout_seconds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes where an error leaves this one; an interruption has been agreed on by all."""
        if error is None or (isinstance(error, SystemExit) and not error.code):
            return
        if isinstance(error, Interrupted):
            self.wait()  # a launcher may end all processes as soon as one has ended
            return
        if not self.is_first:
            time.sleep(HEAD_START_SECONDS)  # mostly all find the same error; then it is enough that the first says so
        if isinstance(error, DeepSpeechError):
            self.end_all(str(error), error.exit_status)
        console.write_line("".join(traceback.format_exception(kind, error, trace)).rstrip())
        self.end_all(f"{type(error).__name__}: {error}", 1)

    def end_all(self, message: str, exit_status: int) -> NoReturn:
        """Say why, and end every process of the run."""
        console.write_line(f"error: {self._describe()}: {message}")
        self._end_others(exit_status)
        os._exit(exit_status)

    def _end_others(self, exit_status: int) -> None:
        """What that takes besides the end of this process."""

    def require_same(self, facts: Mapping[str, str]) -> None:
        """See `Ranks.require_same`."""
        everyone = self.gather((self._describe(), dict(facts)))
        first = everyone[0][1]
        problems = [
            f"{name} is {theirs.get(name)} on {who}, and {first.get(name)} on rank 0"
            for who, theirs in everyone[1:]
            for name in sorted(first.keys() | theirs.keys())
            if first.get(name) != theirs.get(name)
        ]
        if problems and self.is_first:
            shown = "\n  ".join(problems[:10])
            raise DeviceError(f"the processes differ; give all of them the same:\n  {shown}")
        if problems:
            self.wait()  # to be ended by the first

    def _describe(self) -> str:
        return f"rank {self.place.rank} of {self.world_size} on {platform.node()}"


class MpiRanks(JoinedRanks):
    """One of several processes, with mpi4py on COMM_WORLD. Has run with Open MPI 5 on one host.

    Args:
        place, timeout_seconds: as in `JoinedRanks`.

    Raises:
        DeviceError: mpi4py is missing, or counts other processes than the launcher says.
    """

    def __init__(self, place: Place, timeout_seconds: float) -> None:
        super().__init__(place, timeout_seconds)
        # MPI waits here for processes that ended in good order before they came, and for ever
        faulthandler.dump_traceback_later(timeout_seconds, exit=True)
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:  # the latter where there is no MPI library
            raise DeviceError(
                f"{place.launcher} has started {place.world_size} processes, but they cannot talk to each other: "
                f"{error}. Install mpi4py and an MPI: pip install 'mindaudio_ds2[mpi]'"
            ) from None
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._mpi: Any = MPI
        self._world: Any = MPI.COMM_WORLD
        if (self._world.rank, self._world.size) != (place.rank, place.world_size):
            raise DeviceError(
                f"{place.launcher} says that this is process {place.rank} of {place.world_size}, but mpi4py's MPI says "
                f"{self._world.rank} of {self._world.size}; start with the mpirun of the MPI that mpi4py uses"
            )

    def _end_others(self, exit_status: int) -> None:
        self._world.Abort(exit_status)

    def sum(self, values: Floats) -> Floats:
        """See `Ranks.sum`."""
        with self._together("a sum"):
            self._world.Allreduce(self._mpi.IN_PLACE, values)
        return values

    def largest(self, value: int) -> int:
        """See `Ranks.largest`."""
        with self._together("a maximum"):
            return int(self._world.allreduce(value, self._mpi.MAX))

    def broadcast(self, value: T) -> T:
        """See `Ranks.broadcast`."""
        with self._together("a broadcast"):
            received: T = self._world.bcast(value if self.is_first else None)
        return received

    def gather(self, value: T) -> list[T]:
        """See `Ranks.gather`."""
        with self._together("a gathering"):
            gathered: list[T] = self._world.allgather(value)
        return gathered

    def wait(self) -> None:
        """See `Ranks.wait`."""
        with self._together("a meeting"):
            pass

    def count_threads(self) -> int:
        """This process's share of its host's cores."""
        cores = frozenset(os.sched_getaffinity(0))
        everyone = self.gather((platform.node(), cores))
        return share_cores(cores, [theirs for host, theirs in everyone if host == platform.node()])

    @contextlib.contextmanager
    def _together(self, what: str) -> Iterator[None]:
        """Wait for the others, without burning the core they may need; then do what is inside, under a watchdog."""
        started = time.perf_counter()
        arrival = self._world.Ibarrier()
        pause = FIRST_PAUSE_SECONDS
        while not arrival.Test():
            if time.perf_counter() - started > self.timeout_seconds:
                self.end_all(
                    f"waited {self.timeout_seconds:g} s (processes.timeout_seconds) for the other processes to come to "
                    f"{what}; one of them hangs or is much slower",
                    1,
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        met = time.perf_counter()
        faulthandler.dump_traceback_later(self.timeout_seconds, exit=True)  # needs neither Python nor MPI to go on
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
        self.waiting_seconds += met - started
        self.moving_seconds += time.perf_counter() - met


class DeviceRanks(JoinedRanks):
    """One of several processes that msrun or a rank table has put together, with MindSpore's own sum over all of them.

    `runtime.start` connects them: before it, only `count_threads` may be called. msrun ends all processes when one ends
    with an error; MindSpore's own way to end would wait for the others. Has run on the CPU, under MindSpore 2.10's
    msrun on one host.

    Args:
        place, timeout_seconds: as in `JoinedRanks`.
    """

    def sum(self, values: Floats) -> Floats:
        """See `Ranks.sum`."""
        from mindspore import Tensor, ops

        started = time.perf_counter()
        faulthandler.dump_traceback_later(self.timeout_seconds, exit=True)
        try:
            for begin in range(0, values.size, LARGEST_MESSAGE):
                part = values.reshape(-1)[begin : begin + LARGEST_MESSAGE]
                part[...] = ops.AllReduce()(Tensor(part.copy())).asnumpy()
        finally:
            faulthandler.cancel_dump_traceback_later()
        self.moving_seconds += time.perf_counter() - started  # waiting for the others included
        return values

    def gather(self, value: T) -> list[T]:
        """See `Ranks.gather`. Each process adds its part to a sum that is 0 there on all others.

        The parts are numbers of 16 bits, which float32 holds exactly; on the CPU MindSpore sums nothing else.
        """
        data = pickle.dumps(value)
        own = np.frombuffer(data + b"\0" * (len(data) % 2), np.uint16)
        sizes = np.zeros(2 * self.world_size, np.float32)
        sizes[2 * self.place.rank : 2 * self.place.rank + 2] = divmod(len(own), SIZE_DIGIT)
        high, low = self.sum(sizes).astype(np.int64).reshape(-1, 2).T
        ends = np.cumsum(high * SIZE_DIGIT + low)
        message = np.zeros(ends[-1], np.float32)
        message[ends[self.place.rank] - len(own) : ends[self.place.rank]] = own
        pieces = np.split(self.sum(message).astype(np.uint16), ends[:-1])
        return [pickle.loads(piece.tobytes()) for piece in pieces]

    def largest(self, value: int) -> int:
        """See `Ranks.largest`."""
        return max(self.gather(value))

    def broadcast(self, value: T) -> T:
        """See `Ranks.broadcast`."""
        received = self.gather(value if self.is_first else None)[0]
        assert received is not None or value is None, "the first process has sent its value"
        return cast(T, received)

    def wait(self) -> None:
        """See `Ranks.wait`."""
        self.sum(np.zeros(1, np.float32))

    def count_threads(self) -> int:
        """This process's share of its host's cores, if all of them may run on the same."""
        cores = frozenset(os.sched_getaffinity(0))
        return share_cores(cores, [cores] * self.place.local_size)


def join(place: Place, timeout_seconds: float) -> Ranks:
    """Join the other processes of the run, if there are any.

    Args:
        place: which process this is, from `runtime.find_own_place`.
        timeout_seconds: how long to wait for the others at one point before ending all of them.

    Raises:
        DeviceError: several processes were started, but cannot talk to each other.
    """
    if place.world_size == 1:
        return Ranks(place)
    if place.is_mindspores:
        return DeviceRanks(place, timeout_seconds)
    return MpiRanks(place, timeout_seconds)
