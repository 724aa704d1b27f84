#!/usr/bin/env python3
"""Score a network in conditions in which people record: silence, noise, level, rooms, telephones, codecs, speed.

    mindaudio-ds2 robustness runs/an4/best.ckpt data/an4/test.jsonl
    mindaudio-ds2 robustness runs/an4/export/model.int8.onnx data/an4/test.jsonl

Decodes greedily. Writes robustness_<manifest>.jsonl (with `--weights int8`, robustness_<manifest>_int8.jsonl) and, with
matplotlib (`pip install -e '.[plots]'`), a .png into the network's folder, or runs/NAME for a model (a folder with a
model.json).
"""

import argparse
import importlib.util
import json
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser, add_weights_option
from mindaudio_ds2.corpus.opening import add_data_root, open_manifest
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.files import require_writable, write_atomically, write_text
from mindaudio_ds2.transcribe import Recognizer


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument("network", metavar="MODEL", help="checkpoint, .onnx or a model's name")
    parser.add_argument("manifest", type=Path, help="what is scored (path)")
    parser.add_argument("--seed", type=parse_seed, default=1, help="of noise and rooms (integer; default: 1)")
    add_weights_option(parser)
    add_data_root(parser)


def run(options: argparse.Namespace) -> None:
    """Score, show, save."""
    path = models.find_file(options.network, "recognition" if options.weights == "fp32" else "weights")
    open_manifest(options.manifest, options.data_root)
    weights = "" if options.weights == "fp32" else f"_{options.weights}"
    target = models.choose_results_folder(path) / f"robustness_{options.manifest.stem}{weights}.jsonl"
    require_writable(target)
    from mindaudio_ds2.reporting.robustness import draw_robustness, show_robustness
    from mindaudio_ds2.robustness import measure_robustness

    recognizer = Recognizer.load(path, choice=DecoderChoice(), weights=options.weights)
    rows = measure_robustness(recognizer, options.manifest, options.seed, options.data_root)
    lines = [json.dumps({**row, "weights": options.weights}, ensure_ascii=False) for row in rows]
    write_text(target, "\n".join(lines) + "\n")
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
