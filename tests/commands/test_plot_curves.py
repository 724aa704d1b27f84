import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.commands import plot_curves as plot_command
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.reporting.curves import draw_curves, place, smooth
from mindaudio_ds2.reporting.metrics import describe_run, name_runs, read_run

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def make_rows(num_epochs: int, steps_per_epoch: int = 10, extra_steps: int = 0) -> list[dict[str, Any]]:
    """What a run records: steps with falling loss, an epoch after so many of them, two minutes each."""
    rows: list[dict[str, Any]] = []
    for step in range(1, num_epochs * steps_per_epoch + extra_steps + 1):
        epoch = (step - 1) // steps_per_epoch + 1
        rows.append(
            {
                "kind": "step",
                "step": step,
                "epoch": epoch,
                "loss": 100 / step,
                "gradient_norm": 9.0,
                "learning_rate": 1e-3,
            }
        )
        if step % steps_per_epoch == 0 and epoch <= num_epochs:
            rates = {"dev_wer": 1 / epoch, "dev_cer": 0.5 / epoch}
            rows.append(
                {"kind": "epoch", "step": step, "epoch": epoch, "loss": 1.0, **rates, "train_seconds": 120.0 * epoch}
            )
    return rows


def add_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a run of today records besides: the time of each step, the speed of each epoch; the first waits longer."""
    timed = [row | {"train_seconds": 10.0 * row["step"]} if row["kind"] == "step" else row for row in rows]
    speeds = {"audio_seconds_per_second": 50.0}
    return [row | speeds | {"waiting_share": 0.1 / row["epoch"]} if row["kind"] == "epoch" else row for row in timed]


def write_run(folder: Path, rows: list[dict[str, Any]], rest: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)
    return folder


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["plot_curves.py", *map(str, arguments)])
    try:
        plot_command.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_steps_stand_within_their_epoch(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", make_rows(2, extra_steps=5)), "a")
    np.testing.assert_allclose(place(run, [5, 10, 20, 25], "epochs"), [0.5, 1.0, 2.0, 2.5])
    np.testing.assert_allclose(place(run, [5, 10, 20, 25], "minutes"), [1.0, 2.0, 4.0, np.nan])


def test_an_unfinished_epoch_that_is_longer_than_the_last_ends_at_its_last_step(tmp_path: Path) -> None:
    rows = [row for row in make_rows(1) if row["kind"] == "step"]
    first = read_run(write_run(tmp_path / "a", rows), "a")
    np.testing.assert_allclose(place(first, [5, 10], "epochs"), [0.5, 1.0])
    longer = read_run(write_run(tmp_path / "b", make_rows(1, extra_steps=20)), "b")
    np.testing.assert_allclose(place(longer, [20, 30], "epochs"), [1.5, 2.0])


def test_smoothing_is_a_mean_over_neighbours() -> None:
    values = np.random.default_rng(1).standard_normal(50)
    expected = [values[max(0, i - 3) : i + 4].mean() for i in range(50)]
    np.testing.assert_allclose(smooth(values, 7), expected)
    np.testing.assert_allclose(smooth(values, 1), values)


def test_the_legend_tells_the_best_epoch_and_skipped_steps(tmp_path: Path) -> None:
    rows = [*make_rows(4), {"kind": "bad_step", "step": 41, "epoch": 5, "utterances": ["x"]}]
    run = read_run(write_run(tmp_path / "a", rows), "mine")
    assert describe_run(run) == "mine; best dev WER 25.0 %, CER 12.5 % after epoch 4; 1 steps skipped"
    average = {"kind": "average", "step": 40, "epoch": 4, "epochs": [2, 4], "dev_wer": 0.2, "dev_cer": 0.1}
    (tmp_path / "a" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, average]))
    average_said = "dev WER 20.0 %, CER 10.0 % of the average of 2 epochs"
    assert average_said in describe_run(read_run(tmp_path / "a", "mine"))


def test_runs_of_one_name_are_told_apart() -> None:
    assert name_runs([Path("x/an4"), Path("y/mini")]) == ["an4", "mini"]
    assert name_runs([Path("x/an4"), Path("y/an4")]) == ["x/an4", "y/an4"]


@pytest.mark.parametrize("over", ["epochs", "minutes"])
def test_several_runs_become_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: str) -> None:
    pytest.importorskip("matplotlib")
    runs = [write_run(tmp_path / name, make_rows(number, extra_steps=3)) for number, name in enumerate("abc", start=1)]
    assert run_script(monkeypatch, *runs, "--output", tmp_path / "new" / "x.png", "--over", over) == 0
    assert (tmp_path / "new" / "x.png").read_bytes().startswith(PNG_HEAD)


def test_the_picture_shows_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = draw_curves([read_run(write_run(tmp_path / "a", make_rows(3)), "a")], "epochs")
    lines: dict[str, Any] = {axis.get_title().split(" ")[0]: axis.get_lines() for axis in figure.get_axes()}
    wer, cer = lines["errors"]
    np.testing.assert_allclose(wer.get_xydata(), [[1.0, 100.0], [2.0, 50.0], [3.0, 100 / 3]])
    np.testing.assert_allclose(cer.get_xydata(), [[1.0, 50.0], [2.0, 25.0], [3.0, 50 / 3]])
    np.testing.assert_allclose(lines["training"][1].get_xydata(), [[0.5, 1], [1.5, 1], [2.5, 1]])
    assert len(lines["learning"][0].get_xdata()) == 30
    assert all(axis.get_ylabel() for axis in figure.get_axes())


def test_speed_and_waiting_are_shown_where_they_were_recorded(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    old = read_run(write_run(tmp_path / "old", make_rows(3)), "old")
    new = read_run(write_run(tmp_path / "new", add_times(make_rows(3))), "new")
    assert len(draw_curves([old], "epochs").get_axes()) == 4
    figure = draw_curves([old, new], "epochs")
    lines: dict[str, Any] = {axis.get_title().split(" ")[0]: axis.get_lines() for axis in figure.get_axes()}
    assert len(figure.get_axes()) == 6
    assert np.isnan(lines["speed"][0].get_ydata()).all(), "the old run has no speed"
    np.testing.assert_allclose(lines["speed"][1].get_xydata(), [[0.5, 50.0], [1.5, 50.0], [2.5, 50.0]])
    np.testing.assert_allclose(lines["waiting"][1].get_ydata(), [10.0, 5.0, 10 / 3])


def test_minutes_are_those_recorded_with_each_step(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", add_times(make_rows(1, extra_steps=5))), "a")
    np.testing.assert_allclose(place(run, [3, 12, 15], "minutes"), [0.5, 2.0, 2.5])


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_other_formats_are_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "a", make_rows(1))
    assert run_script(monkeypatch, run, "--output", tmp_path / f"x{suffix}") == 0
    assert (tmp_path / f"x{suffix}").stat().st_size > 1000


def test_a_run_that_goes_on_may_have_half_a_line(tmp_path: Path) -> None:
    assert len(read_run(write_run(tmp_path / "a", make_rows(2), rest='{"kind": "st'), "a").steps) == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "st\n{"kind": "step"}\n', "line 1 is damaged"),
        ("", "holds no step yet"),
        (None, "train.py writes it"),
    ],
)
def test_metrics_that_cannot_be_drawn_are_errors(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(OutputError, match=message):
        read_run(tmp_path, "a")


def test_minutes_of_a_run_without_an_epoch_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "a", make_rows(0, extra_steps=4))
    assert run_script(monkeypatch, run, "--output", tmp_path / "x.png", "--over", "minutes") == 2
    assert run_script(monkeypatch, run, "--output", tmp_path / "x.jpeg") == 2
    shown = capsys.readouterr().err
    assert "draw --over epochs" in shown
    assert "should end in .png, .svg or .pdf" in shown


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = write_run(tmp_path / "a", make_rows(1))
    assert run_script(monkeypatch, run, "--output", tmp_path / "x.png") == 2
    assert "pip install -e '.[plots]'" in capsys.readouterr().err
