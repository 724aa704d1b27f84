import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindaudio_ds2.corpus import manifest as manifest_module
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.errors import ManifestError, OutputError

ROW: dict[str, Any] = {
    "id": "an406-fcaw-b",
    "audio_path": "wav/an406-fcaw-b.flac",
    "duration_seconds": 2.99,
    "transcript": "RUBOUT G M E F THREE NINE",
    "speaker": "fcaw",
}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_line_is_read_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(
        '{"id": "an406-fcaw-b", "audio_path": "wav/an406-fcaw-b.flac", "duration_seconds": 2.99,'
        ' "transcript": "RUBOUT G M E F THREE NINE", "speaker": "fcaw"}\n'
    )
    audio_path = f"{tmp_path}/wav/an406-fcaw-b.flac"
    assert read_manifest(path) == [Utterance("an406-fcaw-b", audio_path, 2.99, "RUBOUT G M E F THREE NINE", "fcaw")]


def test_the_speaker_may_be_unknown(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {key: ROW[key] for key in ROW if key != "speaker"})
    assert read_manifest(path)[0].speaker == ""


def test_relative_audio_counts_from_the_manifest_not_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data/a.jsonl", ROW, ROW | {"id": "b", "audio_path": "/corpus/b.wav"})
    monkeypatch.chdir(tmp_path)
    paths = [utterance.audio_path for utterance in read_manifest("data/a.jsonl")]
    assert paths == [f"{tmp_path}/data/wav/an406-fcaw-b.flac", "/corpus/b.wav"]


def test_audio_below_the_manifest_is_written_relative_so_that_the_folder_can_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    inside = Utterance("a", f"{old}/wav/a.wav", 1.0, "GO")
    outside = Utterance("b", f"{tmp_path}/elsewhere/b.wav", 1.0, "GO")
    write_manifest(old / "train.jsonl", [inside, outside])
    rows = [json.loads(line) for line in (old / "train.jsonl").read_text().splitlines()]
    assert [row["audio_path"] for row in rows] == ["wav/a.wav", f"{tmp_path}/elsewhere/b.wav"]
    os.rename(old, new)
    paths = [utterance.audio_path for utterance in read_manifest(new / "train.jsonl")]
    assert paths == [f"{new}/wav/a.wav", f"{tmp_path}/elsewhere/b.wav"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip()))


@settings(max_examples=30)
@given(
    st.lists(
        st.builds(
            Utterance,
            id=TEXT,
            audio_path=st.from_regex(r"/[a-zA-Z0-9 _-]+/[a-z.]+\.wav", fullmatch=True),
            duration_seconds=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
            transcript=TEXT,
            speaker=st.text(st.characters(exclude_categories=["Cs"])),
        ),
        min_size=1,
        unique_by=lambda utterance: utterance.id,
    )
)
def test_what_is_written_is_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, utterances: list[Utterance]
) -> None:
    path = tmp_path_factory.mktemp("round_trip") / "a.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances


def test_empty_lines_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"\r\n{json.dumps(ROW)}\r\n\r\n{json.dumps(ROW | {'id': 'b'})}".encode())
    assert [utterance.id for utterance in read_manifest(path)] == [ROW["id"], "b"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"duration_seconds": 0}, "must be positive, found 0"),
        ({"duration_seconds": -1.5}, "must be positive, found -1.5"),
        ({"duration_seconds": float("nan")}, "must be a number of seconds, found nan"),
        ({"duration_seconds": float("inf")}, "must be a number of seconds, found inf"),
        ({"duration_seconds": "2.99"}, "must be a number of seconds, found '2.99'"),
        ({"duration_seconds": True}, "must be a number of seconds, found True"),
        ({"duration_seconds": None}, "must be a number of seconds, found None"),
        ({"id": ""}, "the id is empty"),
        ({"id": 7}, "id must be text, found 7"),
        ({"audio_path": ""}, "audio_path is empty"),
        ({"audio_path": ["a"]}, "audio_path must be text"),
        ({"transcript": " \t"}, "the transcript is empty"),
        ({"transcript": None}, "transcript must be text, found None"),
        ({"speaker": 3}, "speaker must be text, found 3"),
        ({"transcript": "A \ud83d B"}, "transcript has half a character"),
        ({"audio_path": "\udce4.wav"}, "audio_path has half a character"),
        ({"wav_path": "a.wav"}, r"unknown keys \['wav_path'\]"),
    ],
)
def test_an_impossible_value_is_named_with_its_line(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    path = write_rows(tmp_path / "a.jsonl", ROW | {"id": "first"}, ROW | change)
    with pytest.raises(ManifestError, match=f"line 2: .*{complaint}") as caught:
        read_manifest(path)
    assert f"{path}" in f"{caught.value}"


@pytest.mark.parametrize("key", ["id", "audio_path", "duration_seconds", "transcript"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = write_rows(tmp_path / "a.jsonl", {name: ROW[name] for name in ROW if name != key})
    with pytest.raises(ManifestError, match=rf"line 1: missing keys \['{key}'\]"):
        read_manifest(path)


@pytest.mark.parametrize("line", ["wav/a.wav,txt/a.txt", '{"id": "a"', "[1, 2]", '"text"', "null"])
def test_a_line_that_is_no_object_is_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{line}\n")
    with pytest.raises(ManifestError, match="line 2: ") as caught:
        read_manifest(path)
    assert repr(line) in f"{caught.value}"


def test_an_id_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ROW, ROW | {"id": "b"}, ROW)
    with pytest.raises(ManifestError, match="line 3: id 'an406-fcaw-b' already stands on line 1"):
        read_manifest(path)


def test_many_problems_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    rows = [ROW | {"id": f"u{number}", "transcript": ""} for number in range(50)]
    with pytest.raises(ManifestError, match="has 50 unusable lines") as caught:
        read_manifest(write_rows(tmp_path / "a.jsonl", *rows))
    assert f"{caught.value}".count("line ") == manifest_module.MAX_PROBLEMS_SHOWN


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.jsonl does not exist; make it with a recipe's prepare\.py"):
        read_manifest(tmp_path / "none.jsonl")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_manifest_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ManifestError, match=r"a\.jsonl is empty"):
        read_manifest(tmp_path / "a.jsonl")


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00RIFF")
    with pytest.raises(ManifestError, match=r"a\.jsonl cannot be read as UTF-8"):
        read_manifest(tmp_path / "a.jsonl")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path)


def test_a_repeated_id_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_manifest(path, [Utterance("old", "/a.wav", 1.0, "GO")])
    before = path.read_bytes()
    with pytest.raises(ManifestError, match="id 'a' would stand twice"):
        write_manifest(path, [Utterance("a", "/a.wav", 1.0, "GO"), Utterance("a", "/b.wav", 1.0, "STOP")])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_utterance_cannot_be_made_wrong_in_code_either() -> None:
    with pytest.raises(ManifestError, match="utterance 'a': the transcript is empty"):
        Utterance("a", "/a.wav", 1.0, "")


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_manifest(tmp_path / "file" / "a.jsonl", [Utterance("a", "/a.wav", 1.0, "GO")])
