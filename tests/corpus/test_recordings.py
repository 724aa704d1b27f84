import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest

from mindaudio_ds2.audio import sound_files
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.corpus.recordings import SpeakerSource, read_folder, read_table
from mindaudio_ds2.errors import ManifestError


def write(root: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """Files by relative path; None makes a file that stands for audio, which nothing here opens."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound" if content is None else content if isinstance(content, bytes) else content.encode())
    return root


@pytest.fixture
def problems() -> Problems:
    return Problems()


# Folders --------------------------------------------------------------------------------------------------------------


def test_audio_is_paired_with_the_text_beside_it_at_any_depth(tmp_path: Path, problems: Problems) -> None:
    write(tmp_path, {"a/1.wav": None, "a/1.txt": "one\r\n", "a/b/2.FLAC": None, "a/b/2.TXT": " two\n\tthree "})
    found = [(r.name, r.audio_path, r.transcript) for r in read_folder(tmp_path, None, problems)]
    assert found == [("1", tmp_path / "a/1.wav", "one"), ("b/2", tmp_path / "a/b/2.FLAC", "two three")]
    assert not problems


def test_everything_wrong_in_a_folder_is_reported_at_once(
    tmp_path: Path, problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, str | bytes | None] = {
        "good.wav": None,
        "good.txt": "good",
        "mute.wav": None,
        "orphan.txt": "nobody",
        "empty.wav": None,
        "empty.txt": " \n ",
        "utf16.wav": None,
        "utf16.txt": "ağaç".encode("utf-16"),
        "latin.wav": None,
        "latin.txt": "größe".encode("latin-1"),
        "garbled.wav": None,
        "garbled.txt": "gr\ufffd\ufffde",
        "twin.wav": None,
        "twin.flac": None,
        "twin.txt": "twin",
        "phone.m4a": None,
        "phone.txt": "phone",
    }
    monkeypatch.setattr(sound_files, "has_media", lambda: False)
    kept = read_folder(write(tmp_path, files), None, problems)
    assert [recording.name for recording in kept] == ["good", "twin"]
    assert problems.counts == {
        "audio without text": 1,
        "text without audio": 1,
        "empty text": 1,
        "text that cannot be read": 2,
        "garbled text": 1,
        "file of the same name as another": 1,
        "audio in a format that cannot be read": 1,
    }
    assert "ffmpeg -i phone.m4a phone.flac" in problems.summary()


def test_a_converted_file_stands_for_its_original(tmp_path: Path, problems: Problems) -> None:
    write(tmp_path, {"1.m4a": None, "1.wav": None, "1.txt": "one"})
    assert [r.audio_path.name for r in read_folder(tmp_path, None, problems)] == ["1.wav"]
    assert not problems


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path, problems: Problems) -> None:
    write(tmp_path, {"1.wav": None, "1.txt": "one", "._1.wav": None, ".git/2.wav": None, "notes.docx": "x"})
    assert len(read_folder(tmp_path, None, problems)) == 1
    assert not problems


def test_decomposed_file_names_and_texts_are_composed(tmp_path: Path, problems: Problems) -> None:
    composed, decomposed = "Übung", unicodedata.normalize("NFD", "Übung")
    write(tmp_path, {f"{decomposed}.wav": None, f"{composed}.txt": decomposed})
    (recording,) = read_folder(tmp_path, None, problems)
    assert (recording.name, recording.transcript) == (composed, composed)
    assert recording.audio_path.exists()


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, problems: Problems) -> None:
    write(tmp_path, {"1.wav": None, "1.txt": "\ufeffone"})
    assert read_folder(tmp_path, None, problems)[0].transcript == "one"


def test_a_file_name_that_is_not_utf8_is_reported_in_printable_form(tmp_path: Path, problems: Problems) -> None:
    write(tmp_path, {"1.wav": None, "1.txt": "one"})
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")).write_bytes(b"sound")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(read_folder(tmp_path, None, problems)) == 1
    assert problems.counts == {"file name that is not UTF-8": 1}
    assert "caf" in problems.summary().encode("utf-8").decode()


@pytest.mark.parametrize(
    ("source", "speakers"),
    [
        ("folder", ["ann", "ann", "bob"]),
        ("prefix", ["y", "x", ""]),
        ("none", ["", "", ""]),
        (None, ["ann", "ann", "bob"]),
    ],
)
def test_speakers_are_named_as_asked(
    tmp_path: Path, problems: Problems, source: SpeakerSource | None, speakers: list[str]
) -> None:
    names = ("wav/ann/x_1", "wav/ann/day2/y-2_3", "wav/bob/3")
    write(tmp_path, {f"{name}.wav": None for name in names} | {f"{name}.txt": "text" for name in names})
    assert [recording.speaker for recording in read_folder(tmp_path, source, problems)] == speakers


def test_files_in_a_single_folder_have_no_speaker(tmp_path: Path, problems: Problems) -> None:
    write(tmp_path, {"ann/1.wav": None, "ann/1.txt": "one", "ann/2.wav": None, "ann/2.txt": "two"})
    assert {recording.speaker for recording in read_folder(tmp_path, "folder", problems)} == {""}


def test_a_folder_without_audio_is_an_error_that_lists_formats(tmp_path: Path, problems: Problems) -> None:
    write(tmp_path, {"1.txt": "one"})
    with pytest.raises(ManifestError, match=r"no audio lies below .* \.wav \.wave \.flac"):
        read_folder(tmp_path, None, problems)
    with pytest.raises(ManifestError, match="does not exist"):
        read_folder(tmp_path / "nowhere", None, problems)


# Tables ---------------------------------------------------------------------------------------------------------------


def write_table(root: Path, name: str, text: str) -> Path:
    write(root, {"1.wav": None, "sub/2.wav": None, "clips/3.mp3": None})
    return write(root, {name: text}) / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", 'path,sentence\n1.wav,"one, ""two"""\nsub/2.wav,three\n'),
        ("x.csv", 'wav_filename,wav_filesize,transcript\r\n1.wav,3,"one, ""two"""\r\nsub/2.wav,4,three\r\n'),
        ("x.csv", 'File;Text\n1.wav;"one, ""two"""\nsub/2.wav;three'),
        ("x.csv", '\ufeffaudio\ttranscript\n1.wav\t"one, ""two"""\n\nsub/2.wav\tthree\n'),
        ("x.tsv", 'path\tsentence\n1.wav\tone, "two"\nsub/2.wav\tthree\n'),
    ],
)
def test_tables_of_several_kinds_are_read(tmp_path: Path, problems: Problems, name: str, text: str) -> None:
    found = read_table(write_table(tmp_path, name, text), None, problems)
    assert [(recording.name, recording.transcript) for recording in found] == [("1", 'one, "two"'), ("sub/2", "three")]
    assert not problems


