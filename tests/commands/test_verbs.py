"""The verbs from the command line to what they print, in this process."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import soundfile

from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.manifest import read_manifest, write_manifest
from tests.tiny_corpus import TRANSCRIPTS, RunVerb, make_settings, read_metrics, speak, write_yaml

VERBS = ("train", "eval", "transcribe", "export")


@pytest.fixture
def checkpoint(learned_run: Path, tmp_path: Path) -> Path:
    """Of a network that hears every character, alone in a folder of its own."""
    folder = tmp_path / "model"
    folder.mkdir()
    return Path(shutil.copy(learned_run / "last.ckpt", folder))


# train ----------------------------------------------------------------------------------------------------------------


def test_train_takes_the_yaml_and_what_the_command_line_changes(
    run_verb: RunVerb, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = write_yaml(tmp_path / "tiny.yaml", make_settings(corpus, tmp_path / "unused", {}))
    changes = ("--training.epochs", "1", "--schedule.peak_learning_rate", "1e-2", "--model.conv_kernel_time", "[5]")
    assert run_verb("train", "-c", yaml, "--run_dir", tmp_path / "run", *changes) == 0
    config = read_config(tmp_path / "run" / "config.yaml")
    assert (config.training.epochs, config.schedule.peak_learning_rate) == (1, 0.01)
    assert config.model.conv_kernel_time == [5]
    assert len(read_metrics(tmp_path / "run", "epoch")) == 1
    assert not (tmp_path / "unused").exists()
    shown = capsys.readouterr().err
    assert "12 utterances" in shown
    assert f"{tmp_path / 'run' / 'best.ckpt'}" in shown.splitlines()[-1]


def test_resuming_a_finished_run_says_that_it_had_finished(
    run_verb: RunVerb, finished_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    yaml = write_yaml(tmp_path / "tiny.yaml", make_settings(corpus, tmp_path / "run", {}))
    assert run_verb("train", "-c", yaml, "--resume") == 0
    shown = capsys.readouterr().err
    num_epochs = read_config(yaml).training.epochs
    assert (
        f"the run had finished after step {read_metrics(finished_run, 'step')[-1]['step']}, epoch {num_epochs}\n"
        in shown
    )
    assert "going on" not in shown


# eval -----------------------------------------------------------------------------------------------------------------


def test_eval_prints_rates_the_worst_utterances_and_where_the_details_are(
    run_verb: RunVerb, finished_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--manifest", corpus / "train.jsonl", "--output_dir", tmp_path, "--num_worst", "2")
    assert run_verb("eval", "--pre_trained_model_path", finished_run / "best.ckpt", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    summary = json.loads((tmp_path / "eval_train.json").read_text(encoding="utf-8"))
    assert lines[0].startswith("12 utterances, ")
    assert (
        f"WER {100 * summary['wer']:6.2f} %   {summary['word_errors']} errors in {summary['num_words']} words"
        in (lines[1])
    )
    assert len([line for line in lines if line.startswith("    ref ")]) == 2
    assert lines[-1] == f"details in {tmp_path / 'eval_train.json'}"


def test_eval_of_a_perfect_recogniser_shows_no_worst_utterances(
    run_verb: RunVerb, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("eval", "--pre_trained_model_path", checkpoint) == 0
    shown = capsys.readouterr().out
    assert "WER   0.00 %   0 errors in 12 words" in shown
    assert "worst" not in shown
    assert (checkpoint.parent / "eval_test.json").exists()


def test_eval_without_a_yaml_takes_changes_to_what_the_checkpoint_says(
    run_verb: RunVerb, checkpoint: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--data.test_manifest", corpus / "dev.jsonl", "--batch_size", "2", "--output_dir", tmp_path)
    assert run_verb("eval", "--pre_trained_model_path", checkpoint, *options) == 0
    assert "5 utterances" in capsys.readouterr().out
    assert (tmp_path / "eval_dev.json").exists()
    for key, value in (("features.fft_size", "256"), ("model.rnn_hidden_size", "5"), ("text.characters", "AB")):
        assert run_verb("eval", "--pre_trained_model_path", checkpoint, f"--{key}", value) == 2
        assert f"{key} cannot be changed" in capsys.readouterr().err
    assert run_verb("eval", "--pre_trained_model_path", checkpoint, "--batching.prefetch_batches", "0") == 2
    assert "batching.prefetch_batches is 0, which is impossible" in capsys.readouterr().err


def test_a_manifest_that_only_the_checkpoint_knows_and_is_gone_is_told_as_such(
    run_verb: RunVerb, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mindspore import Parameter, Tensor

    from mindaudio_ds2.checkpoint import load_checkpoint, save_checkpoint

    read = load_checkpoint(checkpoint)
    config = dataclasses.replace(read.config, data=dataclasses.replace(read.config.data, test_manifest="gone.jsonl"))
    elsewhere = tmp_path / "elsewhere.ckpt"
    weights = {name: Parameter(Tensor(array), name=name) for name, array in read.weights.items()}
    save_checkpoint(elsewhere, config, weights, {}, read.state)
    assert run_verb("eval", "--pre_trained_model_path", elsewhere) == 2
    assert f"gone.jsonl, which {elsewhere} names, is not here; name a manifest with --manifest" in (
        capsys.readouterr().err
    )


def test_eval_scores_several_manifests_and_compares_them(
    run_verb: RunVerb, checkpoint: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = read_manifest(corpus / "dev.jsonl")
    for name in ("clean", "other"):
        (tmp_path / name).mkdir()
        write_manifest(tmp_path / name / "test.jsonl", utterances[: 2 + (name == "other")])
    manifests = [tmp_path / "clean" / "test.jsonl", tmp_path / "other" / "test.jsonl", corpus / "train.jsonl"]
    assert run_verb("eval", "--pre_trained_model_path", checkpoint, "--manifest", *manifests) == 0
    shown = capsys.readouterr().out
    table = shown.split("\n\n")[-1].splitlines()
    assert table[0].split() == ["corpus", "utterances", "minutes", "WER", "CER"]
    assert [line.split()[:2] for line in table[1:]] == [["clean_test", "2"], ["other_test", "3"], ["train", "12"]]
    for line in table[1:]:
        name, _, _, wer, *_ = line.split()
        summary = json.loads((checkpoint.parent / f"eval_{name}.json").read_text(encoding="utf-8"))
        assert summary["split"] == name
        assert float(wer) == pytest.approx(100 * summary["wer"], abs=0.005)
        assert f"details in {checkpoint.parent / f'eval_{name}.json'}" in shown
    assert run_verb("eval", "--pre_trained_model_path", checkpoint, "--manifest", manifests[0], manifests[0]) == 2
    assert "named twice" in capsys.readouterr().err


def test_a_yaml_in_place_of_a_checkpoint_and_a_checkpoint_in_place_of_a_yaml_are_told(
    run_verb: RunVerb, checkpoint: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = write_yaml(tmp_path / "tiny.yaml", make_settings(corpus, tmp_path / "unused", {}))
    assert run_verb("eval", "--pre_trained_model_path", yaml) == 2
    assert f"{yaml} is a YAML, and a checkpoint (X.ckpt) is expected here" in capsys.readouterr().err
    unnamed = Path(shutil.copy(checkpoint, tmp_path / "weights"))
    for path in (checkpoint, unnamed):
        assert run_verb("train", "-c", path) == 2
        assert "--pre_trained_model_path" in capsys.readouterr().err


def test_options_that_swallow_the_network_are_pointed_at(
    run_verb: RunVerb, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("eval", "--manifest", corpus / "test.jsonl", "english") == 2
    assert "no network is named; name a checkpoint, such as" in capsys.readouterr().err


# transcribe -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "z.wav", tmp_path / "a.flac"]
    for path, transcript in zip(paths, ("DAD CAB", "BAC"), strict=True):
        soundfile.write(path, speak(transcript, seed=9), 8000)
    return paths


def test_transcribe_prints_a_line_a_recording_and_nothing_else(
    run_verb: RunVerb, checkpoint: Path, recordings: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("transcribe", "--pre_trained_model_path", checkpoint, *recordings) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{recordings[0]}\tDAD CAB\n{recordings[1]}\tBAC\n"
    assert shown.err.startswith("1.4 s of audio in ")


def test_transcribe_writes_json_with_word_times(
    run_verb: RunVerb, checkpoint: Path, recordings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "words.json"
    options = ("--format", "json", "--output", output)
    assert run_verb("transcribe", "--pre_trained_model_path", checkpoint, *options, *recordings) == 0
    assert capsys.readouterr().out == ""
    rows = json.loads(output.read_text(encoding="utf-8"))
    assert [row["text"] for row in rows] == ["DAD CAB", "BAC"]
    assert [word["text"] for word in rows[0]["words"]] == ["DAD", "CAB"]
    for row in rows:
        times = [word[key] for word in row["words"] for key in ("start_seconds", "end_seconds")]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] <= row["duration_seconds"]


def test_transcribe_never_writes_over_a_recording_or_the_network(
    run_verb: RunVerb, checkpoint: Path, recordings: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--pre_trained_model_path", checkpoint, "--format", "vtt")
    for output in (recordings[0], checkpoint):
        before = output.read_bytes()
        assert run_verb("transcribe", *options, "--output", output, recordings[0]) == 2
        assert f"cannot write {output}: it is one of the inputs" in capsys.readouterr().err
        assert output.read_bytes() == before


def test_a_recording_s_own_text_file_holds_the_text_alone(
    run_verb: RunVerb, checkpoint: Path, recordings: list[Path], tmp_path: Path
) -> None:
    options = ("--pre_trained_model_path", checkpoint, "--output_dir", tmp_path / "texts")
    assert run_verb("transcribe", *options, recordings[0]) == 0
    assert [path.read_text() for path in (tmp_path / "texts").iterdir()] == ["DAD CAB\n"]


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_transcribe_names_what_it_could_not_read_after_the_rest_and_ends_with_2(
    run_verb: RunVerb, checkpoint: Path, recordings: list[Path], capsys: pytest.CaptureFixture[str], output_format: str
) -> None:
    bad = recordings[0].with_name("notes.wav")
    bad.write_text("not audio")
    options = ("--pre_trained_model_path", checkpoint, "--format", output_format)
    assert run_verb("transcribe", *options, recordings[0], bad, recordings[1]) == 2
    shown = capsys.readouterr()
    assert "DAD CAB" in shown.out
    assert "BAC" in shown.out
    assert shown.err.startswith("error: 1 of 3 recordings were not read:\n")
    assert f"{bad} is not audio in a known format" in shown.err
    assert "Traceback" not in shown.err


# export ---------------------------------------------------------------------------------------------------------------


def test_export_says_what_it_wrote(run_verb: RunVerb, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("export", "--pre_trained_model_path", checkpoint) == 0
    folder = checkpoint.parent / "export"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{folder / 'model.mindir'}: ")
    assert lines[1].startswith(f"{folder / 'model.json'}: ")
    assert json.loads((folder / "model.json").read_text(encoding="utf-8"))["labels"] == ["", *"ABCD "]


# The whole way --------------------------------------------------------------------------------------------------------


def test_what_a_checkpoint_hears_does_not_depend_on_the_verb(
    run_verb: RunVerb, finished_run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that has not learned much makes mistakes of its own, and the same in both verbs."""
    utterances = read_manifest(corpus / "test.jsonl")
    best = finished_run / "best.ckpt"
    assert run_verb("eval", "--pre_trained_model_path", best, "--output_dir", tmp_path) == 0
    capsys.readouterr()
    assert run_verb("transcribe", "--pre_trained_model_path", best, *(u.audio_path for u in utterances)) == 0
    transcribed = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    rows = (tmp_path / "eval_test_utterances.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["hypothesis"] for row in rows] == transcribed
    assert transcribed != list(TRANSCRIPTS["test"])


def test_a_moved_corpus_is_scored_after_moving_its_manifest_with_it(
    run_verb: RunVerb, checkpoint: Path, corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(corpus, tmp_path / "moved")
    utterances = read_manifest(tmp_path / "moved" / "dev.jsonl")
    assert all(utterance.audio_path.startswith(str(tmp_path)) for utterance in utterances)
    write_manifest(tmp_path / "moved" / "two.jsonl", utterances[:2])
    manifest = tmp_path / "moved" / "two.jsonl"
    assert run_verb("eval", "--pre_trained_model_path", checkpoint, "--manifest", manifest) == 0
    assert json.loads((checkpoint.parent / "eval_two.json").read_text(encoding="utf-8"))["num_utterances"] == 2


# Help -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_no_error_and_an_unknown_option_is_one(
    run_verb: RunVerb, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(verb, "--help") == 0
    assert "--pre_trained_model_path" in capsys.readouterr().out
    assert run_verb(verb, "--pre_trained_model_path", "x.ckpt", "--colour", "red", "x.wav") == 2
    assert "--colour" in capsys.readouterr().err
