"""The table and the file; what the networks compute is in tests/ops."""

import json
from pathlib import Path
from typing import Any

from recipes.benchmark import benchmark_precision as script
from recipes.benchmark.tables import MARKERS


def make_line(seconds: float, **changes: Any) -> dict[str, Any]:
    """Float32 takes 3 s by processor and clock, bfloat16 these seconds of the processor and 1 s by the clock."""
    return {
        "date": "2026-11-30",
        "commit": "0123456789ab",
        "dirty": True,
        "cpu": "some",
        "others_share": 0.25,
        "network": "3x320 lstm",
        "case": "train, 16 x 3 s",
        "fp32": {"processor_seconds": [9.0, 3.0, 3.0], "seconds": [3.0]},
        "bf16": {"processor_seconds": [seconds], "seconds": [1.0]},
        **changes,
    }


def test_the_table_has_the_newest_line_of_each_case() -> None:
    lines = [make_line(1.0), make_line(2.0), make_line(1.5, case="train, 1 x 3 s", others_share=None)]
    rows = script.make_table(lines).splitlines()[2:]
    assert [row.split(" | ")[2:7] for row in rows] == [
        ["3.00 s", "2.00 s", "1.50", "3.00", "25 %"],
        ["3.00 s", "1.50 s", "2.00", "3.00", "?"],
    ]
    assert rows[0].endswith("| some | 2026-11-30 | 0123456789ab+ |")


def test_lines_are_kept_and_shown_in_the_readme(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("\n".join(["before", *MARKERS["precision"], "behind"]))
    for seconds in (1.0, 1.5):
        script.keep(tmp_path, make_line(seconds))
    assert len([json.loads(row) for row in (tmp_path / "precision.jsonl").read_text().splitlines()]) == 2
    readme = (tmp_path / "README.md").read_text()
    assert "| 2.00 |" in readme
    assert readme.endswith("behind")