def test_common_voices_own_table_is_read(tmp_path: Path, problems: Problems) -> None:
    header = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents"
    row = 'f00\t3.mp3\tabc\t"Ağaç, dedi.\t\t2\t0\t\t\t'
    table = write_table(tmp_path, "validated.tsv", f"{header}\n{row}\n")
    (recording,) = read_table(table, None, problems)
    assert recording.audio_path == tmp_path / "clips" / "3.mp3"
    assert (recording.transcript, recording.speaker) == ('"Ağaç, dedi.', "f00")


def test_absolute_paths_and_paths_above_the_table_are_found(tmp_path: Path, problems: Problems) -> None:
    write_table(tmp_path, "unused.csv", "")
    table = tmp_path / "sub" / "x.csv"
    table.write_text(f"path,text\n../1.wav,one\n{tmp_path / 'sub' / '2.wav'},two\n")
    assert [recording.name for recording in read_table(table, None, problems)] == ["1", "sub/2"]


def test_everything_wrong_in_a_table_is_reported_at_once(tmp_path: Path, problems: Problems) -> None:
    rows = ("1.wav,one", "1.wav,again", "9.wav,nine", "sub/2.wav", "sub/2.wav, ", ",nothing", "sub/2.wav,a,b", "\0,x")
    found = read_table(write_table(tmp_path, "x.csv", "\n".join(("path,text", *rows))), None, problems)
    assert [recording.transcript for recording in found] == ["one"]
    assert problems.counts == {
        "recording given twice": 1,
        "audio that does not exist": 3,
        "row of another length than the header": 2,
        "empty text": 1,
    }
    assert "line 5" in problems.summary()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sound,text\n1.wav,one\n", "none of the columns path, audio, wav_filename, file"),
        ("path,words\n1.wav,one\n", "none of the columns transcript, text, sentence"),
        ("path,path,text\n1.wav,1.wav,one\n", "2 columns named path"),
        ("path,text\n", "1 lines; it needs a header"),
        ("", "0 lines"),
        ('path,text\n1.wav,"one\nsub/2.wav,two\n', "line 3"),
        ('path,text\n1.wav,"one"two\n', "line 2"),
    ],
)
def test_what_is_no_table_is_an_error(tmp_path: Path, problems: Problems, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_table(write_table(tmp_path, "x.csv", text), None, problems)


def test_a_table_in_another_encoding_is_an_error(tmp_path: Path, problems: Problems) -> None:
    (tmp_path / "x.csv").write_bytes("path,text\n1.wav,größe\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="cannot be read as UTF-8"):
        read_table(tmp_path / "x.csv", None, problems)


def test_the_speakers_of_a_table_come_from_its_column_unless_asked_otherwise(
    tmp_path: Path, problems: Problems
) -> None:
    table = write_table(tmp_path, "x.csv", "path,text,speaker\n1.wav,one,Ann\nsub/2.wav,two, Bob \n")
    sources: tuple[SpeakerSource | None, ...] = (None, "column", "folder", "none")
    speakers = [[recording.speaker for recording in read_table(table, source, problems)] for source in sources]
    assert speakers == [["Ann", "Bob"], ["Ann", "Bob"], ["", "sub"], ["", ""]]


def test_a_column_of_speakers_that_is_not_there_is_an_error(tmp_path: Path, problems: Problems) -> None:
    table = write_table(tmp_path, "x.csv", "path,text\n1.wav,one\n")
    with pytest.raises(ManifestError, match="none of the columns speaker, client_id"):
        read_table(table, "column", problems)
    with pytest.raises(ManifestError, match="is a folder and has no column"):
        read_folder(tmp_path, "column", problems)
