#!/usr/bin/env python3
"""Write a trained network as a MINDIR file, for any batch size and duration.

python export.py --pre_trained_model_path runs/an4/best.ckpt
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import runtime
from mindaudio_ds2.errors import exit_on_error


@exit_on_error
def main() -> None:
    """Parse the command line, export, say where it lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pre_trained_model_path", metavar="X.ckpt", required=True, help="the checkpoint (path)")
    parser.add_argument("--file_format", default="MINDIR", choices=["MINDIR"], help="default: MINDIR")
    parser.add_argument("--output_dir", help="path; default: export/ beside the checkpoint")
    parser.add_argument("--device_target", default="CPU", choices=["CPU", "GPU", "Ascend"], help="default: CPU")
    options = parser.parse_args()
    runtime.require_one_process("export.py")
    runtime.start(options.device_target, 0)
    from mindaudio_ds2.export.mindir import export

    output_dir = options.output_dir or Path(options.pre_trained_model_path).parent / "export"
    written = export(options.pre_trained_model_path, output_dir)
    print(f"{written['mindir']}: log-probabilities within {written['largest_difference']:.1e} of the checkpoint's")
    print(f"{Path(output_dir) / 'model.json'}: features, alphabet and blank that belong to it")


if __name__ == "__main__":
    main()
