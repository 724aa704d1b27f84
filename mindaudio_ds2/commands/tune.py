#!/usr/bin/env python3
"""Find the weights of a language model and of the label prior on dev, and calibrate confidences there.

    mindaudio-ds2 tune runs/an4/best.ckpt data/an4/dev.jsonl --lm an4.lm

The best goes into decoder.json, for `eval` and `transcribe` with `--decoder`, and the word error rate of all settings
tried into decoder.png beside it (with the extra "plots"). The prior is how likely the network finds each label on
average over the frames of dev. Never tune on what is to be tested with.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command
from mindaudio_ds2.corpus.opening import add_data_root, open_manifest
from mindaudio_ds2.decoding.beam import BeamSettings
from mindaudio_ds2.decoding.choice import DecoderChoice, save_choice
from mindaudio_ds2.decoding.confidence import fit_calibration, measure_calibration
from mindaudio_ds2.decoding.label_prior import measure_prior
from mindaudio_ds2.decoding.tuning import Trial, count_trials, search
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.files import require_writable, write_atomically
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.machine.backend import Backend


def add_options(parser: Any) -> None:
    """The command's own options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, or a model's name (path or name)")
    parser.add_argument("dev", metavar="DEV", help="manifest to choose on, never that of a test (path)")
    parser.add_argument("--lm", metavar="X.lm", required=True, help="the language model (path)")
    parser.add_argument("--output", metavar="FILE", help=f"default: decoder.json in {models.RESULTS} (path)")
    parser.add_argument("--max_utterances", type=int, default=200, help="of DEV, spread over it (count; default: 200)")
    parser.add_argument("--beam_width", type=int, default=BeamSettings.beam_width, help="prefixes kept (count)")
    add_data_root(parser)


def tune(options: Any, backend: Backend) -> str:
    """Search, calibrate and write.

    Args:
        options: as of `add_options`.
        backend: how this process computes, from `runtime.start`.

    Returns:
        What was found, in lines.

    Raises:
        CheckpointError, ManifestError, AudioError, LanguageModelError, ConfigError, OutputError: as their readers.
    """
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
    from mindaudio_ds2.evaluate import Evaluator, measure_confidence
    from mindaudio_ds2.model.deepspeech2 import Recognizer

    path = Path(options.checkpoint)
    output = Path(options.output) if options.output else models.choose_results_folder(path) / models.DECODER
    checkpoint = load_checkpoint(path)
    config, library = checkpoint.config, backend.kernels
    utterances = open_manifest(options.dev, options.data_root)
    require_writable(output, [path, options.dev, options.lm])
    utterances = utterances[:: -(-len(utterances) // options.max_utterances)]
    choice = DecoderChoice("beam", options.settings, Path(options.lm))
    network = restore_network(checkpoint, str(path), backend)
    evaluator = Evaluator(Recognizer(network), utterances, config)

    def open_with(settings: BeamSettings) -> Any:
        changed = dataclasses.replace(choice, settings=settings)
        return changed.open(evaluator.tokenizer, config.seconds_per_output_frame, library)

    open_with(choice.settings)  # a model that does not fit is found before the long work
    heard = tqdm(evaluator.find_log_probs(evaluator.batches()), desc="hearing", total=len(utterances), disable=None)
    found = dict(sorted(heard))
    choice = dataclasses.replace(choice, label_prior=measure_prior(list(found.values()), evaluator.tokenizer))
    with tqdm(desc="trying weights", total=count_trials(), disable=None) as bar:

        def watch(trial: Trial) -> None:
            bar.set_postfix_str(f"WER {trial.wer:.2%}")
            bar.update()

        log_probs, references = list(found.values()), [evaluator.references[index] for index in found]
        trials = search(log_probs, references, choice.settings, open_with, watch)
    best = trials[0]
    decoder = open_with(best.settings)
    scored = [evaluator.score(index, tuple(decoder.decode(rows))) for index, rows in found.items()]
    confidences, is_right = measure_confidence(scored)
    if not confidences:
        raise ConfigError(
            f"no word is recognised in {options.dev} with any weights; nothing is written: tune on speech"
        )
    calibration = fit_calibration(confidences, is_right)
    choice = dataclasses.replace(choice, settings=best.settings, calibration=calibration)
    save_choice(output, choice, _list_trials(options, trials, len(utterances)))
    picture = _draw(output.with_suffix(".png"), trials)
    raw, after = (
        measure_calibration(values, is_right)["expected_calibration_error"]
        for values in (confidences, [calibration.apply(value) for value in confidences])
    )
    s = best.settings
    plain = next(t.wer for t in trials if t.settings == dataclasses.replace(s, prior_weight=0.0))
    return (
        f"best of {len(trials)}: weight {s.weight:g}, bonus {s.bonus:g}, unknown {s.unknown:g}, "
        f"prior {s.prior_weight:g}; WER {best.wer:.2%} on {len(utterances)} utterances of {options.dev}\n"
        f"without the model (weight 0): WER {min(t.wer for t in trials if t.settings.weight == 0):.2%}\n"
        f"the same without the label prior (prior 0): WER {plain:.2%}\n"
        f"calibration error {raw:.2%}, calibrated on the same words {after:.2%}\n"
        f"written to {output}{picture}"
    )


def _list_trials(options: Any, trials: list[Trial], num_utterances: int) -> dict[str, Any]:
    columns = ("weight", "bonus", "unknown", "prior_weight")
    rows = [[*(getattr(trial.settings, name) for name in columns), trial.word_errors] for trial in trials]
    return {
        "checkpoint": str(options.checkpoint),
        "manifest": str(options.dev),
        "num_utterances": num_utterances,
        "num_words": trials[0].num_words,
        "columns": [*columns, "word_errors"],
        "trials": rows,
    }


def _draw(path: Path, trials: list[Trial]) -> str:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "; no picture: pip install matplotlib"
    axes = (figure := Figure(figsize=(6, 4.5), layout="constrained")).add_subplot()
    shown = list(reversed(trials))  # the best on top
    points = axes.scatter(
        [t.settings.weight for t in shown],
        [t.settings.bonus for t in shown],
        c=[100 * t.wer for t in shown],
        s=300,
        cmap="viridis_r",
    )
    best = trials[0].settings
    axes.plot(best.weight, best.bonus, "r+", markersize=14)
    axes.set(xlabel="weight of the language model", ylabel="bonus for a word (nats)", title="WER on dev (%)")
    figure.colorbar(points)
    write_atomically(path, lambda partial: figure.savefig(partial, format="png", dpi=120))
    return f" and {path}"


def run(options: argparse.Namespace) -> None:
    """Tune, show."""
    runtime.require_one_process("tune")
    if options.max_utterances < 1:
        raise ConfigError(f"--max_utterances {options.max_utterances} must be 1 or more")
    options.settings = BeamSettings(beam_width=options.beam_width)
    options.checkpoint = models.require_checkpoint(options.checkpoint)
    open_manifest(options.dev, options.data_root)
    print(tune(options, runtime.start("CPU", 0, "auto")))


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
