"""People's own recordings: audio files with what is said in them, as a folder or as a table.

A folder holds audio at any depth, and beside each file a .txt of the same name. A table is a CSV or TSV whose header
names its columns. Nothing here opens audio; everything wrong is collected in a `Problems`.
"""

import csv
import io
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindaudio_ds2.audio import sound_files
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import ManifestError
from mindaudio_ds2.reading import explain_foreign

PATH_COLUMNS = ("path", "audio", "wav_filename", "file")
TRANSCRIPT_COLUMNS = ("transcript", "text", "sentence")
SPEAKER_COLUMNS = ("speaker", "client_id")

SpeakerSource = Literal["column", "folder", "prefix", "none"]
"""What names a speaker: a table's column; the first folder in which the files differ; a file's name up to `_` or `-`;
or nothing."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An audio file and what is said in it.

    Attributes:
        name: the file's path without its suffix, from the folder in which all files lie; unique.
        audio_path: absolute; the file exists.
        transcript: in Unicode's composed form (NFC), single spaces; never empty.
        speaker: empty where unknown.
    """

    name: str
    audio_path: Path
    transcript: str
    speaker: str


@dataclass(frozen=True, slots=True)
class _Entry:
    where: str
    audio_path: Path
    text: str
    speaker: str = ""


def read_folder(folder: Path, speaker_source: SpeakerSource | None, problems: Problems) -> list[Recording]:
    """Pair the audio below a folder with its texts.

    Files and folders whose names begin with a dot are passed over, and so are those that are neither sound nor .txt.

    Args:
        folder: of the recordings.
        speaker_source: None stands for "folder".
        problems: gets every file that cannot be used.

    Returns:
        In the order of their names.

    Raises:
        ManifestError: no such folder, no audio in it, or speakers from a column, which a folder has not.
    """
    if speaker_source == "column":
        raise ManifestError(f"{folder} is a folder and has no column of speakers; choose folder, prefix or none")
    audio, texts = _find_files(Path(os.path.abspath(folder)), problems)
    if not audio:
        raise ManifestError(
            f"no audio lies below {folder}; its files should end in one of {' '.join(sound_files.list_suffixes())}"
        )
    for name in sorted(texts.keys() - audio.keys()):
        problems.add("text without audio", str(texts[name]))
    entries = []
    for name, path in sorted(audio.items()):
        if name not in texts:
            problems.add("audio without text", f"{path}: there is no {path.with_suffix('.txt').name} beside it")
            continue
        try:
            entries.append(_Entry(str(texts[name]), path, texts[name].read_text(encoding="utf-8-sig")))
        except UnicodeDecodeError:
            problems.add("text that cannot be read", f"{texts[name]} is not UTF-8: {explain_foreign(texts[name])}")
        except OSError as error:
            problems.add("text that cannot be read", f"{texts[name]}: {error}")
    return _make_recordings(entries, speaker_source or "folder", problems)


def _find_files(folder: Path, problems: Problems) -> tuple[dict[str, Path], dict[str, Path]]:
    """Audio and texts by their paths without suffix, in composed form: macOS writes the same name decomposed."""
    if not folder.is_dir():
        raise ManifestError(f"{folder} does not exist or is no folder; name the folder of the recordings, or a table")
    audio: dict[str, Path] = {}
    texts: dict[str, Path] = {}
    foreign: dict[str, Path] = {}
    for path in _walk(folder, problems):
        suffix = path.suffix.lower()
        name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        if suffix in sound_files.MEDIA_SUFFIXES or sound_files.find_remedy(path):
            foreign[name] = path
        elif suffix in sound_files.SUFFIXES or suffix == ".txt":
            found = texts if suffix == ".txt" else audio
            if found.setdefault(name, path) != path:
                problems.add("file of the same name as another", f"{path}: {found[name].name} is there too")
    for name in sorted(foreign.keys() - audio.keys()):  # others have been converted
        path = foreign[name]
        if sound_files.is_sound(path):
            audio[name] = path
            continue
        problems.add("audio in a format that cannot be read", f"{path}: {sound_files.find_remedy(path)}")
        texts.pop(name, None)
    return audio, texts


def _walk(folder: Path, problems: Problems) -> Iterator[Path]:
    def report(line: str) -> None:
        problems.add("folder or link that cannot be read", line)

    for path in sound_files.walk(folder, report):
        if _is_utf8(path):
            yield path
        else:
            problems.add("file name that is not UTF-8", f"{str(path)!r}: rename it")


