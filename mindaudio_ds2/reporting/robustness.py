"""Error rates by recording condition, as a table and as a picture."""

from collections.abc import Sequence
from typing import Any

from mindaudio_ds2.reporting.metrics import Row


def show_robustness(rows: Sequence[Row]) -> str:
    """One line a condition: word and character error rate, and the first over that of the clean recordings."""
    width = max(len(row["condition"]) for row in rows)
    clean = rows[0]["wer"]
    lines = [f"{'condition'.ljust(width)}    WER       CER   WER / clean"]
    for row in rows:
        ratio = f"{row['wer'] / clean:8.2f}" if clean else "       -"
        lines.append(f"{row['condition'].ljust(width)} {100 * row['wer']:6.2f} %  {100 * row['cer']:6.2f} % {ratio}")
    return "\n".join(lines)


def draw_robustness(rows: Sequence[Row]) -> Any:
    """A bar of word errors and a point of character errors for each condition; a line at the clean word error rate.

    Returns:
        A matplotlib `Figure`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.28 * len(rows) + 1.2), dpi=100, layout="constrained")
    axis = figure.subplots()
    places = range(len(rows))
    axis.barh(places, [100 * row["wer"] for row in rows], color="#0072B2", label="WER")
    axis.plot([100 * row["cer"] for row in rows], places, "o", color="#D55E00", label="CER")
    axis.axvline(100 * rows[0]["wer"], color="black", linestyle="--", linewidth=1, label="WER of clean recordings")
    axis.set_yticks(places, [row["condition"] for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel("errors in % of words or characters")
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    return figure
