import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2.commands import tensorboard as tensorboard_command
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.reporting.tensorboard import export, list_scalars

STARTED = 1_700_000_000.0


def make_step(step: int, loss: float) -> dict[str, Any]:
    return {"kind": "step", "step": step, "epoch": 1, "loss": loss, "learning_rate": 1e-3, "train_seconds": 2.0 * step}


def make_epoch(step: int, wer: float) -> dict[str, Any]:
    return {"kind": "epoch", "step": step, "epoch": 1, "loss": None, "dev_wer": wer, "train_seconds": 2.0 * step + 1}


BAD_STEP = {"kind": "bad_step", "step": 3, "epoch": 1, "utterances": ["x"]}
ROWS = [make_step(1, 5.5), make_step(2, 4.25), BAD_STEP, make_epoch(3, 0.5)]


def write(run: Path, rows: list[dict[str, Any]], rest: str = "", mode: str = "w") -> None:
    run.mkdir(exist_ok=True)
    with (run / "metrics.jsonl").open(mode) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows) + rest)


def read(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """What TensorBoard itself reads: step, time and value by name."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = accumulators.EventAccumulator(str(folder), size_guidance={accumulators.SCALARS: 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.wall_time, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def once() -> bool:
    return False


def test_tensorboard_reads_what_was_measured_when_it_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(tmp_path / "run", ROWS)
    path, num_rows = export(tmp_path / "run", tmp_path / "events", once)
    assert (path.parent, num_rows) == (tmp_path / "events", 4)
    read_back = read(tmp_path / "events")
    assert read_back == {
        "step/loss": [(1, 2.0, 5.5), (2, 4.0, 4.25)],
        "step/learning_rate": [(1, 2.0, pytest.approx(1e-3)), (2, 4.0, pytest.approx(1e-3))],
        "epoch/dev_wer": [(3, 7.0, 0.5)],
    }


def test_time_counts_from_the_start_of_the_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(tmp_path / "run", ROWS)
    (tmp_path / "run" / "environment.json").write_text("{}")
    os.utime(tmp_path / "run" / "environment.json", (STARTED, STARTED))
    export(tmp_path / "run", tmp_path / "events", once)
    assert read(tmp_path / "events")["epoch/dev_wer"] == [(3, STARTED + 7.0, 0.5)]


def test_an_export_replaces_the_one_before_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(tmp_path / "run", ROWS)
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "events.out.tfevents.1.somebody").write_bytes(b"")
    for _ in range(2):
        export(tmp_path / "run", tmp_path / "events", once)
    assert len(read(tmp_path / "events")["step/loss"]) == 2
    assert len(list((tmp_path / "events").iterdir())) == 2, "what somebody else wrote is left"


def test_a_run_that_goes_on_is_followed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run, looks = tmp_path / "run", [0]
    half, rest = json.dumps(make_step(4, 3.0))[:20], json.dumps(make_step(4, 3.0))[20:]
    write(run, ROWS, half)

    def wait() -> bool:
        looks[0] += 1
        if looks[0] == 1:
            assert len(read(tmp_path / "events")["step/loss"]) == 2, "half a line waits for its end"
            write(run, [], f"{rest}\n", mode="a")
        return looks[0] < 3

    export(run, tmp_path / "events", wait)
    assert [step for step, _, _ in read(tmp_path / "events")["step/loss"]] == [1, 2, 4]


def test_a_resumed_run_takes_back_what_it_does_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run, looks = tmp_path / "run", [0]
    write(run, ROWS)

    def wait() -> bool:
        looks[0] += 1
        if looks[0] == 1:  # as RunLog.forget_after does it: a new file takes the place of the old one
            write(tmp_path / "aside", [make_step(1, 5.5), make_step(2, 9.0), make_step(3, 8.0)])
            (tmp_path / "aside" / "metrics.jsonl").replace(run / "metrics.jsonl")
        return looks[0] < 2

    _, num_rows = export(run, tmp_path / "events", wait)
    assert num_rows == 3
    assert [(step, value) for step, _, value in read(tmp_path / "events")["step/loss"]] == [
        (1, 5.5),
        (2, 9.0),
        (3, 8.0),
    ]


def test_only_numbers_become_curves() -> None:
    assert list_scalars(make_step(1, 2.0)) == {"step/loss": 2.0, "step/learning_rate": 1e-3}
    assert list_scalars(make_epoch(1, 0.25)) == {"epoch/dev_wer": 0.25}, "a loss that is null is no number"
    assert list_scalars(BAD_STEP) == {}


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mindaudio-ds2 tensorboard", *map(str, arguments)])
    try:
        tensorboard_command.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command_says_where_the_events_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    write(tmp_path / "run", ROWS)
    assert run_script(monkeypatch, tmp_path / "run") == 0
    assert f"tensorboard --logdir {tmp_path / 'run' / 'tensorboard'}" in capsys.readouterr().out
    assert len(read(tmp_path / "run" / "tensorboard")) == 3


def test_what_cannot_be_exported_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_script(monkeypatch, tmp_path) == 2
    assert "train.py writes it" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    write(tmp_path / "run", ROWS)
    assert run_script(monkeypatch, tmp_path / "run") == 2
    assert "pip install -e '.[tensorboard]'" in capsys.readouterr().err


def test_a_damaged_line_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(tmp_path, ROWS, '{"kind": "st\n')
    with pytest.raises(OutputError, match="line 5 is damaged"):
        export(tmp_path, tmp_path / "events", once)
