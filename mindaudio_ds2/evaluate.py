"""Scoring: every utterance of a manifest exactly once, errors as integers, the hypotheses beside their references."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.dataset import TensorBatch, open_loader
from mindaudio_ds2.batching.plan import plan_evaluation
from mindaudio_ds2.batching.shapes import FixedShapes
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.decoding.choice import Decoder, DecoderChoice
from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.decoding.metrics import UNCHANGED, ErrorCounts, Normalizer, align_words, count_errors
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.model.deepspeech2 import Recognizer
from mindaudio_ds2.ops.library import find_kernels
from mindaudio_ds2.text.tokenizer import Tokenizer


def open_decoder(choice: DecoderChoice, config: Config) -> Decoder:
    """The decoder for a network.

    Args:
        choice: which one.
        config: labels and frames of the network.

    Raises:
        LanguageModelError: model or hotwords cannot be used.
    """
    library = find_kernels("auto", "CPU") if choice.kind == "beam" else None
    return choice.open(Tokenizer(config.text), config.seconds_per_output_frame, library)


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
        config: features, labels and network as the recognizer was trained with; batching as wished.
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
        self.recognizer = recognizer.prepare(config.features.num_bins)
        self.ranks = ranks or Ranks()
        self.compile_seconds, self.is_compiled = 0.0, False
        self.utterances = utterances
        self.tokenizer = Tokenizer(config.text)
        self.normalizer = normalizer
        self.references = [normalizer(self.tokenizer.normalize(utterance.transcript)) for utterance in utterances]
        self.unwritable = self.tokenizer.count_unknown([utterance.transcript for utterance in utterances], normalizer)
        self.decoder = decoder or open_decoder(DecoderChoice(), config)
        durations = [utterance.duration_seconds for utterance in utterances]
        is_open = recognizer.network.takes_open_shapes
        self.plan = plan_evaluation(
            durations,
            config.batching,
            num_frames=config.features.num_frames,
            place=self.ranks.place,
            shapes=None if is_open else FixedShapes(durations, [0] * len(durations), config, is_augmented=False),
        )
        no_labels = [np.zeros(0, dtype=np.int32)] * len(utterances)
        self.loader = open_loader(utterances, no_labels, config)

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
                self.recognizer.hear(batch.features, batch.feature_lengths, 1)
                self.compile_seconds, self.is_compiled = time.monotonic() - started, True
            log_probs, lengths = self.recognizer.hear(batch.features, batch.feature_lengths, len(batch.indices))
            yield from zip(batch.indices, (rows[:n] for rows, n in zip(log_probs, lengths, strict=True)), strict=True)

    def batches(self) -> Iterable[TensorBatch]:
        """The batches of this process, from short to long."""
        return self.loader.iterate(self.plan)

    def score(self, index: int, hypotheses: tuple[Hypothesis, ...]) -> ScoredUtterance:
        """Compare what was recognised, best first, with the reference of an utterance."""
        reference, best = self.references[index], self.normalizer(hypotheses[0].text)
        return ScoredUtterance(self.utterances[index], reference, best, count_errors(reference, best), hypotheses)


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
