import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.commands import manifest as script
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest

RATE_HZ = 16000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the script in this process; gives its exit status and what it printed to both streams."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["manifest.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            script.main()
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return call


def speak(path: Path, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, size=round(seconds * RATE_HZ))
    soundfile.write(path, samples, RATE_HZ)


def write(path: Path, *rows: tuple[Any, ...]) -> Path:
    """A manifest of (id, seconds, transcript, speaker), without audio."""
    write_manifest(path, [Utterance(row[0], f"/wav/{row[0]}.wav", *row[1:]) for row in rows])
    return path


def read_ids(path: Path) -> list[str]:
    return [utterance.id for utterance in read_manifest(path)]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return write(
        tmp_path / "mixed.jsonl",
        ("tiny", 0.2, "GO", "anna"),
        ("good", 2.0, "GO ON THEN", "anna"),
        ("slow", 20.0, "GO", "bert"),
        ("fast", 1.0, "A" * 60, "bert"),
        ("accent", 2.0, "NAÏVE GOING", "carl"),
        ("long", 40.0, "WORD " * 80, "carl"),
    )


# stats ----------------------------------------------------------------------------------------------------------------


def test_stats_prints_what_is_in_a_manifest_and_writes_files_on_request(run: Run, mixed: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    alphabet = ("--characters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ ", "--letter_case", "upper")
    files = ("--json", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    status, out, _ = run("stats", mixed, *alphabet, *files, "--max_characters_per_second", 30)
    assert status == 0
    assert "utterances        6" in out
    assert "'Ï' (U+00CF LATIN CAPITAL LETTER I WITH DIAERESIS) 1 times" in out
    assert "above 30.0 a second: 1\n      fast" in out
    assert "very long: 1\n      long" in out
    numbers = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["mixed"]
    assert (numbers["num_utterances"], numbers["too_short"]) == (6, ["tiny"])
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_stats_of_two_manifests_says_what_they_share(run: Run, tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ("a", 1.0, "GO", "anna"), ("b", 1.0, "GO", "bert"))
    test = write(tmp_path / "test.jsonl", ("b", 1.0, "GO", "bert"), ("c", 1.0, "GO", "carl"))
    _, out, _ = run("stats", train, test)
    assert "in both train and test: 1 speakers\n    bert" in out
    assert "in both train and test: 1 audio files\n    /wav/b.wav" in out


def test_stats_takes_the_alphabet_of_a_yaml(run: Run, mixed: Path) -> None:
    _, out, _ = run("stats", mixed, "-c", Path(__file__).resolve().parents[2] / "hparams" / "an4.yaml")
    assert "with characters that are not in the alphabet: 1\n      accent" in out


# verify ---------------------------------------------------------------------------------------------------------------


def test_verify_ends_with_0_where_nothing_is_wrong(run: Run, tmp_path: Path) -> None:
    speak(tmp_path / "a.wav")
    write_manifest(tmp_path / "a.jsonl", [Utterance("a", f"{tmp_path}/a.wav", 0.5, "GO")])
    (tmp_path / "report.txt").write_text("of an earlier run")
    status, out, _ = run("verify", tmp_path / "a.jsonl", "--output", tmp_path / "report.txt")
    assert status == 0
    assert out.startswith("1 utterances, ")
    assert "nothing is wrong" in out
    assert not (tmp_path / "report.txt").exists()


def test_verify_ends_with_1_and_reports_everything_that_is_wrong_in_all_manifests(run: Run, tmp_path: Path) -> None:
    speak(tmp_path / "a.wav")
    missing = [Utterance(f"m{n:02d}", f"{tmp_path}/m{n:02d}.wav", 1.0, "GO") for n in range(15)]
    write_manifest(tmp_path / "a.jsonl", missing)
    write_manifest(tmp_path / "b.jsonl", [Utterance("a", f"{tmp_path}/a.wav", 0.6, "GO")])
    report = tmp_path / "report.txt"
    status, out, _ = run("verify", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--workers", 2, "--output", report)
    assert status == 1
    assert "m09: " in out
    assert "m10: " not in out
    assert "lasts 0.500 s, the manifest says 0.600 s" in out
    assert all(f"m{n:02d}: " in report.read_text() for n in range(15))


def test_no_command_writes_over_what_it_reads(run: Run, mixed: Path, tmp_path: Path) -> None:
    names, before = tmp_path / "names.txt", mixed.read_bytes()
    names.write_text("good\n")
    for arguments in (
        ("convert", mixed, "--to", "mozilla", "--output", mixed),
        ("merge", mixed, "--output", mixed),
        ("filter", mixed, "--output", tmp_path / "x.jsonl", "--report", mixed),
        ("filter", mixed, "--exclude_ids", f"@{names}", "--output", names),
        ("stats", mixed, "--json", mixed),
        ("verify", mixed, "--output", mixed),
    ):
        status, _, err = run(*arguments)
        assert (status, "is one of the inputs" in err) == (2, True), arguments
    assert (mixed.read_bytes(), names.read_text()) == (before, "good\n")


def test_verify_takes_the_sample_rate_of_a_yaml(run: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(1).uniform(-0.5, 0.5, size=8000), 8000)
    write_manifest(tmp_path / "a.jsonl", [Utterance("a", f"{tmp_path}/a.wav", 1.0, "GO")])
    yaml = Path(__file__).resolve().parents[2] / "hparams" / "an4.yaml"
    assert run("verify", tmp_path / "a.jsonl", "-c", yaml)[0] == 1
    assert run("verify", tmp_path / "a.jsonl", "--sample_rate", 8000)[0] == 0


# merge ----------------------------------------------------------------------------------------------------------------


def test_merge_keeps_the_order_and_relative_audio_follows_the_new_place(run: Run, tmp_path: Path) -> None:
    for name in ("b", "a"):
        speak(tmp_path / name / "wav" / f"{name}.wav")
        path = f"{tmp_path}/{name}/wav/{name}.wav"
        write_manifest(tmp_path / name / "train.jsonl", [Utterance(name, path, 0.5, "GO")])
    status, out, _ = run("merge", *(tmp_path / f"{n}/train.jsonl" for n in "ba"), "--output", tmp_path / "c/c.jsonl")
    assert status == 0
    assert "2 utterances" in out
    merged = read_manifest(tmp_path / "c" / "c.jsonl")
    assert [utterance.id for utterance in merged] == ["b", "a"]
    assert all(Path(utterance.audio_path).exists() for utterance in merged)


def test_merge_lists_all_ids_that_clash_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", ("a", 1.0, "GO"), ("b", 1.0, "GO"), ("c", 1.0, "GO"))
    two = write(tmp_path / "two.jsonl", ("c", 1.0, "GO"), ("a", 1.0, "GO"))
    status, _, err = run("merge", one, two, "--output", tmp_path / "both.jsonl")
    assert status == 2
    assert "'c': in one and two" in err
    assert "'a': in one and two" in err
    assert "--prefix_ids" in err
    assert not (tmp_path / "both.jsonl").exists()


def test_merge_with_prefixes_keeps_both_and_says_that_audio_stands_there_twice(run: Run, tmp_path: Path) -> None:
    one = write(tmp_path / "x" / "train.jsonl", ("a", 1.0, "GO"))
    two = write(tmp_path / "y" / "train.jsonl", ("a", 1.0, "GO"))
    status, out, _ = run("merge", one, two, "--prefix_ids", "--output", tmp_path / "both.jsonl")
    assert status == 0
    assert "note: 1 utterances share their audio file" in out
    assert read_ids(tmp_path / "both.jsonl") == ["x/train/a", "y/train/a"]


def test_merging_a_manifest_with_itself_is_a_clash(run: Run, tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", ("a", 1.0, "GO"))
    assert run("merge", one, one, "--output", tmp_path / "both.jsonl")[0] == 2


# filter ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kept", "reason"),
    [
        (("--min_duration", "0.5"), "good slow fast accent long", "shorter than 0.5 s"),
        (("--max_duration", "20"), "tiny good slow fast accent", "longer than 20 s"),
        (("--min_characters_per_second", "1"), "tiny good fast accent long", "fewer than 1 characters a second"),
        (("--max_characters_per_second", "30"), "tiny good slow accent long", "more than 30 characters a second"),
        (("--speakers", "anna", "carl"), "tiny good accent long", "of another speaker"),
        (("--exclude_ids", "good", "fast"), "tiny slow accent long", "excluded by id"),
        (
            ("--drop_unknown_characters", "--characters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ "),
            "tiny good slow fast long",
            "characters outside the alphabet",
        ),
    ],
)
def test_filter_leaves_out_what_an_option_names_and_says_why(
    run: Run, mixed: Path, tmp_path: Path, options: tuple[str, ...], kept: str, reason: str
) -> None:
    status, out, _ = run(
        "filter", mixed, "--output", tmp_path / "out.jsonl", "--report", tmp_path / "out.txt", *options
    )
    assert status == 0
    assert read_ids(tmp_path / "out.jsonl") == kept.split()
    assert f"left out {6 - len(kept.split())} of 6 utterances" in out
    assert reason in out
    left_out = {utterance_id for utterance_id in read_ids(mixed) if utterance_id not in kept.split()}
    assert all(utterance_id in (tmp_path / "out.txt").read_text() for utterance_id in left_out)


def test_filter_without_options_copies(run: Run, mixed: Path, tmp_path: Path) -> None:
    status, out, _ = run("filter", mixed, "--output", tmp_path / "out.jsonl")
    assert status == 0
    assert read_manifest(tmp_path / "out.jsonl") == read_manifest(mixed)
    assert "left out 0 of 6 utterances" in out


def test_filter_takes_names_from_files(run: Run, mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "speakers.txt").write_text("anna\n\nbert\n")
    (tmp_path / "ids.txt").write_text("slow\nunheard of\n")
    names = ("--speakers", f"@{tmp_path}/speakers.txt", "--exclude_ids", f"@{tmp_path}/ids.txt", "tiny")
    _, out, _ = run("filter", mixed, "--output", tmp_path / "out.jsonl", *names)
    assert read_ids(tmp_path / "out.jsonl") == ["good", "fast"]
    assert "1 of the 3 ids to exclude are not in" in out


def test_filter_takes_a_random_subset_that_is_the_same_each_time(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl", *((f"u{n:03d}", 3.6, "GO", "anna") for n in range(100)))
    chosen = []
    for number, seed in enumerate((1, 1, 2)):
        output = tmp_path / f"{number}.jsonl"
        assert run("filter", path, "--output", output, "--hours", 0.03, "--seed", seed)[0] == 0
        chosen.append(read_ids(output))
    assert chosen[0] == chosen[1] == sorted(chosen[0])
    assert chosen[0] != chosen[2]
    assert 29 <= len(chosen[0]) <= 31


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--min_duration", "1000"), "nothing of"),
        (("--speakers", "zoe"), "has no speakers ['zoe']"),
        (("--speakers", "@none.txt"), "cannot be read"),
        (("--drop_unknown_characters",), "needs an alphabet"),
    ],
)
def test_filter_refuses_what_makes_no_sense(
    run: Run, mixed: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    status, _, err = run("filter", mixed, "--output", tmp_path / "out.jsonl", *options)
    assert status == 2
    assert message in err
    assert not (tmp_path / "out.jsonl").exists()


# convert --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["deepspeech.pytorch", "mindspore", "tensorflow", "mozilla"])
def test_convert_goes_there_and_back_and_measures_the_audio(run: Run, kind: str, tmp_path: Path) -> None:
    texts = {"it's": "DON'T", "a b": "SAY, SO", "żółć": "ŻÓŁĆ"}
    utterances = []
    for number, (name, text) in enumerate(texts.items(), start=1):
        speak(tmp_path / "wav" / f"{name}.wav", 0.1 * number)
        utterances.append(Utterance(name, f"{tmp_path}/wav/{name}.wav", 0.1 * number, text))
    write_manifest(tmp_path / "ours.jsonl", utterances)
    status, out, _ = run("convert", tmp_path / "ours.jsonl", "--output", tmp_path / "theirs", "--to", kind)
    assert status == 0
    assert "holds no ids" in out
    status, out, _ = run("convert", tmp_path / "theirs", "--output", tmp_path / "again.jsonl")
    assert status == 0
    assert "3 utterances" in out
    again = read_manifest(tmp_path / "again.jsonl")
    assert [(u.id, u.audio_path, u.transcript) for u in again] == [
        (u.id, u.audio_path, u.transcript) for u in utterances
    ]
    np.testing.assert_allclose([u.duration_seconds for u in again], [0.1, 0.2, 0.3])


def test_convert_says_that_audio_is_not_wav(run: Run, tmp_path: Path) -> None:
    speak(tmp_path / "a.flac")
    write_manifest(tmp_path / "a.jsonl", [Utterance("a", f"{tmp_path}/a.flac", 0.5, "GO")])
    _, out, _ = run("convert", tmp_path / "a.jsonl", "--output", tmp_path / "a.csv", "--to", "tensorflow")
    assert "note: 1 audio files are not .wav" in out


def test_convert_stops_at_bad_rows_unless_some_are_allowed(run: Run, tmp_path: Path) -> None:
    speak(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("GO")
    (tmp_path / "theirs.csv").write_text("a.wav,a.txt\nb.wav,a.txt\na.wav,b.txt\n")
    convert = ("convert", tmp_path / "theirs.csv", "--output", tmp_path / "ours.jsonl")
    status, _, err = run(*convert)
    assert status == 2
    assert "b.wav" in err
    assert "b.txt" in err
    assert not (tmp_path / "ours.jsonl").exists()
    status, out, _ = run(*convert, "--max_problem_share", 0.7)
    assert status == 0
    assert "left out 2 of 3 rows" in out
    assert read_ids(tmp_path / "ours.jsonl") == ["a"]


@pytest.mark.parametrize("rows", ["", "missing.wav,8,GO\n"])
def test_convert_of_nothing_usable_writes_nothing(run: Run, rows: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text(f"wav_filename,wav_filesize,transcript\n{rows}")
    output = tmp_path / "ours.jsonl"
    status, _, err = run("convert", tmp_path / "theirs.csv", "--output", output, "--max_problem_share", 1)
    assert status == 2
    assert "has no row that can be used" in err
    assert not output.exists()


# The command line -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["stats", "verify", "merge", "filter", "convert"])
def test_help_names_every_option_with_a_text(run: Run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert "==SUPPRESS==" not in out
    assert "(default: None)" not in out
    assert out.count("--") >= 3


def test_no_workers_are_too_few(run: Run, mixed: Path) -> None:
    status, _, err = run("verify", mixed, "--workers", 0)
    assert status == 2
    assert "must be at least 1, found 0" in err


def test_a_missing_manifest_is_an_error_of_one_message(run: Run, tmp_path: Path) -> None:
    for command in ("stats", "verify"):
        status, _, err = run(command, tmp_path / "none.jsonl")
        assert status == 2
        assert err.startswith("error: manifest ")
        assert "Traceback" not in err
