import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus import archive as archive_module
from mindaudio_ds2.corpus import download as download_module
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.corpus.problems import Problems
from recipes.librispeech import command
from recipes.librispeech.originals import _count_needed_bytes
from recipes.librispeech.subsets import SIZES, SUBSETS, Subset
from recipes.librispeech.tree import read_tree

ROOT = Path(__file__).resolve().parents[2]
RATE_HZ = 16000
OFFICIAL = dict(SUBSETS)

# Readers and the utterances of their chapters, in tiny copies of OpenSLR's nine subsets.
TINY = {
    "train-clean-5": {10: [3, 2], 11: [4]},
    "dev-clean-2": {20: [2], 21: [2]},
    "train-clean-100": {30: [5], 31: [3, 3]},
    "train-clean-360": {40: [4, 4, 4]},
    "train-other-500": {50: [6], 51: [7]},
    "dev-clean": {60: [3]},
    "dev-other": {70: [2]},
    "test-clean": {80: [2, 1]},
    "test-other": {90: [1]},
}
COUNTS = {name: sum(map(sum, readers.values())) for name, readers in TINY.items()}


def write_subset(root: Path, name: str, readers: dict[int, list[int]], suffix: str = ".flac") -> Path:
    """A tree of the corpus's shape; no two sounds are alike, and each lasts 400 samples or more."""
    for reader, chapters in readers.items():
        for chapter, num_utterances in enumerate(chapters, start=100 * reader):
            folder = root / name / f"{reader}" / f"{chapter}"
            folder.mkdir(parents=True)
            lines = []
            for number in range(num_utterances):
                id = f"{reader}-{chapter}-{number:04d}"
                rng = np.random.default_rng([reader, chapter, number])
                num_samples = 400 + 16 * number
                soundfile.write(folder / f"{id}{suffix}", rng.uniform(-0.3, 0.3, num_samples), RATE_HZ)
                lines.append(f"{id} IT'S {'VERY ' * number}WELL\n")
            (folder / f"{reader}-{chapter}.trans.txt").write_text("".join(lines))
    return root / name


def run_main(*arguments: object) -> int:
    """The command line in this process; gives its exit status."""
    before, sys.argv = sys.argv, ["prepare.py", *map(str, arguments)]
    try:
        command.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


def read_all(output: Path) -> dict[str, list[Utterance]]:
    return {path.stem: read_manifest(path) for path in sorted(output.glob("*.jsonl"))}


def count_all(output: Path) -> dict[str, int]:
    return {name: len(utterances) for name, utterances in read_all(output).items()}


# A tree that is there ------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_subset(tmp_path / "source", "read", {1: [3, 3], 2: [4], 3: [2]})
    write_subset(tmp_path / "source", "heard", {4: [3]})
    write_subset(tmp_path / "source", "tried", {5: [2]})
    return tmp_path / "source"


NAMES = ("--train", "read", "--dev", "heard", "--test", "tried")


def test_ids_readers_transcripts_paths_and_durations_come_from_the_tree(source: Path, tmp_path: Path) -> None:
    assert run_main("mini", "--source", source, *NAMES, "--output", tmp_path / "out") == 0
    splits = read_all(tmp_path / "out")
    assert {name: len(utterances) for name, utterances in splits.items()} == {"train": 12, "dev": 3, "test": 2}
    utterance = splits["train"][5]
    assert utterance.id == "1-101-0002"
    assert utterance.speaker == "1"
    assert utterance.transcript == "IT'S VERY VERY WELL"
    assert utterance.audio_path == f"{source}/read/1/101/1-101-0002.flac"
    assert utterance.duration_seconds == 432 / RATE_HZ
    assert not (tmp_path / "out" / "problems.txt").exists()


def test_the_real_corpus_is_read_whole(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "mini_librispeech" / "LibriSpeech"
    names = ("--train", "train-mini", "--dev", "dev-mini", "--test", "test-mini")
    assert run_main("mini", "--source", folder, *names, "--output", tmp_path) == 0
    splits = read_all(tmp_path)
    assert {name: len(utterances) for name, utterances in splits.items()} == {"train": 1287, "dev": 75, "test": 76}
    assert re.search(r"train.jsonl +1287 +4.45 +22  nothing", capsys.readouterr().out)
    characters = set("".join(u.transcript for utterances in splits.values() for u in utterances))
    assert characters <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")
    for utterance in splits["dev"][::10]:
        assert utterance.duration_seconds == len(read_audio(utterance.audio_path, RATE_HZ)) / RATE_HZ
        assert utterance.id == Path(utterance.audio_path).stem
    assert not (tmp_path / "problems.txt").exists()


def test_the_script_runs_from_any_folder(source: Path, tmp_path: Path) -> None:
    script = f"{ROOT}/recipes/librispeech/prepare.py"
    arguments = [sys.executable, script, "mini", "--source", f"{source}", *NAMES]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "made the folder data/librispeech_mini\n")
    assert count_all(tmp_path / SIZES["mini"].output) == {"train": 12, "dev": 3, "test": 2}


