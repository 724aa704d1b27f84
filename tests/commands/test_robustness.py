"""The robustness table from the command line to its files."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from mindaudio_ds2.audio.conditions import CONDITIONS
from tests.tiny_corpus import evaluate_one


def test_robustness_scores_every_condition_and_writes_table_lines_and_picture(
    learned_run: Path,
    corpus: Path,
    tmp_path: Path,
    mindspore_cpu: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mindaudio_ds2.commands import robustness
    from mindaudio_ds2.corpus.manifest import read_manifest

    checkpoint = Path(shutil.copy(learned_run / "last.ckpt", tmp_path))
    monkeypatch.setattr(sys, "argv", ["robustness", str(checkpoint), str(corpus / "test.jsonl")])
    robustness.main()
    rows = [json.loads(line) for line in (tmp_path / "robustness_test.jsonl").read_text("utf-8").splitlines()]
    joined = [f"{count} of a speaker joined" for count in (2, 5, 15)]
    assert [row["condition"] for row in rows] == ["clean", *CONDITIONS, *joined]
    evaluation, _ = evaluate_one(checkpoint, None, str(corpus / "test.jsonl"), str(tmp_path / "eval"))
    assert (rows[0]["wer"], rows[0]["cer"]) == (evaluation.counts.wer, evaluation.counts.cer)
    assert {row["weights"] for row in rows} == {"fp32"}
    assert {row["num_words"] for row in rows} == {evaluation.counts.num_words}
    assert rows[1 + list(CONDITIONS).index("white noise at 0 dB")]["cer"] > rows[0]["cer"]
    assert (tmp_path / "robustness_test.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert all(row["condition"] in shown for row in rows)
    assert len(read_manifest(corpus / "test.jsonl")) == rows[0]["num_utterances"]


def test_robustness_of_an_exported_network_is_that_of_its_checkpoint(
    learned_run: Path, corpus: Path, tmp_path: Path, mindspore_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from mindaudio_ds2 import robustness
    from mindaudio_ds2.export.onnx_file import export_onnx
    from mindaudio_ds2.export.onnx_model import OnnxForm
    from mindaudio_ds2.transcribe import Recognizer

    monkeypatch.setattr(robustness, "CONDITIONS", {"level -20 dB": CONDITIONS["level -20 dB"]})
    checkpoint = Path(shutil.copy(learned_run / "last.ckpt", tmp_path))
    exported = export_onnx(checkpoint, tmp_path, OnnxForm("waveform", "fp32"), None)
    paths = [checkpoint, exported.path]
    tables = [robustness.measure_robustness(Recognizer.load(path), corpus / "test.jsonl", 1) for path in paths]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 5


def test_every_utterance_is_joined_once_and_with_its_speaker(mindspore_cpu: None) -> None:
    from mindaudio_ds2.corpus.manifest import Utterance
    from mindaudio_ds2.robustness import join_speakers

    utterances = [Utterance(f"{i:02}", "x.wav", 1.0, "A", f"speaker{i % 3}") for i in range(20)]
    groups = join_speakers(utterances, 5)
    assert sorted(each.id for own in groups for each in own) == [each.id for each in utterances]
    assert all(len({each.speaker for each in own}) == 1 and len(own) <= 5 for own in groups)
