"""The manifests of other projects, told apart, and read as their own programs read them.

| name                 | a row                                                      | its reader                      |
| -------------------- | ---------------------------------------------------------- | ------------------------------- |
| `deepspeech.pytorch` | JSON: `root_path`, `samples` of `wav_path, transcript_path`| joins the paths to the root     |
| `mindspore`          | `AUDIO,TRANSCRIPT FILE`, no header                         | splits at commas, has no quotes |
| `tensorflow`         | `wav_filename, wav_filesize, transcript` between tabs      | splits at tabs, has no quotes   |
| `mozilla`            | the same three between commas                              | takes CSV with quotes           |
| `nemo`               | JSON: `audio_filepath, text, duration`, a line each        | takes durations as they are     |

MindAudio reads the first of them by the order of a sample's values, whatever their keys; what it writes itself says
`data_path` and `txt_path`, and is read here too. None of the formats has ids or speakers, and only NeMo's has
durations: an id is made of the audio's name, the speaker is unknown, and the audio is measured. Relative paths count
from the manifest's folder, or from another that is named.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tqdm import tqdm

from mindaudio_ds2 import console
from mindaudio_ds2.corpus.manifest import EMPTY_REMEDY, Utterance, find_folder, read_manifest, read_text
from mindaudio_ds2.corpus.naming import name_uniquely
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import AudioError, ManifestError
from mindaudio_ds2.reading import ReadError, explain_foreign, parse_json

Format = Literal["ours", "deepspeech.pytorch", "mindspore", "tensorflow", "mozilla", "nemo"]
FORMATS: tuple[Format, ...] = get_args(Format)
MANY_ROWS = 20_000
COLUMNS = ("wav_filename", "wav_filesize", "transcript")

Measure = Callable[[Sequence[Path]], list[float | AudioError]]
"""Durations (seconds) of audio files, in their order; an error for a file that has none."""

LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""Everything at which one of the readers ends a line, or which it drops."""


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    audio_path: Path
    transcript: str
    seconds: float | None = None  # None is measured


def read_any_manifest(
    path: Path, kind: Format | None, measure: Measure, problems: Problems, root: str | Path | None = None
) -> list[Utterance]:
    """Read a manifest of any of the `FORMATS`.

    Args:
        path: the manifest, UTF-8.
        kind: its format; None recognises it by what it holds.
        measure: gives the durations where the format has none.
        problems: gets every row that cannot be used: no transcript file, audio that cannot be measured, and so on.
            Our own format allows none, and raises.
        root: the folder from which relative paths count; None for the manifest's own.

    Returns:
        The usable rows in their order, with absolute audio paths.

    Raises:
        ManifestError: no such file, or not a manifest of this format, or of any.
    """
    text = read_text(path)
    kind = kind or recognise(path, text)
    if kind == "ours":
        return read_manifest(path, root)
    folder = find_folder(path, root)
    rows = [row for row in _READERS[kind](path, text, folder, problems) if _is_usable(row, problems)]
    ids = name_uniquely([row.audio_path for row in rows])
    measured = iter(measure([row.audio_path for row in rows if row.seconds is None]))
    utterances = []
    for row, utterance_id in zip(rows, ids, strict=True):
        duration = next(measured) if row.seconds is None else row.seconds
        if isinstance(duration, AudioError):
            problems.add("audio that cannot be measured", f"{row.where}: {duration}")
            continue
        try:
            utterances.append(Utterance(utterance_id, str(row.audio_path), duration, row.transcript))
        except ManifestError as error:
            problems.add("row that is no utterance", f"{row.where}: {error}")
    return utterances


def _is_usable(row: _Row, problems: Problems) -> bool:
    if "\0" not in str(row.audio_path) and is_unicode(f"{row.audio_path}{row.transcript}"):
        return True
    problems.add("text that is not Unicode", f"{row.where}: {str(row.audio_path)!r}, {row.transcript!r}")
    return False


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8; halves of surrogate pairs, from bytes of other encodings, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def recognise(path: Path, text: str) -> Format:
    """Tell a manifest's format from its text.

    Args:
        path: where the text stands, for the error.
        text: all of the manifest.

    Raises:
        ManifestError: it is none of the `FORMATS`.
    """
    first = text.lstrip().partition("\n")[0].rstrip("\r")
    if not first:
        raise ManifestError(f"manifest {path} is empty; {EMPTY_REMEDY}")
    columns = [column.strip('"') for column in re.split("[\t,]", first)]
    if first.startswith("{"):
        try:
            keys = parse_json(first)
            return "deepspeech.pytorch" if "samples" in keys else "nemo" if "audio_filepath" in keys else "ours"
        except ReadError:  # one object over many lines, or ours with a damaged line
            return "deepspeech.pytorch" if '"samples"' in text else "ours"
    if first.startswith("["):
        return "ours"  # JSON, but no utterance: our reader says so
    if COLUMNS[0] in columns:
        return "tensorflow" if "\t" in first else "mozilla"
    if len(columns) == 2 and "," in first:
        return "mindspore"
    raise ManifestError(
        f"{path} is no manifest of a known format ({', '.join(FORMATS)}); its first line is {first[:80]!r}. Name "
        "another, or say which it is: mindaudio-ds2 manifest convert --from FORMAT"
    )


