"""The first table: every case beside PyTorch, in float32 and in bfloat16, the smallest networks first."""

from collections.abc import Iterable, Sequence
from typing import Any

from recipes.benchmark.contender import ONNXRUNTIME, OURS_BFLOAT16, OURS_NATIVE, PYTORCH, PYTORCH_BFLOAT16
from recipes.benchmark.others import QUIET_SHARE

Line = dict[str, Any]

HEADS = {
    OURS_NATIVE: "ours",
    PYTORCH: "PyTorch",
    OURS_BFLOAT16: "ours in bf16",
    PYTORCH_BFLOAT16: "PyTorch under autocast",
    ONNXRUNTIME: "onnxruntime",
}
RATIOS = (
    (OURS_NATIVE, PYTORCH),
    (OURS_BFLOAT16, PYTORCH_BFLOAT16),
    (OURS_BFLOAT16, OURS_NATIVE),
    (OURS_NATIVE, ONNXRUNTIME),
)


def make_beside_table(lines: Sequence[Line]) -> str:
    """A row for each network and case that some run has measured with us and PyTorch, as Markdown; empty without any.

    A row has the lines of one run: of the newest that left the processors to the contenders; without one, of the
    newest, and says so. Ratios below 1 are bold. The limit is the fastest product of two matrices in that run, which
    tells machines apart.
    """
    runs: dict[tuple[str, str], dict[str, dict[str, Line]]] = {}
    for line in lines:
        if line["contender"] in HEADS and "audio_seconds_per_second" in line:  # neither a failure nor pieces
            case = runs.setdefault((line["network"], line["case"]), {})
            case.setdefault(line["run"], {})[line["contender"]] = line
    rows = [row for case in runs.values() for row in _choose(case.values())]
    rows.sort(key=lambda row: next(iter(row.values()))["num_parameters"])  # cases stay in the order in which they came
    if not rows:
        return ""
    ratios = [f"{HEADS[one]} / {HEADS[other]}" for one, other in RATIOS]
    heads = ["network", "case", *HEADS.values(), *ratios, "limit", "date"]
    return "\n".join([f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *(_make_row(row) for row in rows)])


def _choose(runs: Iterable[dict[str, Line]]) -> list[dict[str, Line]]:
    """The run to show, runs being in their order; none where none compares."""
    compared = [run for run in runs if {OURS_NATIVE, PYTORCH} <= run.keys()]
    quiet = [run for run in compared if _find_others_share(run) <= QUIET_SHARE]
    return (quiet or compared)[-1:]


def _find_others_share(run: dict[str, Line]) -> float:
    return max(line.get("others_share") or 0.0 for line in run.values())  # where it is not known, it is None


def _make_row(run: dict[str, Line]) -> str:
    rates = {name: line["audio_seconds_per_second"] for name, line in run.items()}
    any_line, share = run[OURS_NATIVE], _find_others_share(run)
    busy = f", busy machine (others took {100 * share:.0f} %)" if share > QUIET_SHARE else ""
    cells = [
        any_line["network"],
        any_line["case"],
        *(f"{rates[name]:.1f}" if name in rates else "" for name in HEADS),
        *(_make_ratio(rates.get(one), rates.get(other)) for one, other in RATIOS),
        f"{max(line['gemm_gflops'] for line in run.values()):.0f} GFLOP/s",
        f"{any_line['date']}{busy}",
    ]
    return f"| {' | '.join(cells)} |"


def _make_ratio(one: float | None, other: float | None) -> str:
    if one is None or other is None:
        return ""
    text = f"{one / other:.2f}"
    return f"**{text}**" if one < other else text
