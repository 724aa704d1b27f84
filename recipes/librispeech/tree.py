"""Reading a tree of LibriSpeech's shape: `<reader>/<chapter>/<reader>-<chapter>-<number>.flac`, with transcripts.

A chapter's `<reader>-<chapter>.trans.txt` has a line `<id> <TRANSCRIPT>` for each of its files. Audio is not opened
here; everything wrong is collected in a `Problems`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import ManifestError

AUDIO_SUFFIXES = (".flac", ".wav")  # where an id has both, the first
CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the tree, with what is said in it.

    Attributes:
        id: `<reader>-<chapter>-<number>`.
        audio_path: below the folder that was read.
        stamp: length (bytes) and time of change (ns), which change when the file does.
        transcript: of `CHARACTERS`, single spaces; never empty.
        reader: who speaks.
    """

    id: str
    audio_path: str
    stamp: tuple[int, int]
    transcript: str
    reader: str


def read_tree(folder: Path, problems: Problems) -> list[Entry]:
    """Pair the audio of one subset with its transcripts. Names that begin with a dot are passed over.

    Args:
        folder: of the readers' folders.
        problems: gets all that cannot be used.

    Returns:
        Sorted by reader, chapter and id, as text.

    Raises:
        ManifestError: there is no such folder.
    """
    if not folder.is_dir():
        siblings = sorted(path.name for path in folder.parent.glob("*/")) if folder.parent.is_dir() else []
        raise ManifestError(
            f"there is no folder {folder}; {folder.parent} has {', '.join(siblings[:20]) or 'no folders'}. "
            "Name the folder that holds the subsets, and subsets that are there"
        )
    entries: list[Entry] = []
    for here, files, has_folders in _walk(folder, problems):
        audio = _find_audio(files)
        depth = len(here.relative_to(folder).parts)
        if depth == 2:
            entries.extend(_read_chapter(here, files, audio, problems))
            continue
        for name in audio.values():
            problems.add("audio outside of a chapter's folder", _say(here / name))
        if depth == 1 and not has_folders and not audio:
            problems.add("reader without chapters", _say(here))
    return entries


def _walk(folder: Path, problems: Problems) -> Iterator[tuple[Path, list[str], bool]]:
    """Every folder with the names of its files, sorted, and whether it has folders."""

    def report(error: OSError) -> None:
        problems.add("folder that cannot be read", f"{_say(Path(error.filename))}: {error.strerror}")

    for here, folders, files in os.walk(folder, onerror=report, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(here), sorted(name for name in files if not name.startswith(".")), bool(folders)


def _find_audio(files: list[str]) -> dict[str, str]:
    """Names of audio files by their ids."""
    audio: dict[str, str] = {}
    for suffix in AUDIO_SUFFIXES:
        for name in files:
            if name.lower().endswith(suffix):
                audio.setdefault(name[: -len(suffix)], name)
    return dict(sorted(audio.items()))


def _read_chapter(chapter: Path, files: list[str], audio: dict[str, str], problems: Problems) -> Iterator[Entry]:
    prefix = f"{chapter.parent.name}-{chapter.name}"
    path = chapter / f"{prefix}.trans.txt"
    if path.name not in files:
        if audio:
            what = f"{_say(path)} is missing; the chapter has {len(audio)} audio files"
            problems.add("chapter without its .trans.txt", what, num=len(audio))
        else:
            problems.add("empty chapter", _say(chapter))
        return
    transcripts = _read_transcripts(path, prefix, len(audio), problems)
    if transcripts is None:
        return
    if not transcripts and not audio:
        problems.add("empty chapter", _say(chapter))
    for id in sorted(transcripts.keys() - audio.keys()):
        problems.add("transcript without audio", f"{id} in {_say(path)}")
    for id, name in audio.items():
        if id not in transcripts:
            problems.add("audio without a transcript", _say(chapter / name))
        elif transcript := transcripts[id]:
            stamp = _stat(chapter / name, problems)
            if stamp:
                yield Entry(id, f"{chapter / name}", stamp, transcript, chapter.parent.name)


def _stat(path: Path, problems: Problems) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError as error:
        problems.add("audio that cannot be used", f"{_say(path)}: {error.strerror}")
        return None
    if stat.st_size == 0:
        problems.add("audio that cannot be used", f"{_say(path)} is an empty file")
        return None
    return stat.st_size, stat.st_mtime_ns


def _read_transcripts(path: Path, prefix: str, num_audio: int, problems: Problems) -> dict[str, str] | None:
    """Transcripts by id, empty where one cannot be used, which is noted; None where the file cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.add("transcripts that cannot be read", f"{_say(path)}: {error}", num=max(1, num_audio))
        return None
    transcripts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        id, *words = line.split() or [""]
        where = f"{_say(path)} line {number}"
        if not id:
            continue
        if not id.startswith(f"{prefix}-") or id == f"{prefix}-":
            problems.add("line that does not begin with an id of its chapter", f"{where}: {line[:60]!r}")
        elif id in transcripts:
            problems.add("id that stands twice", f"{where}: {id}")
        else:
            transcript = " ".join(words)
            kind, what = _find_fault(transcript)
            if kind:
                problems.add(kind, f"{where}: {id} {what}".rstrip())
            transcripts[id] = "" if kind else transcript
    return transcripts


def _find_fault(transcript: str) -> tuple[str, str]:
    """Kind and description of what is wrong with a transcript; empty where nothing is."""
    if not transcript:
        return "empty transcript", ""
    strange = "".join(sorted(set(transcript) - CHARACTERS))
    if not strange:
        return "", ""
    kind = "transcript with characters other than A to Z, apostrophe and space"
    if set(transcript.upper()) <= CHARACTERS:
        kind = "transcript with lower case letters"
    return kind, f"has {strange!r}: {transcript[:60]!r}"


def _say(path: Path) -> str:
    """A path as text that can be written, even where its name is not UTF-8."""
    return f"{path}".encode("utf-8", "backslashreplace").decode()
