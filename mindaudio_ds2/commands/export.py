#!/usr/bin/env python3
"""Write a trained network as a file for other programs: MINDIR, ONNX or AIR.

python export.py --pre_trained_model_path runs/an4/best.ckpt
python export.py --pre_trained_model_path runs/an4/best.ckpt --file_format ONNX --weights int8
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser, add_model_options, require_model
from mindaudio_ds2.export import options as options_of_export
from mindaudio_ds2.export.options import check_options, export_as_asked
from mindaudio_ds2.machine import runtime


def add_options(parser: Parser) -> None:
    """The verb's own options."""
    add_model_options(parser, "checkpoint, or name of a model")
    parser.add_argument("--output_dir", type=Path, help=f"path; default: export/ in {models.RESULTS}")
    parser.add_argument("--device_target", default="CPU", choices=["CPU", "GPU", "Ascend"], help="default: CPU")
    options_of_export.add_options(parser)


def run(options: argparse.Namespace) -> None:
    """Export, say where it lies."""
    check_options(options)
    runtime.require_one_process("export.py")
    options.pre_trained_model_path = models.require_checkpoint(require_model(options))
    backend = runtime.start(options.device_target, 0, "auto" if options.file_format == "ONNX" else "off")
    print(export_as_asked(options, backend))


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
