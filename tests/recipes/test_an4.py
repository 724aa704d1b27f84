import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.io import read_audio, read_sound
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import parse_command_line
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.decoding.choice import load_choice
from mindaudio_ds2.errors import ManifestError
from recipes.an4 import prepare as recipe

RATE_HZ = 16000


def make_tone(seed: int) -> NDArray[np.int16]:
    """A smooth int16 sound of 400 to 499 samples that is another for every seed."""
    times = np.arange(400 + seed % 100) / RATE_HZ
    return np.asarray(9000 * np.sin(2 * np.pi * (150 + seed) * times), dtype=np.int16)


NUM_UTTERANCES = {"train": 130, "test": 26}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a corpus of 130 + 26 utterances count as whole; only the numbers differ from AN4's."""
    monkeypatch.setattr(recipe, "NUM_UTTERANCES", NUM_UTTERANCES)


def write_corpus(root: Path, suffix: str = ".wav") -> Path:
    """A small corpus of AN4's shape: 13 utterances to a speaker, smooth tones as audio."""
    for part, count in NUM_UTTERANCES.items():
        names = [f"an{number}-{'fm'[number // 13 % 2]}sp{part[1]}{number // 13}x-b" for number in range(count)]
        file_ids = [f"an4{part}/{name.split('-')[1]}/{name}" for name in names]
        sentences = [f"GO {'ONE ' * (number % 3)}STOP" for number in range(count)]
        marked = [f"<s> {sentence} </s>" if part == "train" else sentence for sentence in sentences]
        lines = [f"{sentence} ({name})" for sentence, name in zip(marked, names, strict=True)]
        (root / "etc").mkdir(parents=True, exist_ok=True)
        (root / f"etc/an4_{part}.fileids").write_text("\n".join(file_ids) + "\n")
        (root / f"etc/an4_{part}.transcription").write_text("\n".join(lines) + "\n")
        for number, file_id in enumerate(file_ids):
            write_audio(root / f"wav/{file_id}{suffix}", make_tone(number))
    return root


