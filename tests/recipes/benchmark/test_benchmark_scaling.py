"""The arithmetic and the tables; what the processes do is train.py's own step, see tests/training/test_processes.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import DeviceError
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.machine.ranks import Place
from recipes.benchmark import benchmark_scaling as script
from recipes.benchmark.case import Case, make_batches
from recipes.benchmark.tables import MARKERS

LINE: dict[str, Any] = {
    "date": "2026-11-21",
    "commit": "0123456789ab",
    "dirty": False,
    "cpu": "some",
    "network": "3x320 lstm",
    "case": "train, 16 x 4 s",
    "num_cores": 2,
    "load_before": 0.1,
    "bytes": 100_000_000,
    "contenders": {
        name: {"step_seconds": 1.0, "audio_seconds_per_second": rate, "waiting_share": 0.01, "sum_share": 0.02}
        for name, rate in ((script.ONE, 64.0), (script.APART, 60.8), (script.JOINT, 56.0))
    },
}


@pytest.mark.parametrize(
    ("num_machines", "gigabits", "expected"),
    [(1, 10, 0.0), (2, 10, 0.08), (8, 10, 0.14), (64, 10, 0.1575), (64, 100, 0.01575)],
)
def test_a_ring_moves_almost_twice_the_bytes(num_machines: int, gigabits: float, expected: float) -> None:
    assert script.ring_seconds(100_000_000, num_machines, gigabits) == pytest.approx(expected)


def test_results_are_kept_and_both_tables_are_written(tmp_path: Path) -> None:
    begin_end = "\n".join(marker for name in ("scaling", "machines") for marker in MARKERS[name])
    (tmp_path / "README.md").write_text(f"before\n{begin_end}\nafter\n", encoding="utf-8")
    script.keep(tmp_path, LINE)
    script.keep(tmp_path, {**LINE, "bytes": 200_000_000})
    assert [json.loads(row)["bytes"] for row in (tmp_path / "scaling.jsonl").read_text().splitlines()] == [1e8, 2e8]
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.count("processes: 2 x 1 thread | 60.8 | 0.95 | 1.0% | 2.0% |") == 2
    assert text.count("one process: 1 x 2 threads | 64 | 1.00 |") == 2
    assert "| 200.0 MB | 8 | 10 | 0.280 s | 1.280 s | 78% |" in text, "the newest of a network counts"
    assert "| 100.0 MB |" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_the_processes_share_out_the_joint_batch(configure: Callable[..., Config], mindspore_cpu: None) -> None:
    case = Case("train", 5, 0.8, None, 1)
    (batch,) = make_batches(configure(), case)
    parts = [script.choose_part(batch, Ranks(Place(rank, 2, rank, 2))) for rank in range(2)]
    assert [share for _, share in parts] == [0.6, 0.4]
    for place in range(4):
        whole = (batch.arrays.features, batch.arrays.feature_lengths, batch.arrays.labels, batch.arrays.label_lengths)
        for rank, (inputs, _) in enumerate(parts):
            np.testing.assert_array_equal(inputs[place].asnumpy(), whole[place][rank::2])


def test_figures_are_those_of_all_turns() -> None:
    turns = [
        {"step_seconds": [1.0, 2.0, 3.0], "waiting_seconds": 0.6, "moving_seconds": 0.0},
        {"step_seconds": [2.0, 2.0, 2.0], "waiting_seconds": 0.0, "moving_seconds": 1.2},
    ]
    assert script.summarize(turns, 64.0) == {
        "step_seconds": 2.0,
        "audio_seconds_per_second": 32.0,
        "waiting_share": 0.05,
        "sum_share": 0.1,
    }


def test_a_contender_that_fails_is_an_error(configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.sys, "executable", "/bin/false")
    with pytest.raises(DeviceError, match="one process: the processes ended with 1"):
        script.take_turn(script.ONE, configure(), Case("train", 1, 0.5, None, 1), num_cores=2)
