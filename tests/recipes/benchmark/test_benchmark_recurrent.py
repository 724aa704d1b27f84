import ctypes
import json
from pathlib import Path

import pytest

from mindaudio_ds2.ops.library import has_bfloat16
from recipes.benchmark import benchmark_recurrent as script
from recipes.benchmark.tables import MARKERS


def make_line(rule: float, one: float, two: float, **changes: object) -> script.Line:
    times = {"rule": rule, "one team": one, "two teams": two}
    about = {"date": "2026-11-29", "commit": "abc", "dirty": False, "cpu": "CPU"}
    sizes = {"layer": "lstm 320", "task": "forward", "num_utterances": 1, "num_frames": 50}
    return {**about, **sizes, "milliseconds": times, "others_share": 0.5, **changes}


@pytest.mark.parametrize(("kind", "is_bfloat16"), [("lstm", False), ("gru", False), ("lstm", True)])
def test_every_way_is_measured_on_a_layer(kernels: Path, kind: str, is_bfloat16: bool) -> None:
    if is_bfloat16 and not has_bfloat16(kernels):
        pytest.skip("this processor lacks AVX512-BF16")
    libraries = {"ours": ctypes.CDLL(str(kernels)), script.OTHER: ctypes.CDLL(str(kernels))}
    lines = script.measure(
        script.Layer(kind, 16, 2, 3, is_bfloat16), libraries, ["forward", "backward", "inference"], 0.01
    )
    assert [line["task"] for line in lines] == ["forward", "backward", "inference"]
    for line in lines:
        assert line["layer"] == f"{kind} 16" + " bf16" * is_bfloat16
        assert set(line["milliseconds"]) == {"rule", "one team", "two teams", script.OTHER}
        assert all(milliseconds > 0 for milliseconds in line["milliseconds"].values())


def test_the_table_says_where_the_rule_misses() -> None:
    table = script.make_table([make_line(1.0, 1.5, 1.0), make_line(1.2, 1.0, 1.2, num_utterances=16)])
    right, wrong = table.splitlines()[2:]
    assert "| 1.50 | 1.00 |" in right
    assert "| 0.83 | 0.83 (misses) |" in wrong


def test_the_table_has_the_newest_line_of_each_case() -> None:
    table = script.make_table([make_line(9.0, 9.0, 9.0), make_line(7.0, 7.0, 7.0)])
    assert "9.00 ms" not in table
    assert "7.00 ms" in table


def test_lines_are_kept_with_what_they_were_measured_on(tmp_path: Path, mindspore_cpu: None) -> None:
    (tmp_path / "README.md").write_text("before\n{}\n{}\nafter\n".format(*MARKERS["recurrent"]))
    script.keep(tmp_path, [make_line(1.0, 2.0, 1.0)])
    script.keep(tmp_path, [make_line(1.0, 2.0, 1.0, task="backward")])
    kept = [json.loads(row) for row in (tmp_path / "recurrent.jsonl").read_text().splitlines()]
    assert [line["task"] for line in kept] == ["forward", "backward"]
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert readme.count("lstm 320") == 2
