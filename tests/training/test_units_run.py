"""A whole way with units for labels: tokenizer, training, evaluation, transcription, exports."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import CheckpointError, ConfigError
from tests.tiny_corpus import make_config, make_settings, read_metrics, train_here, write_yaml

pytest.importorskip("sentencepiece", reason="no sentencepiece: pip install 'mindaudio_ds2[tokenizer]'")
pytestmark = pytest.mark.usefixtures("mindspore_cpu")

SIZE = 12
CHANGES = {
    "augmentation.num_frequency_masks": 0,
    "augmentation.num_time_masks": 0,
    "batching.max_batch_utterances": 6,
    "batching.max_batch_padded_seconds": 8.0,
    "model.rnn_hidden_size": 32,
    "decoding.decoder": "beam",
    "decoding.beam_width": 10,
    "training.epochs": 5,
}


def run_command(name: str, *arguments: object) -> None:
    from importlib import import_module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        import_module(f"mindaudio_ds2.commands.{name}").main()


@pytest.fixture(scope="module")
def config(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Of a finished run, whose tokenizer's file is gone."""
    folder = tmp_path_factory.mktemp("units")
    changes = {**CHANGES, "data.train_manifest": str(corpus / "learn.jsonl")}
    yaml = write_yaml(folder / "units.yaml", make_settings(corpus, folder / "run", changes))
    units = folder / "units.json"
    run_command("tokenizer", corpus / "learn.jsonl", "-c", yaml, "--size", SIZE, "--output", units)
    drawn = {"text.tokenizer": str(units), "augmentation.unit_sampling": 0.5}
    config = make_config(corpus, folder / "run", {**changes, **drawn})
    train_here(config)
    units.unlink()
    return config


def transcribe(network: Path, corpus: Path) -> list[str]:
    from mindaudio_ds2.transcribe import Recognizer

    paths = [utterance.audio_path for utterance in read_manifest(corpus / "test.jsonl")]
    return [each.text for each in Recognizer.load(network).transcribe(paths)]


def test_a_network_learns_units_and_the_checkpoint_has_them(config: Config) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(Path(config.run_dir) / "best.ckpt")
    text = checkpoint.config.text
    assert (len(text.units), len(text.unit_scores)) == (SIZE, SIZE)
    assert any(len(unit) > 2 for unit in text.units)
    assert checkpoint.weights["head.weight"].shape[0] == SIZE + 1
    assert read_metrics(Path(config.run_dir), "epoch")[-1]["dev_wer"] < 0.3
    assert "units drawn, power 0.5" in (Path(config.run_dir) / "train.log").read_text(encoding="utf-8")


