"""What a run measured: its metrics.jsonl, which a run that still goes on keeps writing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.reading import ReadError, parse_json

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """What metrics.jsonl holds.

    Attributes:
        name: for the legend.
        steps: rows of kind "step", one an update.
        epochs: rows of kind "epoch", one a validation.
        averages: rows of kind "average", one validation of the averaged weights of several epochs.
        num_bad_steps: updates that were skipped.
    """

    name: str
    steps: list[Row]
    epochs: list[Row]
    averages: list[Row]
    num_bad_steps: int


def read_run(folder: Path, name: str) -> Run:
    """Read a run's metrics.

    Raises:
        OutputError: no metrics.jsonl, a damaged line, or no step in it.
    """
    path = folder / "metrics.jsonl"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}; train.py writes it into its run_dir") from error
    rows = parse_lines(text, path)
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in ("step", "epoch", "average", "bad_step")}
    if not by_kind["step"]:
        raise OutputError(f"{path} holds no step yet; draw it when training has begun")
    return Run(name, by_kind["step"], by_kind["epoch"], by_kind["average"], len(by_kind["bad_step"]))


def parse_lines(text: str, path: Path) -> list[Row]:
    """The rows of all lines that are whole; the last one is not where it has no end yet.

    Args:
        text: of metrics.jsonl, from the begin of a line.
        path: of the file, for the error's text.

    Raises:
        OutputError: a damaged line.
    """
    rows: list[Row] = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
        try:
            row = parse_json(line)
        except ReadError as error:
            raise OutputError(f"{path} line {number} is damaged ({error}); remove it") from error
        if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
            raise OutputError(f"{path} line {number} is damaged (it does not tell its kind); remove it")
        rows.append(row)
    return rows


def describe_run(run: Run) -> str:
    """A run in the legend: its name, its lowest dev WER, and whether steps were skipped."""
    parts = [run.name]
    best = find_best_epoch(run)
    if best is not None:
        parts.append(f"best {_describe_rates(best)} after epoch {best['epoch']}")
    parts += [f"{_describe_rates(row)} of the average of {len(row['epochs'])} epochs" for row in run.averages]
    if run.num_bad_steps:
        parts.append(f"{run.num_bad_steps} steps skipped")
    return "; ".join(parts)


def _describe_rates(row: Row) -> str:
    return f"dev WER {100 * row['dev_wer']:.1f} %, CER {100 * row['dev_cer']:.1f} %"


def find_best_epoch(run: Run) -> Row | None:
    """The single epoch with the lowest dev WER, of a pruned network among those with the most zeros; None before the
    first validation."""
    return min(run.epochs, key=lambda row: (-row.get("zero_share", 0.0), row["dev_wer"], row["dev_cer"]), default=None)


def name_runs(folders: Sequence[Path]) -> list[str]:
    """The folders' last names, or their whole paths where last names repeat."""
    last_names = [folder.resolve().name for folder in folders]
    return last_names if len(set(last_names)) == len(folders) else [str(folder) for folder in folders]