def test_wav_is_read_and_hidden_files_are_not(tmp_path: Path) -> None:
    folder = write_subset(tmp_path, "some", {1: [2], 2: [1]}, ".wav")
    (folder / "1/100/._1-100-0000.flac").write_bytes(b"left by a Mac")
    (folder / ".DS_Store").touch()
    (folder / "1/100/.hidden").mkdir()
    shutil.copy(folder / "2/200/2-200-0000.wav", folder / "2/200/2-200-0000.FLAC")
    problems = Problems()
    entries = read_tree(folder, problems)
    assert not problems
    assert [entry.id for entry in entries] == ["1-100-0000", "1-100-0001", "2-200-0000"]
    assert [entry.audio_path[-4:] for entry in entries] == [".wav", ".wav", "FLAC"]


def test_readers_that_are_links_are_followed(tmp_path: Path) -> None:
    folder = write_subset(tmp_path, "some", {1: [2]})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "1").symlink_to(folder / "1")
    assert len(read_tree(tmp_path / "linked", Problems())) == 2


# Bad trees -----------------------------------------------------------------------------------------------------------


def spoil(folder: Path) -> dict[str, int]:
    """Damage a subset in every way; gives the kinds of damage with their counts."""
    good = (folder / "1/100/1-100-0000.flac").read_bytes()
    transcripts = folder / "1/100/1-100.trans.txt"
    transcripts.write_text(
        "1-100-0000 WELL\n1-100-0001 Well Done\n1-100-0002 IN 1903, HÉ\n1-100-0003 \n1-100-0004 ONE\n1-100-0004 TWO\n"
        "nonsense\n1-999-0000 OF ANOTHER CHAPTER\n1-100-0777 SILENCE\n\n1-100-0005  TWO  SPACES \r\n"
    )
    (folder / "1/100/1-100-0888.flac").write_bytes(good)
    (folder / "1/100/1-100-0006.flac").write_bytes(good[:-40])  # cut off
    (folder / "1/100/1-100-0007.flac").write_text("no sound")
    (folder / "1/100/1-100-0008.flac").touch()
    (folder / "1/100/1-100-0009.flac").symlink_to("nowhere")
    with open(transcripts, "a") as file:
        file.writelines(f"1-100-000{number} WELL\n" for number in (6, 7, 8, 9))
    (folder / "2/200/2-200.trans.txt").unlink()
    (folder / "2/201").mkdir()
    (folder / "3").mkdir()
    (folder / "4/400/4-400.trans.txt").write_bytes("4-400-0000 CAFÉ\n".encode("latin-1"))
    (folder / "stray.wav").write_bytes(good)
    (folder / "1/100/deeper").mkdir()
    (folder / "1/100/deeper/1-100-0999.flac").write_bytes(good)
    return {
        "transcript with lower case letters": 1,
        "transcript with characters other than A to Z, apostrophe and space": 1,
        "empty transcript": 1,
        "id that stands twice": 1,
        "line that does not begin with an id of its chapter": 2,
        "transcript without audio": 1,
        "audio without a transcript": 1,
        "audio that cannot be used": 4,
        "chapter without its .trans.txt": 3,
        "empty chapter": 1,
        "reader without chapters": 1,
        "transcripts that cannot be read": 2,
        "audio outside of a chapter's folder": 2,
    }


@pytest.fixture
def bad_source(tmp_path: Path) -> tuple[Path, dict[str, int]]:
    folder = write_subset(tmp_path / "source", "read", {1: [6], 2: [3], 4: [2], 6: [9]})
    kinds = spoil(folder)
    write_subset(tmp_path / "source", "heard", {7: [3]})
    write_subset(tmp_path / "source", "tried", {5: [2]})
    return tmp_path / "source", kinds