def test_dev_is_scored_by_the_decoder_of_the_section_and_so_is_eval(
    config: Config, corpus: Path, tmp_path: Path
) -> None:
    yaml = write_yaml(tmp_path / "x.yaml", make_settings(corpus, tmp_path / "run", CHANGES))
    best, dev = Path(config.run_dir) / "best.ckpt", corpus / "dev.jsonl"
    common = ("--pre_trained_model_path", best, "--manifest", dev, "--output_dir", tmp_path)
    run_command("eval", "-c", yaml, *common, "--nbest", "3")
    scores = json.loads((tmp_path / "eval_dev.json").read_text(encoding="utf-8"))
    assert scores["decoder"].startswith("beam 10,")
    assert scores["wer"] == min(row["dev_wer"] for row in read_metrics(Path(config.run_dir), "epoch"))
    row = json.loads((tmp_path / "eval_dev_utterances.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert len(row["nbest"]) == 3


def test_eval_transcribe_onnx_and_mindir_write_the_same_text(config: Config, corpus: Path, tmp_path: Path) -> None:
    best = Path(config.run_dir) / "best.ckpt"
    expected = transcribe(best, corpus)
    assert sum(map(len, expected)) > 20
    run_command("eval", "--pre_trained_model_path", best, "--output_dir", tmp_path)
    rows = (tmp_path / "eval_test_utterances.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["hypothesis"] for row in rows] == expected
    run_command("export", "--pre_trained_model_path", best, "--output_dir", tmp_path)
    assert read_mindir(tmp_path, corpus) == expected
    pytest.importorskip("onnx", reason="no onnx: pip install 'mindaudio_ds2[onnx]'")
    run_command("export", "--pre_trained_model_path", best, "--file_format", "ONNX", "--output_dir", tmp_path)
    assert transcribe(tmp_path / "model.onnx", corpus) == expected
    names = [line.split()[0] for line in (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()]
    assert names == ["<blk>", *(json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))["labels"][1:])]


def read_mindir(folder: Path, corpus: Path) -> list[str]:
    """As docs/export.md has it."""
    import mindspore as ms

    from mindaudio_ds2.audio.features import compute_features
    from mindaudio_ds2.audio.io import read_audio
    from mindaudio_ds2.network_config import FeatureConfig

    about: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    features = FeatureConfig(**about["features"])
    network = ms.nn.GraphCell(ms.load(str(folder / "model.mindir")))
    texts = []
    for utterance in read_manifest(corpus / "test.jsonl"):
        seen = compute_features(read_audio(utterance.audio_path, features.sample_rate_hz), features)
        log_probs, _ = network(ms.Tensor(seen[None]), ms.Tensor([len(seen)], ms.int32))
        best = log_probs.asnumpy()[0].argmax(-1)
        text = "".join(about["labels"][a] for a, b in zip(best, [-1, *best], strict=False) if a != b)
        texts.append(" ".join(text.replace("▁", " ").split()))
    return texts


def test_a_run_goes_on_without_the_file_and_a_new_one_misses_it(config: Config, corpus: Path, tmp_path: Path) -> None:
    from mindaudio_ds2.training.resuming import settle_tokenizer

    settled = settle_tokenizer(config, resume=True)
    assert len(settled.text.units) == SIZE
    assert settle_tokenizer(settled, resume=True) == settled
    with pytest.raises(ConfigError, match=r"units\.json"):
        settle_tokenizer(config, resume=False)
    swapped = dataclasses.replace(settled.text, units=[*settled.text.units[1:], settled.text.units[0]])
    with pytest.raises(CheckpointError, match=r"text\.units"):
        train_here(dataclasses.replace(settled, text=swapped), resume=True)


def test_the_file_is_read_once(config: Config, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mindaudio_ds2.training import trainer
    from mindaudio_ds2.training.corpora import check_start
    from mindaudio_ds2.training.resuming import settle_tokenizer

    text = settle_tokenizer(config, resume=True).text
    units = tmp_path / "units.json"
    units.write_text(json.dumps({"units": text.units, "scores": text.unit_scores}), encoding="utf-8")
    changes = {**CHANGES, "decoding.decoder": "greedy", "decoding.beam_width": None, "text.tokenizer": str(units)}
    new = make_config(corpus, tmp_path / "run", changes)
    corpora = check_start(new, False, None, is_first=True)
    assert corpora is not None
    units.unlink()
    started: list[Config] = []

    def stop(_: Any, settled: Config, *others: Any) -> None:
        started.append(settled)
        raise InterruptedError

    monkeypatch.setattr(trainer, "require_same_start", stop)
    with pytest.raises(InterruptedError):
        trainer.train(new, False, None, corpora=corpora)
    assert (started[0].text.units, started[0].text.unit_scores) == (text.units, text.unit_scores)


def test_a_transcript_whose_repeated_units_need_blanks_is_left_out_where_they_do_not_fit(config: Config) -> None:
    from mindaudio_ds2.batching.plan import count_frames_to_align
    from mindaudio_ds2.text.tokenizer import Tokenizer
    from mindaudio_ds2.training.resuming import settle_tokenizer

    tokenizer = Tokenizer(settle_tokenizer(config, resume=True).text)
    unit = next(u for u in tokenizer.config.units if u.startswith("▁") and len(u) == 2)
    labels = tokenizer.encode(f"{unit[1:]} {unit[1:]} {unit[1:]}")
    assert labels.tolist() == [tokenizer.symbols.index(unit)] * 3
    assert count_frames_to_align(labels) == 5


def test_other_projects_get_no_units(config: Config, tmp_path: Path) -> None:
    from mindaudio_ds2.importers.labels import from_text_config
    from mindaudio_ds2.training.resuming import settle_tokenizer

    with pytest.raises(CheckpointError, match="12 units, and other projects know single characters only"):
        from_text_config(settle_tokenizer(config, resume=True).text, "last")