def read_table(table: Path, speaker_source: SpeakerSource | None, problems: Problems) -> list[Recording]:
    """Read a CSV (columns divided by comma, semicolon or tab, fields quoted where need be) or a TSV (never quoted).

    Audio paths count from the table's folder, or from its folder `clips`, as in Common Voice.

    Args:
        table: UTF-8; its header names one each of `PATH_COLUMNS` and `TRANSCRIPT_COLUMNS`, and perhaps one of
            `SPEAKER_COLUMNS`.
        speaker_source: None stands for "column" where there is one, else for "folder".
        problems: gets every row that cannot be used.

    Returns:
        In the order of the rows.

    Raises:
        ManifestError: no such table, not UTF-8, without the columns, without rows, or not a table at all.
    """
    rows = _read_rows(table)
    header = [cell.strip().lower() for cell in rows[0][1]]
    path_column = _find_column(table, header, PATH_COLUMNS)
    transcript_column = _find_column(table, header, TRANSCRIPT_COLUMNS)
    speaker_columns = [header.index(name) for name in SPEAKER_COLUMNS if name in header]
    if speaker_source == "column" and not speaker_columns:
        raise ManifestError(f"{table} has none of the columns {', '.join(SPEAKER_COLUMNS)}; its header is {header}")
    source: SpeakerSource = speaker_source or ("column" if speaker_columns else "folder")
    entries = []
    for number, cells in rows[1:]:
        where = f"line {number}"
        if len(cells) != len(header):
            problems.add("row of another length than the header", f"{where}: {len(cells)} fields, not {len(header)}")
            continue
        path = _find_audio(Path(os.path.abspath(table)).parent, cells[path_column].strip())
        if path is None:
            problems.add("audio that does not exist", f"{where}: {cells[path_column]!r}")
            continue
        speaker = cells[speaker_columns[0]] if source == "column" else ""
        entries.append(_Entry(where, path, cells[transcript_column], _clean(speaker)))
    return _make_recordings(entries, source, problems)


def _read_rows(table: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, header first, each with the number of its (last) line."""
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError(f"table {table} cannot be read as UTF-8 text: {explain_foreign(table)}") from None
    except OSError as error:
        raise ManifestError(f"table {table} cannot be read: {error}; correct the path") from error
    first_line = text.partition("\n")[0]
    is_tsv = table.suffix.lower() == ".tsv"
    delimiter = "\t" if is_tsv else max(",;\t", key=first_line.count)
    lines = io.StringIO(text, newline="")
    if is_tsv:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ManifestError(
            f"table {table}, line {reader.line_num}: {error}; a field with a quotation mark is written in quotation "
            "marks, and those in it are doubled"
        ) from error
    if len(rows) < 2:
        raise ManifestError(f"table {table} has {len(rows)} lines; it needs a header and a line for each recording")
    return rows


def _find_column(table: Path, header: list[str], names: Sequence[str]) -> int:
    found = [name for name in names if name in header]
    if not found:
        raise ManifestError(f"table {table} has none of the columns {', '.join(names)}; its header is {header}")
    if header.count(found[0]) > 1:
        raise ManifestError(f"table {table} has {header.count(found[0])} columns named {found[0]}; leave one")
    return header.index(found[0])


def _find_audio(folder: Path, value: str) -> Path | None:
    candidates = [folder / value, folder / "clips" / value] if value else []
    return next((Path(os.path.abspath(path)) for path in candidates if os.path.isfile(path)), None)


def _make_recordings(entries: list[_Entry], source: SpeakerSource, problems: Problems) -> list[Recording]:
    """Clean the texts, name files and speakers; whatever is empty, doubled or garbled goes to `problems`."""
    if not entries:
        return []
    root = Path(os.path.commonpath([entry.audio_path.parent for entry in entries]))
    recordings: dict[str, Recording] = {}
    for entry in entries:
        name = unicodedata.normalize("NFC", entry.audio_path.relative_to(root).with_suffix("").as_posix())
        transcript = _clean(entry.text)
        if not transcript:
            problems.add("empty text", f"{entry.where} ({entry.audio_path})")
        elif "\ufffd" in transcript or "\0" in transcript:
            problems.add("garbled text", f"{entry.where}: {transcript!r}; it was saved in another encoding than UTF-8")
        elif name in recordings:
            problems.add("recording given twice", f"{entry.where}: {entry.audio_path} as {recordings[name].audio_path}")
        else:
            speaker = entry.speaker if source == "column" else _name_speaker(name, source)
            recordings[name] = Recording(name, entry.audio_path, transcript, speaker)
    return list(recordings.values())


def _name_speaker(name: str, source: SpeakerSource) -> str:
    folder, _, rest = name.partition("/")
    if source == "folder":
        return folder if rest else ""
    if source == "none":
        return ""
    stem = name.rpartition("/")[2]
    end = min((stem.index(mark) for mark in "_-" if mark in stem), default=0)
    return stem[:end]


def _clean(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
