#!/usr/bin/env python3
"""Write the weights of one of our checkpoints with the names of MindAudio, MindSpore's model zoo or deepspeech.pytorch.

    mindaudio-ds2 export_weights runs/mine/best.ckpt deepspeech2.ckpt --format mindaudio
    mindaudio-ds2 export_weights runs/mine/best.ckpt deepspeech.ckpt --format deepspeech.pytorch

The network and its features must be ones that the project can compute; where they are not, all differences are listed.
The alphabet in the order of the outputs is written beside it, as OUT.labels.json.
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.files import require_writable
from mindaudio_ds2.machine import runtime


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument("checkpoint", type=Path, metavar="X.ckpt", help="ours, or a model's name (path or name)")
    parser.add_argument("output", type=Path, metavar="OUT", help="their file, to be written (path)")
    parser.add_argument(
        "--format", choices=("mindaudio", "model_zoo", "deepspeech.pytorch"), required=True, help="for whom"
    )


def run(options: argparse.Namespace) -> None:
    """Export, say what to set over there."""
    options.checkpoint = models.require_checkpoint(options.checkpoint)
    require_writable(options.output, [options.checkpoint])
    runtime.start("CPU", 0)
    from mindaudio_ds2.importers.exporting import export_weights

    exported = export_weights(options.checkpoint, options.output, options.format)
    model, features = exported.config.model, exported.config.features
    print(f"{options.output}: with the names of {exported.project}; labels in {exported.labels_path}")
    print(
        f"settings there: hidden_size {model.rnn_hidden_size}, hidden_layers {model.rnn_num_layers}, rnn_type "
        f"{model.rnn_type}, sample_rate {features.sample_rate_hz}, window {features.window}, window_size "
        f"{features.window_seconds:g}, window_stride {features.hop_seconds:g}"
        + ("" if model.bidirectional else f", lookahead_context {model.lookahead_frames}")
    )


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
