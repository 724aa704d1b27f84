"""The one door to the console: writing there never ends the work.

A closed pipe, a lost terminal, a full device or an encoding without the character costs the line, not the hours of work
behind it. Control characters, which file names and alphabets may hold, are shown escaped, so that no text can move the
cursor, rename the window or erase what stands above.
"""

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

_trouble: dict[str, str] = {}


def write_line(text: str = "", *, to_stdout: bool = False) -> bool:
    """Write one message above any progress bar; its own line breaks and tabs stay.

    Args:
        text: without the last line break.
        to_stdout: for results; everything else goes to stderr.

    Returns:
        Whether it was written. Where it was not, `trouble` says why, and nothing more is tried on that stream.
    """
    name = "stdout" if to_stdout else "stderr"
    stream = getattr(sys, name)
    if name in _trouble or stream is None:
        return False
    try:
        with _beside_bars(stream):
            stream.write(fit(escape(text), stream) + "\n")
            stream.flush()
        return name not in _trouble
    except (OSError, ValueError) as error:  # ValueError: the stream is closed
        _give_up(name, stream, error)
        return False


def write_part(text: str) -> bool:
    """Write a part of a line of results to stdout, at once; as `write_line`."""
    return _write_raw(escape(text))


def rewrite_line(text: str) -> bool:
    """Write in place of the last line of a terminal, which stdout has to be; as `write_line`."""
    return _write_raw("\r\x1b[K" + escape(text))


def _write_raw(text: str) -> bool:
    stream = sys.stdout
    if "stdout" in _trouble or stream is None:
        return False
    try:
        stream.write(fit(text, stream))
        stream.flush()
        return "stdout" not in _trouble
    except (OSError, ValueError) as error:
        _give_up("stdout", stream, error)
        return False


def _beside_bars(stream: TextIO) -> Any:
    """Progress bars stand aside; where tqdm is not even loaded, or another thread is loading it, there are none."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return tqdm.external_write_mode(file=stream) if tqdm else contextlib.nullcontext()


@contextlib.contextmanager
def explain_wait(text: str, seconds: float = 5.0) -> Iterator[None]:
    """Say what is waited for, if the work inside takes longer than so many seconds."""
    timer = threading.Timer(seconds, write_line, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Door:
    """A stream that never fails: what it cannot write is lost, and the reason is kept."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name_of_stream = stream, name

    def write(self, text: str) -> int:
        """Write what can be written; always says that all was."""
        num_written: int = self._try(lambda: self._stream.write(fit(text, self._stream)), len(text))
        return num_written

    def flush(self) -> None:
        """Hand on what is buffered, if that can be."""
        self._try(self._stream.flush, None)

    def _try(self, action: Callable[[], Any], otherwise: Any) -> Any:
        if self._name_of_stream in _trouble:
            return otherwise
        try:
            return action()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            _give_up(self._name_of_stream, self._stream, error)
            return otherwise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def protect() -> None:
    """Lead all that this process writes to the console, progress bars and libraries included, through the door."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start: no later file shall take its number
            stream = open(os.devnull, "w")  # noqa: SIM115 - it lives as long as the process
            _trouble.setdefault(name, "closed")
        if not isinstance(stream, _Door):
            setattr(sys, name, _Door(stream, name))


def trouble() -> tuple[str, ...]:
    """Which streams take no more and why, one message each, for a log file; empty where all is well."""
    return tuple(f"{name} takes no more ({reason}); the work goes on without it" for name, reason in _trouble.items())


def has_reader_left() -> bool:
    """Whether stdout takes no more because what read from it has seen enough, as `head` does."""
    return _trouble.get("stdout") == os.strerror(errno.EPIPE)


def escape(text: str) -> str:
    r"""Show control characters instead of sending them: ESC becomes \x1b. Line breaks and tabs stay.

    Undecodable bytes of file names (surrogates) become \udcXX. Unicode's direction marks are escaped, too: they let a
    name pass for another.
    """
    return "".join(character if _is_plain(character) else _name(character) for character in text)


def fit(text: str, stream: TextIO) -> str:
    r"""The text as the stream's encoding can show it; other characters become \xNN or \uNNNN."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _is_plain(character: str) -> bool:
    code = ord(character)
    is_control = (code < 0x20 and character not in "\n\t") or 0x7F <= code < 0xA0
    is_direction = 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    return not (is_control or is_direction or 0xD800 <= code <= 0xDFFF)


def _name(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"


def _give_up(name: str, stream: TextIO, error: Exception) -> None:
    """Remember the trouble, and lead what others still write there to nowhere, or Python would fail when it exits."""
    _trouble[name] = getattr(error, "strerror", None) or str(error)
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
