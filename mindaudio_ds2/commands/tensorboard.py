#!/usr/bin/env python3
"""Write a run's metrics as TensorBoard events: all that metrics.jsonl holds, also while the run goes on.

    mindaudio-ds2 tensorboard runs/an4
    mindaudio-ds2 tensorboard runs/an4 --follow
    tensorboard --logdir runs

Training itself needs no TensorBoard. An export replaces the one before it, so that nothing is shown twice. Needs
tensorboard: `pip install -e '.[tensorboard]'`.
"""

import argparse
import time
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.reporting.tensorboard import FOLDER, SECONDS_BETWEEN_LOOKS, export


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="run folder of train.py (path, or NAME in runs/)")
    parser.add_argument("--output", type=Path, help="folder of the event file (path; default: RUN_DIR/tensorboard)")
    parser.add_argument("--follow", action="store_true", help="go on with what the run measures, until Ctrl-C")


def run(options: argparse.Namespace) -> None:
    """Convert."""

    def wait() -> bool:
        if options.follow:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return bool(options.follow)

    folder = models.find_run_folder(options.run)
    path, num_rows = export(folder, options.output or folder / FOLDER, wait)
    print(f"{path}: {num_rows} rows; look with: tensorboard --logdir {path.parent}")


main = Command(__doc__, add_options, run)
