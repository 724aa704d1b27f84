import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.corpus.format_writers import write_any_manifest
from mindaudio_ds2.corpus.formats import Format, read_any_manifest, recognise
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.naming import name_uniquely
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import AudioError, ManifestError, OutputError

OTHERS: tuple[Format, ...] = tuple(kind for kind in get_args(Format) if kind != "ours")
HARD_NAMES = ("a,b", "it's", 'say "x"', "with space", "żółć-日本語", "trailing ", "dot.ted", "%41&;$HOME", "-rf")
HARD_TEXTS = (
    *(
        "COMMA, HERE",
        "IT'S",
        'SAY "HI" NOW',
        '"QUOTED"',
        "ŻÓŁĆ 日本語 🙂",
        "  OUTER  SPACES ",
        "\\BACK\\N",
        "=1+1",
        ",",
        '"',
    ),
    *("'", "wav_filename,transcript", "{}", "#COMMENT", "N/A", "A;B", '""', "NON\u00a0BREAKING", "E\u0301"),
)


def measure(paths: Sequence[Path]) -> list[float | AudioError]:
    """A duration for each byte, in place of sound."""
    return [path.stat().st_size / 8 if path.exists() else AudioError(f"{path} is missing") for path in paths]


def make_utterance(folder: Path, name: str, transcript: str, num_bytes: int = 8) -> Utterance:
    path = folder / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(num_bytes))
    return Utterance(name, str(path), num_bytes / 8, transcript)


def read(path: Path, kind: Format | None = None) -> list[Utterance]:
    problems = Problems()
    utterances = read_any_manifest(path, kind, measure, problems)
    assert not problems, problems.summary()
    return utterances


def read_badly(path: Path, kind: Format | None = None) -> tuple[list[Utterance], Problems]:
    problems = Problems()
    return read_any_manifest(path, kind, measure, problems), problems


# How the other programs read their manifests, in as few lines as that takes. Each gives (audio path, transcript).


def read_as_deepspeech_pytorch(path: Path) -> list[tuple[str, str]]:
    content = json.loads(path.read_text(encoding="ascii"))
    root = content["root_path"]
    return [
        (
            os.path.join(root, sample["wav_path"]),
            Path(root, sample["transcript_path"]).read_text(encoding="utf8").replace("\n", ""),
        )
        for sample in content["samples"]
    ]


def read_as_mindaudio(path: Path) -> list[tuple[str, str]]:
    content = json.loads(path.read_text(encoding="ascii"))
    values = [list(sample.values()) for sample in content["samples"]]
    root = content["root_path"]
    return [
        (os.path.join(root, sample[0]), Path(root, sample[1]).read_text(encoding="utf8").replace("\n", ""))
        for sample in values
    ]


def read_as_mindspore(path: Path) -> list[tuple[str, str]]:
    with open(path, encoding="utf8") as file:
        fields = [line.strip().split(",") for line in file.readlines()]
    return [(row[0], Path(row[1]).read_text(encoding="utf8").replace("\n", "")) for row in fields]


def read_as_tensorflow(path: Path) -> list[tuple[str, str]]:
    lines = [line.split("\t") for line in path.read_text(encoding="utf8").splitlines()][1:]
    assert all(int(line[1]) == os.path.getsize(line[0]) for line in lines)
    return [(line[0], line[2]) for line in lines]


