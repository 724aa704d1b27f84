"""Files that are either whole or not there: written aside, flushed to the disk, and renamed."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from mindaudio_ds2.errors import OutputError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(partial)` on a path beside `path`, then rename it to `path`.

    A crash, a kill or a full disk leaves the old file untouched.

    Raises:
        OutputError: the file cannot be written; the partial file is removed.
    """
    path = Path(path)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        _flush_to_disk(partial)
        os.replace(partial, path)
    except OSError as error:
        _remove(partial)
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder; "
            "what stood there before is unchanged."
        ) from error
    except BaseException:
        _remove(partial)
        raise


def _remove(partial: Path) -> None:
    with contextlib.suppress(OSError):  # there is no such file where no folder could be made
        partial.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path`, all or nothing."""
    write_atomically(path, lambda partial: _write_text(partial, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
