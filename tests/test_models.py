import dataclasses
import importlib
import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2 import models
from mindaudio_ds2.commands import models as list_command
from mindaudio_ds2.commands import transcribe
from mindaudio_ds2.decoding.beam import BeamSettings
from mindaudio_ds2.decoding.choice import DecoderChoice, save_choice
from mindaudio_ds2.decoding.label_prior import LabelPrior
from mindaudio_ds2.errors import CheckpointError, OutputError
from mindaudio_ds2.machine.backend import STOCK
from tests.tiny_corpus import RunVerb, speak

OTHER_ARGUMENTS = {"plot_curves": ("--output", "x.png"), "record_result": ("recipe",)}


def make_model(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"model.{name}").write_bytes(content)
    card = {"licence": "CC0", "files": {path.name: models.digest(path) for path in folder.iterdir()}}
    (folder / models.CARD).write_text(json.dumps(card))
    return folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, `own` as the user's folder of models, `package` as the package's."""
    models.say_which.cache_clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path / "own"))
    monkeypatch.setattr(models, "PACKAGE_FOLDER", tmp_path / "package")
    return tmp_path


def make_run(folder: Path, content: bytes = b"run") -> Path:
    folder.mkdir(parents=True)
    (folder / "best.ckpt").write_bytes(content)
    return folder


def test_a_name_means_a_run_first_and_the_other_networks_are_named(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = make_model(places / "package" / "english", ckpt=b"package")
    assert models.find_file("english", "weights").read_bytes() == b"package"
    assert "means" not in capsys.readouterr().err
    own = make_model(places / "own" / "english", ckpt=b"own")
    for wanted in ("english", None, Path("english")):
        assert models.find_file(wanted, "weights").read_bytes() == b"own"
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"english means {own} here; for another of that name, name {package}"
    make_run(places / "runs" / "english")
    assert models.find_file("english", "weights").read_bytes() == b"run"
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"english means runs/english/best.ckpt here; for another of that name, name {own} or {package}"
    assert models.find_file(str(package), "weights").read_bytes() == b"package"
    assert models.find_file("runs/english", "weights").read_bytes() == b"run"


def test_what_lies_in_the_working_folder_comes_last(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = make_run(places / "mine", b"here")
    assert models.find_file("mine", "weights").read_bytes() == b"here"
    make_run(places / "runs" / "mine")
    assert models.find_file("mine", "weights").read_bytes() == b"run"
    assert f"mine means runs/mine/best.ckpt here; for another of that name, name {here}" in capsys.readouterr().err
    assert models.find_file("./mine", "weights").read_bytes() == b"here"


def test_one_place_under_two_names_is_no_other_network(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(places / "package" / "english", ckpt=b"c")
    monkeypatch.setenv(models.FOLDER_VARIABLE, "package")
    assert models.find_file("english", "weights") == Path("package/english/model.ckpt")
    assert not capsys.readouterr().err


def test_scores_of_a_model_never_replace_those_of_a_run(places: Path) -> None:
    folder = make_model(places / "package" / "english", ckpt=b"c")
    assert models.choose_results_folder(folder / "model.ckpt") == Path("runs/english")
    run = make_run(places / "runs" / "english")
    assert models.choose_results_folder(folder / "model.ckpt") == Path("runs/english_model")
    assert models.choose_results_folder(run / "best.ckpt") == run


def test_a_path_is_never_taken_for_a_name(places: Path) -> None:
    make_model(places / "package" / "english", ckpt=b"package")
    (places / "weights").write_bytes(b"a file")
    assert models.find_file("weights", "weights").read_bytes() == b"a file"
    assert models.find_file("missing.ckpt", "weights") == Path("missing.ckpt")
    assert models.find_file("runs/english", "weights") == Path("runs/english")


def test_a_run_folder_stands_for_its_best_checkpoint(places: Path) -> None:
    folder = places / "runs" / "mine"
    folder.mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"mine is a folder without best\.ckpt"):
        models.find_file(folder, "weights")
    (folder / "best.ckpt").touch()
    assert models.find_file(folder, "weights") == folder / "best.ckpt"


def test_recognition_takes_onnx_where_it_can_run(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(places / "package" / "english", ckpt=b"c", onnx=b"o")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _: object())
    assert models.find_file("english", "recognition") == folder / "model.onnx"
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _: None)
    assert models.find_file("english", "recognition") == folder / "model.ckpt"
    assert models.find_file("english", "weights") == folder / "model.ckpt"


def test_an_unknown_name_lists_what_there_is(places: Path) -> None:
    make_model(places / "package" / "english", ckpt=b"c")
    with pytest.raises(CheckpointError, match=r"no model 'englsh'.*did you mean english\?"):
        models.find_file("englsh", "weights")
    with pytest.raises(CheckpointError, match=r"no model 'other'.*name a checkpoint by its path$"):
        models.find_file("other", "weights")
    with pytest.raises(CheckpointError, match=r"no model 'other'.*name an \.onnx file or a checkpoint by its path$"):
        models.find_file("other", "recognition")


def test_a_changed_file_is_refused(places: Path) -> None:
    folder = make_model(places / "package" / "english", ckpt=b"c")
    (folder / "model.ckpt").write_bytes(b"d")
    with pytest.raises(CheckpointError, match="damaged"):
        models.find_file("english", "weights")


@pytest.mark.parametrize("card", ["{", "[]", '{"files": 3}', "\udcff"])
def test_a_damaged_card_is_an_error_of_ours(places: Path, card: str) -> None:
    folder = make_model(places / "package" / "english", ckpt=b"c")
    (folder / models.CARD).write_bytes(card.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"model\.json is damaged"):
        models.find_file("english", "weights")


def test_the_list_shows_name_scores_and_licence(places: Path) -> None:
    assert "no models" in list_command.show(models.list_models())
    folder = make_model(places / "own" / "mine", ckpt=b"c")
    card = json.loads((folder / models.CARD).read_text())
    (folder / models.CARD).write_text(json.dumps(card | {"scores": {"test": {"wer": 0.125}}}))
    make_model(places / "package" / "mine", ckpt=b"hidden")
    shown = list_command.show(models.list_models())
    assert shown.count("mine  ") == 1
    assert "test 12.5 %" in shown
    assert "CC0" in shown


def test_a_packed_run_recognises_like_the_run(
    learned_run: Path, places: Path, run_verb: RunVerb, monkeypatch: pytest.MonkeyPatch, mindspore_cpu: None
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX is an extra")
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.commands.pack_model import pack
    from mindaudio_ds2.transcribe import Recognizer

    options: dict[str, Any] = {"weights": "fp32", "manifest": None, "max_wer_loss": 0.0, "licence": "CC0"}
    checkpoint = learned_run / "last.ckpt"
    pack(Namespace(checkpoint=checkpoint, folder=places / "own" / "tiny", training_data="tones", **options), STOCK)
    sound = speak("BAD CAB", seed=5, rate_hz=8000)
    expected = Recognizer.load(checkpoint).transcribe(sound, 8000).text
    assert expected
    assert Recognizer.load("tiny").transcribe(sound, 8000).text == expected
    assert Recognizer.load(models.find_file("tiny", "weights")).transcribe(sound, 8000).text == expected
    packed = load_checkpoint(places / "own" / "tiny" / "model.ckpt").config
    assert packed.model == load_checkpoint(checkpoint).config.model
    named = [packed.run_dir, packed.data.train_manifest, packed.data.dev_manifest, packed.data.test_manifest]
    assert not [name for name in named if "/" in name], "the packed checkpoint tells where files lie here"
    assert {path.name for path in (places / "own" / "tiny").iterdir()} == {
        "model.onnx",
        "model.ckpt",
        "model.json",
        "vocab.txt",
    }
    assert run_verb("export", "--pre_trained_model_path", "tiny", "--file_format", "ONNX") == 0
    assert Path("runs/tiny/export/model.onnx").is_file(), (
        "a model's folder is not ours to write into, nor the working one"
    )


def test_the_decoder_beside_a_network_is_taken(tmp_path: Path) -> None:
    from mindaudio_ds2.decoding.choice import find_choice

    assert find_choice(tmp_path / "best.ckpt") == DecoderChoice()
    chosen = DecoderChoice("beam", BeamSettings(weight=2.0))
    save_choice(tmp_path / "decoder.json", chosen, {})
    assert find_choice(tmp_path / "best.ckpt") == chosen


def test_a_packed_decoder_keeps_its_label_prior_and_its_language_model(tmp_path: Path) -> None:
    from mindaudio_ds2.commands.pack_model import _take_decoder
    from mindaudio_ds2.decoding.choice import find_choice

    run, folder = tmp_path / "run", tmp_path / "model"
    run.mkdir()
    folder.mkdir()
    (tmp_path / "en.lm").write_text("words")
    prior = LabelPrior(("", "A"), (math.log(0.75), math.log(0.25)))
    chosen = DecoderChoice("beam", BeamSettings(prior_weight=0.6), tmp_path / "en.lm", label_prior=prior)
    save_choice(run / "decoder.json", chosen, {"trials": []})
    _take_decoder(run / "best.ckpt", folder)
    packed = find_choice(folder / "model.ckpt")
    assert packed == dataclasses.replace(chosen, model_path=folder / "en.lm")
    assert (folder / "en.lm").read_text() == "words"


def test_a_damaged_decoder_or_one_that_is_gone_is_an_error(places: Path) -> None:
    folder = make_model(places / "package" / "english", ckpt=b"c")
    card = json.loads((folder / models.CARD).read_text())
    (folder / models.DECODER).write_text("{}")
    card["files"][models.DECODER] = models.digest(folder / models.DECODER)
    (folder / models.CARD).write_text(json.dumps(card))
    assert models.find_file("english", "weights")
    (folder / models.DECODER).write_text("{} ")
    with pytest.raises(CheckpointError, match="decoder.json is not the file"):
        models.find_file("english", "weights")
    (folder / models.DECODER).unlink()
    with pytest.raises(CheckpointError, match="decoder.json is not the file"):
        models.find_file("english", "weights")


@pytest.mark.parametrize("scores", [3, [], {"dev": 1}, {"dev": {}}])
def test_a_card_with_senseless_scores_is_an_error(places: Path, scores: Any) -> None:
    folder = make_model(places / "package" / "english", ckpt=b"c")
    card = json.loads((folder / models.CARD).read_text())
    (folder / models.CARD).write_text(json.dumps({**card, "scores": scores}))
    with pytest.raises(CheckpointError, match="model.json is damaged"):
        models.list_models()


def test_an_exported_network_is_no_checkpoint(places: Path) -> None:
    (places / "model.onnx").touch()
    with pytest.raises(CheckpointError, match=r"model\.onnx is an exported network, and a checkpoint"):
        models.require_checkpoint("model.onnx")


@pytest.mark.parametrize("word", ["english", "mine", "runs/mine/best.ckpt", "gone.ckpt", "model.onnx"])
def test_a_network_among_recordings_is_told_as_one(
    word: str, places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(places / "package" / "english", ckpt=b"c")
    make_run(places / "runs" / "mine")
    monkeypatch.setattr("sys.argv", ["transcribe.py", word, "talk.wav"])
    with pytest.raises(SystemExit, match="2"):
        transcribe.main()
    assert f"{word} is a network and no sound; name it with --pre_trained_model_path {word}" in capsys.readouterr().err
    assert not models.is_network("talk.wav")
    (places / "english").mkdir()  # a folder of recordings
    assert not models.is_network("english")


def test_a_run_is_known_by_its_name_and_a_model_is_no_run(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_model(places / "package" / "english", ckpt=b"c")
    with pytest.raises(CheckpointError, match="english is a packed model, which keeps nothing of its training"):
        models.find_run_folder(Path("english"))
    assert models.find_run_folder(Path("gone")) == Path("gone")
    make_run(places / "runs" / "english")
    assert models.find_run_folder(Path("english")) == Path("runs/english")
    assert not capsys.readouterr().err
    (places / "english").mkdir()
    assert models.find_run_folder(Path("english")) == Path("english")
    assert f"english means {places / 'english'} here" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "plot_curves", "tensorboard", "record_result"])
def test_commands_of_runs_take_their_names(command: str, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (places / "runs" / "mine").mkdir(parents=True)
    found = importlib.import_module(f"mindaudio_ds2.commands.{command}").main
    monkeypatch.setattr("sys.argv", [command, "mine", *OTHER_ARGUMENTS.get(command, ())])
    with pytest.raises(OutputError, match=r"runs/mine(/|$| )"):
        found.run(found.make_parser().parse_args())


@pytest.mark.parametrize("purpose", ["recognition", "weights"])
def test_an_empty_name_is_no_model(purpose: models.Purpose) -> None:
    with pytest.raises(CheckpointError, match="the name of the network is empty; name .*, or a model, such as english"):
        models.find_file("", purpose)


@pytest.mark.parametrize("command", ["eval", "export", "robustness", "tune"])
def test_help_says_where_results_of_a_model_go(command: str) -> None:
    module = importlib.import_module(f"mindaudio_ds2.commands.{command}")
    assert models.RESULTS in " ".join(module.main.make_parser().format_help().split())