def read_as_mozilla(path: Path) -> list[tuple[str, str]]:
    with open(path, encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert all(int(row["wav_filesize"]) == os.path.getsize(row["wav_filename"]) for row in rows)
    return [(row["wav_filename"], row["transcript"]) for row in rows]


THEIR_READERS = [
    ("deepspeech.pytorch", read_as_deepspeech_pytorch),
    ("deepspeech.pytorch", read_as_mindaudio),
    ("mindspore", read_as_mindspore),
    ("tensorflow", read_as_tensorflow),
    ("mozilla", read_as_mozilla),
]


def make_hard_corpus(folder: Path, kind: Format) -> list[Utterance]:
    names = [name for name in HARD_NAMES if kind != "mindspore" or "," not in name]
    utterances = [make_utterance(folder / name, name, "GO", 8 + n) for n, name in enumerate(names)]
    return utterances + [make_utterance(folder, f"text{n}", text, 40 + n) for n, text in enumerate(HARD_TEXTS)]


@pytest.mark.parametrize(("kind", "reader"), THEIR_READERS)
def test_their_own_program_reads_what_was_meant(kind: Format, reader: object, tmp_path: Path) -> None:
    utterances = make_hard_corpus(tmp_path / "audio", kind)
    write_any_manifest(tmp_path / "out" / "train.x", utterances, kind)
    assert callable(reader)
    assert reader(tmp_path / "out" / "train.x") == [(u.audio_path, u.transcript) for u in utterances]


@pytest.mark.parametrize("kind", get_args(Format))
@pytest.mark.parametrize("is_named", [True, False])
def test_hard_names_and_texts_go_there_and_back(kind: Format, is_named: bool, tmp_path: Path) -> None:
    utterances = make_hard_corpus(tmp_path / "audio", kind)
    write_any_manifest(tmp_path / "train.x", utterances, kind)
    assert read(tmp_path / "train.x", kind if is_named else None) == utterances


TEXTS = st.text(min_size=1, max_size=30).filter(lambda text: bool(text.strip()) and not text.startswith("\ufeff"))


@pytest.mark.parametrize("kind", OTHERS)
@given(transcripts=st.lists(TEXTS, min_size=1, max_size=4))
def test_any_text_comes_back_as_it_was_or_is_refused(
    kind: Format, transcripts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    utterances = [make_utterance(folder, f"u{n}", text) for n, text in enumerate(transcripts)]
    try:
        write_any_manifest(folder / "train.x", utterances, kind)
    except ManifestError:
        ends_a_line = any(len(f"a{c}b".splitlines()) > 1 or c in "\0\t" for text in transcripts for c in text)
        assert ends_a_line
        assert not list(folder.glob("train*"))
    else:
        assert read(folder / "train.x", kind) == utterances


@pytest.mark.parametrize("kind", OTHERS)
@given(
    names=st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=20), max_size=4)
)
def test_any_file_name_comes_back_as_it_was_or_is_refused(
    kind: Format, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    names = [name for name in dict.fromkeys(["first", *names]) if name.strip()]
    utterances = [make_utterance(folder, f"{name}x", "GO") for name in names]
    try:
        write_any_manifest(folder / "train.x", utterances, kind)
    except ManifestError:
        marks = {"mindspore": ",", "tensorflow": "\t"}.get(kind, "")
        assert any(len(f"a{c}b".splitlines()) > 1 or c in marks for name in names for c in name)
    else:
        assert read(folder / "train.x", kind) == utterances


def test_other_formats_have_no_speakers_and_ids_are_made_of_the_names_of_files(tmp_path: Path) -> None:
    utterance = make_utterance(tmp_path / "s1", "one", "GO")
    named = dataclasses.replace(utterance, id="another name", speaker="s1")
    for kind in OTHERS:
        write_any_manifest(tmp_path / f"{kind}.x", [named], kind)
        assert read(tmp_path / f"{kind}.x") == [utterance]


def test_transcript_files_carry_ids_without_what_a_file_system_dislikes(tmp_path: Path) -> None:
    utterance = dataclasses.replace(make_utterance(tmp_path, "one", "GO"), id="../a,b/c d'é" + "x" * 300)
    write_any_manifest(tmp_path / "train.csv", [utterance, dataclasses.replace(utterance, id="two")], "mindspore")
    names = sorted(path.name for path in (tmp_path / "train_transcripts").iterdir())
    assert names == [f"000001-.._a_b_c_d__{'x' * 68}.txt", "000002-two.txt"]


# What others write ----------------------------------------------------------------------------------------------------


def write_sample(folder: Path, root_key: str, transcript_key: str) -> Path:
    """A manifest with the layout of the original programs: wav/ and txt/ below a root."""
    make_utterance(folder / "wav", "an1", "X", 24)
    (folder / "txt").mkdir()
    (folder / "txt" / "an1.txt").write_text("HELLO WORLD\n", encoding="utf-8")
    sample = {"wav_path": "wav/an1.wav", transcript_key: "txt/an1.txt"}
    path = folder / "train_manifest.json"
    path.write_text(json.dumps({root_key: str(folder), "samples": [sample]}, indent=4), encoding="utf-8")
    return path


@pytest.mark.parametrize("root_key", ["root_path", "data_path"])
@pytest.mark.parametrize("transcript_key", ["transcript_path", "txt_path"])
def test_what_deepspeech_pytorch_and_mindaudio_write_is_read(
    root_key: str, transcript_key: str, tmp_path: Path
) -> None:
    path = write_sample(tmp_path, root_key, transcript_key)
    assert read(path) == [Utterance("an1", f"{tmp_path}/wav/an1.wav", 3.0, "HELLO WORLD")]


def test_a_relative_root_counts_from_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sample(tmp_path / "corpus", "root_path", "txt_path")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"root_path": "."}))
    monkeypatch.chdir(tmp_path)
    assert [u.audio_path for u in read(Path("corpus/train_manifest.json"))] == [f"{tmp_path}/corpus/wav/an1.wav"]


