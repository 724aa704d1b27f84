"""The model that comes with the package: English."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2 import Recognizer, models
from mindaudio_ds2.config import DecodingConfig
from mindaudio_ds2.decoding.choice import find_choice, make_choice
from mindaudio_ds2.decoding.metrics import count_errors

MOST_BYTES_OF_WEIGHTS, MOST_BYTES_OF_LM = 20_000_000, 40_000_000


@pytest.fixture
def english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> models.Model:
    monkeypatch.delenv(models.FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)  # no runs/english here
    (found,) = [model for model in models.list_models() if model.name == models.DEFAULT]
    return found


def test_the_card_describes_every_file(english: models.Model) -> None:
    files = {path.name: models.digest(path) for path in english.folder.iterdir() if path.name != models.CARD}
    assert files == english.card["files"]
    assert {models.RECOGNITION, models.WEIGHTS, models.DECODER} < files.keys()
    assert "LibriSpeech (CC BY 4.0" in english.card["training_data"]
    assert {"dev", "test_clean"} <= english.card["scores"].keys()


def test_it_is_small(english: models.Model) -> None:
    sizes = {path.name: path.stat().st_size for path in english.folder.iterdir()}
    assert sum(size for name, size in sizes.items() if not name.endswith(".lm")) < MOST_BYTES_OF_WEIGHTS
    assert sum(size for name, size in sizes.items() if name.endswith(".lm")) < MOST_BYTES_OF_LM


def test_it_is_what_no_path_means(english: models.Model) -> None:
    assert models.find_file(None, "weights") == english.folder / models.WEIGHTS
    choice = find_choice(english.folder / models.RECOGNITION)
    assert choice.kind == "beam"
    assert choice.model_path is not None
    assert choice.model_path.parent == english.folder


def test_it_recognises_a_reader_whom_it_never_heard(english: models.Model, shared_data: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = shared_data / "mini_librispeech" / "LibriSpeech" / "dev-mini" / "19" / "198"  # a reader of dev
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}")
    lines = (folder / "19-198.trans.txt").read_text(encoding="utf-8").splitlines()[:8]
    references = dict(line.split(" ", 1) for line in lines)
    recognizer = Recognizer.load()
    assert recognizer.network.features.sample_rate_hz == 16000
    texts = recognizer.transcribe([folder / f"{name}.flac" for name in references])
    counts = [count_errors(text, found.text) for text, found in zip(references.values(), texts, strict=True)]
    assert all(word.start_seconds <= word.end_seconds for found in texts for word in found.words)
    wrong, words = sum(count.word_errors for count in counts), sum(count.num_words for count in counts)
    assert wrong / words < english.card["scores"]["dev"]["wer"] + 0.2


def test_english_for_streams_hears_chunks_as_it_hears_the_whole(english: models.Model, shared_data: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = shared_data / "mini_librispeech" / "LibriSpeech" / "dev-mini" / "19" / "198"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}")
    (path,) = [model.folder for model in models.list_models() if model.name == "english_stream"]
    assert path.parent == english.folder.parent
    recognizer = Recognizer.load("english_stream", choice=find_choice(english.folder / models.RECOGNITION))
    sound, rate_hz = soundfile.read(folder / "19-198-0000.flac", dtype="float32")
    stream = recognizer.stream(rate_hz, None)
    assert stream.is_incremental
    events = [event for start in range(0, len(sound), 3000) for event in stream.feed(sound[start : start + 3000])]
    events += stream.finish()
    said = " ".join(event.text for event in events if event.kind == "final")
    assert said
    assert said == recognizer.transcribe(sound, rate_hz).text


def test_what_lies_beside_a_recording_changes_nothing(english: models.Model) -> None:
    pytest.importorskip("onnxruntime")
    from mindaudio_ds2.portable.network import OnnxNetwork

    network = OnnxNetwork(english.folder / models.RECOGNITION, 1)
    assert network.description.weights == "int8"
    draw = np.random.default_rng(0)
    sounds = [draw.normal(0, level, size).astype(np.float32) for level, size in ((0.2, 9000), (0.02, 30000))]
    together, lengths = network.recognize(sounds)
    for row, length, sound in zip(together, lengths, sounds, strict=True):
        alone, _ = network.recognize([sound])
        np.testing.assert_array_equal(row[:length], alone[0])


@pytest.mark.usefixtures("english")
def test_the_name_of_a_model_means_its_decoder() -> None:
    assert make_choice(DecodingConfig(decoder="english")) == find_choice(models.find_file("english", "recognition"))


@pytest.mark.usefixtures("english")
def test_scoring_it_without_a_manifest_says_that_it_brings_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mindaudio_ds2.commands import eval as command
    from mindaudio_ds2.machine import runtime

    Path("test_mini.jsonl").write_text("{}")  # what its configuration names; here it is somebody else's
    monkeypatch.setattr(runtime, "start", lambda *_: pytest.fail("that takes seconds"))
    monkeypatch.setattr(sys, "argv", ["eval.py", "--pre_trained_model_path", "english"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "model 'english' brings no recordings to be scored on; name a manifest with --manifest" in (
        capsys.readouterr().err
    )
