"""Sound that comes through a pipe: kept in a temporary file, because decoders go back and forth in theirs."""

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO

from mindaudio_ds2 import console
from mindaudio_ds2.audio.sound_files import STREAM, show_path
from mindaudio_ds2.errors import AudioError

_kept: dict[str, IO[bytes]] = {}
"""What came through each pipe. It can be read from there once only, so it stays as long as this process does."""


def open_sound_file(path: Path) -> IO[bytes]:
    """Open a file, or what came through a pipe.

    Args:
        path: of a file, of a pipe (`/dev/stdin`, `<(...)` of a shell), or `-` for standard input.

    Raises:
        AudioError: missing, a folder, not permitted, a terminal, or a pipe through which nothing came.
    """
    try:
        if str(path) != STREAM and stat.S_ISREG(os.stat(path).st_mode):
            return open(path, "rb")
        return open(_keep_stream(path).name, "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"audio file {show_path(path)} cannot be read: {reason}; correct the path") from error


def _keep_stream(path: Path) -> IO[bytes]:
    name = str(path)
    if name not in _kept:
        with sys.stdin.buffer if name == STREAM else open(path, "rb") as source:
            if source.isatty():
                raise AudioError(f"{show_path(path)} is a terminal; send it sound: `transcribe.py - < talk.wav`")
            kept = tempfile.NamedTemporaryFile(prefix="mindaudio_ds2-")  # noqa: SIM115 (it goes when the process does)
            with console.explain_wait(f"waiting for the end of {show_path(path)}"):
                shutil.copyfileobj(source, kept)
            kept.flush()
            if not kept.tell():
                shown = "standard input" if name == STREAM else show_path(path)
                raise AudioError(f"{shown} is empty: what should send the sound has ended without a word")
        _kept[name] = kept
    return _kept[name]
