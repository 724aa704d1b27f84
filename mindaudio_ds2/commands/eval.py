#!/usr/bin/env python3
"""Score a checkpoint: word and character error rate of a manifest.

    python eval.py --pre_trained_model_path runs/an4/best.ckpt
    python eval.py -c hparams/an4.yaml --pre_trained_model_path runs/an4/best.ckpt --manifest data/an4/dev.jsonl

With a language model (see mindaudio-ds2 build_lm and tune):

    python eval.py --pre_trained_model_path runs/an4/best.ckpt --decoder beam --lm an4.lm --hotwords names.txt

Features, alphabet and network come from the checkpoint; so do batching and the test manifest, unless -c names a YAML.
"""

import sys
from typing import Any

from mindaudio_ds2.config_reader import parse_command_line
from mindaudio_ds2.decoding.choice import add_decoding_options, read_choice
from mindaudio_ds2.decoding.metrics import NORMALIZATIONS, Normalizer
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.machine import collectives, runtime


def add_options(parser: Any) -> None:
    """The verb's own options."""
    parser.add_argument("--pre_trained_model_path", metavar="X.ckpt", required=True, help="the checkpoint (path)")
    parser.add_argument("--manifest", help="score this one (path; default: data.test_manifest)")
    parser.add_argument("--output_dir", help="where results go (path; default: the checkpoint's folder)")
    parser.add_argument("--num_worst", type=int, default=5, help="how many of the worst utterances are shown (count)")
    parser.add_argument(
        "--normalize",
        nargs="+",
        default=[],
        metavar="KIND",
        help=f"differences that are no errors: {', '.join(NORMALIZATIONS)}, or all (by jiwer; default: none)",
    )
    add_decoding_options(parser)


@exit_on_error
def main() -> None:
    """Parse the command line, prepare the device, score, show."""
    config, options = parse_command_line(__doc__ or "", sys.argv[1:], add_options, None)
    choice, normalizer = read_choice(options), Normalizer.of(options.normalize)
    device_target, native, timeout_seconds = "CPU", "auto", 600.0
    if config:
        device_target, native = config.device_target, config.ops.native
        timeout_seconds = config.processes.timeout_seconds
    with collectives.join(runtime.find_own_place(), timeout_seconds) as ranks:
        backend = runtime.start(device_target, 0, native, ranks.count_threads())
        from mindaudio_ds2.evaluate import evaluate_checkpoint, show

        evaluation, path = evaluate_checkpoint(
            options.pre_trained_model_path,
            config,
            options.manifest,
            options.output_dir,
            backend,
            ranks,
            choice,
            normalizer,
        )
        if ranks.is_first:
            print(show(evaluation, options.num_worst))
            print(f"details in {path}")


if __name__ == "__main__":
    main()
