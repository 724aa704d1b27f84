import dataclasses
import html
import itertools
import json
import os
from pathlib import Path

import pysubs2
import pytest

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.decoding.segments import make_cues
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.transcript_formats import (
    FORMATS,
    as_ctm,
    as_json,
    as_srt,
    as_tsv,
    as_vtt,
    group_recordings,
    name_recordings,
)
from mindaudio_ds2.transcription import Transcription


def say(path: str, *words: tuple[str, float, float]) -> Transcription:
    spoken = tuple(Word(text, start, end, 0.5) for text, start, end in words)
    return Transcription(Path(path), 5000.0, Hypothesis(" ".join(word.text for word in spoken), -1.0, spoken), "")


TALK = say("a/talk one.wav", ("R&D", 0.5, 0.9), ("<i>", 1.0, 1.4), ("{X}", 3723.004, 3724.5))


@pytest.mark.parametrize(("name", "write"), [("srt", as_srt), ("vtt", as_vtt)])
def test_another_program_reads_the_subtitles_with_the_same_times_and_text(name: str, write: object) -> None:
    events = pysubs2.SSAFile.from_string(FORMATS[name]([TALK]), format_=name)
    cues = make_cues(TALK.words)
    assert [(e.start, e.end) for e in events] == [(c.start_milliseconds, c.end_milliseconds) for c in cues]
    shown = [html.unescape(event.text).replace("\u2060", "") for event in events]
    if name == "srt":
        assert shown == ["R&D <i>", "{X}"]
    else:
        assert shown[0] == "R&D <i>"
    assert events[-1].start == 3_723_004


def test_vtt_escapes_what_its_players_take_for_tags() -> None:
    assert "R&amp;D &lt;i&gt;" in as_vtt([TALK])


CALL = [
    dataclasses.replace(say("call.wav", ("HELLO", 0.5, 0.9), ("THERE", 1.0, 1.4), ("YES", 6.0, 6.4)), channel=1),
    dataclasses.replace(say("call.wav", ("HI", 1.2, 1.6), ("A&B", 9.0, 9.4)), channel=2),
]


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_two_sides_of_a_call_are_two_speakers_in_subtitles(name: str) -> None:
    events = pysubs2.SSAFile.from_string(FORMATS[name](CALL), format_=name)
    assert [event.start for event in events] == [500, 6000, 9000]
    assert all(one.end < other.start for one, other in zip(events[:-1], events[1:], strict=True))
    if name == "srt":
        shown = [event.text for event in events]
        assert shown == [r"Speaker 1: HELLO THERE\NSpeaker 2: HI", "Speaker 1: YES", "Speaker 2: A&B"]
    else:
        assert "<v Speaker 1>HELLO THERE</v>\n<v Speaker 2>HI</v>\n" in FORMATS[name](CALL)
    text = FORMATS[name](CALL)
    assert text.count("Speaker 1") == text.count("Speaker 2") == 2


def test_two_sides_of_a_call_are_two_channels_in_ctm_tables_json_and_text() -> None:
    assert [line.split()[:2] for line in as_ctm(CALL).splitlines()] == [["call", "1"]] * 3 + [["call", "2"]] * 2
    assert [row.split("\t")[1] for row in as_tsv(CALL).splitlines()] == ["channel", "1", "1", "2", "2"]
    assert [row["channel"] for row in json.loads(FORMATS["json"](CALL))] == [1, 2]
    assert FORMATS["text"](CALL).splitlines() == [
        "call.wav [channel 1]\tHELLO THERE YES",
        "call.wav [channel 2]\tHI A&B",
    ]


def test_channels_belong_to_their_recording_even_where_it_is_given_twice() -> None:
    assert [len(group) for group in group_recordings([*CALL, *CALL, TALK, TALK])] == [2, 2, 1, 1]


def test_subtitles_of_two_recordings_want_a_folder() -> None:
    with pytest.raises(ConfigError, match="--output_dir"):
        as_srt([TALK, TALK])


@pytest.mark.parametrize(
    "name", ["a\nb.wav", "a\tb\x1b[31m.wav", "\u202egnp.wav", os.fsdecode(b"\xff.wav"), "日 𝄞 é.wav"]
)
def test_json_has_a_file_s_own_name_in_text_that_can_be_printed(name: str) -> None:
    read, unread = say(name, ("A", 0.0, 1.0)), Transcription(Path(name), 0.0, None, "it is damaged")
    text = as_json([read, unread])
    text.encode("utf-8")
    assert [row["path"] for row in json.loads(text)] == [name, name]
    assert all(line.isprintable() for line in text.split("\n"))


def test_words_of_ctm_do_not_overlap_when_they_are_rounded() -> None:
    edges = [0.0, 0.5004, 1.0009, 1.5015, 2.1006]
    words = tuple(Word(f"W{i}", start, end, 1.0) for i, (start, end) in enumerate(itertools.pairwise(edges)))
    talk = Transcription(Path("a.wav"), 3.0, Hypothesis("", -1.0, words), "")
    rows = [line.split() for line in as_ctm([talk]).splitlines()]
    ends = [round(float(start) + float(duration), 3) for _, _, start, duration, _, _ in rows]
    assert ends[:-1] == [float(row[2]) for row in rows[1:]]


def test_ctm_has_six_columns_and_a_name_without_spaces() -> None:
    assert as_ctm([TALK]).splitlines()[0] == "talk_one 1 0.500 0.400 R&D 0.500"


def test_a_table_has_a_row_for_each_segment() -> None:
    rows = [line.split("\t") for line in as_tsv([TALK]).splitlines()]
    assert rows[1:] == [
        ["a/talk one.wav", "", "0.500", "1.400", "R&D <i>"],
        ["a/talk one.wav", "", "3723.004", "3724.500", "{X}"],
    ]


def test_no_two_recordings_share_a_name() -> None:
    paths = [Path(p) for p in ("a/1.wav", "b/1.wav", "a-1.wav", "b/1.flac")]
    assert len(set(name_recordings(paths))) == 4
    assert not any("/" in name for name in name_recordings(paths))
