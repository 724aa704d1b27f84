"""Files that are either whole or not there: written aside, flushed to the disk, and renamed."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import stat
import tempfile
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from mindaudio_ds2 import console
from mindaudio_ds2.errors import OutputError

_begun: list[Path] = []
"""What is being written and goes first when SIGTERM ends the process, one within the other."""

ROOM = "Free space or choose another folder; what stood there before is unchanged."


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(partial)` on a path beside `path`, then rename it to `path`.

    A crash, a kill or a full disk leaves the old file untouched; what kill -9 leaves beside it, `require_writable`
    removes in the next run. A link stays, and what it leads to is replaced; a device or a pipe is written into.

    Raises:
        OutputError: the file cannot be written; the partial file is removed.
    """
    named = Path(path)
    if is_stream(named):
        _write_into(named, write)
        return
    path = Path(os.path.realpath(named)) if named.is_symlink() else named
    partial = _name_partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with removed_by_sigterm(partial):
            write(partial)
            _flush_to_disk(partial)
            os.replace(partial, path)
    except OSError as error:
        _remove(partial)
        raise OutputError(_explain(named, error, ROOM)) from error
    except BaseException:
        _remove(partial)
        raise


def _name_partial(path: Path) -> Path:
    """A name beside a path, unlike any other's: several processes may write the same, and hosts share folders."""
    return path.with_name(f".partial-{_name_host()}-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def _name_host() -> str:
    """A name for where this process's number is its own: the boot of this machine, and the container in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        return f"{zlib.crc32(boot + os.readlink('/proc/self/ns/pid').encode()):08x}"
    except OSError:
        return secrets.token_hex(4)  # of nobody else: nothing is ever taken for a dead process's


def _remove_abandoned(folder: Path, names: Collection[str]) -> None:
    """Remove what processes that are dead by now (kill -9) had begun to write for files of these names."""
    begun = re.compile(rf"\.partial-{_name_host()}-(\d+)-[0-9a-f]{{8}}-(.+)", re.DOTALL)
    with contextlib.suppress(OSError):  # a folder can be closed to readers
        for beside in folder.iterdir():
            match = begun.fullmatch(beside.name)
            if match and match[2] in names and not Path(f"/proc/{match[1]}").exists():
                _remove(beside)


@contextlib.contextmanager
def removed_by_sigterm(partial: Path) -> Iterator[None]:
    """SIGTERM ends a process on the spot. While a file or folder is being written, that goes first.

    Ctrl-C arrives as SIGTERM, too, once MindSpore has run a graph (`training/interruption.py`).
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, _end_without_a_trace):
        yield
        return
    _begun.append(partial)
    signal.signal(signal.SIGTERM, _end_without_a_trace)
    try:
        yield
    finally:
        _begun.remove(partial)
        if not _begun:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_without_a_trace(number: int, frame: object) -> None:
    for partial in _begun:
        _remove(partial)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def is_stream(path: Path) -> bool:
    """Whether a path is no file that could be replaced: a device, a pipe, or an open file, such as /dev/stdout."""
    try:
        mode = path.stat().st_mode
        opened = os.readlink(path) if path.is_symlink() else ""
    except OSError:
        return False
    in_proc = any(place.startswith("/proc/") for place in (opened, os.path.realpath(path.parent)))
    return in_proc or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_into(stream: Path, write: Callable[[Path], None]) -> None:
    """Write a whole file aside, then copy it into a device or a pipe, behind what has gone there before."""
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / stream.name
        try:
            write(partial)
            with open(os.open(stream, os.O_WRONLY | os.O_APPEND), "wb") as file, partial.open("rb") as whole:
                shutil.copyfileobj(whole, file)
        except OSError as error:
            raise OutputError(f"cannot write {stream}: {error.strerror or error}. Choose another.") from error


def _explain(path: Path, error: OSError, remedy: str) -> str:
    """Why nothing can be written to a path: a file where a folder should be is named."""
    obstacle = next((each for each in path.parents if each.exists() and not each.is_dir()), None)
    if obstacle:
        return f"cannot write {path}: {obstacle} is a file, and a folder is wanted there. Name another folder."
    return f"cannot write {path}: {error.strerror or error}. {remedy}"


def replace_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(partial)` on a new folder beside `path`, then put it in the place of `path`, which goes.

    A crash leaves the old folder, or for the moment between two renames its contents beside the place. What kill -9
    leaves beside it, the next call removes.

    Raises:
        OutputError: the folder cannot be written; the partial one is removed, and the old one stays.
    """
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    partial = _name_partial(path)
    old = path.with_name(partial.name.replace(".partial-", ".old-", 1))
    try:
        _remove_abandoned(path.parent, [path.name])
        partial.mkdir(parents=True)
        with removed_by_sigterm(partial):
            write(partial)
            for each in partial.rglob("*"):
                _flush_to_disk(each)
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise OutputError(_explain(path, error, ROOM)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def require_writable(path: Path, inputs: Iterable[str | Path | None] = ()) -> None:
    """Find out before long work whether its result can be written to `path`; leaves nothing there but its folder.

    What an earlier run had begun to write there when it was killed is removed.

    Args:
        path: of the result; a line says so where its folder had to be made.
        inputs: what the work reads, None for what was not named.

    Raises:
        OutputError: no permission, no space, a file where a folder should be, or `path` is one of the inputs.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder. Name a file in it.")
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise OutputError(f"cannot write {path}: no permission. Choose another.")
        return
    _refuse_inputs([path], inputs, "Name another file.")
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    _try_folder(path.parent, [path.name])


def require_new_files(
    folder: Path, names: Sequence[str], inputs: Iterable[str | Path | None] = (), may_be_there: bool = False
) -> None:
    """As `require_writable`, of files that get their names from others: what is there already was not named, and stays.

    Args:
        folder: of the results; a line says so where it had to be made.
        names: of the results in it, at least one.
        inputs: as above.
        may_be_there: the caller leaves alone what is there.

    Raises:
        OutputError: as above, or one of them is there already.
    """
    paths = [folder / name for name in names]
    _refuse_inputs(paths, inputs, "Name another folder.")
    for path in paths:
        if os.path.lexists(path) and not may_be_there:
            raise OutputError(
                f"cannot write {path}: it is there already. Name another folder, remove it, or keep it with --resume."
            )
    _try_folder(folder, names)


def _refuse_inputs(paths: Iterable[Path], inputs: Iterable[str | Path | None], remedy: str) -> None:
    read = {os.path.realpath(each) for each in inputs if each is not None}
    for path in paths:
        if os.path.realpath(path) in read:
            raise OutputError(f"cannot write {path}: it is one of the inputs, and would be lost. {remedy}")


def _try_folder(folder: Path, names: Sequence[str]) -> None:
    """Make sure that files of these names can be made in a folder, which is made if need be."""
    probe = _name_partial(folder / names[0])
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            console.write_line(f"made the folder {folder}")
        probe.touch()
        _remove_abandoned(folder, set(names))
    except OSError as error:
        raise OutputError(_explain(folder / names[0], error, "Choose another folder.")) from error
    finally:
        _remove(probe)


def _remove(partial: Path) -> None:
    with contextlib.suppress(OSError):  # there is no such file where no folder could be made
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
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
