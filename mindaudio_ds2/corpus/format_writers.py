"""Manifests in the formats of other projects, written so that their programs read what is meant."""

import csv
import dataclasses
import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from mindaudio_ds2.corpus.formats import COLUMNS, LINE_BREAKS, Format, is_unicode
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import write_atomically, write_text

WITH_TRANSCRIPT_FILES: tuple[Format, ...] = ("deepspeech.pytorch", "mindspore")
WITH_SIZES: tuple[Format, ...] = ("tensorflow", "mozilla")


def write_any_manifest(path: Path, utterances: Sequence[Utterance], kind: Format) -> None:
    """Write a manifest in one of the `formats.FORMATS`. Ids and speakers are lost but in our own, and durations but in
    `nemo`.

    `deepspeech.pytorch` and `mindspore` get a folder of transcripts beside the manifest: named as it is, with
    `_transcripts`; its files named after the utterances, with their places before the ids. All paths are absolute, or
    below an absolute root.

    Args:
        path: the manifest to write.
        utterances: its rows.
        kind: the format.

    Raises:
        ManifestError: something that this format's reader could not read as it is meant. Lists all of it.
        OutputError: no permission, no space, or the folder of transcripts is there already.
    """
    if kind == "ours":
        write_manifest(path, utterances)
        return
    path = path.absolute()
    utterances = [dataclasses.replace(u, audio_path=str(Path(u.audio_path).absolute())) for u in utterances]
    _refuse_unreadable(path, utterances, kind)
    if kind == "nemo":
        rows = [
            {"audio_filepath": u.audio_path, "duration": u.duration_seconds, "text": u.transcript} for u in utterances
        ]
        write_text(path, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
        return
    if kind in WITH_TRANSCRIPT_FILES:
        texts = _write_transcripts(path.with_name(f"{path.stem}_transcripts"), utterances)
        pairs = [(Path(u.audio_path), text) for u, text in zip(utterances, texts, strict=True)]
        content = _format_deepspeech_pytorch(path.parent, pairs) if kind == "deepspeech.pytorch" else _format_csv(pairs)
    else:
        content = _format_table(utterances, kind)
    write_text(path, content)


def _refuse_unreadable(path: Path, utterances: Sequence[Utterance], kind: Format) -> None:
    breaks = set(LINE_BREAKS + "\0" + ("\t" if kind == "tensorflow" else ""))
    problems = Problems()
    for utterance in utterances:
        audio_path, transcript = utterance.audio_path, utterance.transcript
        what = f"{utterance.id!r}: {audio_path!r}, {transcript!r}"
        if breaks & set(transcript):
            problems.add("transcript with a line break, a tab or another character that ends it", what)
        if breaks & set(audio_path) or (kind == "mindspore" and "," in audio_path):
            problems.add("audio path with a comma, a tab or a line break that ends it", what)
        if not is_unicode(f"{audio_path}{transcript}"):
            problems.add("text that is not Unicode", what)
        elif kind in WITH_SIZES and not os.path.isfile(audio_path):
            problems.add("audio that does not exist, so that its size is not known", what)
    if kind == "mindspore" and "," in str(path):
        problems.add("folder with a comma, below which the transcripts would lie", str(path.parent))
    problems.check(
        len(utterances), 0.0, f"{kind} could not read {path} as it is meant; rename the files, mend the transcripts"
    )


def _write_transcripts(folder: Path, utterances: Sequence[Utterance]) -> list[Path]:
    """A file for each transcript, in a new folder that appears when all of them are written."""
    if folder.exists():
        raise OutputError(f"the folder of transcripts {folder} is there already; delete it, or name another manifest")
    names = [f"{n:06d}-{re.sub(r'[^A-Za-z0-9_.-]', '_', u.id)[:80]}.txt" for n, u in enumerate(utterances, start=1)]

    def write(partial: Path) -> None:
        try:
            partial.mkdir()
            for name, utterance in zip(names, utterances, strict=True):
                (partial / name).write_bytes(f"{utterance.transcript}\n".encode())
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    write_atomically(folder, write)
    return [folder / name for name in names]


def _format_deepspeech_pytorch(folder: Path, pairs: Sequence[tuple[Path, Path]]) -> str:
    """ASCII only: its reader opens the file in the machine's own encoding."""
    root = Path(os.path.commonpath([folder, *{audio.parent for audio, _ in pairs}]))
    samples = [
        {"wav_path": str(audio.relative_to(root)), "transcript_path": str(text.relative_to(root))}
        for audio, text in pairs
    ]
    return json.dumps({"root_path": str(root), "samples": samples}) + "\n"


def _format_csv(pairs: Sequence[tuple[Path, Path]]) -> str:
    return "".join(f"{audio},{text}\n" for audio, text in pairs)


def _format_table(utterances: Sequence[Utterance], kind: Format) -> str:
    rows = [(u.audio_path, str(os.path.getsize(u.audio_path)), u.transcript) for u in utterances]
    if kind == "tensorflow":
        return "".join("\t".join(fields) + "\n" for fields in [COLUMNS, *rows])
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
    return table.getvalue()