def test_a_table_of_mozilla_may_have_more_columns_in_another_order_and_windows_line_ends(tmp_path: Path) -> None:
    make_utterance(tmp_path / "clips", "a", "X")
    path = tmp_path / "train.csv"
    path.write_bytes(b'\xef\xbb\xbftranscript,locale,wav_filename\r\n"he said ""no"", twice",en,clips/a.wav\r\n')
    assert read(path) == [Utterance("a", f"{tmp_path}/clips/a.wav", 1.0, 'he said "no", twice')]


def test_quotes_in_a_table_of_tensorflow_mean_nothing_as_in_its_own_reader(tmp_path: Path) -> None:
    make_utterance(tmp_path, "a", "X")
    path = tmp_path / "train.csv"
    path.write_text(f'wav_filename\twav_filesize\ttranscript\n{tmp_path}/a.wav\t8\t"so ""they"" say"\n')
    assert [u.transcript for u in read(path)] == ['"so ""they"" say"'] == [t for _, t in read_as_tensorflow(path)]


def test_transcript_files_may_have_marks_and_line_ends_of_windows(tmp_path: Path) -> None:
    make_utterance(tmp_path, "a", "X")
    (tmp_path / "a.txt").write_bytes("\ufeffGRÜẞE\r\n".encode())
    (tmp_path / "train.csv").write_bytes(b"a.wav,a.txt\r\n\r\n")
    assert [u.transcript for u in read(tmp_path / "train.csv")] == ["GRÜẞE"]


# Bad input ------------------------------------------------------------------------------------------------------------


def test_all_bad_rows_are_reported_at_once_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("good", "latin", "empty", "textless"):
        make_utterance(tmp_path, name, "X")
    (tmp_path / "good.txt").write_text("GOOD")
    (tmp_path / "latin.txt").write_bytes("CAFÉ".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("\n")
    rows = ["good.wav,good.txt", "latin.wav,latin.txt", "empty.wav,empty.txt", "textless.wav,none.txt", "one", "a,b,c"]
    (tmp_path / "train.csv").write_text("\n".join([*rows, "silent.wav,good.txt", ""]))
    utterances, problems = read_badly(tmp_path / "train.csv", "mindspore")
    assert [utterance.id for utterance in utterances] == ["good"]
    assert problems.counts == {
        "transcript that cannot be read": 2,
        "row without its fields": 2,
        "row that is no utterance": 1,
        "audio that cannot be measured": 1,
    }
    listed = problems.summary()
    for line in ("line 2", "line 3", "line 4", "line 5", "line 6", "line 7"):
        assert f"{line}:" in listed


def test_samples_of_the_wrong_shape_are_reported(tmp_path: Path) -> None:
    samples = [1, {"wav_path": "a.wav"}, {"wav_path": 3, "txt_path": "a.txt"}, {"wav_path": "a\0", "txt_path": "a\0"}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"root_path": "", "samples": samples}))
    utterances, problems = read_badly(path)
    assert (utterances, problems.num) == ([], 4)


def test_halves_of_surrogate_pairs_and_nul_in_paths_are_reported_not_passed_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("GO")
    samples = [{"wav_path": wav, "txt_path": "a.txt"} for wav in ("\udcff.wav", "a\0b.wav")]
    (tmp_path / "a.json").write_text(json.dumps({"root_path": "", "samples": samples}))
    utterances, problems = read_badly(tmp_path / "a.json")
    assert (utterances, problems.counts) == ([], {"text that is not Unicode": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("just some words\nand more", "is no manifest of a known format"),
        ("a,b,c\n", "is no manifest of a known format"),
        ('{"samples": []}', "needs a root_path"),
        ('{"root_path": "/", "samples": []}', "needs a root_path"),
        ('{"root_path": null, "samples": [{}]}', "needs a root_path"),
        ('{\n"samples": [\n', "is not JSON"),
        ("wav_filename,wav_filesize\n", "lacks the columns"),
        ('wav_filename,transcript\na.wav,"open\nb.wav,x\n', "quotation"),
        ("transcript\twav_filename\n", "must begin with"),
    ],
)
def test_what_is_no_manifest_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(ManifestError, match=message) as caught:
        read(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)


def test_a_missing_manifest_and_one_that_is_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        read(tmp_path / "none.csv")
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="cannot be read as UTF-8"):
        read(tmp_path / "a")


