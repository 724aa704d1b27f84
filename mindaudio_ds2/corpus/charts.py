"""Pictures of what a corpus consists of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindaudio_ds2.corpus.statistics import Distribution, ManifestStatistics, choose_edges
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import write_atomically

MIN_BINS, MAX_BINS = 15, 60


def draw_histograms(corpora: Mapping[str, ManifestStatistics], path: Path) -> None:
    """Draw durations and rates of speech of one or more corpora into a picture.

    Args:
        corpora: by name.
        path: of the picture; its ending says the format: .png, .svg or .pdf.

    Raises:
        OutputError: matplotlib is not installed, does not know the ending, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError("pictures need matplotlib; run `pip install 'mindaudio_ds2[plots]'`") from error
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    if path.suffix[1:].lower() not in figure.canvas.get_supported_filetypes():
        raise OutputError(f"cannot draw {path}: its ending says no known format; choose .png, .svg or .pdf")
    left, right = figure.subplots(1, 2)
    names = [f"{name}: {s.num_utterances:,} utterances, {s.hours:,.2f} h" for name, s in corpora.items()]
    _draw(left, names, [s.durations for s in corpora.values()], "duration of an utterance (seconds)")
    _draw(right, names, [s.characters_per_second for s in corpora.values()], "rate of speech (characters a second)")
    for corpus in corpora.values():
        for limit in corpus.rate_limits if len(corpora) == 1 else ():
            right.axvline(limit, color="0.6", linestyle="--", linewidth=1)
    if len(corpora) == 1:
        right.set_title("beyond the dashed lines: suspicious", loc="right", fontsize=9, color="0.4")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    ending = path.suffix[1:].lower()
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=130, format=ending))


def _draw(axes: Any, names: Sequence[str], distributions: Sequence[Distribution], label: str) -> None:
    """Histograms over the same bins, as shares, so that large and small corpora can be compared."""
    least = min(len(distribution.values) for distribution in distributions)
    edges = choose_edges(distributions, int(np.clip(2 * np.sqrt(least), MIN_BINS, MAX_BINS)))
    for name, distribution in zip(names, distributions, strict=True):
        percents = 100 * distribution.count(edges) / len(distribution.values)
        filled = axes.stairs(percents, edges, fill=True, alpha=0.35 / len(names))
        axes.stairs(percents, edges, color=filled.get_facecolor()[:3], linewidth=1.5, label=name)
    is_cut = any(distribution.values[-1] > edges[-1] for distribution in distributions)
    axes.set_xlabel(f"{label}; the last bin holds all above" if is_cut else label)
    axes.set_ylabel("utterances (%)")
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=int(np.clip(len(edges), 4, 12)))
