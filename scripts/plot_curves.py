#!/usr/bin/env python3
"""Draw the learning curves of one or several runs: loss, dev error rates, learning rate and gradient norm.

    python scripts/plot_curves.py runs/an4 --output curves.png
    python scripts/plot_curves.py runs/an4 runs/an4_smaller --over minutes --output curves.png

Reads metrics.jsonl, which train.py writes into the run folder; a run may still be going on. Needs matplotlib:
`pip install -e '.[plots]'`.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import OutputError, exit_on_error
from mindaudio_ds2.files import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""

WINDOWS_PER_RUN = 60
"""A curve over steps is a mean over so many parts of the run, which hides what differs from batch to batch."""

WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 10.0, 6.4, 100

XAxis = Literal["epochs", "minutes"]


@dataclass(frozen=True, eq=False)
class Run:
    """What metrics.jsonl holds.

    Attributes:
        name: for the legend.
        steps: rows of kind "step", one an update.
        epochs: rows of kind "epoch", one a validation.
        num_bad_steps: updates that were skipped.
    """

    name: str
    steps: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    num_bad_steps: int


def read_run(folder: Path, name: str) -> Run:
    """Read a run's metrics. The last line may be half written.

    Raises:
        OutputError: no metrics.jsonl, a damaged line, or no step in it.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}; train.py writes it into its run_dir") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise OutputError(f"{path} line {number} is damaged ({error.msg}); remove it") from error
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in ("step", "epoch", "bad_step")}
    if not by_kind["step"]:
        raise OutputError(f"{path} holds no step yet; draw it when training has begun")
    return Run(name, by_kind["step"], by_kind["epoch"], len(by_kind["bad_step"]))


def place(run: Run, steps: Sequence[int], over: XAxis) -> NDArray[np.float64]:
    """Where steps stand on the x-axis.

    A step within an epoch is placed in proportion, since metrics.jsonl has the time of whole epochs only. An epoch that
    is not finished counts as long as the one before it; over minutes its steps have no place.

    Args:
        run: knows its epochs.
        steps: numbers of updates, which count from 1.
        over: epochs or minutes of training, validation included.

    Returns:
        A position for each step; NaN where it has none.
    """
    ends = [0, *(row["step"] for row in run.epochs)]
    if over == "minutes":
        minutes = [0.0, *(row["train_seconds"] / 60 for row in run.epochs)]
        positions: NDArray[np.float64] = np.interp(steps, ends, minutes, right=np.nan)
        return positions
    numbers = [0.0, *(float(row["epoch"]) for row in run.epochs)]
    last_step = run.steps[-1]["step"]
    if last_step > ends[-1]:
        length = ends[-1] - ends[-2] if run.epochs else last_step
        ends.append(ends[-1] + max(length, last_step - ends[-1]))
        numbers.append(numbers[-1] + 1)
    return np.interp(steps, ends, numbers)


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over `window` neighbours around each value, of fewer at the ends; same length."""
    half = window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def describe(run: Run) -> str:
    """A run in the legend: its name, its lowest dev WER, and whether steps were skipped."""
    parts = [run.name]
    if run.epochs:
        best = min(run.epochs, key=lambda row: (row["dev_wer"], row["dev_cer"]))
        rates = f"dev WER {100 * best['dev_wer']:.1f} %, CER {100 * best['dev_cer']:.1f} %"
        parts.append(f"best {rates} after epoch {best['epoch']}")
    if run.num_bad_steps:
        parts.append(f"{run.num_bad_steps} steps skipped")
    return "; ".join(parts)


def draw(runs: Sequence[Run], over: XAxis) -> Any:
    """Four panels with all runs in each.

    Returns:
        A matplotlib `Figure`.

    Raises:
        OutputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ModuleNotFoundError as error:
        raise OutputError(f"drawing needs {error.name}; `pip install -e '.[plots]'` brings it") from error

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for place_in_list, run in enumerate(runs):
        _draw_run(axes, run, over, COLORS[place_in_list % len(COLORS)])
    _label(axes, over)
    styles = [Line2D([], [], color="black", marker="o", markersize=4), Line2D([], [], color="black", linestyle="--")]
    axes[0, 1].legend(styles, ["WER", "CER"], frameon=False)
    names = [Line2D([], [], color=COLORS[i % len(COLORS)], linewidth=3) for i in range(len(runs))]
    figure.legend(names, [describe(run) for run in runs], loc="outside upper left", frameon=False)
    return figure


