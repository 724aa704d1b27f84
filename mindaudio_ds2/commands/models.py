#!/usr/bin/env python3
"""List the trained networks that can be asked for by name.

    mindaudio-ds2 models

A model is a folder with a card, `model.json`: in the package, or in the folder that the variable MINDAUDIO_DS2_MODELS
names. `mindaudio-ds2 pack_model` makes one of a run. Runs are known by the names
of their folders in runs/, and are not listed here.
"""

import argparse

from mindaudio_ds2 import console, models
from mindaudio_ds2.commands._command import Command, Parser


def show(found: list[models.Model]) -> str:
    """A table of models: name, size, scores, licence, folder."""
    if not found:
        return f"no models; put their folders into one and name it in {models.FOLDER_VARIABLE}"
    rows = [("name", "MB", "WER", "licence", "where")]
    for model in found:
        scores = model.card.get("scores", {})
        rates = "; ".join(f"{split} {100 * score['wer']:.1f} %" for split, score in scores.items()) or "not scored"
        rows.append(
            (model.name, f"{model.num_bytes / 1e6:.1f}", rates, model.card.get("licence", ""), str(model.folder))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def add_options(_: Parser) -> None:
    """There are none."""


def run(_: argparse.Namespace) -> None:
    """Print."""
    console.write_line(show(models.list_models()), to_stdout=True)


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
