"""The door for manifests: every command reads them here, whatever their format.

Formats without durations get them from the headers of the audio, several files at a time. What took longer than
`SECONDS_WORTH_KEEPING` is kept in the user's cache folder, one file for each manifest, and good as long as a recording
has the same size and time of change.
"""

import functools
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindaudio_ds2 import console, models
from mindaudio_ds2.audio.io import measure_durations
from mindaudio_ds2.corpus.formats import read_any_manifest
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import AudioError, ManifestError, OutputError
from mindaudio_ds2.files import list_cache_folders, write_text
from mindaudio_ds2.reading import parse_json

SECONDS_WORTH_KEEPING = 2.0
MANY_FILES = 2000
"""More than these are measured for some seconds, so a line says so where no bar is shown."""

REMEDY = (
    "Mend these rows, or write a manifest without them: mindaudio-ds2 manifest convert MANIFEST --max_problem_share X "
    "--output FILE"
)

Known = dict[str, list[Any]]
"""By path: size (bytes), time of change (ns), duration (seconds)."""


def open_manifest(path: str | Path, root: str | Path | None = None) -> list[Utterance]:
    """Read a manifest of any of the `formats.FORMATS`, told apart by what it holds.

    Args:
        path: the manifest, UTF-8.
        root: the folder from which relative paths count; None for the manifest's own.

    Returns:
        The utterances in the manifest's order, with absolute audio paths.

    Raises:
        ManifestError: no such file, no manifest, or a row that cannot be used; lists the first of each kind.
    """
    path, problems = Path(path), Problems()
    utterances = read_any_manifest(path, None, functools.partial(_measure_once, path), problems, root)
    problems.check(len(utterances) + problems.num, 0.0, f"{path} has rows that cannot be used. {REMEDY}")
    return utterances


def require_named_manifest(network: Path, named: str | None) -> None:
    """Before a manifest is read that nobody asked for, because the file of a network names it: may it be?

    Args:
        network: a checkpoint.
        named: what its configuration names; None while that is not read yet.

    Raises:
        ManifestError: the network is a packed model, which brings no recordings, or the manifest is not here.
    """
    problem = ""
    if (model := models.find_model(network)) is not None:
        problem = f"model {model!r} brings no recordings to be scored on"
    elif named is not None and not Path(named).exists():
        problem = f"{named}, which {network} names, is not here"
    if problem:
        raise ManifestError(
            f"{problem}; name a manifest with --manifest FILE (recipes/custom/prepare.py writes one of recordings "
            "with a .txt beside each)"
        )


def add_data_root(parser: Any) -> None:
    """The option of commands that read manifests and have no YAML with `data.root`."""
    parser.add_argument(
        "--data_root",
        metavar="DIR",
        help="where relative paths in manifests begin (path; default: the manifest's folder)",
    )


def _measure_once(manifest: Path, paths: Sequence[Path]) -> list[float | AudioError]:
    """Durations of a manifest's recordings, as far as possible those that were measured for it before."""
    known = _read_known(manifest)
    signatures = [_sign(path) for path in paths]
    durations: list[float | AudioError | None] = [
        known[str(path)][2] if signature and known.get(str(path), [])[:2] == signature else None
        for path, signature in zip(paths, signatures, strict=True)
    ]
    wanted = [place for place, duration in enumerate(durations) if duration is None]
    if not wanted:
        return [duration for duration in durations if duration is not None]
    if len(wanted) > MANY_FILES:
        console.write_line(f"measuring {len(wanted):,} recordings of {manifest}, whose format has no durations")
    started = time.monotonic()
    for place, duration in zip(wanted, measure_durations([paths[i] for i in wanted], os.cpu_count() or 1), strict=True):
        durations[place] = duration
    measured = [duration for duration in durations if duration is not None]
    if time.monotonic() - started >= SECONDS_WORTH_KEEPING:
        rows = zip(paths, signatures, measured, strict=True)
        _keep(manifest, {str(path): [*sign, each] for path, sign, each in rows if sign and isinstance(each, float)})
    return measured


def _sign(path: Path) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _name_cache(folder: Path, manifest: Path) -> Path:
    return folder / "durations" / f"{hashlib.sha1(os.fsencode(manifest.absolute())).hexdigest()[:16]}.json"


def _read_known(manifest: Path) -> Known:
    """What is kept for a manifest; nothing where that is missing or damaged, for it is measured anew."""
    for folder in list_cache_folders():
        try:
            rows = parse_json(_name_cache(folder, manifest).read_text(encoding="utf-8"))
            return {path: [int(size), int(changed), float(seconds)] for path, (size, changed, seconds) in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            continue
    return {}


def _keep(manifest: Path, known: Known) -> None:
    for folder in list_cache_folders():
        try:
            write_text(_name_cache(folder, manifest), json.dumps(known))
            return
        except OutputError:  # a full disk, say: the next start measures again
            continue
