#!/usr/bin/env python3
"""Draw the learning curves of one or several runs: loss, dev error rates, learning rate, gradient norm, speed.

    mindaudio-ds2 plot_curves runs/an4 --output curves.png
    mindaudio-ds2 plot_curves runs/an4 runs/an4_smaller --over minutes --output curves.png

Reads metrics.jsonl, which train.py writes into the run folder; a run may still be going on. Needs matplotlib:
`pip install -e '.[plots]'`.
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import require_writable, write_atomically
from mindaudio_ds2.reporting.curves import draw_curves, has_times
from mindaudio_ds2.reporting.metrics import describe_run, name_runs, read_run


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN_DIR", help="run folders of train.py (paths, or NAME in runs/)"
    )
    parser.add_argument("--output", type=Path, required=True, help="picture to write: .png, .svg or .pdf (path)")
    parser.add_argument("--over", choices=("epochs", "minutes"), default="epochs", help="x-axis; default: epochs")


def run(options: argparse.Namespace) -> None:
    """Read, draw, save."""
    suffix = options.output.suffix.lower()
    if suffix not in (".png", ".svg", ".pdf"):
        raise OutputError(f"--output {options.output} should end in .png, .svg or .pdf")
    folders = [models.find_run_folder(folder) for folder in options.runs]
    runs = [read_run(*pair) for pair in zip(folders, name_runs(folders), strict=True)]
    if options.over == "minutes" and not all(map(has_times, runs)):
        raise OutputError("a run has recorded no times yet, so its minutes are not known; draw --over epochs")
    require_writable(options.output)
    figure = draw_curves(runs, options.over)
    write_atomically(options.output, lambda partial: figure.savefig(partial, format=suffix[1:]))
    print("\n".join([*map(describe_run, runs), f"{options.output}"]))


main = Command(__doc__, add_options, run)