def _draw_run(axes: Any, run: Run, over: XAxis, color: str) -> None:
    x_steps = place(run, [row["step"] for row in run.steps], over)
    x_epochs = place(run, [row["step"] for row in run.epochs], over)
    window = max(1, len(run.steps) // WINDOWS_PER_RUN)
    style = {"color": color, "linewidth": 1.5}

    def column(rows: list[dict[str, Any]], key: str) -> NDArray[np.float64]:
        return np.array([row[key] for row in rows], dtype=np.float64)

    axes[0, 0].plot(x_steps, smooth(column(run.steps, "loss"), window), alpha=0.5, **style)
    middles = (x_epochs + np.concatenate([[0.0], x_epochs])[:-1]) / 2
    axes[0, 0].plot(middles, column(run.epochs, "loss"), "o", markersize=4, color=color)
    axes[0, 1].plot(x_epochs, 100 * column(run.epochs, "dev_wer"), "o-", markersize=4, **style)
    axes[0, 1].plot(x_epochs, 100 * column(run.epochs, "dev_cer"), "--", **style)
    axes[1, 0].plot(x_steps, column(run.steps, "learning_rate"), **style)
    axes[1, 1].plot(x_steps, smooth(column(run.steps, "gradient_norm"), window), **style)


def _label(axes: Any, over: XAxis) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    titles = (
        (axes[0, 0], "training loss, smoothed, and its mean over each epoch", "nats per utterance"),
        (axes[0, 1], "errors on dev, greedy decoding", "% of words or characters"),
        (axes[1, 0], "learning rate", "per step"),
        (axes[1, 1], "gradient norm before clipping, smoothed", "L2 norm over all parameters"),
    )
    for axis, title, unit in titles:
        axis.set_title(title, fontsize=10)
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in (axes[0, 0], axes[1, 1]):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axes[0, 1].set_ylim(bottom=0)
    axes[1, 0].set_ylim(bottom=0)
    axes[1, 0].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axis in axes[1]:
        axis.set_xlabel("epoch" if over == "epochs" else "minutes of training and validation")
        axis.set_xlim(left=0)


def name_runs(folders: Sequence[Path]) -> list[str]:
    """The folders' last names, or their whole paths where last names repeat."""
    last_names = [folder.resolve().name for folder in folders]
    return last_names if len(set(last_names)) == len(folders) else [str(folder) for folder in folders]


@exit_on_error
def main() -> None:
    """Parse the command line, read, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR", help="run folder of train.py (path)")
    parser.add_argument("--output", type=Path, required=True, help="picture to write: .png, .svg or .pdf (path)")
    parser.add_argument("--over", choices=("epochs", "minutes"), default="epochs", help="x-axis; default: epochs")
    options = parser.parse_args()
    suffix = options.output.suffix.lower()
    if suffix not in (".png", ".svg", ".pdf"):
        raise OutputError(f"--output {options.output} should end in .png, .svg or .pdf")
    runs = [read_run(*pair) for pair in zip(options.runs, name_runs(options.runs), strict=True)]
    if options.over == "minutes" and not all(run.epochs for run in runs):
        raise OutputError("a run has not finished an epoch, so its minutes are not known; draw --over epochs")
    figure = draw(runs, options.over)
    write_atomically(options.output, lambda partial: figure.savefig(partial, format=suffix[1:]))
    print("\n".join([*map(describe, runs), f"{options.output}"]))


if __name__ == "__main__":
    main()
