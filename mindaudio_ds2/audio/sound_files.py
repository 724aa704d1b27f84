"""What is a sound file, and which of them lie in a folder: the one owner of both.

Nothing here opens a file or needs a library that decodes one.
"""

import importlib.util
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mindaudio_ds2.errors import AudioError

SUFFIXES = (
    *(".wav", ".wave", ".flac", ".mp3", ".mp2", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".aifc", ".au", ".snd"),
    *(".sph", ".nist", ".caf", ".w64", ".rf64", ".voc", ".svx", ".8svx", ".avr"),
)
"""Endings of what libsndfile reads and of which can be told whether it is whole."""

MEDIA_SUFFIXES = (
    *(".m4a", ".m4b", ".aac", ".mp4", ".m4v", ".mov", ".webm", ".weba", ".mkv", ".mka", ".wma", ".wmv", ".asf"),
    *(".amr", ".3gp", ".3g2", ".avi", ".flv", ".mpg", ".mpeg", ".ac3", ".ape", ".wv", ".tta", ".spx", ".ra"),
)
"""Endings of sound and video that FFmpeg's libraries read, through the extra `media`."""

REFUSED_SUFFIXES = (".paf", ".ircam", ".sf", ".pvf", ".htk", ".sds", ".sd2", ".wve", ".xi", ".raw", ".pcm", ".dss")
"""Endings of sound that is not read: it lacks a header, or says nowhere how long it is."""

STREAM = "-"
"""Stands for standard input."""


def has_media() -> bool:
    """Whether the extra `media` is installed."""
    return importlib.util.find_spec("av") is not None


def list_suffixes() -> tuple[str, ...]:
    """Endings of all that can be read here and now."""
    return (*SUFFIXES, *MEDIA_SUFFIXES) if has_media() else SUFFIXES


def is_sound(path: Path) -> bool:
    """Whether a file's ending says that it can be read here and now."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (suffix in MEDIA_SUFFIXES and has_media())


def find_remedy(path: Path) -> str | None:
    """What to do about a file whose ending is that of sound which cannot be read; None for any other file."""
    suffix = path.suffix.lower()
    converting = f"`ffmpeg -i {show_path(path.name)} {show_path(path.stem)}.flac`"
    if suffix in MEDIA_SUFFIXES and not has_media():
        return f"`pip install 'mindaudio_ds2[media]'` lets it be read; or convert it: {converting}"
    if suffix in REFUSED_SUFFIXES:
        return f"convert it to WAV or FLAC: {converting}"
    return None


def show_path(path: str | Path) -> str:
    """A path as it can be shown anywhere: what cannot be printed, such as bytes that are no UTF-8, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def require_named(path: object) -> None:
    """Make sure that a path says something; the empty one would be the folder that one is in.

    Raises:
        AudioError: it does not.
    """
    if path == "":
        raise AudioError("a path is empty; name a file or a folder (a dot is the folder that you are in)")


@dataclass
class Found:
    """Sound files, and what was passed over on the way to them.

    Attributes:
        paths: in the order given; those of a folder by name.
        skipped: a line each for sound that cannot be read, links that lead nowhere or in a circle, closed folders.
    """

    paths: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def find_sounds(paths: Iterable[str | Path]) -> Found:
    """Files as they are, and every sound file below a folder.

    Args:
        paths: of files, of folders, or `-` for standard input.

    Raises:
        AudioError: a path is empty or does not exist, or a folder holds no sound file that can be read.
    """
    found = Found()
    for given in paths:
        require_named(given)
        path = Path(given)
        if str(path) == STREAM or (os.path.exists(path) and not path.is_dir()):
            found.paths.append(path)
        elif path.is_dir():
            found.paths += _find_inside(path, found.skipped)
        else:
            is_address = re.match("https?:/", str(path))
            remedy = "addresses are not fetched; download it first" if is_address else "correct the path"
            raise AudioError(f"audio file {show_path(path)} does not exist; {remedy}")
    return found


def _find_inside(folder: Path, skipped: list[str]) -> list[Path]:
    inside = []
    for path in walk(folder, skipped.append):
        if is_sound(path):
            inside.append(path)
        elif remedy := find_remedy(path):
            skipped.append(f"{show_path(path)} is passed over: {remedy}")
    if not inside:
        listed = "".join(f"\n  {line}" for line in skipped)
        raise AudioError(
            f"folder {show_path(folder)} holds no sound files that can be read ({', '.join(list_suffixes())}){listed}"
        )
    return sorted(inside, key=lambda path: path.relative_to(folder).parts)


def walk(folder: Path, report: Callable[[str], None]) -> Iterator[Path]:
    """Every file below a folder at any depth, links to files and folders included, each folder once.

    Names that begin with a dot are passed over: they are hidden, or macOS's notes about the file of the same name
    (`._x.wav`). Real folders come before links to folders, so that a file keeps the name under which it lies there.

    Args:
        folder: where to begin.
        report: is told in a line of each link that leads nowhere and each folder that cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:  # a link in a circle, or a second one to the same folder
                continue
            seen.add((status.st_dev, status.st_ino))
            names = sorted(name for name in os.listdir(here) if not name.startswith("."))
        except OSError as error:
            report(f"folder {show_path(here)} cannot be read: {error.strerror}")
            continue
        inner = list[Path]()
        for path in (here / name for name in names):
            kind = _find_kind(path)
            if kind is None:
                report(f"link {show_path(path)} leads nowhere")
            elif stat.S_ISDIR(kind):
                (links if path.is_symlink() else inner).append(path)
            elif stat.S_ISREG(kind):
                yield path
        folders += reversed(inner)


def _find_kind(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None