def _read_deepspeech_pytorch(path: Path, text: str, base: Path, problems: Problems) -> list[_Row]:
    try:
        content: Any = parse_json(text)
    except ReadError as error:
        raise ManifestError(f"manifest {path} is not JSON: {error}") from None
    is_mapping = isinstance(content, dict)
    root = content.get("root_path", content.get("data_path")) if is_mapping else None
    samples = content.get("samples") if is_mapping else None
    if not isinstance(root, str) or not isinstance(samples, list) or not samples:
        raise ManifestError(f"manifest {path} needs a root_path (text) and samples (a list that is not empty)")
    folder = base / root
    rows: list[_Row] = []
    for number, sample in enumerate(_watch(samples, path), start=1):
        where = f"sample {number}"
        sample = sample if isinstance(sample, dict) else {}
        audio, transcript = sample.get("wav_path"), sample.get("transcript_path", sample.get("txt_path"))
        if isinstance(audio, str) and isinstance(transcript, str):
            _add_row(rows, where, folder / audio, folder / transcript, problems)
        else:
            problems.add("row without its fields", f"{where}: no wav_path, or no transcript_path or txt_path")
    return rows


def _read_mindspore(path: Path, text: str, folder: Path, problems: Problems) -> list[_Row]:
    rows: list[_Row] = []
    for number, line in _watch(_number_lines(path, re.split("\r\n|\r|\n", text)), path):
        fields = line.strip().split(",")
        where = f"line {number}"
        if len(fields) == 2:
            _add_row(rows, where, folder / fields[0], folder / fields[1], problems)
        else:
            problems.add("row without its fields", f"{where}: {len(fields)} fields between commas, not 2: {line!r}")
    return rows


def _watch(rows: list[Any], path: Path) -> Iterator[Any]:
    """Rows whose transcripts are files, which takes a while for many: with a bar, and a line where nobody watches."""
    if len(rows) > MANY_ROWS:
        console.write_line(f"reading {len(rows):,} transcripts of {path}")
    yield from tqdm(rows, "reading transcripts", unit="file", disable=None, delay=2)


def _add_row(rows: list[_Row], where: str, audio: Path, transcript: Path, problems: Problems) -> None:
    """A row whose transcript stands in a file of its own; line breaks at its end do not count."""
    try:
        rows.append(_Row(where, audio, transcript.read_bytes().decode("utf-8-sig").rstrip("\r\n")))
    except UnicodeDecodeError:
        reason = f"{where}: {transcript} is not UTF-8: {explain_foreign(transcript)}"
        problems.add("transcript that cannot be read", reason)
    except (OSError, ValueError) as error:
        problems.add("transcript that cannot be read", f"{where}: {transcript}: {error}")


def _read_tensorflow(path: Path, text: str, folder: Path, problems: Problems) -> list[_Row]:
    lines = _number_lines(path, text.splitlines())
    if tuple(lines[0][1].split("\t")) != COLUMNS:
        raise ManifestError(f"manifest {path} must begin with {' '.join(COLUMNS)}, divided by tabs: {lines[0][1]!r}")
    rows = []
    for number, line in lines[1:]:
        fields = line.split("\t")
        if len(fields) == 3:
            rows.append(_Row(f"line {number}", folder / fields[0], fields[2]))
        else:
            problems.add("row without its fields", f"line {number}: {len(fields)} fields between tabs, not 3: {line!r}")
    return rows


def _number_lines(path: Path, lines: list[str]) -> list[tuple[int, str]]:
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise ManifestError(f"manifest {path} is empty")
    return numbered


def _read_mozilla(path: Path, text: str, folder: Path, problems: Problems) -> list[_Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        missing = {"wav_filename", "transcript"} - set(reader.fieldnames or ())
        if missing:
            raise ManifestError(f"manifest {path} lacks the columns {sorted(missing)}; it has {reader.fieldnames}")
        for fields in reader:
            where = f"line {reader.line_num}"
            audio, transcript = fields["wav_filename"], fields["transcript"]
            if audio is None or transcript is None or None in fields:
                problems.add("row without its fields", f"{where}: it has more or fewer fields than the header")
            else:
                rows.append(_Row(where, folder / audio, transcript))
    except csv.Error as error:
        raise ManifestError(
            f"manifest {path}, line {reader.line_num}: {error}; a field with a quotation mark is written in quotation "
            "marks, and those in it are doubled"
        ) from error
    return rows


def _read_nemo(path: Path, text: str, folder: Path, problems: Problems) -> list[_Row]:
    rows = []
    for number, line in _number_lines(path, text.split("\n")):
        where = f"line {number}"
        try:
            fields = parse_json(line)
        except ReadError as error:
            problems.add("row that is no JSON", f"{where}: {error}")
            continue
        fields = fields if isinstance(fields, dict) else {}
        audio, transcript = fields.get("audio_filepath"), fields.get("text")
        if not isinstance(audio, str) or not isinstance(transcript, str):
            problems.add("row without its fields", f"{where}: no audio_filepath, or no text")
        elif fields.get("offset"):
            problems.add("part of a recording", f"{where}: offset is {fields['offset']!r}; cut the part out as a file")
        else:
            rows.append(_Row(where, folder / audio, transcript, fields.get("duration")))
    return rows


_READERS = {
    "deepspeech.pytorch": _read_deepspeech_pytorch,
    "mindspore": _read_mindspore,
    "tensorflow": _read_tensorflow,
    "mozilla": _read_mozilla,
    "nemo": _read_nemo,
}
