#!/usr/bin/env python3
"""Make the recurrent layers of a trained network narrower, and train what is left.

    mindaudio-ds2 shrink runs/an4/best.ckpt --hidden_size 160 --output runs/an4_narrow/start.ckpt
    python train.py -c hparams/an4.yaml --run_dir runs/an4_narrow --model.rnn_hidden_size 160 \\
        --pre_trained_model_path runs/an4_narrow/start.ckpt

In each recurrent layer those units stay that send on most, in both directions the same. Without the training after it,
such a network is worth little.
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser, add_model_options, require_model
from mindaudio_ds2.machine import runtime


def add_options(parser: Parser) -> None:
    """The command's own options."""
    add_model_options(parser, "checkpoint or name of a model")
    parser.add_argument(
        "--hidden_size", type=int, required=True, metavar="N",
        help="units that stay in each recurrent layer and direction (count)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, required=True, metavar="OUT.ckpt", help="checkpoint to be written (path)"
    )


def run(options: argparse.Namespace) -> None:
    """Shrink, say what was lost."""
    source = models.require_checkpoint(require_model(options))
    models.require_new_checkpoint(options.output, source)
    runtime.start("CPU", 0)
    from mindaudio_ds2.shrinking import shrink_checkpoint

    shrunk = shrink_checkpoint(source, options.output, options.hidden_size)
    print(f"{options.output}: {shrunk.num_after:,} values, {shrunk.num_before:,} before")
    for layer, share in enumerate(shrunk.kept_shares):
        print(f"rnns.{layer}: the {options.hidden_size} units that stay sent on {share:.1%} of the whole")
    print(
        "to train it: python train.py -c ITS.yaml --run_dir runs/NEW "
        f"--model.rnn_hidden_size {options.hidden_size} --pre_trained_model_path {options.output}"
    )


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
