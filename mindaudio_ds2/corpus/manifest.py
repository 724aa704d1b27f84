"""The manifest: one utterance a line, as JSON. It is the contract between recipes and the package.

A line reads `{"id": "an406-fcaw-b", "audio_path": "wav/an406-fcaw-b.flac", "duration_seconds": 2.99,
"transcript": "RUBOUT G M E F THREE NINE", "speaker": "fcaw"}`. Relative audio paths count from the manifest's folder.
"""

import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindaudio_ds2.errors import ManifestError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.reading import ReadError, explain_foreign, parse_json

MAX_PROBLEMS_SHOWN = 10
EMPTY_REMEDY = "run the recipe's prepare.py, or write one line an utterance"

REQUIRED_KEYS = frozenset({"id", "audio_path", "duration_seconds", "transcript"})
KEYS = REQUIRED_KEYS | {"speaker"}
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can write and UTF-8 cannot


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording with its reference.

    Attributes:
        id: unique in its manifest; names the utterance in logs, errors and results.
        audio_path: any file that `audio.io` reads; absolute once read from a manifest.
        duration_seconds: length of the audio, at full precision (samples / rate).
        transcript: what is said; never empty.
        speaker: who says it; empty where unknown.
    """

    id: str
    audio_path: str
    duration_seconds: float
    transcript: str
    speaker: str = ""

    def __post_init__(self) -> None:
        problem = _find_problem(self)
        if problem:
            raise ManifestError(f"utterance {self.id!r}: {problem}")


def _find_problem(utterance: Utterance) -> str | None:
    for name in ("id", "audio_path", "transcript", "speaker"):
        value = getattr(utterance, name)
        if not isinstance(value, str):
            return f"{name} must be text, found {value!r}"
        if LONE_SURROGATE.search(value):
            return f"{name} has half a character, {value!r}; write the file again as UTF-8"
    duration = utterance.duration_seconds
    if not isinstance(duration, (int, float)) or isinstance(duration, bool) or not math.isfinite(duration):
        return f"duration_seconds must be a number of seconds, found {duration!r}"
    if duration <= 0:
        return f"duration_seconds must be positive, found {duration!r}; remove the utterance or re-record it"
    if not utterance.id.strip():
        return "the id is empty; give every utterance a name of its own"
    if not utterance.audio_path:
        return "audio_path is empty"
    if not utterance.transcript.strip():
        return "the transcript is empty; write what is said, or remove the line"
    return None


def read_manifest(path: str | Path, root: str | Path | None = None) -> list[Utterance]:
    """Read and validate a manifest of our own format; `opening.open_manifest` reads all.

    Args:
        path: a JSON-lines file, see the module's text.
        root: the folder from which relative audio paths count; None for the manifest's own.

    Returns:
        The utterances in the file's order, with absolute audio paths. Audio files are not opened here.

    Raises:
        ManifestError: missing, empty or not readable; or lines that are no utterance or repeat an id. The message
            lists the first of them with their line numbers and says how many there are.
    """
    path = Path(path)
    utterances: list[Utterance] = []
    problems: list[str] = []
    lines_by_id: dict[str, int] = {}
    folder = str(find_folder(path, root))
    text = read_text(path)
    if text.lstrip().startswith("["):
        raise ManifestError(
            f"manifest {path} is a JSON array; write one object a line, without brackets or commas between them "
            "(jq -c '.[]' does that)"
        )
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            utterance = _parse_line(line, folder)
        except ManifestError as error:
            problems.append(f"line {number}: {error}")
            continue
        first = lines_by_id.setdefault(utterance.id, number)
        if first != number:
            problems.append(f"line {number}: id {utterance.id!r} already stands on line {first}; ids must differ")
        utterances.append(utterance)
    if problems:
        shown = "\n  ".join(problems[:MAX_PROBLEMS_SHOWN])
        raise ManifestError(f"manifest {path} has {len(problems)} unusable lines; mend or remove them:\n  {shown}")
    if not utterances:
        raise ManifestError(f"manifest {path} is empty; {EMPTY_REMEDY}")
    return utterances


def find_folder(path: Path, root: str | Path | None) -> Path:
    """The folder from which a manifest's relative paths count: `root`, or the manifest's own."""
    return path.absolute().parent if root is None else Path(root).absolute()


def read_text(path: Path) -> str:
    """All of a manifest, its line breaks as they stand there, without a mark of byte order.

    Raises:
        ManifestError: there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(
            f"manifest {path} does not exist; make it with a recipe's prepare.py, or set the right path"
        ) from None
    except UnicodeDecodeError:
        raise ManifestError(f"manifest {path} cannot be read as UTF-8 text: {explain_foreign(path)}") from None
    except OSError as error:
        raise ManifestError(f"manifest {path} cannot be read: {error}; correct the path") from error


def _parse_line(line: str, folder: str) -> Utterance:
    try:
        row: dict[str, Any] = parse_json(line)
    except ReadError as error:
        raise ManifestError(f"not JSON ({error}): {line[:80]!r}") from None
    if not isinstance(row, dict):
        raise ManifestError(f"must be a JSON object, found {line[:80]!r}")
    if not REQUIRED_KEYS <= row.keys() <= KEYS:
        missing, unknown = sorted(REQUIRED_KEYS - row.keys()), sorted(row.keys() - KEYS)
        raise ManifestError(
            f"missing keys {missing}, unknown keys {unknown}; a line has {', '.join(sorted(REQUIRED_KEYS))}, may have "
            "speaker, and nothing else"
        )
    if isinstance(row["audio_path"], str) and row["audio_path"]:
        row["audio_path"] = os.path.join(folder, row["audio_path"])  # a Path takes five times as long
    return Utterance(**row)


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, all or nothing. Audio below the manifest's folder is written as a relative path.

    Raises:
        ManifestError: an id stands twice.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    folder = path.absolute().parent
    seen: set[str] = set()
    lines = []
    for utterance in utterances:
        if utterance.id in seen:
            raise ManifestError(f"id {utterance.id!r} would stand twice in {path}; ids must differ")
        seen.add(utterance.id)
        lines.append(json.dumps(_to_row(utterance, folder), ensure_ascii=False))
    write_text(path, "\n".join(lines) + "\n")


def _to_row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    audio_path = Path(utterance.audio_path)
    if audio_path.is_relative_to(folder):
        audio_path = audio_path.relative_to(folder)
    return {
        "id": utterance.id,
        "audio_path": str(audio_path),
        "duration_seconds": utterance.duration_seconds,
        "transcript": utterance.transcript,
        "speaker": utterance.speaker,
    }
