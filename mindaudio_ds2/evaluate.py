"""Scoring: every utterance of a manifest exactly once, errors as integers, the hypotheses beside their references."""

import dataclasses
import datetime
import json
import math
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.batching.dataset import TensorBatch, open_loader
from mindaudio_ds2.batching.plan import plan_evaluation
from mindaudio_ds2.batching.shapes import FixedShapes
from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.decoding.choice import Decoder, DecoderChoice, find_choice
from mindaudio_ds2.decoding.confidence import measure_calibration
from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.decoding.metrics import UNCHANGED, ErrorCounts, Normalizer, align_words, count_errors, set_below
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.machine.agreement import require_same_start, require_same_weights
from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.machine.runtime import describe_environment
from mindaudio_ds2.model.deepspeech2 import Recognizer, count_parameters, feature_signature
from mindaudio_ds2.ops.library import find_kernels
from mindaudio_ds2.reading import ReadError, parse_json
from mindaudio_ds2.text.alphabet import Alphabet
from mindaudio_ds2.text.characters import describe_unwritable


@dataclass(frozen=True)
class ScoredUtterance:
    """An utterance, what was recognised, and how wrong that is; `decoded` has times and the other hypotheses."""

    utterance: Utterance
    reference: str
    hypothesis: str
    counts: ErrorCounts
    decoded: tuple[Hypothesis, ...] = dataclasses.field(default=(), compare=False)


