import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2 import models
from mindaudio_ds2.commands import describe_model
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.model.arithmetic import describe_sizes, list_layers

ROOT = Path(__file__).resolve().parents[2]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["describe_model.py", *map(str, arguments)])
    try:
        describe_model.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def read_table(text: str) -> list[list[str]]:
    """Cells of the Markdown table, without its ruler."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [rows[0], *rows[2:]]


def replace(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


def test_a_yaml_becomes_a_table_with_the_sums_of_its_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "-c", ROOT / "hparams" / "an4.yaml") == 0
    text = capsys.readouterr().out
    head, features, *layers, total = read_table(text)
    assert [row[0] for row in layers] == ["convs.0", "convs.1", "rnns.0", "rnns.1", "rnns.2", "head"]
    assert features[2] == "80 x 101"
    assert [row[2] for row in layers] == ["32 x 40 x 51", "32 x 20 x 26", *["320 x 26"] * 3, "29 x 26"]
    parameters = [int(row[3].replace(",", "")) for row in layers]
    assert sum(parameters) == int(total[3].replace(",", "")) == 5892384  # as recipes/an4/results.jsonl has it
    for column in (4, 5):
        assert sum(float(row[column]) for row in layers) == pytest.approx(float(total[column]), abs=0.04)
    assert {len(row) for row in (head, features, *layers, total)} == {7}
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1, "columns stand below each other"
    assert "25 frames a second, 40 ms each, 29 labels" in text
    assert "depends on the whole utterance" in text


def test_the_command_line_changes_the_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("--model.bidirectional", "false", "--model.conv_stride_time", "[3, 1]", "--model.lookahead_frames", "5")
    assert run(monkeypatch, "-c", ROOT / "hparams" / "an4.yaml", *changes) == 0
    text = capsys.readouterr().out
    assert "lookahead over 5 frames" in text
    # kernels of 11 frames: 5 and 5 * 3 to each side; four output frames of 3 more; 10 ms each and half of 25 ms
    assert "all before it, and 0.333 s after it (32 frames and half a window)" in text
    assert "convolutions:  see 41 frames, 0.425 s" in text


def test_a_checkpoint_tells_its_own_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished_run: Path
) -> None:
    assert run(monkeypatch, "--pre_trained_model_path", finished_run / "best.ckpt") == 0
    *_, total = read_table(capsys.readouterr().out)
    found = re.search(r"([\d,]+) parameters", (finished_run / "train.log").read_text(encoding="utf-8"))
    assert found is not None
    assert total[3] == found[1]


@pytest.mark.parametrize("option", [[], ["--pre_trained_model_path"]])
def test_a_models_name_tells_the_network_of_its_checkpoint_and_its_card(
    option: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mindspore_cpu: None
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv(models.FOLDER_VARIABLE, raising=False)
    folder = models.PACKAGE_FOLDER / "english"
    assert run(monkeypatch, *option, "english") == 0
    path, *lines = capsys.readouterr().out.splitlines()
    assert path == str(folder / "model.onnx")
    assert any(line.startswith("training data: LibriSpeech (CC BY 4.0") for line in lines)
    assert run(monkeypatch, folder / "model.ckpt") == 0
    assert capsys.readouterr().out.splitlines()[1:] == lines


def test_two_networks_are_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "english", "--pre_trained_model_path", "x.ckpt") == 2
    assert "two networks are named, english and x.ckpt" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["-c", ROOT / "hparams" / "an4.yaml", "--pre_trained_model_path", "x.ckpt"]])
def test_neither_and_both_sources_are_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[object]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert "either a YAML with -c or a checkpoint" in capsys.readouterr().err


def test_a_measurement_of_the_same_network_is_told_and_no_other(tmp_path: Path) -> None:
    config = read_config(ROOT / "hparams" / "deepspeech2.yaml")
    line = {"task": "train", "contender": "ours-native", "cpu": "A", "case": "train, 8 x 15 s", "date": "2026-01-01"}
    lines = [
        {**line, "network": f"mine: {describe_sizes(config)}", "audio_seconds_per_second": 5.0},
        {**line, "network": f"deepspeech2: {describe_sizes(config)}", "audio_seconds_per_second": 8.0},
        {**line, "network": f"deepspeech2: {describe_sizes(config)}", "failure": "out of memory"},
        {**line, "network": f"x: {describe_sizes(config)}", "contender": "pytorch", "audio_seconds_per_second": 9.0},
        {**line, "network": "x: 5 x 1024 lstm, 9.72 GFLOP", "audio_seconds_per_second": 9.0},
        {"network": "3x320 lstm", "case": "shapes", "contender": "open", "audio_seconds_per_second": 55.0},
    ]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (said,) = describe_model.describe_measured(config, results)
    assert "8.0 hours of audio an hour on A" in said
    assert said.endswith("100 h of audio take 12.5 h")
    assert describe_model.describe_measured(replace(config, rnn_num_layers=4), results) == []
    assert describe_model.describe_measured(config, tmp_path / "none.jsonl") == []


def test_memory_is_four_bytes_for_each_weight_and_statistic() -> None:
    config = read_config(ROOT / "hparams" / "an4.yaml")
    text = describe_model.describe(config)
    stored = sum(layer.num_parameters + layer.num_statistics for layer in list_layers(config))
    assert f"{4 * stored / 2**20:.1f} MiB in float32" in text