@pytest.mark.parametrize("kind", OTHERS)
def test_nothing_is_written_where_the_reader_would_cut_a_field(kind: Format, tmp_path: Path) -> None:
    bad = [make_utterance(tmp_path, "a\nb", "GO"), make_utterance(tmp_path, "c", "TWO\nLINES")]
    if kind == "mindspore":
        bad.append(make_utterance(tmp_path, "d,e", "GO"))
    if kind == "tensorflow":
        bad.append(make_utterance(tmp_path, "f", "A\tTAB"))
    with pytest.raises(ManifestError) as caught:
        write_any_manifest(tmp_path / "out" / "train.x", [*bad, make_utterance(tmp_path, "good", "GO")], kind)
    assert all(repr(utterance.id) in str(caught.value) for utterance in bad)
    assert "'good'" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_comma_is_no_place_for_transcripts_of_mindspore(tmp_path: Path) -> None:
    utterance = make_utterance(tmp_path, "a", "GO")
    with pytest.raises(ManifestError, match="comma"):
        write_any_manifest(tmp_path / "x,y" / "train.csv", [utterance], "mindspore")


@pytest.mark.parametrize("kind", ["tensorflow", "mozilla"])
def test_a_size_cannot_be_written_of_audio_that_is_missing(kind: Format, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        write_any_manifest(tmp_path / "a.csv", [Utterance("a", f"{tmp_path}/a.wav", 1.0, "GO")], kind)


def test_transcripts_of_an_earlier_conversion_are_never_mixed_with_new_ones(tmp_path: Path) -> None:
    utterance = make_utterance(tmp_path, "a", "GO")
    write_any_manifest(tmp_path / "train.csv", [utterance], "mindspore")
    before = (tmp_path / "train.csv").read_text()
    with pytest.raises(OutputError, match="is there already"):
        write_any_manifest(tmp_path / "train.csv", [utterance, utterance], "mindspore")
    assert (tmp_path / "train.csv").read_text() == before


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = [make_utterance(tmp_path, name, "GO") for name in "abc"]
    write_bytes = Path.write_bytes

    def fail_at_second(path: Path, content: bytes) -> int:
        if path.name.startswith("000002"):
            raise OSError(28, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail_at_second)
    with pytest.raises(OutputError, match="No space left on device"):
        write_any_manifest(tmp_path / "out" / "train.csv", utterances, "mindspore")
    assert list((tmp_path / "out").iterdir()) == []


# Recognition and names ------------------------------------------------------------------------------------------------


def test_our_own_manifest_is_recognised_whatever_it_says() -> None:
    row = {"id": "samples", "audio_path": "wav_filename,\t.wav", "duration_seconds": 1, "transcript": '"samples": ['}
    assert recognise(Path("x"), "\n" + json.dumps(row) + "\n" + json.dumps(row)) == "ours"
    assert recognise(Path("x"), json.dumps({"samples": [], "root_path": "/"})) == "deepspeech.pytorch"


def test_names_are_stems_with_as_many_folders_as_it_takes() -> None:
    paths = ["/c/a/1.wav", "/c/b/1.wav", "/c/b/2.wav", "/d/b/1.wav", "/c/b/2.wav", "/c/b/2.flac", "/c/2-2.wav"]
    names = name_uniquely([Path(path) for path in paths])
    assert names == ["a/1", "c/b/1", "2.wav", "d/b/1", "2.wav-2", "2.flac", "2-2"]


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "a.b", "a-2", "x"]), min_size=1, max_size=4).map(lambda p: Path("/", *p)),
        max_size=12,
    )
)
def test_names_never_clash(paths: list[Path]) -> None:
    names = name_uniquely(paths)
    assert len(set(names)) == len(paths) == len(names)


def test_a_manifest_of_nemo_is_told_by_its_keys_and_keeps_its_durations(tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "a.wav", "duration": 1.25, "text": "GO", "speaker": 3},
        {"audio_filepath": "b.wav", "text": "ON"},
        {"audio_filepath": "a.wav", "duration": 1, "text": "GO", "offset": 2.5},
        {"audio_filepath": "a.wav", "duration": "1", "text": "GO"},
        {"audio_filepath": "a.wav"},
    ]
    (tmp_path / "b.wav").write_bytes(bytes(16))
    path = tmp_path / "nemo.json"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + "{no JSON\n")
    utterances, problems = read_badly(path)
    assert [(u.id, u.duration_seconds, u.transcript) for u in utterances] == [("a", 1.25, "GO"), ("b", 2.0, "ON")]
    assert list(problems.counts) == [
        "part of a recording",
        "row without its fields",
        "row that is no JSON",
        "row that is no utterance",
    ]


def test_an_array_and_an_unknown_key_are_told_with_what_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n{"id": "a"},\n{"id": "b"}\n]\n')
    with pytest.raises(ManifestError, match="is a JSON array; write one object a line"):
        read(path)
    path.write_text('{"id": "a", "audio_path": "a", "duration_seconds": 1, "transcript": "A", "gender": "f"}\n')
    with pytest.raises(ManifestError, match="a line has audio_path, .* may have speaker, and nothing else"):
        read(path)