def test_everything_wrong_is_in_one_report_and_an_error(
    bad_source: tuple[Path, dict[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, kinds = bad_source
    output = tmp_path / "out"
    assert run_main("mini", "--source", source, *NAMES, "--output", output) == 2
    report = (output / "problems.txt").read_text()
    assert dict(re.findall(r"^(\S.*): (\d+)$", report, flags=re.MULTILINE)) == {k: f"{n}" for k, n in kinds.items()}
    error = capsys.readouterr().err
    for line in report.splitlines():
        assert line in error
    for part in ("line 2: 1-100-0001 has 'elno'", "1-100-0777", "'nonsense'", "3 audio files", "an empty file"):
        assert part in report
    assert not list(output.glob("*.jsonl"))


def test_what_is_broken_is_left_out_and_counted_where_that_is_allowed(
    bad_source: tuple[Path, dict[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, kinds = bad_source
    output = tmp_path / "out"
    arguments = ("mini", "--source", source, *NAMES, "--output", output, "--max_problem_share", 0.9)
    assert run_main(*arguments) == 0
    train = read_all(output)["train"]
    assert [u.id for u in train[:3]] == ["1-100-0000", "1-100-0004", "1-100-0005"]
    assert [u.transcript for u in train[:3]] == ["WELL", "ONE", "TWO SPACES"]
    assert len(train) == 3 + 9
    out = capsys.readouterr().out
    assert f"{sum(kinds.values())} problems" in out
    assert re.search(r"dev.jsonl +3 .* nothing", out)
    assert run_main(*arguments) == 0
    assert "holds these manifests already" in capsys.readouterr().out


def test_a_report_of_earlier_is_taken_away_once_all_is_well(source: Path, tmp_path: Path) -> None:
    arguments = ("mini", "--source", source, *NAMES, "--output", tmp_path / "out")
    transcripts = source / "read/1/100/1-100.trans.txt"
    good = transcripts.read_text()
    transcripts.write_text(good.lower())
    assert run_main(*arguments) == 2
    assert (tmp_path / "out/problems.txt").read_text().startswith("transcript with lower case letters: 3\n")
    transcripts.write_text(good)
    assert run_main(*arguments) == 0
    assert not (tmp_path / "out/problems.txt").exists()


def test_file_names_that_are_not_utf8_are_told_readably(tmp_path: Path) -> None:
    folder = write_subset(tmp_path, "some", {1: [1]})
    (Path(f"{folder}/1/100") / b"1-100-\xff.flac".decode("utf-8", "surrogateescape")).touch()
    problems = Problems()
    assert len(read_tree(folder, problems)) == 1
    assert problems.counts == {"audio without a transcript": 1}
    assert problems.summary().encode("utf-8").endswith(b"\\udcff.flac")


def test_an_id_in_two_subsets_stays_where_it_is_scored(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(source / "tried/5", source / "read/5")
    arguments = ("mini", "--source", source, *NAMES, "--output", tmp_path, "--max_problem_share", 0.5)
    assert run_main(*arguments) == 0
    assert count_all(tmp_path) == {"train": 12, "dev": 3, "test": 2}
    out = capsys.readouterr().out
    assert "id in two subsets: 2\n  5-500-0000 of read is in tried, too" in out
    assert re.search(r"train.jsonl +12 .* 2 problems", out)


def test_an_output_that_cannot_be_written_is_found_before_the_audio_is_measured(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipes.librispeech.parts.measure_durations", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").write_text("in the way")
    assert run_main("mini", "--source", source, *NAMES, "--output", tmp_path / "file") == 2
    assert f"cannot write {tmp_path}/file/problems.txt" in capsys.readouterr().err


def test_speakers_that_are_heard_on_both_sides_are_warned_of(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_subset(source, "more", {1: [], 4: []})
    (source / "more/1/150").mkdir(parents=True)
    shutil.copy(source / "read/1/100/1-100-0000.flac", source / "more/1/150/1-150-0000.flac")
    (source / "more/1/150/1-150.trans.txt").write_text("1-150-0000 WELL\n")
    names = ("--train", "read", "--dev", "heard", "--test", "tried", "more")
    assert run_main("mini", "--source", source, *names, "--output", tmp_path) == 0
    assert "WARNING: train and test share 1 speakers (1)" in capsys.readouterr().out
    assert run_main("mini", "--source", source, *NAMES, "--output", tmp_path) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_a_missing_subset_is_named_with_those_that_are_there(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main("mini", "--source", source, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert f"there is no folder {source}/test-clean; {source} has heard, read, tried" in error
    assert run_main("mini", "--source", tmp_path / "none", *NAMES) == 2
    assert "has no folders" in capsys.readouterr().err


def test_an_empty_subset_is_an_error(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(source / "tried/5")
    assert run_main("mini", "--source", source, *NAMES, "--output", tmp_path / "out") == 2
    assert "nothing is left for test.jsonl" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.jsonl"))


# Choices -------------------------------------------------------------------------------------------------------------


def test_hours_are_drawn_from_train_and_fewer_are_part_of_more(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(num_seconds: float, seed: int) -> dict[str, list[Utterance]]:
        arguments = ("--hours", num_seconds / 3600, "--seed", seed)
        assert run_main("mini", "--source", source, *NAMES, "--output", tmp_path / "out", *arguments) == 0
        return read_all(tmp_path / "out")

    few, many, others = draw(0.08, 1), draw(0.2, 1), draw(0.08, 2)
    assert {u.id for u in few["train"]} < {u.id for u in many["train"]}
    assert {u.id for u in few["train"]} != {u.id for u in others["train"]}
    assert sum(u.duration_seconds for u in many["train"]) == pytest.approx(0.2, abs=0.03)
    assert few["dev"] == many["dev"]
    assert re.search(r"train.jsonl .* \d+ beyond 2.22222e-05 hours", capsys.readouterr().out)


def test_more_hours_than_there_are_is_an_error(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("mini", "--source", source, *NAMES, "--output", source / "out", "--hours", 1) == 2
    assert "--hours 1 asks for more than train has left: 0.000 hours" in capsys.readouterr().err


def test_durations_limit_train_only(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--min_duration", 416 / RATE_HZ, "--max_duration", 432 / RATE_HZ)
    assert run_main("mini", "--source", source, *NAMES, "--output", tmp_path, *limits) == 0
    splits = read_all(tmp_path)
    assert {round(u.duration_seconds * RATE_HZ) for u in splits["train"]} == {416, 432}
    assert len(splits["dev"]) == 3
    assert len(splits["test"]) == 2
    assert re.search(r"4 shorter than 0.026 s, 1 longer than 0.027 s", capsys.readouterr().out)


def test_dev_can_be_taken_out_of_train_by_whole_speakers(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mini", "--source", source, "--train", "read", "--test", "tried", "--dev_share", 0.3)
    assert run_main(*arguments, "--output", tmp_path) == 0
    splits = read_all(tmp_path)
    train, dev = ({u.speaker for u in splits[name]} for name in ("train", "dev"))
    assert train | dev == {"1", "2", "3"}
    assert not train & dev
    assert f"{len(splits['dev'])} taken for dev" in capsys.readouterr().out


def test_dev_does_not_change_with_the_hours_of_train(source: Path, tmp_path: Path) -> None:
    arguments = ("mini", "--source", source, "--train", "read", "--test", "tried", "--dev_share", 0.3)
    assert run_main(*arguments, "--output", tmp_path / "a") == 0
    limits = ("--hours", 0.1 / 3600, "--min_duration", 0.026)
    assert run_main(*arguments, *limits, "--output", tmp_path / "b") == 0
    assert read_all(tmp_path / "a")["dev"] == read_all(tmp_path / "b")["dev"]


def test_with_a_source_dev_and_test_of_openslr_get_manifests_of_their_own(
    source: Path, tmp_path: Path, tiny: None
) -> None:
    for name in ("dev-other", "test-clean", "train-clean-100"):
        write_subset(source, name, TINY[name])
    assert run_main("clean100", "--source", source, *NAMES, "--output", tmp_path / "a") == 0
    assert set(count_all(tmp_path / "a")) == {"train", "dev", "test", "dev-other", "test-clean"}
    arguments = ("--train", "read", "--dev", "heard", "--test", "test-clean", "--extra", "tried")
    assert run_main("clean100", "--source", source, *arguments, "--output", tmp_path / "b") == 0
    assert count_all(tmp_path / "b") == {"train": 12, "dev": 3, "test": 3, "tried": 2}
    assert run_main("clean100", "--source", source, *NAMES, "--extra", "--output", tmp_path / "c") == 0
    assert set(count_all(tmp_path / "c")) == {"train", "dev", "test"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dev", "dev-clean", "--dev_share", "0.1"], "choose one of them"),
        (["--dev_share", "1"], "--dev_share 1 must be above 0 and below 1"),
        (["--dev_share", "nan"], "--dev_share nan must be"),
        (["--hours", "0"], "--hours 0 must be above 0"),
        (["--hours", "nan"], "--hours nan must be above 0"),
        (["--min_duration", "5", "--max_duration", "2"], "--min_duration 5 must be 0 or more and below"),
        (["--max_problem_share", "2"], "--max_problem_share 2 must be 0 to 1"),
        (["--workers", "0"], "--workers 0 must be 1 or more"),
        (["--train", "train-clean-9"], "OpenSLR has no subset 'train-clean-9', only train-clean-5, dev-clean-2"),
        (["--train", "dev-clean", "--dev", "dev-clean"], "subset dev-clean is named 2 times"),
        (["--source", ".", "--train", "a/b"], "'a/b' is no name of a folder"),
        (["--source", ".", "--train", ".."], "'..' is no name of a folder"),
        (["--source", ".", "--extra", "train"], "--extra train would be written over train.jsonl"),
    ],
)
def test_choices_that_cannot_be_are_refused_before_anything_is_done(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_main("mini", *arguments, "--corpus", tmp_path / "a", "--output", tmp_path / "b") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_says_what_each_size_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "train-clean-5 dev-clean-2 test-clean into data/librispeech_mini; 0.8 GB to download" in text
    assert "into data/librispeech; 61.4 GB to download" in text


def test_the_table_of_subsets_adds_up() -> None:
    assert sum(OFFICIAL[name].num_utterances for name in SIZES["960"].train) == 281241
    assert len({subset.md5 for subset in OFFICIAL.values()}) == len(OFFICIAL) == 9
    assert all(re.fullmatch("[0-9a-f]{32}", subset.md5) for subset in OFFICIAL.values())
    named = {name for size in SIZES.values() for name in (*size.train, *size.dev, *size.test, *size.extra)}
    assert named == set(OFFICIAL)


@pytest.mark.parametrize(("size", "hparams"), [("mini", "_mini"), ("clean100", "_clean100"), ("960", "")])
def test_the_yamls_look_for_the_manifests_where_they_are_made(size: str, hparams: str) -> None:
    text = (ROOT / f"hparams/deepspeech2{hparams}.yaml").read_text()
    for name in ("train", "dev", "test"):
        assert f"{name}_manifest: {SIZES[size].output}/{name}.jsonl" in text


# From nothing to manifests -------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Serves the mirror's folder, notes what is asked for, and hangs up half-way for names in `cut`."""

    def __init__(self, *arguments: Any, directory: Path) -> None:
        self.directory = directory
        super().__init__(*arguments)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        path = self.directory / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", f"{len(content) - start}")
        self.end_headers()
        is_cut = path.name in self.server.cut  # type: ignore[attr-defined]
        self.wfile.write(content[start : len(content) // 2] if is_cut else content[start:])


class Mirror:
    """OpenSLR, tiny, on the loopback."""

    def __init__(self, httpd: ThreadingHTTPServer, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{httpd.server_address[1]}/resources"
        self.requests: list[str] = []
        self.cut: set[str] = set()
        httpd.requests, httpd.cut = self.requests, self.cut  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Subset]]:
    """A folder of tiny archives as OpenSLR has them, and what SUBSETS would say of them."""
    folder = tmp_path_factory.mktemp("openslr")
    subsets = {}
    for name, readers in TINY.items():
        resource = OFFICIAL[name].resource
        write_subset(folder / "built/LibriSpeech", name, readers)
        (folder / "built/LibriSpeech/README.TXT").write_text("read me")
        path = folder / f"resources/{resource}/{name}.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            tar.add(folder / "built/LibriSpeech/README.TXT", "LibriSpeech/README.TXT")
            tar.add(folder / "built/LibriSpeech" / name, f"LibriSpeech/{name}")
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        subsets[name] = Subset(name, resource, path.stat().st_size, md5, COUNTS[name])
    return folder, subsets


@pytest.fixture
def tiny(archives: tuple[Path, dict[str, Subset]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny subsets be the official ones."""
    for name, subset in archives[1].items():
        monkeypatch.setitem(SUBSETS, name, subset)


@pytest.fixture
def mirror(
    tiny: None, archives: tuple[Path, dict[str, Subset]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mirror]:
    monkeypatch.setattr(download_module, "RETRY_PAUSES_SECONDS", (0.0,))
    shutil.copytree(archives[0] / "resources", tmp_path / "mirror/resources")
    handler = partial(Handler, directory=tmp_path / "mirror")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Mirror(httpd, tmp_path / "mirror")
        httpd.shutdown()
        thread.join()


@pytest.fixture
def fetch(mirror: Mirror, tmp_path: Path) -> Any:
    """Runs the recipe for a size with the mirror, into `corpus` and `out`; gives the exit status."""

    def run(size: str, *arguments: object) -> int:
        origin = ("--corpus", tmp_path / "corpus", "--base_url", mirror.url)
        return run_main(size, *origin, "--output", tmp_path / "out", *arguments)

    return run


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below, with its length and the time of its last change."""
    stats = {f"{path.relative_to(folder)}": path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}


def test_from_nothing_to_manifests(fetch: Any, mirror: Mirror, tmp_path: Path) -> None:
    assert fetch("mini") == 0
    assert count_all(tmp_path / "out") == {
        "train": COUNTS["train-clean-5"],
        "dev": COUNTS["dev-clean-2"],
        "test": COUNTS["test-clean"],
    }
    assert sorted(mirror.requests) == [
        *("/resources/12/test-clean.tar.gz", "/resources/31/dev-clean-2.tar.gz", "/resources/31/train-clean-5.tar.gz")
    ]
    tree = tmp_path / "corpus/LibriSpeech"
    assert {path.name for path in tree.iterdir()} == {"README.TXT", "dev-clean-2", "test-clean", "train-clean-5"}
    first = read_all(tmp_path / "out")["train"][0]
    assert first.audio_path == f"{tree}/train-clean-5/10/1000/10-1000-0000.flac"
    assert len(read_audio(first.audio_path, RATE_HZ)) == 400
    assert not list((tmp_path / "corpus").glob(".*"))


def test_a_second_run_does_nothing(
    fetch: Any, mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch("mini") == 0
    first = capsys.readouterr().out
    files = list_files(tmp_path)
    mirror.requests.clear()
    monkeypatch.setattr("recipes.librispeech.parts.measure_durations", lambda *_: pytest.fail("measured again"))
    assert fetch("mini") == 0
    second = capsys.readouterr().out
    assert "holds these manifests already" in second
    assert [line for line in second.splitlines() if "jsonl" in line] == [
        line for line in first.splitlines() if "jsonl" in line
    ]
    assert list_files(tmp_path) == files
    assert mirror.requests == []


def test_the_whole_corpus_has_dev_other_and_test_other_beside(fetch: Any, tmp_path: Path) -> None:
    assert fetch("960") == 0
    counts = count_all(tmp_path / "out")
    assert counts.pop("train") == sum(COUNTS[name] for name in SIZES["960"].train)
    expected = {"dev": "dev-clean", "test": "test-clean", "dev-other": "dev-other", "test-other": "test-other"}
    assert counts == {name: COUNTS[subset] for name, subset in expected.items()}


def test_sizes_share_what_is_downloaded(fetch: Any, mirror: Mirror) -> None:
    assert fetch("mini") == 0
    mirror.requests.clear()
    assert fetch("clean100") == 0
    assert sorted(mirror.requests) == ["/resources/12/dev-clean.tar.gz", "/resources/12/train-clean-100.tar.gz"]
    mirror.requests.clear()
    assert fetch("mini", "--extra", "test-other") == 0
    assert mirror.requests == ["/resources/12/test-other.tar.gz"]


def test_manifests_of_another_choice_are_made_anew(fetch: Any, mirror: Mirror, tmp_path: Path) -> None:
    assert fetch("mini") == 0
    all_of_train = read_all(tmp_path / "out")["train"]
    mirror.requests.clear()
    assert fetch("mini", "--hours", 0.1 / 3600) == 0
    assert len(read_all(tmp_path / "out")["train"]) < len(all_of_train)
    assert fetch("mini") == 0
    assert read_all(tmp_path / "out")["train"] == all_of_train
    assert mirror.requests == []


@pytest.mark.parametrize("damage", ["changed", "removed", "stamp"])
def test_damaged_manifests_are_made_again(fetch: Any, tmp_path: Path, damage: str) -> None:
    assert fetch("mini") == 0
    manifests = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.jsonl")}
    victim = tmp_path / "out" / ("prepared.json" if damage == "stamp" else "dev.jsonl")
    if damage == "removed":
        victim.unlink()
    else:
        victim.write_text(victim.read_text()[:-100])
    assert fetch("mini") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.jsonl")} == manifests


def test_archives_can_be_removed_and_are_not_fetched_again(fetch: Any, mirror: Mirror, tmp_path: Path) -> None:
    assert fetch("mini", "--remove_archives") == 0
    assert not list((tmp_path / "corpus").glob("*.tar.gz"))
    mirror.requests.clear()
    assert fetch("mini") == 0
    assert mirror.requests == []


@pytest.mark.parametrize("damage", ["missing", "empty", "transcripts", "stray"])
@pytest.mark.parametrize("is_archive_there", [True, False])
def test_a_damaged_tree_is_unpacked_again(
    fetch: Any,
    mirror: Mirror,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
    is_archive_there: bool,
) -> None:
    assert fetch("mini") == 0
    before = read_all(tmp_path / "out")
    folder = tmp_path / "corpus/LibriSpeech/train-clean-5/10/1000"
    if damage == "missing":
        (folder / "10-1000-0001.flac").unlink()
    elif damage == "empty":
        (folder / "10-1000-0001.flac").write_bytes(b"")
    elif damage == "transcripts":
        (folder / "10-1000.trans.txt").unlink()
    else:
        (folder / "10-1000-0099.flac").touch()
    if not is_archive_there:
        (tmp_path / "corpus/train-clean-5.tar.gz").unlink()
    mirror.requests.clear()
    assert fetch("mini") == 0
    assert "train-clean-5 is damaged and will be unpacked again" in capsys.readouterr().out
    assert read_all(tmp_path / "out") == before
    assert mirror.requests == ([] if is_archive_there else ["/resources/31/train-clean-5.tar.gz"])
    assert not list((tmp_path / "corpus").glob(".*"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_archive_is_fetched_again(fetch: Any, mirror: Mirror, tmp_path: Path, damage: str) -> None:
    archive = tmp_path / "corpus/dev-clean-2.tar.gz"
    archive.parent.mkdir()
    content = bytearray((mirror.folder / "resources/31/dev-clean-2.tar.gz").read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    else:
        content = bytearray(b"<html>log in first</html>")
    archive.write_bytes(content)
    assert fetch("mini") == 0
    assert hashlib.md5(archive.read_bytes()).hexdigest() == SUBSETS["dev-clean-2"].md5
    assert count_all(tmp_path / "out")["dev"] == COUNTS["dev-clean-2"]


def test_an_archive_that_is_there_is_not_fetched(fetch: Any, mirror: Mirror, tmp_path: Path) -> None:
    shutil.copytree(mirror.folder / "resources/31", tmp_path / "corpus")
    assert fetch("mini") == 0
    assert mirror.requests == ["/resources/12/test-clean.tar.gz"]


def test_an_archive_without_the_whole_subset_does_not_reach_the_tree(
    fetch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subset = SUBSETS["dev-clean-2"]
    more = Subset(subset.name, subset.resource, subset.num_bytes, subset.md5, subset.num_utterances + 1)
    monkeypatch.setitem(SUBSETS, subset.name, more)
    assert fetch("mini") == 2
    assert "is not whole, delete it and run this again: it has 4 of 5 utterances" in capsys.readouterr().err
    assert not (tmp_path / "corpus/LibriSpeech/dev-clean-2").exists()
    assert not (tmp_path / "out").exists()


def test_an_interrupted_download_is_never_taken_for_done(fetch: Any, mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut.add("train-clean-5.tar.gz")
    assert fetch("mini") == 2
    assert not (tmp_path / "corpus/train-clean-5.tar.gz").exists()
    assert not (tmp_path / "corpus/LibriSpeech/train-clean-5").exists()
    assert not (tmp_path / "out").exists()
    mirror.cut.clear()
    mirror.requests.clear()
    assert fetch("mini") == 0
    assert mirror.requests == ["/resources/31/train-clean-5.tar.gz"]
    assert count_all(tmp_path / "out")["train"] == COUNTS["train-clean-5"]


@pytest.mark.parametrize("num_files_first", [0, 1, 4, 7])
def test_an_interrupted_extraction_is_never_taken_for_done(
    fetch: Any, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_files_first: int
) -> None:
    extract_member = archive_module._extract_member
    num_extracted = 0

    def extract_a_few(*arguments: Any) -> None:
        nonlocal num_extracted
        if num_extracted == num_files_first:
            raise KeyboardInterrupt
        num_extracted += 1
        extract_member(*arguments)

    with monkeypatch.context() as patch:  # as kill -9: nothing is tidied up
        patch.setattr(archive_module, "_extract_member", extract_a_few)
        patch.setattr(archive_module.shutil, "rmtree", lambda path, ignore_errors=True: None)
        assert fetch("mini") == 130
    assert not (tmp_path / "corpus/LibriSpeech/train-clean-5").exists()
    assert not (tmp_path / "out").exists()
    assert fetch("mini") == 0
    assert count_all(tmp_path / "out")["train"] == COUNTS["train-clean-5"]
    assert not list((tmp_path / "corpus").glob(".*"))
    assert len(set(mirror.requests)) == len(mirror.requests)  # no archive was fetched twice


def test_an_interruption_between_manifests_is_never_taken_for_done(
    fetch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = command.write_manifest

    def write_train_only(path: Path, utterances: list[Utterance]) -> None:
        if path.name != "train.jsonl":
            raise KeyboardInterrupt
        write(path, utterances)

    with monkeypatch.context() as patch:
        patch.setattr(command, "write_manifest", write_train_only)
        assert fetch("mini") == 130
    assert set(count_all(tmp_path / "out")) == {"train"}
    assert fetch("mini") == 0
    assert set(count_all(tmp_path / "out")) == {"train", "dev", "test"}


def test_another_mirror_is_tried_where_the_first_has_nothing(mirror: Mirror, tmp_path: Path) -> None:
    arguments = ("--corpus", tmp_path / "corpus", "--output", tmp_path / "out")
    assert run_main("mini", *arguments, "--base_url", f"{mirror.url}/none/", f"{mirror.url}/") == 0
    assert count_all(tmp_path / "out")["train"] == COUNTS["train-clean-5"]
    assert "/resources/none/31/train-clean-5.tar.gz" in mirror.requests


def set_free_bytes(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    usage = shutil.disk_usage(Path.cwd())._replace(free=num_bytes)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda path: usage)


def test_a_disk_without_room_for_everything_is_found_before_the_first_byte(
    fetch: Any, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subsets = [SUBSETS[name] for name in ("train-clean-5", "dev-clean-2", "test-clean")]
    num_bytes = sum(subset.num_bytes + subset.num_unpacked_bytes for subset in subsets)
    assert _count_needed_bytes(subsets, tmp_path / "corpus", remove_archives=False) == num_bytes
    set_free_bytes(monkeypatch, num_bytes - 1)
    assert fetch("mini") == 2
    assert re.search(
        r"needs \d\.\d\d MB, but only \d\.\d\d MB are free on the disk of .*corpus", capsys.readouterr().err
    )
    assert mirror.requests == []
    set_free_bytes(monkeypatch, num_bytes)
    assert fetch("mini") == 0
    set_free_bytes(monkeypatch, 0)
    assert fetch("mini") == 0  # all is there


def test_removing_archives_needs_less_room(tmp_path: Path) -> None:
    subsets = [OFFICIAL[name] for name in (*SIZES["960"].train, "dev-clean", "test-clean")]
    keeping = _count_needed_bytes(subsets, tmp_path, remove_archives=False)
    removing = _count_needed_bytes(subsets, tmp_path, remove_archives=True)
    assert 120e9 < keeping < 130e9
    largest = OFFICIAL["train-other-500"]  # beside it, when it is unpacked, lie the trees of those before it
    assert removing == largest.num_bytes + sum(subset.num_unpacked_bytes for subset in subsets[:3])
    assert keeping == sum(subset.num_bytes + subset.num_unpacked_bytes for subset in subsets)
    with open(tmp_path / "train-clean-360.tar.gz.part", "wb") as part:
        part.truncate(20 * 10**9)  # no blocks are taken
    assert keeping - _count_needed_bytes(subsets, tmp_path, remove_archives=False) == 20 * 10**9


def test_an_official_subset_of_a_source_must_have_its_count(
    tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train-clean-5", "dev-clean-2", "test-clean"):
        write_subset(tmp_path / "source", name, TINY[name])
    shutil.rmtree(tmp_path / "source/train-clean-5/11")
    arguments = ("mini", "--source", tmp_path / "source", "--output", tmp_path / "out")
    assert run_main(*arguments) == 2
    assert "nothing is there: 4\n  train-clean-5 has 4 utterances less than its official 9" in capsys.readouterr().err
    assert run_main(*arguments, "--max_problem_share", 0.5) == 0
    assert re.search(r"train.jsonl +5 .* 4 problems", capsys.readouterr().out)
    write_subset(tmp_path / "source", "train-clean-5", {11: [4], 12: [1]})
    assert run_main(*arguments) == 2
    assert "has 10 utterances instead of its official 9" in capsys.readouterr().err


def test_the_stamp_says_what_the_manifests_are(fetch: Any, tmp_path: Path) -> None:
    assert fetch("mini") == 0
    stamp = json.loads((tmp_path / "out/prepared.json").read_text())
    for name in ("train", "dev", "test"):
        assert stamp["manifests"][name] == hashlib.sha256((tmp_path / f"out/{name}.jsonl").read_bytes()).hexdigest()