@dataclass(frozen=True)
class Evaluation:
    """A scored manifest.

    Attributes:
        utterances: in the manifest's order.
        audio_seconds: duration of all utterances.
        wall_seconds: time to load, recognise and decode them, compiling included.
        compile_seconds: of that, for compiling: a first pass of the first batch, which is then recognised once more.
        unwritable: characters of the references that the network has no label for, with how often they come. Each is
            an error whatever is recognised.
        normalize: what references and hypotheses were freed of before they were compared, of `NORMALIZATIONS`.
    """

    utterances: tuple[ScoredUtterance, ...]
    audio_seconds: float
    wall_seconds: float
    compile_seconds: float
    unwritable: dict[str, int]
    normalize: tuple[str, ...] = ()

    @property
    def counts(self) -> ErrorCounts:
        """Errors of all utterances together."""
        return sum((scored.counts for scored in self.utterances), ErrorCounts())

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of audio, without compiling."""
        return (self.wall_seconds - self.compile_seconds) / self.audio_seconds

    def worst(self, count: int) -> list[ScoredUtterance]:
        """The utterances with most word errors, then most character errors."""
        ranked = sorted(self.utterances, key=lambda s: (s.counts.word_errors, s.counts.character_errors), reverse=True)
        return ranked[:count]


class Evaluator:
    """A network and one manifest, ready to be scored again and again.

    Args:
        recognizer: the network with its log-softmax.
        utterances: what is scored.
        config: features, alphabet and network as the recognizer was trained with; batching as wished.
        ranks: the processes that share the work, and all get the whole result; None for this one alone.
        decoder: None decodes greedily.
        normalizer: what is done to references and hypotheses before they are compared.

    Attributes:
        unwritable: as in `Evaluation`.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        utterances: Sequence[Utterance],
        config: Config,
        ranks: Ranks | None = None,
        decoder: Decoder | None = None,
        normalizer: Normalizer = UNCHANGED,
    ) -> None:
        self.recognizer = recognizer
        self.ranks = ranks or Ranks()
        self.compile_seconds, self.is_compiled = 0.0, False
        self.utterances = utterances
        self.alphabet = Alphabet(config.text)
        self.normalizer = normalizer
        self.references = [normalizer(self.alphabet.normalize(utterance.transcript)) for utterance in utterances]
        self.unwritable = self.alphabet.count_unknown([utterance.transcript for utterance in utterances], normalizer)
        seconds_per_frame = config.seconds_per_output_frame
        self.decoder = decoder or DecoderChoice().open(self.alphabet, seconds_per_frame, None)
        durations = [utterance.duration_seconds for utterance in utterances]
        is_open = recognizer.network.takes_open_shapes
        self.plan = plan_evaluation(
            durations,
            config.batching,
            num_frames=config.features.num_frames,
            rank=self.ranks.place.rank,
            world_size=self.ranks.world_size,
            shapes=None if is_open else FixedShapes(durations, [0] * len(durations), config, is_augmented=False),
        )
        no_labels = [np.zeros(0, dtype=np.int32)] * len(utterances)
        self.loader = open_loader(utterances, no_labels, config)
        if is_open:
            recognizer.set_inputs(*feature_signature(config.features.num_bins))

    def run(self, watch: Iterable[TensorBatch] | None = None) -> Evaluation:
        """Score every utterance.

        Args:
            watch: the batches to go through, where somebody wants to look on; else those of the plan.

        Returns:
            The scores of all processes' utterances, the same on each.
        """
        self.recognizer.set_train(False)
        started = time.monotonic()
        own: dict[int, tuple[Hypothesis, ...]] = {}
        self.compile_seconds = 0.0
        for index, log_probs in self.find_log_probs(self.batches() if watch is None else watch):
            own[index] = tuple(self.decoder.decode(log_probs))
        texts: dict[int, tuple[Hypothesis, ...]] = {}
        for theirs in self.ranks.gather(own):
            assert not texts.keys() & theirs.keys(), "an utterance is scored once"
            texts |= theirs
        assert len(texts) == len(self.utterances), "every utterance is scored"
        ordered = tuple(self.score(index, texts[index]) for index in range(len(texts)))
        audio_seconds = sum(utterance.duration_seconds for utterance in self.utterances)
        wall_seconds, kinds = time.monotonic() - started, self.normalizer.kinds
        return Evaluation(ordered, audio_seconds, wall_seconds, self.compile_seconds, self.unwritable, kinds)

    def find_log_probs(self, batches: Iterable[TensorBatch]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The index of each utterance of some batches, with its log probabilities `(S, V)`."""
        for batch in batches:
            if not self.is_compiled:
                started = time.monotonic()
                self.recognizer(batch.features, batch.feature_lengths)[0].asnumpy()
                self.compile_seconds, self.is_compiled = time.monotonic() - started, True
            outputs = self.recognizer(batch.features, batch.feature_lengths)
            log_probs, lengths = (output.asnumpy()[: len(batch.indices)] for output in outputs)
            yield from zip(batch.indices, (rows[:n] for rows, n in zip(log_probs, lengths, strict=True)), strict=True)

    def batches(self) -> Iterable[TensorBatch]:
        """The batches of this process, from short to long."""
        return self.loader.iterate(self.plan)

    def score(self, index: int, hypotheses: tuple[Hypothesis, ...]) -> ScoredUtterance:
        """Compare what was recognised, best first, with the reference of an utterance."""
        reference, best = self.references[index], self.normalizer(hypotheses[0].text)
        return ScoredUtterance(self.utterances[index], reference, best, count_errors(reference, best), hypotheses)


def evaluate_checkpoint(
    checkpoint_path: str | Path,
    config: Config | None,
    manifest_path: str | None,
    output_dir: str | None,
    backend: Backend = STOCK,
    ranks: Ranks | None = None,
    choice: DecoderChoice | None = None,
    normalizer: Normalizer = UNCHANGED,
) -> tuple[Evaluation, Path]:
    """Score a manifest with a checkpoint and write `eval_<manifest>.json` and `eval_<manifest>_utterances.jsonl`.

    Features, alphabet and network come from the checkpoint; batching and the test manifest from `config`.

    Args:
        checkpoint_path: a checkpoint of ours, or the name of a model.
        config: None takes the checkpoint's own.
        manifest_path: None takes `data.test_manifest`.
        output_dir: None takes the checkpoint's folder, or `runs/NAME` for a model.
        backend: how this process computes, from `runtime.start`.
        ranks: the processes that share the work, of which the first writes; None for this one alone.
        choice: the decoder; None takes the decoder.json beside the checkpoint, or decodes greedily.
        normalizer: as in `Evaluator`.

    Returns:
        The scores, and the path of the summary.

    Raises:
        CheckpointError, ManifestError, AudioError, DeviceError, OutputError: see their places.
    """
    ranks = ranks or Ranks()
    checkpoint_path = models.find_file(checkpoint_path, "weights")
    checkpoint = load_checkpoint(checkpoint_path)
    network = restore_network(checkpoint, str(checkpoint_path), backend)
    own = checkpoint.config
    if config is None:  # a checkpoint may come from anywhere, and does not choose where this program writes
        config = dataclasses.replace(own, data=dataclasses.replace(own.data, feature_cache_dir=None))
    config = dataclasses.replace(config, features=own.features, text=own.text, model=own.model)
    manifest = manifest_path or config.data.test_manifest
    folder = Path(output_dir) if output_dir else models.choose_results_folder(checkpoint_path)
    split = name_split(manifest, folder)
    path = folder / f"eval_{split}.json"
    if ranks.is_first:
        require_writable(path)
    utterances = read_manifest(manifest)
    require_same_start(ranks, config, {manifest: utterances})
    require_same_weights(ranks, network.weights())
    choice = choice or find_choice(checkpoint_path)
    library = find_kernels("auto", "CPU") if choice.kind == "beam" else None
    decoder = choice.open(Alphabet(config.text), config.seconds_per_output_frame, library)
    evaluation = Evaluator(Recognizer(network), utterances, config, ranks, decoder, normalizer).run()
    if not ranks.is_first:
        return evaluation, path
    rows = [json.dumps(_to_row(scored), ensure_ascii=False) for scored in evaluation.utterances]
    write_text(folder / f"eval_{split}_utterances.jsonl", "\n".join(rows) + "\n")
    calibration = measure_calibration(*measure_confidence(evaluation.utterances))
    summary: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        **describe_environment(),
        "checkpoint": str(checkpoint_path),
        "manifest": str(manifest),
        "num_parameters": count_parameters(network),
        "train_hours": checkpoint.state.get("train_hours"),
        "epochs": checkpoint.state.get("epoch"),
        **choice.describe(),
        "split": split,
        **summarize(evaluation),
        **{key: value if math.isfinite(value) else None for key, value in calibration.items()},  # JSON has no NaN
    }
    write_text(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return evaluation, path


def name_split(manifest: str | Path, folder: Path) -> str:
    """What the scores of a manifest are called: its name, and its folder's where another corpus's scores have that.

    Args:
        manifest: what is scored.
        folder: where the scores go.
    """
    path = Path(manifest)
    names = [path.stem, f"{path.resolve().parent.name}_{path.stem}"]
    for name in names:
        if _read_manifest_name(folder / f"eval_{name}.json") in (None, path.resolve()):
            return name
    return f"{names[-1]}_{zlib.crc32(str(path.resolve()).encode()):08x}"


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
        lines.append(f"  {scored.utterance.id}: {scored.counts.word_errors} of {scored.counts.num_words} words wrong")
        lines += [f"    {line}" for line in set_below(align_words(scored.reference, scored.hypothesis))]
    return "\n".join(lines)


def measure_confidence(scored: Iterable[ScoredUtterance]) -> tuple[list[float], list[bool]]:
    """The confidence of every word recognised, and whether it is right: aligned with an equal word.

    Utterances whose words normalising has made fewer are left out.
    """
    confidences: list[float] = []
    is_right: list[bool] = []
    for one in scored:
        places = [p for p in align_words(one.reference, one.hypothesis) if p.hypothesis is not None]
        words = one.decoded[0].words if len(one.decoded[0].words) == len(places) else ()
        for word, place in zip(words, places, strict=False):
            confidences.append(word.confidence)
            is_right.append(place.reference == place.hypothesis)
    return confidences, is_right


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
