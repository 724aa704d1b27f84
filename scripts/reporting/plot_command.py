"""The command line of scripts/plot_curves.py."""

import argparse
from pathlib import Path

from mindaudio_ds2.errors import OutputError, exit_on_error
from mindaudio_ds2.files import write_atomically
from scripts.reporting.curves import draw_curves, has_times
from scripts.reporting.metrics import describe_run, name_runs, read_run


def main(description: str) -> None:
    """Parse the command line, read, draw, save."""
    exit_on_error(lambda: _plot(description))()


def _plot(description: str) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR", help="run folder of train.py (path)")
    parser.add_argument("--output", type=Path, required=True, help="picture to write: .png, .svg or .pdf (path)")
    parser.add_argument("--over", choices=("epochs", "minutes"), default="epochs", help="x-axis; default: epochs")
    options = parser.parse_args()
    suffix = options.output.suffix.lower()
    if suffix not in (".png", ".svg", ".pdf"):
        raise OutputError(f"--output {options.output} should end in .png, .svg or .pdf")
    runs = [read_run(*pair) for pair in zip(options.runs, name_runs(options.runs), strict=True)]
    if options.over == "minutes" and not all(map(has_times, runs)):
        raise OutputError("a run has recorded no times yet, so its minutes are not known; draw --over epochs")
    figure = draw_curves(runs, options.over)
    write_atomically(options.output, lambda partial: figure.savefig(partial, format=suffix[1:]))
    print("\n".join([*map(describe_run, runs), f"{options.output}"]))
