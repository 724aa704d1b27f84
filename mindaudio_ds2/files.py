"""Files that are either whole or not there: written aside, flushed to the disk, and renamed."""

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mindaudio_ds2.errors import OutputError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(partial)` on a path beside `path`, then rename it to `path`.

    A crash, a kill or a full disk leaves the old file untouched.

    Raises:
        OutputError: the file cannot be written; the partial file is removed.
    """
    path = Path(path)
    # Unlike any other's beside it: several processes may write the same, and on other hosts have the same number.
    partial = path.with_name(f".partial-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
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


def replace_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(partial)` on a new folder beside `path`, then put it in the place of `path`, which goes.

    A crash leaves the old folder, or for the moment between two renames its contents beside the place.

    Raises:
        OutputError: the folder cannot be written; the partial one is removed, and the old one stays.
    """
    path = Path(path)
    mark = f"{os.getpid()}-{secrets.token_hex(4)}-{path.name}"
    partial, old = path.with_name(f".partial-{mark}"), path.with_name(f".old-{mark}")
    try:
        partial.mkdir(parents=True)
        write(partial)
        for each in partial.rglob("*"):
            _flush_to_disk(each)
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder; "
            "what stood there before is unchanged."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def require_writable(path: Path) -> None:
    """Find out before long work whether its result can be written to `path`; leaves nothing there but its folder.

    Raises:
        OutputError: no permission, no space, or a file where a folder should be.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder. Name a file in it.")
    probe = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}. Choose another folder.") from error
    finally:
        _remove(probe)


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


def list_cache_folders() -> Iterator[Path]:
    """Folders that can keep what may be made anew, best first; looked for when they are needed, not before.

    `$XDG_CACHE_HOME/mindaudio_ds2`, `~/.cache/mindaudio_ds2`, and, where there is no home or it cannot be written
    (containers, unknown users), a folder of the user's own among the temporary files. Those that cannot be made are
    left out, and so is a temporary one that belongs to somebody else: what lies there is loaded as a program.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    candidates = [Path(configured)] if os.path.isabs(configured) else []
    with contextlib.suppress(RuntimeError):  # nobody knows a home for this user
        candidates.append(Path.home() / ".cache")
    for folder in (candidate / "mindaudio_ds2" for candidate in candidates):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
    with contextlib.suppress(OSError):
        own = Path(tempfile.gettempdir()) / f"mindaudio_ds2-{os.getuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        status = own.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
            yield own
