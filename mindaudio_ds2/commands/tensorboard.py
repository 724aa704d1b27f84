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

from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.reporting.tensorboard import FOLDER, SECONDS_BETWEEN_LOOKS, export


@exit_on_error
def main() -> None:
    """Parse the command line, convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="run folder of train.py (path)")
    parser.add_argument("--output", type=Path, help="folder of the event file (path; default: RUN_DIR/tensorboard)")
    parser.add_argument("--follow", action="store_true", help="go on with what the run measures, until Ctrl-C")
    options = parser.parse_args()

    def wait() -> bool:
        if options.follow:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return bool(options.follow)

    path, num_rows = export(options.run, options.output or options.run / FOLDER, wait)
    print(f"{path}: {num_rows} rows; look with: tensorboard --logdir {path.parent}")
