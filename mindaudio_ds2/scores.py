"""From a checkpoint and manifests to scores: their files, and what a person is shown."""

import dataclasses
import datetime
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mindaudio_ds2 import console, models
from mindaudio_ds2.audio.sound_files import show_path
from mindaudio_ds2.checkpoint import Checkpoint, load_checkpoint, restore_network
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import override
from mindaudio_ds2.corpus.naming import require_each_once
from mindaudio_ds2.corpus.opening import open_manifest, require_named_manifest
from mindaudio_ds2.decoding.choice import DecoderChoice, find_choice
from mindaudio_ds2.decoding.confidence import measure_calibration
from mindaudio_ds2.decoding.metrics import UNCHANGED, Normalizer, align_words, set_below
from mindaudio_ds2.evaluate import Evaluation, Evaluator, ScoredUtterance, measure_confidence, open_decoder
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.machine.agreement import require_same_start, require_same_weights
from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.machine.runtime import describe_environment
from mindaudio_ds2.model.deepspeech2 import Recognizer, count_parameters
from mindaudio_ds2.reading import ReadError, parse_json
from mindaudio_ds2.text.characters import describe_unwritable

OF_THE_CHECKPOINT = ("features", "text", "model")
"""Sections of the configuration that only make sense as the weights were trained with them."""


@dataclass(frozen=True)
class Scoring:
    """What is scored, how, and where the scores go.

    Attributes:
        manifests: of any format; none takes `data.test_manifest`.
        output_dir: None takes the checkpoint's folder, or `runs/NAME` for a model.
        choice: the decoder; None takes the decoder.json beside the checkpoint, or decodes greedily.
        normalizer: as in `Evaluator`.
    """

    manifests: Sequence[str] = ()
    output_dir: str | None = None
    choice: DecoderChoice | None = None
    normalizer: Normalizer = UNCHANGED


def evaluate_checkpoint(
    checkpoint_path: str | Path,
    settings: Config | Mapping[str, Any],
    scoring: Scoring,
    backend: Backend = STOCK,
    ranks: Ranks | None = None,
) -> list[tuple[Evaluation, Path]]:
    """Score manifests with a checkpoint; write `eval_<manifest>.json` and `eval_<manifest>_utterances.jsonl` for each.

    Features, labels and network come from the checkpoint; batching and the test manifest from `settings`.

    Args:
        checkpoint_path: a checkpoint of ours, or the name of a model.
        settings: a configuration, or changes to the checkpoint's own by dotted path.
        scoring: what, how and where to.
        backend: how this process computes, from `runtime.start`.
        ranks: the processes that share the work, of which the first writes; None for this one alone.

    Returns:
        For each manifest its scores, and the path of their summary.

    Raises:
        CheckpointError, ConfigError, ManifestError, AudioError, DeviceError, OutputError: see their places.
    """
    ranks = ranks or Ranks()
    checkpoint_path = models.find_file(checkpoint_path, "weights")
    choice = scoring.choice or find_choice(checkpoint_path)
    if ranks.is_first and choice.kind != "greedy":
        console.write_line(f"decoding with {', '.join(filter(None, choice.describe().values()))}")
    checkpoint = load_checkpoint(checkpoint_path)
    network = restore_network(checkpoint, str(checkpoint_path), backend)
    config = _choose_settings(checkpoint, settings)
    if not isinstance(settings, Config) and not (scoring.manifests or "data.test_manifest" in settings):
        require_named_manifest(checkpoint_path, config.data.test_manifest)
    targets = _choose_targets(scoring, config, checkpoint_path, ranks)
    read = {path: open_manifest(path, config.data.root) for path in targets}
    require_same_start(ranks, config, read)
    require_same_weights(ranks, network.weights())
    decoder = open_decoder(choice, config)
    recognizer = Recognizer(network)
    origin = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        **describe_environment(),
        "checkpoint": str(checkpoint_path),
        "data_root": config.data.root,
        "num_parameters": count_parameters(network),
        "weights": "int8" if backend.is_int8 else "bf16" if backend.is_bfloat16 else "fp32",
        "train_hours": checkpoint.state.get("train_hours"),
        "epochs": checkpoint.state.get("epoch"),
        **choice.describe(),
    }
    scored = []
    for manifest, target in targets.items():
        evaluator = Evaluator(recognizer, read[manifest], config, ranks, decoder, scoring.normalizer)
        split = target.stem.removeprefix("eval_")
        shown = None if ranks.is_first else True  # a bar where somebody watches the first process
        evaluation = evaluator.run(
            tqdm(evaluator.batches(), f"scoring {split}", len(evaluator.plan), unit="batch", disable=shown, delay=2)
        )
        if ranks.is_first:
            _write(target, evaluation, {**origin, "manifest": str(manifest), "split": split})
        scored.append((evaluation, target))
    return scored


