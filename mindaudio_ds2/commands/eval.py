#!/usr/bin/env python3
"""Score a checkpoint: word and character error rate of a manifest.

    python eval.py --pre_trained_model_path english --manifest data/an4/test.jsonl
    python eval.py --pre_trained_model_path runs/an4/best.ckpt --manifest clean.csv other.csv --data_root /data/speech
    python eval.py --pre_trained_model_path runs/an4/best.ckpt --decoder beam --lm an4.lm --hotwords names.txt

All comes from the checkpoint, a run's test manifest, too; -c or --section.key VALUE give other batches and a decoder.
"""

from typing import Any

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, add_model_options, add_weights_option, require_model
from mindaudio_ds2.config import Config, DecodingConfig
from mindaudio_ds2.corpus.naming import require_each_once
from mindaudio_ds2.corpus.opening import open_manifest, require_named_manifest
from mindaudio_ds2.decoding.choice import add_decoding_options, read_choice
from mindaudio_ds2.decoding.metrics import NORMALIZATIONS, Normalizer
from mindaudio_ds2.machine import collectives, runtime


def add_options(parser: Any) -> None:
    """The verb's own options."""
    add_model_options(parser, "checkpoint, or name of a model")
    parser.add_argument(
        "--manifest", nargs="+", metavar="FILE", help="to be scored (paths; default: the run's test set)"
    )
    parser.add_argument("--output_dir", metavar="DIR", help=f"of results (path; default: {models.RESULTS})")
    parser.add_argument("--num_worst", type=int, default=5, metavar="N", help="worst shown (count)")
    parser.add_argument(
        "--normalize",
        nargs="+",
        default=[],
        metavar="KIND",
        help=f"what is no error: {', '.join(NORMALIZATIONS)}, all",
    )
    add_weights_option(parser)
    add_decoding_options(parser)


def run(config: Config | None, options: Any) -> None:
    """Look for mistakes that can be found at once, prepare the device, score, show."""
    model = require_model(options)
    settings, normalizer = config or options.changes, Normalizer.of(options.normalize)
    section = config.decoding if config else _take_section(options.changes)
    choice = read_choice(options, model, section)
    device_target, native, timeout_seconds = _choose_machine(config, options)
    with collectives.join(runtime.find_own_place(), timeout_seconds) as ranks:
        path = models.require_checkpoint(model)
        if config is None and not (options.manifest or "data.test_manifest" in options.changes):
            require_named_manifest(path, None)
        keys = ("data.test_manifest", "data.root")
        test, root = (config.data.test_manifest, config.data.root) if config else map(options.changes.get, keys)
        require_each_once(options.manifest or [])
        for manifest in options.manifest or [test] * bool(test):
            open_manifest(manifest, root)
        backend = runtime.start_recognizing(device_target, native, ranks.count_threads(), options.weights)
        from mindaudio_ds2.scores import Scoring, evaluate_checkpoint, show_all

        scoring = Scoring(options.manifest or (), options.output_dir, choice, normalizer)
        scored = evaluate_checkpoint(model, settings, scoring, backend, ranks)
        if ranks.is_first:
            print(show_all(scored, options.num_worst))


def _take_section(changes: dict[str, Any]) -> DecodingConfig:
    """The keys of decoding that were given without a YAML. A checkpoint's own do not count: decoder.json travels."""
    section = {key.removeprefix("decoding."): value for key, value in changes.items() if key.startswith("decoding.")}
    return DecodingConfig(**section)


def _choose_machine(config: Config | None, options: Any) -> tuple[str, str, float]:
    """Device, native kernels and patience (seconds), before a checkpoint can be read: the YAML's, or those given."""
    if config:
        return config.device_target, config.ops.native, config.processes.timeout_seconds
    get = options.changes.get
    return get("device_target", "CPU"), get("ops.native", "auto"), get("processes.timeout_seconds", 600.0)


main = Command(__doc__, add_options, run, takes_keys=True)

if __name__ == "__main__":
    main()
