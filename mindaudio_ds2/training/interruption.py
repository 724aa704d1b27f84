"""SIGTERM, Ctrl-C and SIGUSR1 as a wish that is granted between two steps."""

import signal
from types import FrameType, TracebackType
from typing import Any, NoReturn

from mindaudio_ds2.errors import Interrupted


class Interruption:
    """While entered, remembers the first SIGTERM or SIGINT instead of dying of it; a second one ends at once.

    SIGUSR1 counts as SIGTERM, because it is what gets through: Open MPI 5's mpirun passes it on to all processes, but
    answers a SIGTERM of its own by killing them within half a second. Slurm's --signal=USR1 sends it too.

    While MindSpore 2.10 runs a graph, and from then on, it answers SIGINT with a handler of its own that sends SIGTERM
    to the process: Ctrl-C then arrives here as SIGTERM. tests/training/test_interruption.py tells when this has gone.

    Attributes:
        signal_number: of the signal that came; 0 so far.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = signal.SIGTERM if number == signal.SIGUSR1 else number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def end(self, message: str) -> NoReturn:
        """End the work, as a signal asked this or another process.

        Args:
            message: what was saved, and how to go on.

        Raises:
            Interrupted: always.
        """
        raise Interrupted(message, self.signal_number or signal.SIGTERM)