def _choose_targets(scoring: Scoring, config: Config, checkpoint_path: Path, ranks: Ranks) -> dict[str, Path]:
    """Each manifest's file of scores, which can be written."""
    manifests = list(scoring.manifests) or [config.data.test_manifest]
    folder = Path(scoring.output_dir) if scoring.output_dir else models.choose_results_folder(checkpoint_path)
    targets = [folder / f"eval_{split}.json" for split in name_splits(manifests, folder)]
    if ranks.is_first:
        for target in targets:
            require_writable(target)
    return dict(zip(manifests, targets, strict=True))


def _choose_settings(checkpoint: Checkpoint, settings: Config | Mapping[str, Any]) -> Config:
    own = checkpoint.config
    if isinstance(settings, Config):
        return dataclasses.replace(settings, features=own.features, text=own.text, model=own.model)
    # a checkpoint may come from anywhere, and does not choose where this program writes
    safe = dataclasses.replace(own, data=dataclasses.replace(own.data, feature_cache_dir=None))
    return override(safe, settings, OF_THE_CHECKPOINT)


def _write(path: Path, evaluation: Evaluation, origin: Mapping[str, Any]) -> None:
    """The summary and, beside it, a line for each utterance."""
    rows = [json.dumps(_to_row(scored), ensure_ascii=False) for scored in evaluation.utterances]
    write_text(path.with_name(f"{path.stem}_utterances.jsonl"), "\n".join(rows) + "\n")
    calibration = measure_calibration(*measure_confidence(evaluation.utterances))
    summary: dict[str, Any] = {
        **origin,
        **summarize(evaluation),
        **{key: value if math.isfinite(value) else None for key, value in calibration.items()},  # JSON has no NaN
    }
    write_text(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def name_splits(manifests: Sequence[str | Path], folder: Path) -> list[str]:
    """What the scores of manifests are called: their names, with their folders where others' scores have that.

    Args:
        manifests: what is scored together.
        folder: where the scores go, and older ones may lie.

    Raises:
        ConfigError: a manifest is named twice.
    """
    require_each_once(manifests)
    paths = [Path(manifest).resolve() for manifest in manifests]
    candidates = [
        (path.stem, f"{path.parent.name}_{path.stem}", f"{path.parent.name}_{path.stem}_{_digest(path)}")
        for path in paths
    ]
    splits = []
    for path, names in zip(paths, candidates, strict=True):
        others = {name for theirs in candidates if theirs is not names for name in theirs}
        free = [
            name
            for name in names[:2]
            if name not in others and _read_manifest_name(folder / f"eval_{name}.json") in (None, path)
        ]
        splits.append(free[0] if free else names[2])
    return splits


def _digest(path: Path) -> str:
    return f"{zlib.crc32(str(path).encode(errors='surrogateescape')):08x}"


def _read_manifest_name(scores: Path) -> Path | None:
    """Which manifest a file of scores is of; None where there is no such file, or none that tells."""
    try:
        return Path(parse_json(scores.read_text(encoding="utf-8"))["manifest"]).resolve()
    except (OSError, ReadError, KeyError, TypeError, UnicodeDecodeError):
        return None


def summarize(evaluation: Evaluation) -> dict[str, Any]:
    """Counts and rates of an evaluation as plain values; rates are fractions."""
    counts = evaluation.counts
    return {
        **dataclasses.asdict(counts),
        "word_errors": counts.word_errors,
        "wer": counts.wer,
        "cer": counts.cer,
        "audio_seconds": evaluation.audio_seconds,
        "wall_seconds": evaluation.wall_seconds,
        "compile_seconds": evaluation.compile_seconds,
        "real_time_factor": evaluation.real_time_factor,
        "real_time_factor_with_compiling": evaluation.wall_seconds / evaluation.audio_seconds,
        "utterances_per_second": counts.num_utterances / (evaluation.wall_seconds - evaluation.compile_seconds),
        "unwritable": evaluation.unwritable,
        "normalize": list(evaluation.normalize),
    }


def show_all(scored: Sequence[tuple[Evaluation, Path]], num_worst: int) -> str:
    """Each evaluation as `show` has it, with where its details are; behind several a table that compares them."""
    parts = [f"{show(evaluation, num_worst)}\ndetails in {path}" for evaluation, path in scored]
    if len(scored) == 1:
        return parts[0]
    names = [path.stem.removeprefix("eval_") for _, path in scored]
    width = max(map(len, ["corpus", *names]))
    table = [f"{'corpus':{width}}  utterances  minutes       WER       CER"]
    for name, (evaluation, _) in zip(names, scored, strict=True):
        counts, minutes = evaluation.counts, evaluation.audio_seconds / 60
        rates = f"{100 * counts.wer:7.2f} % {100 * counts.cer:7.2f} %"
        table.append(f"{name:{width}}  {counts.num_utterances:10}  {minutes:7.1f} {rates}")
    titled = [f"{name}\n{part}" for name, part in zip(names, parts, strict=True)]
    return "\n\n".join([*titled, "\n".join(table)])


def show(evaluation: Evaluation, num_worst: int) -> str:
    """A table of the rates and the worst utterances, their words set below each other."""
    counts = evaluation.counts
    lines = [
        f"{counts.num_utterances} utterances, {evaluation.audio_seconds / 60:.1f} min of audio, "
        f"real-time factor {evaluation.real_time_factor:.3f} after {evaluation.compile_seconds:.1f} s of compiling",
        f"WER {100 * counts.wer:6.2f} %   {counts.word_errors} errors in {counts.num_words} words "
        f"({counts.substitutions} substituted, {counts.deletions} deleted, {counts.insertions} inserted)",
        f"CER {100 * counts.cer:6.2f} %   {counts.character_errors} errors in {counts.num_characters} characters",
    ]
    if evaluation.normalize:
        lines.append(f"compared without differences of {', '.join(evaluation.normalize)}")
    if evaluation.unwritable:
        lines.append(describe_unwritable(evaluation.unwritable, "the references"))
    worst = [scored for scored in evaluation.worst(num_worst) if scored.counts.character_errors]
    if worst:
        lines.append("worst utterances:")
    for scored in worst:
        counts, name = scored.counts, show_path(scored.utterance.id)
        lines.append(f"  {name}: {counts.word_errors} of {counts.num_words} words wrong")
        reference, hypothesis = console.escape(scored.reference), console.escape(scored.hypothesis)
        lines += [f"    {line}" for line in set_below(align_words(reference, hypothesis))]
    return "\n".join(lines)


def _to_row(scored: ScoredUtterance) -> dict[str, Any]:
    others = [{"text": other.text, "score": other.score} for other in scored.decoded]
    return {
        "id": scored.utterance.id,
        "reference": scored.reference,
        "hypothesis": scored.hypothesis,
        "word_errors": scored.counts.word_errors,
        "num_words": scored.counts.num_words,
        "character_errors": scored.counts.character_errors,
        "num_characters": scored.counts.num_characters,
        "words": [dataclasses.asdict(word) for word in scored.decoded[0].words],
        **({"nbest": others} if len(others) > 1 else {}),
    }
