#!/usr/bin/env python3
"""Write a run as one HTML page: scores, learning curves, errors word by word, what the network hears, settings.

    mindaudio-ds2 report runs/an4
    mindaudio-ds2 report runs/an4 --num_worst 50 --utterance an406-fcaw-b --output an4.html

Reads what train.py and eval.py left in the run folder; what is not there is said on the page. The page holds its
pictures and needs neither network nor scripts. To show what the network hears, the checkpoint and the audio must be
there. Needs matplotlib: `pip install -e '.[plots]'`.
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.reporting.report import make_report
from mindaudio_ds2.reporting.run_folder import read_run_folder


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="run folder of train.py (path, or NAME in runs/)")
    parser.add_argument("--output", type=Path, help="page to write (path; default: RUN_DIR/report.html)")
    parser.add_argument("--num_worst", type=int, default=20, help="worst utterances shown (count; default: 20)")
    parser.add_argument(
        "--utterance",
        action="append",
        default=[],
        metavar="ID",
        help="draw what the network hears in this one; may be repeated (default: the worst of each evaluation)",
    )
    parser.add_argument(
        "--data_root",
        type=Path,
        default=Path(),
        help="manifests, audio and checkpoints that the run names are opened below this folder only (path; default: .)",
    )


def run(options: argparse.Namespace) -> None:
    """Read, write the page."""
    if options.num_worst < 0:
        raise ConfigError(f"--num_worst is {options.num_worst}; choose 0 or more")
    folder = models.find_run_folder(options.run)
    run = read_run_folder(folder, options.data_root)
    output = options.output or folder / "report.html"
    require_writable(output, [each for each in folder.glob("*") if each.suffix != ".html"])
    write_text(output, make_report(run, options.num_worst, options.utterance))
    print(output)


main = Command(__doc__, add_options, run)
