"""Learning curves of one or several runs in one picture."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.reporting.metrics import Row, Run, describe_run

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""

WINDOWS_PER_RUN = 60
"""A curve over steps is a mean over so many parts of the run, which hides what differs from batch to batch."""

COLUMN_INCHES, ROW_INCHES, DOTS_PER_INCH = 4.8, 3.2, 100

XAxis = Literal["epochs", "minutes"]


def place(run: Run, steps: Sequence[int], over: XAxis) -> NDArray[np.float64]:
    """Where steps stand on the x-axis.

    metrics.jsonl knows the epoch of validations and the time of every step; of runs of earlier versions that of
    validations only. What stands between them is placed in proportion. An epoch that is not finished counts as long as
    the one before it.

    Args:
        run: knows its epochs and times.
        steps: numbers of updates, which count from 1.
        over: epochs or minutes of training, validation included.

    Returns:
        A position for each step; NaN where it has none.
    """
    if over == "minutes":
        timed = sorted((row["step"], row["train_seconds"] / 60) for row in _list_timed(run))
        known_steps, minutes = zip((0, 0.0), *timed, strict=True)
        positions: NDArray[np.float64] = np.interp(steps, known_steps, minutes, right=np.nan)
        return positions
    ends = [0, *(row["step"] for row in run.epochs)]
    numbers = [0.0, *(float(row["epoch"]) for row in run.epochs)]
    last_step = run.steps[-1]["step"]
    if last_step > ends[-1]:
        length = ends[-1] - ends[-2] if run.epochs else last_step
        ends.append(ends[-1] + max(length, last_step - ends[-1]))
        numbers.append(numbers[-1] + 1)
    return np.interp(steps, ends, numbers)


def has_times(run: Run) -> bool:
    """Whether the minutes of any of its steps are known."""
    return bool(_list_timed(run))


def _list_timed(run: Run) -> list[Row]:
    return [row for row in (*run.steps, *run.epochs) if "train_seconds" in row]


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over `window` neighbours around each value, of fewer at the ends; same length."""
    half = window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def draw_curves(runs: Sequence[Run], over: XAxis) -> Any:
    """Four panels with all runs in each; six where a run has recorded its speed.

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

    num_columns = 3 if any("waiting_share" in row for run in runs for row in run.epochs) else 2
    size = (COLUMN_INCHES * num_columns, 2 * ROW_INCHES)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(2, num_columns, sharex=True)
    for number, run in enumerate(runs):
        _draw_learning(axes, run, over, COLORS[number % len(COLORS)])
        if num_columns == 3:
            _draw_speed(axes[:, 2], run, over, COLORS[number % len(COLORS)])
    _label(axes, over)
    styles = [Line2D([], [], color="black", marker="o", markersize=4), Line2D([], [], color="black", linestyle="--")]
    axes[0, 1].legend(styles, ["WER", "CER"], frameon=False)
    names = [Line2D([], [], color=COLORS[i % len(COLORS)], linewidth=3) for i in range(len(runs))]
    figure.legend(names, [describe_run(run) for run in runs], loc="outside upper left", frameon=False)
    return figure


def _column(rows: list[Row], key: str) -> NDArray[np.float64]:
    """NaN where a row does not have the key, or null."""
    return np.array([row.get(key) for row in rows], dtype=np.float64)


def _draw_learning(axes: Any, run: Run, over: XAxis, color: str) -> None:
    x_steps = place(run, [row["step"] for row in run.steps], over)
    x_epochs = place(run, [row["step"] for row in run.epochs], over)
    window = max(1, len(run.steps) // WINDOWS_PER_RUN)
    style = {"color": color, "linewidth": 1.5}
    axes[0, 0].plot(x_steps, smooth(_column(run.steps, "loss"), window), alpha=0.5, **style)
    axes[0, 0].plot(_middles(x_epochs), _column(run.epochs, "loss"), "o", markersize=4, color=color)
    axes[0, 1].plot(x_epochs, 100 * _column(run.epochs, "dev_wer"), "o-", markersize=4, **style)
    axes[0, 1].plot(x_epochs, 100 * _column(run.epochs, "dev_cer"), "--", **style)
    axes[1, 0].plot(x_steps, _column(run.steps, "learning_rate"), **style)
    axes[1, 1].plot(x_steps, smooth(_column(run.steps, "gradient_norm"), window), **style)


def _draw_speed(axes: Any, run: Run, over: XAxis, color: str) -> None:
    x = _middles(place(run, [row["step"] for row in run.epochs], over))
    style = {"color": color, "linewidth": 1.5, "markersize": 4}
    axes[0].plot(x, _column(run.epochs, "audio_seconds_per_second"), "o-", **style)
    axes[1].plot(x, 100 * _column(run.epochs, "waiting_share"), "o-", **style)


def _middles(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of each epoch, for what is true of a whole epoch."""
    middles: NDArray[np.float64] = (ends + np.concatenate([[0.0], ends])[:-1]) / 2
    return middles


def _label(axes: Any, over: XAxis) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    titles = [
        (axes[0, 0], "training loss, smoothed, and its mean over each epoch", "nats per utterance"),
        (axes[0, 1], "errors on dev, greedy decoding", "% of words or characters"),
        (axes[1, 0], "learning rate", "per step"),
        (axes[1, 1], "gradient norm before clipping, smoothed", "L2 norm over all parameters"),
    ]
    if axes.shape[1] == 3:
        titles.append((axes[0, 2], "speed of training, of each epoch", "hours of audio an hour"))
        titles.append((axes[1, 2], "waiting for data, in each epoch", "% of the time"))
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
    for axis in (axes[0, 1], axes[1, 0], *axes[:, 2:].flat):
        axis.set_ylim(bottom=0)
    axes[1, 0].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axis in axes[1]:
        axis.set_xlabel("epoch" if over == "epochs" else "minutes of training and validation")
        axis.set_xlim(left=0)
