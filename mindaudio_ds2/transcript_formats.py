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
from mindaudio_ds2.decoding.segments import Cue, make_cues, make_dialogue_cues
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.transcription import Transcription

WORD_JOINER = "\u2060"
"""Invisible. Behind a bracket it keeps players from taking text for a tag; SRT knows no escape."""


def as_text(transcriptions: Sequence[Transcription]) -> str:
    """One line a recording or channel: path, tab, text."""
    return "\n".join(
        f"{show_path(t.path)}{f' [channel {t.channel}]' if t.channel else ''}\t{t.text}"
        for t in transcriptions
        if not t.problem
    )


def as_bare_text(transcriptions: Sequence[Transcription]) -> str:
    """The text of one recording; of several channels a line each: channel, tab, text."""
    if len(transcriptions) == 1:
        return transcriptions[0].text
    return "\n".join(f"channel {t.channel}\t{t.text}" for t in transcriptions)


def as_json(transcriptions: Sequence[Transcription]) -> str:
    """A JSON list: path, duration in seconds, text, score, words and segments with times; or path and problem.

    `recognized` and `silences` hold every second of the recording; only the former were given to the network. Paths are
    the files' own, for programs: what cannot be printed is escaped as JSON does it, and bytes that are no UTF-8 are
    Python's `os.fsdecode`.
    """
    rows: list[dict[str, Any]] = []
    for t in transcriptions:
        if t.hypothesis is None:
            rows.append({"path": str(t.path), "problem": t.problem})
            continue
        spoken = dataclasses.asdict(t.hypothesis)
        segments = [
            {"text": s.text, "start_seconds": s.start_seconds, "end_seconds": s.end_seconds} for s in t.segments
        ]
        row = {"path": str(t.path), **({"channel": t.channel} if t.channel else {})}
        row |= {"duration_seconds": t.duration_seconds, **spoken, "segments": segments}
        row |= {"recognized": [s._asdict() for s in t.recognized], "silences": [s._asdict() for s in t.silences]}
        others = [dataclasses.asdict(other) for other in t.others]
        rows.append(row | ({"nbest": [spoken, *others]} if others else {}))
    text = json.dumps(rows, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def as_srt(transcriptions: Sequence[Transcription]) -> str:
    """SubRip subtitles of one recording; of several channels each line begins with its speaker."""
    blocks = []
    for number, cue in enumerate(_make_cues(transcriptions, "srt"), start=1):
        times = f"{_clock(cue.start_milliseconds, ',')} --> {_clock(cue.end_milliseconds, ',')}"
        lines = [re.sub(r"([<{\\])", rf"\1{WORD_JOINER}", line) for line in cue.lines]
        if cue.speakers:
            lines = [f"{speaker}: {line}" for speaker, line in zip(cue.speakers, lines, strict=True)]
        blocks.append("\n".join([str(number), times, *lines, ""]))
    return "\n".join(blocks)


def as_vtt(transcriptions: Sequence[Transcription]) -> str:
    """WebVTT subtitles of one recording; of several channels each line is in its speaker's voice (`<v Speaker 1>`)."""
    blocks = ["WEBVTT\n"]
    for cue in _make_cues(transcriptions, "vtt"):
        times = f"{_clock(cue.start_milliseconds, '.')} --> {_clock(cue.end_milliseconds, '.')}"
        lines = [html.escape(line, quote=False) for line in cue.lines]
        if cue.speakers:
            lines = [f"<v {speaker}>{line}</v>" for speaker, line in zip(cue.speakers, lines, strict=True)]
        blocks.append("\n".join([times, *lines, ""]))
    return "\n".join(blocks)


def as_ctm(transcriptions: Sequence[Transcription]) -> str:
    """NIST's CTM, a line a word: recording, channel, start and duration in seconds, word, confidence.

    Both ends are rounded, so that words which touch do so here.
    """
    recordings = group_recordings(transcriptions)
    names = [re.sub(r"[\s;]+", "_", show_path(name)) for name in name_recordings([r[0].path for r in recordings])]
    return "\n".join(
        f"{name} {t.channel or 1} {word.start_seconds:.3f} "
        f"{round(word.end_seconds, 3) - round(word.start_seconds, 3):.3f} {word.text} {word.confidence:.3f}"
        for name, recording in zip(names, recordings, strict=True)
        for t in recording
        for word in t.words
    )


def as_tsv(transcriptions: Sequence[Transcription]) -> str:
    """A table of segments between tabs, with a heading; the channel is empty where all were mixed."""
    rows = ["path\tchannel\tstart_seconds\tend_seconds\ttext"]
    rows += [
        f"{show_path(t.path)}\t{t.channel or ''}\t{each.start_seconds:.3f}\t{each.end_seconds:.3f}\t{each.text}"
        for t in transcriptions
        for each in t.segments
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
FORMATS_OF_ONE = {**FORMATS, "text": as_bare_text}
"""For a file of one recording, whose name says which."""
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


def group_recordings(transcriptions: Sequence[Transcription]) -> list[list[Transcription]]:
    """The channels of each recording, which follow each other, together."""
    groups: list[list[Transcription]] = []
    for each in transcriptions:
        last = groups[-1][-1] if groups else None
        if last and last.channel and each.channel == last.channel + 1 and each.path == last.path:
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def _make_cues(transcriptions: Sequence[Transcription], name: str) -> tuple[Cue, ...]:
    recordings = group_recordings(transcriptions)
    if len(recordings) != 1:
        raise ConfigError(f"{name} holds one recording, found {len(recordings)}; name a folder with --output_dir")
    if len(transcriptions) == 1:
        return make_cues(transcriptions[0].words)
    return make_dialogue_cues({f"Speaker {t.channel}": t.words for t in transcriptions})


def _clock(milliseconds: int, point: str) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{thousandths:03d}"
