#!/usr/bin/env python3
"""Make the recurrent layers of a trained network wider, so that it can learn more.

    mindaudio-ds2 widen english --hidden_size 512 --output runs/english_wide/start.ckpt
    python train.py -c hparams/english.yaml --run_dir runs/english_wide --model.rnn_hidden_size 512 \\
        --pre_trained_model_path runs/english_wide/start.ckpt

The wider network hears exactly what the narrow one does, until it is trained: nothing listens to the new units yet.
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser, add_model_options, require_model
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.machine import runtime


def add_options(parser: Parser) -> None:
    """The command's own options."""
    add_model_options(parser, "checkpoint or name of a model")
    parser.add_argument(
        "--hidden_size", type=int, required=True, metavar="N",
        help="units of each recurrent layer and direction afterwards (count)",
    )  # fmt: skip
    parser.add_argument("--seed", type=parse_seed, default=1, metavar="N", help="of new weights (integer; default: 1)")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="OUT.ckpt", help="checkpoint to be written (path)"
    )


def run(options: argparse.Namespace) -> None:
    """Widen, say how large the network is now."""
    source = models.require_checkpoint(require_model(options))
    models.require_new_checkpoint(options.output, source)
    runtime.start("CPU", options.seed)
    from mindaudio_ds2.model.arithmetic import list_layers
    from mindaudio_ds2.widening import widen_checkpoint

    config = widen_checkpoint(source, options.output, options.hidden_size)
    print(f"{options.output}: {sum(layer.num_parameters for layer in list_layers(config)):,} parameters")
    print(
        "to train it: python train.py -c ITS.yaml --run_dir runs/NEW "
        f"--model.rnn_hidden_size {options.hidden_size} --pre_trained_model_path {options.output}"
    )


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
