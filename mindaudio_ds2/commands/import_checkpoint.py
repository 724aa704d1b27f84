#!/usr/bin/env python3
"""Turn a checkpoint of MindAudio, MindSpore's model zoo or deepspeech.pytorch into one of ours.

    mindaudio-ds2 import_checkpoint librispeech_pretrained_v3.ckpt runs/theirs/start.ckpt
    mindaudio-ds2 import_checkpoint deepspeech2.ckpt runs/theirs/start.ckpt --format mindaudio

OUT.ckpt then serves eval.py, transcribe.py and export.py. Beside it stands OUT.yaml, to go on training with:

    python train.py -c runs/theirs/start.yaml --pre_trained_model_path runs/theirs/start.ckpt

Whose file it is, and the network's sizes, come from the names and shapes in it. What a file does not tell is said with
the options; without them the project's own values are taken, and listed.
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.hparams import find_hparams
from mindaudio_ds2.machine import runtime

DEFAULT_CONFIG = find_hparams("deepspeech2")


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="their checkpoint: .ckpt, .pth or .pt (path)")
    parser.add_argument("output", type=Path, metavar="OUT.ckpt", help="our checkpoint, to be written (path)")
    parser.add_argument(
        "--format", choices=("mindaudio", "model_zoo", "deepspeech.pytorch"),
        help="whose it is; the first two have the same names and must be told apart",
    )  # fmt: skip
    parser.add_argument(
        "--alphabet", type=Path, metavar="LABELS.json", help="their labels, in order, with _ for the blank (path)"
    )
    parser.add_argument("--sample_rate", type=int, dest="sample_rate_hz", metavar="HZ", help="of the audio (Hz)")
    parser.add_argument("--window", choices=("hamming", "hann"), help="of the features")
    parser.add_argument("--window_seconds", type=float, metavar="S", help="their window_size (seconds)")
    parser.add_argument("--hop_seconds", type=float, metavar="S", help="their window_stride (seconds)")
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE",
        help="YAML for what no checkpoint of theirs tells: batching, optimiser, paths; default: %(default)s",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Import, say what became of the file."""
    template = read_config(options.config)
    models.require_new_checkpoint(options.output, options.source)
    runtime.start("CPU", 0)
    from mindaudio_ds2.importers.importing import Choices, import_checkpoint
    from mindaudio_ds2.importers.labels import read_labels

    choices = Choices(
        options.format,
        read_labels(options.alphabet) if options.alphabet else None,
        options.sample_rate_hz,
        options.window,
        options.window_seconds,
        options.hop_seconds,
    )
    imported = import_checkpoint(options.source, options.output, template, choices)
    model = imported.config.model
    kind = "bidirectional" if model.bidirectional else f"forward, {model.lookahead_frames} frames of lookahead"
    print(
        f"{options.output}: {imported.num_weights:,} values of {imported.project}; {model.rnn_num_layers} "
        f"{model.rnn_type} layers of {model.rnn_hidden_size}, {kind}; features {imported.config.features.window} "
        f"at {imported.config.features.sample_rate_hz} Hz; alphabet {imported.config.text.characters!r}, "
        f"blank {imported.config.text.blank}"
    )
    if not imported.has_checksums:
        print(f"{options.source} has no checksums, so damage within it cannot be found; compare error rates")
    for line in imported.assumed:
        print(f"assumed, since the file does not tell: {line}")
    if imported.left_out:
        shown = ", ".join(imported.left_out[:5]) + (", ..." if len(imported.left_out) > 5 else "")
        print(f"left out: {len(imported.left_out)} entries that are no part of the network ({shown})")
    print(f"to go on training: python train.py -c {imported.config_path} --pre_trained_model_path {options.output}")


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