def write_audio(path: Path, samples: NDArray[np.int16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".raw":
        path.write_bytes(samples.astype(">i2").tobytes())
    else:
        soundfile.write(path, samples, RATE_HZ, format="NIST" if path.suffix == ".sph" else None, subtype="PCM_16")


@pytest.fixture
def corpus(tmp_path: Path, small: None) -> Path:
    return write_corpus(tmp_path / "an4")


def read_splits(folder: Path) -> dict[str, list[Utterance]]:
    return {split: read_manifest(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}


def test_the_real_corpus_gives_the_official_test_and_disjoint_speakers(shared_data: Path, tmp_path: Path) -> None:
    recipe.prepare(shared_data / "an4", tmp_path)
    splits = read_splits(tmp_path)
    assert [len(members) for members in splits.values()] == [844, 104, 130]
    speakers = [{utterance.speaker for utterance in members} for members in splits.values()]
    assert [len(names) for names in speakers] == [66, 8, 10]
    assert len(set.union(*speakers)) == 84
    assert {name[0] for name in speakers[1]} == {"f", "m"}
    first = splits["test"][0]
    assert (first.id, first.speaker, first.transcript) == ("an406-fcaw-b", "fcaw", "RUBOUT G M E F THREE NINE")
    assert first.duration_seconds == len(read_audio(first.audio_path, RATE_HZ)) / RATE_HZ
    characters = set("".join(utterance.transcript for members in splits.values() for utterance in members))
    assert characters == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ ")


def test_ids_speakers_transcripts_and_durations_come_from_the_tree(corpus: Path, tmp_path: Path) -> None:
    recipe.prepare(corpus, tmp_path / "out")
    splits = read_splits(tmp_path / "out")
    utterance = splits["test"][17]
    assert utterance.id == "an17-mspe1x-b"
    assert utterance.speaker == "mspe1x"
    assert utterance.transcript == "GO ONE ONE STOP"
    assert utterance.audio_path == f"{corpus}/wav/an4test/mspe1x/an17-mspe1x-b.wav"
    assert utterance.duration_seconds == 417 / RATE_HZ
    together = splits["train"] + splits["dev"]
    assert sorted(int(u.id.split("-")[0][2:]) for u in together) == list(range(130))
    assert {u.id: u.transcript for u in together}["an1-fspr0x-b"] == "GO ONE STOP"


def test_dev_holds_all_of_every_ninth_speaker_and_is_always_the_same(corpus: Path, tmp_path: Path) -> None:
    recipe.prepare(corpus, tmp_path / "a")
    recipe.prepare(corpus, tmp_path / "b")
    first, second = read_splits(tmp_path / "a"), read_splits(tmp_path / "b")
    assert first == second
    train, dev = ({u.speaker for u in first[split]} for split in ("train", "dev"))
    assert not train & dev
    assert len(dev) == len(train | dev) // 9 == 1


def test_names_that_differ_in_a_digit_stay_together() -> None:
    names = [f"m{letter}" for letter in "abcdefghi"] + ["mi2", "mi3"]
    utterances = [Utterance(name, "a.wav", 1.0, "GO", name) for name in names]
    train, dev = recipe.split_by_speaker(utterances)
    assert [u.speaker for u in dev] == ["mi", "mi2", "mi3"]
    assert [u.speaker for u in train] == names[:8]


@pytest.mark.parametrize("suffix", [".flac", ".sph", ".raw"])
def test_every_form_of_the_archive_gives_the_same_samples(small: None, tmp_path: Path, suffix: str) -> None:
    recipe.prepare(write_corpus(tmp_path / "source", suffix), tmp_path / "out")
    for utterance in read_splits(tmp_path / "out")["test"][:20]:
        number = int(utterance.id.split("-")[0][2:])
        expected = make_tone(number) / 32768
        read = read_sound(utterance.audio_path, keeps_offset=True).waveform
        np.testing.assert_array_equal(read, expected.astype(np.float32))
        assert utterance.duration_seconds == len(expected) / RATE_HZ


def test_raw_audio_is_converted_below_the_output_folder(small: None, tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", ".raw")
    recipe.prepare(source, tmp_path / "out")
    assert '"audio/an4test/fspe0x/an0-fspe0x-b.flac"' in (tmp_path / "out/test.jsonl").read_text()
    assert len(list((tmp_path / "out/audio").rglob("*.flac"))) == 156
    assert not list(source.rglob("*.flac"))


def test_little_endian_raw_audio_is_refused(small: None, tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", ".raw")
    raw = source / "wav/an4test/fspe0x/an0-fspe0x-b.raw"
    raw.write_bytes(make_tone(0).astype("<i2").tobytes())
    with pytest.raises(ManifestError, match="little-endian"):
        recipe.prepare(source, tmp_path / "out")


def test_all_that_is_missing_or_does_not_match_is_listed_at_once(corpus: Path, tmp_path: Path) -> None:
    wav = corpus / "wav/an4test/fspe0x"
    (wav / "an0-fspe0x-b.wav").unlink()
    (wav / "an1-fspe0x-b.wav").write_bytes(b"")
    (wav / "an2-fspe0x-b.wav").write_text("no sound")
    path = corpus / "etc/an4_test.transcription"
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace("an3-", "an3000-")
    lines[4] = "no id"
    lines[5] = "(an5-fspe0x-b)"
    lines[7] = lines[6]
    path.write_text("\n".join(lines))
    with pytest.raises(ManifestError) as caught:
        recipe.prepare(corpus, tmp_path / "out")
    message = f"{caught.value}"
    for part in (
        "an4test/fspe0x/an0-fspe0x-b: no audio",
        "an4test/fspe0x/an1-fspe0x-b: ",
        "an4test/fspe0x/an2-fspe0x-b: ",
        "an4test/fspe0x/an3-fspe0x-b: it has no transcript",
        "an3000-fspe0x-b has a transcript, but",
        "line 5 is not `TRANSCRIPT (id)`: 'no id'",
        "an4test/fspe0x/an4-fspe0x-b: it has no transcript",
        "the transcript is empty",
        "line 8 repeats an6-fspe0x-b",
        "an4test/fspe0x/an7-fspe0x-b: it has no transcript",
        "mend these 10",
    ):
        assert part in message
    assert not (tmp_path / "out").exists()


def test_another_number_of_utterances_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        recipe.prepare(write_corpus(tmp_path / "source"), tmp_path / "out")
    assert "an4_train.fileids has 130 lines instead of 948" in f"{caught.value}"
    assert "an4_test.fileids has 26 lines instead of 130" in f"{caught.value}"


def test_a_folder_that_is_no_corpus_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--source", f"{tmp_path / 'none'}", "--output", f"{tmp_path / 'out'}") == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path / 'none'} is not the whole of AN4" in error
    assert "an4_train.fileids cannot be read" in error


def run_main(*arguments: str) -> int:
    """The command line in this process; gives its exit status."""
    before, sys.argv = sys.argv, ["prepare.py", *arguments]
    try:
        recipe.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the loopback that stands in for CMU's server."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=f"{folder}")) as httpd:
        monkeypatch.setattr(recipe, "URL", f"http://127.0.0.1:{httpd.server_address[1]}/an4_sphere.tar.gz")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder
        httpd.shutdown()
        thread.join()


def test_the_archive_is_downloaded_unpacked_and_read(
    small: None, tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "built/an4", ".sph")
    with tarfile.open(mirror / "an4_sphere.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(tmp_path / "built/an4", "an4")
    output = tmp_path / "out"
    monkeypatch.setattr(recipe, "SHA256", hashlib.sha256((mirror / "an4_sphere.tar.gz").read_bytes()).hexdigest())
    assert run_main("--download", "--output", f"{output}") == 0
    assert "SHA-256" not in capsys.readouterr().out
    assert [len(members) for members in read_splits(output).values()] == [117, 13, 26]
    assert '"audio_path": "original/an4/wav/an4test/' in (output / "test.jsonl").read_text()
    (mirror / "an4_sphere.tar.gz").unlink()
    assert run_main("--download", "--output", f"{output}") == 0
    with open(output / "an4_sphere.tar.gz", "ab") as archive:
        archive.write(b"\0")
    assert run_main("--download", "--output", f"{output}") == 2
    assert "it has changed since it was downloaded" in capsys.readouterr().err


def test_an_archive_with_another_checksum_is_told(
    small: None, tmp_path: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path / "built/an4", ".sph")
    with tarfile.open(mirror / "an4_sphere.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(tmp_path / "built/an4", "an4")
    digest = hashlib.sha256((mirror / "an4_sphere.tar.gz").read_bytes()).hexdigest()
    assert run_main("--download", "--output", f"{tmp_path / 'out'}") == 0
    assert f"has the SHA-256 {digest}, not {recipe.SHA256}" in capsys.readouterr().out


def test_an_archive_of_something_else_is_refused(
    tmp_path: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(mirror / "an4_sphere.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    assert run_main("--download", "--output", f"{tmp_path / 'out'}") == 2
    assert "is not the whole of AN4" in capsys.readouterr().err
    assert not (tmp_path / "out/train.jsonl").exists()


def test_the_origin_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main() == 2
    assert "--source" in capsys.readouterr().err


def test_help_says_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "64 MB" in text
    assert "default: data/an4" in text


# run.sh ---------------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
RECORDER = """#!/usr/bin/env bash
printf '%s\\t' "$@" >>"$(dirname "${BASH_SOURCE[0]}")/calls"
echo >>"$(dirname "${BASH_SOURCE[0]}")/calls"
[[ $1 != "$(cat "$(dirname "${BASH_SOURCE[0]}")/fails" 2>/dev/null)" ]]
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A project in which an environment is there already, and whose python only writes down how it was called."""
    for folder in (".venv/bin", "scripts", "recipes/an4"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "recipes/an4/run.sh", tmp_path / "recipes/an4/run.sh")
    (tmp_path / "scripts/environment.sh").write_text("", encoding="utf-8")
    (tmp_path / ".venv/bin/python").write_text(RECORDER, encoding="utf-8")
    (tmp_path / ".venv/bin/python").chmod(0o755)
    return tmp_path


def run_script(copy: Path, *arguments: str) -> tuple[int, list[list[str]]]:
    """Exit status and what python was called with."""
    status = subprocess.run(
        ["bash", "recipes/an4/run.sh", *arguments], cwd=copy, capture_output=True, check=False
    ).returncode
    calls = copy / ".venv/bin/calls"
    lines = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
    return status, [line.rstrip("\t").split("\t") for line in lines]


def read_training(call: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Config, str | None]:
    """The configuration of a call of train.py, as train.py reads it, and the checkpoint it starts from."""
    from mindaudio_ds2.commands import train

    monkeypatch.chdir(ROOT)
    config, options = parse_command_line(
        train.__doc__ or "", call[1:], train.add_options, ROOT / "hparams/deepspeech2.yaml"
    )
    assert config is not None
    assert options.resume
    return config, options.pre_trained_model_path


def test_the_whole_recipe_goes_on_from_long_frames_with_short_ones(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, (prepare, merge, *trainings, evaluation) = run_script(
        copy, "--start", "random", "--seed", "3", "--source", "my an4"
    )
    assert status == 0
    assert prepare == ["recipes/an4/prepare.py", "--source", "my an4"]
    assert merge[:4] == ["-m", "mindaudio_ds2", "manifest", "merge"]
    (coarse, start), (fine, fine_start) = (read_training(call, monkeypatch) for call in trainings)
    assert {config.data.train_manifest for config in (coarse, fine)} == {merge[-1]}, "all 948 utterances"
    assert {config.seed for config in (coarse, fine)} == {3}
    assert start is None
    assert fine_start == f"{coarse.run_dir}/last.ckpt"
    assert (coarse.seconds_per_output_frame, fine.seconds_per_output_frame) == (0.04, 0.02)
    assert coarse.training.freeze == []
    assert fine.training.freeze == ["convs.0.batch_norm", "convs.1.batch_norm", "rnn_batch_norms", "head_batch_norm"]
    assert evaluation == ["eval.py", "--pre_trained_model_path", f"{fine.run_dir}/last.ckpt"]


def test_the_english_network_is_trained_on_and_scored_with_and_without_a_model(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, (_, merge, training, model, greedy, beam) = run_script(copy, "--seed", "2")
    assert status == 0
    config, start = read_training(training, monkeypatch)
    assert (start, config.seed, config.data.train_manifest) == ("english", 2, merge[-1])
    assert model[2:4] == ["build_lm", merge[-1]]
    assert model[model.index("--exclude") + 1] == "data/an4/test.jsonl"
    assert greedy == ["eval.py", "--pre_trained_model_path", f"{config.run_dir}/last.ckpt"]
    assert beam[:3] == greedy
    assert beam[beam.index("--lm") + 1] == model[-1]
    choice = load_choice(ROOT / beam[beam.index("--decoder") + 1])
    assert choice.kind == "beam"
    assert choice.model_path is None


@pytest.mark.parametrize("start", ["english", "random"])
def test_trainings_multiply_in_bfloat16_where_asked(copy: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    for options, precision in (((), "fp32"), (("--bf16",), "bf16")):
        (copy / ".venv/bin/calls").unlink(missing_ok=True)
        status, calls = run_script(copy, *options, "--start", start)
        assert status == 0
        trainings = [read_training(call, monkeypatch)[0] for call in calls if call[0] == "train.py"]
        assert {config.precision.compute for config in trainings} == {precision}


def test_without_a_source_the_corpus_is_downloaded(copy: Path) -> None:
    assert run_script(copy)[1][0] == ["recipes/an4/prepare.py", "--download"]


@pytest.mark.parametrize("arguments", [["--sed", "1"], ["--seed"], ["--seed", "x"], ["--start", "here"], ["here"]])
def test_what_it_does_not_know_stops_it_at_once(copy: Path, arguments: list[str]) -> None:
    assert run_script(copy, *arguments) == (2, [])


def test_the_first_failure_ends_it(copy: Path) -> None:
    (copy / ".venv/bin/fails").write_text("train.py", encoding="utf-8")
    status, calls = run_script(copy)
    assert status == 1
    assert [call[0] for call in calls].count("train.py") == 1
    assert calls[-1][0] == "train.py"
