"""A line of results.jsonl from what train.py and eval.py have left in a run folder, and the table in a README."""

import json
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2.commands.record_result import BEGIN, END, FROM_EVALUATION, main, make_line
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.reading import parse_json

EPOCH = {"kind": "epoch", "step": 9, "epoch": 3, "train_seconds": 61.0}
EVALUATION = {
    **dict.fromkeys(FROM_EVALUATION, 0),
    "date": "2026-01-02",
    "train_hours": 1.5,
    "num_parameters": 2_000_000,
    "split": "test",
    "utterances_per_second": 50.0,
}


def write_run(run: Path, **epoch: Any) -> Path:
    run.mkdir()
    environment = {"commit": "abc", "dirty": False, "arguments": ["-c", "hparams/an4.yaml", "--seed", "2"]}
    (run / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    (run / "eval_test.json").write_text(json.dumps(EVALUATION), encoding="utf-8")
    rows = [{"kind": "step", "step": 9, "epoch": 3}, {**EPOCH, "epoch": 2}, {**EPOCH, **epoch}]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return run


def test_a_result_has_the_speed_of_training_and_that_of_scoring(tmp_path: Path) -> None:
    line = make_line(write_run(tmp_path / "run", utterances_per_second=8.5), Path("recipes/an4"), "test", "a note")
    assert (line["train_utterances_per_second"], line["utterances_per_second"]) == (8.5, 50.0)
    assert (line["epochs"], line["wall_seconds"], line["train_hours"]) == (3, 61.0, 1.5)
    assert (line["hparams"], line["overrides"]) == ("hparams/an4.yaml", ["--seed", "2"])


def test_a_run_whose_speed_was_not_measured_has_a_line_without(tmp_path: Path) -> None:
    line = make_line(write_run(tmp_path / "run"), Path("recipes/an4"), "test", "")
    assert line["train_utterances_per_second"] is None


def test_a_missing_file_is_named_with_the_verb_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"eval_dev\.json does not exist; eval\.py writes it"):
        make_line(write_run(tmp_path / "run"), Path("recipes/an4"), "dev", "")


def test_a_result_is_added_to_the_lines_and_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text(f"# Results\n{BEGIN}\nold\n{END}\nThe end.\n", encoding="utf-8")
    run = write_run(tmp_path / "run", utterances_per_second=8.5)
    for note in ("first", "second"):
        monkeypatch.setattr("sys.argv", ["record_result", str(run), str(tmp_path), "--note", note])
        main()
    lines = [parse_json(line) for line in (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["note"] for line in lines] == ["first", "second"]
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "old" not in readme
    assert readme.startswith("# Results\n")
    assert readme.endswith(f"{END}\nThe end.\n")
    assert readme.count("`train.py -c hparams/an4.yaml --seed 2`") == 2
