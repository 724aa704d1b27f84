#!/usr/bin/env python3
"""Score a checkpoint in conditions in which people record: silence, noise, level, rooms, telephones, codecs, speed.

    mindaudio-ds2 robustness runs/an4/best.ckpt data/an4/test.jsonl

Decodes greedily. Writes robustness_<manifest>.jsonl and, with matplotlib (`pip install -e '.[plots]'`), a .png beside
the checkpoint.
"""

import argparse
import importlib.util
import json
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.corpus.opening import add_data_root, open_manifest
from mindaudio_ds2.files import require_writable, write_atomically, write_text
from mindaudio_ds2.machine import runtime


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or a model's name (path or name)")
    parser.add_argument("manifest", type=Path, help="what is scored (path)")
    parser.add_argument("--seed", type=int, default=1, help="of noise and rooms (integer; default: 1)")
    add_data_root(parser)


def run(options: argparse.Namespace) -> None:
    """Score, show, save."""
    checkpoint = models.require_checkpoint(options.checkpoint)
    target = models.choose_results_folder(checkpoint) / f"robustness_{options.manifest.stem}.jsonl"
    require_writable(target)
    open_manifest(options.manifest, options.data_root)
    kernels = runtime.start("CPU", 0, "auto")
    from mindaudio_ds2.recognition import CheckpointNetwork
    from mindaudio_ds2.reporting.robustness import draw_robustness, show_robustness
    from mindaudio_ds2.robustness import measure_robustness

    network = CheckpointNetwork(checkpoint, kernels)
    rows = measure_robustness(network, options.manifest, options.seed, options.data_root)
    write_text(target, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n")
    print(show_robustness(rows))
    print(f"details in {target}")
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture: matplotlib is missing; `pip install -e '.[plots]'` brings it")
        return
    picture = target.with_suffix(".png")
    figure = draw_robustness(rows)
    write_atomically(picture, lambda partial: figure.savefig(partial, format="png"))
    print(f"picture in {picture}")


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
