"""Transcriptions as files: text, JSON, subtitles (SRT, WebVTT), NIST's CTM, and a table."""

import dataclasses
import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mindaudio_ds2.audio.sound_files import show_path
from mindaudio_ds2.corpus.naming import name_uniquely
from mindaudio_ds2.decoding.segments import make_cues
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.transcription import Transcription

WORD_JOINER = "\u2060"
"""Invisible. Behind a bracket it keeps players from taking text for a tag; SRT knows no escape."""


def as_text(transcriptions: Sequence[Transcription]) -> str:
    """One line a recording: path, tab, text."""
    return "\n".join(f"{show_path(t.path)}\t{t.text}" for t in transcriptions if not t.problem)


def as_json(transcriptions: Sequence[Transcription]) -> str:
    """A JSON list: path, duration in seconds, text, score, words and segments with times; or path and problem."""
    rows: list[dict[str, Any]] = []
    for t in transcriptions:
        if t.hypothesis is None:
            rows.append({"path": show_path(t.path), "problem": t.problem})
        else:
            spoken = dataclasses.asdict(t.hypothesis)
            segments = [
                {"text": s.text, "start_seconds": s.start_seconds, "end_seconds": s.end_seconds} for s in t.segments
            ]
            seconds = t.duration_seconds
            row = {"path": show_path(t.path), "duration_seconds": seconds, **spoken, "segments": segments}
            others = [dataclasses.asdict(other) for other in t.others]
            rows.append(row | ({"nbest": [spoken, *others]} if others else {}))
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_srt(transcriptions: Sequence[Transcription]) -> str:
    """SubRip subtitles of one recording."""
    blocks = []
    for number, cue in enumerate(make_cues(_only(transcriptions, "srt").words), start=1):
        times = f"{_clock(cue.start_milliseconds, ',')} --> {_clock(cue.end_milliseconds, ',')}"
        lines = [re.sub(r"([<{\\])", rf"\1{WORD_JOINER}", line) for line in cue.lines]
        blocks.append("\n".join([str(number), times, *lines, ""]))
    return "\n".join(blocks)


def as_vtt(transcriptions: Sequence[Transcription]) -> str:
    """WebVTT subtitles of one recording."""
    blocks = ["WEBVTT\n"]
    for cue in make_cues(_only(transcriptions, "vtt").words):
        times = f"{_clock(cue.start_milliseconds, '.')} --> {_clock(cue.end_milliseconds, '.')}"
        blocks.append("\n".join([times, *(html.escape(line, quote=False) for line in cue.lines), ""]))
    return "\n".join(blocks)


def as_ctm(transcriptions: Sequence[Transcription]) -> str:
    """NIST's CTM, a line a word: recording, channel, start and duration in seconds, word, confidence."""
    names = [re.sub(r"[\s;]+", "_", show_path(name)) for name in name_recordings([t.path for t in transcriptions])]
    return "\n".join(
        f"{name} 1 {word.start_seconds:.3f} "
        f"{word.end_seconds - word.start_seconds:.3f} {word.text} {word.confidence:.3f}"
        for name, t in zip(names, transcriptions, strict=True)
        for word in t.words
    )


def as_tsv(transcriptions: Sequence[Transcription]) -> str:
    """A table of segments between tabs, with a heading."""
    rows = ["path\tstart_seconds\tend_seconds\ttext"]
    rows += [
        f"{show_path(t.path)}\t{segment.start_seconds:.3f}\t{segment.end_seconds:.3f}\t{segment.text}"
        for t in transcriptions
        for segment in t.segments
    ]
    return "\n".join(rows)


FORMATS: dict[str, Callable[[Sequence[Transcription]], str]] = {
    "text": as_text,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
    "ctm": as_ctm,
    "tsv": as_tsv,
}
ENDINGS = {"text": ".txt"}
SUBTITLES = ("srt", "vtt")


def name_recordings(paths: Sequence[Path]) -> list[str]:
    """A name for each recording that no other has, without folders in it."""
    names: list[str] = []
    for name in name_uniquely(paths):
        plain = name.replace("/", "-")
        number, unique = 2, plain
        while unique in names:
            unique, number = f"{plain}_{number}", number + 1
        names.append(unique)
    return names


def _only(transcriptions: Sequence[Transcription], name: str) -> Transcription:
    if len(transcriptions) != 1:
        raise ConfigError(f"{name} holds one recording, found {len(transcriptions)}; name a folder with --output_dir")
    return transcriptions[0]


def _clock(milliseconds: int, point: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{thousandths:03d}"
