"""What is measured: the same random batches for every contender. Imports neither MindSpore nor PyTorch."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mindaudio_ds2.batching.collate import Batch, collate
from mindaudio_ds2.batching.plan import plan_epoch
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import DeepSpeechError
from mindaudio_ds2.text.tokenizer import Tokenizer

Task = Literal["train", "inference"]

CHARACTERS_PER_SECOND = 14  # of read English; LibriSpeech has 14 to 15


class ContenderError(DeepSpeechError):
    """A contender cannot take part. Says why; the others go on."""


@dataclass(frozen=True)
class Case:
    """One thing that all contenders do.

    Attributes:
        task: "train": whole steps with loss, gradients and update; "inference": from features to log-probabilities.
        num_utterances: in each batch; not used with a manifest.
        seconds: length of each utterance; not used with a manifest.
        manifest: durations are those of this manifest's utterances, in batches as training plans them; or None.
        num_steps: timed steps of each contender in each round.
        num_threads: of each contender, which then has as many cores; None for all that this process may use.
    """

    task: Task
    num_utterances: int
    seconds: float
    manifest: str | None
    num_steps: int
    num_threads: int | None = None

    @property
    def name(self) -> str:
        """How the case is called in the tables; cases of the same name do the same."""
        threads = f", {self.num_threads} thread{'s' * (self.num_threads > 1)}" if self.num_threads else ""
        if self.manifest is None:
            return f"{self.task}, {self.num_utterances} x {self.seconds:g} s{threads}"
        return f"{self.task}, durations of {'/'.join(self.manifest.split('/')[-2:])}{threads}"


@dataclass(frozen=True, eq=False)
class TimedBatch:
    """A batch and the audio in it.

    Attributes:
        arrays: features, labels and their lengths.
        audio_seconds: duration of its utterances, without padding.
    """

    arrays: Batch
    audio_seconds: float


def make_batches(config: Config, case: Case) -> list[TimedBatch]:
    """The batches of a case, always the same for the same configuration: features of noise, labels at random.

    Returns:
        One batch, which every step takes; with a manifest `num_steps` of the batches that training plans for it.

    Raises:
        ManifestError: the manifest cannot be read.
        ContenderError: it has no utterance that training would take.
    """
    generator = np.random.default_rng(config.seed)
    if case.manifest is None:
        return [_make_batch(config, [case.seconds] * case.num_utterances, generator)]
    low, high = config.data.min_duration_seconds, config.data.max_duration_seconds
    durations = [utterance.duration_seconds for utterance in read_manifest(case.manifest)]
    kept = [duration for duration in durations if low <= duration <= high]
    if not kept:
        raise ContenderError(f"{case.manifest}: no utterance lasts {low} to {high} s; choose another manifest")
    plan = plan_epoch(kept, config.batching, epoch=1, seed=config.seed, num_frames=config.features.num_frames)
    chosen = plan.batches[: case.num_steps]  # the plan has shuffled them
    return [_make_batch(config, [kept[index] for index in batch.indices], generator) for batch in chosen]


def _make_batch(config: Config, durations: list[float], generator: np.random.Generator) -> TimedBatch:
    tokenizer = Tokenizer(config.text)
    ids = np.array([i for i in range(tokenizer.size) if i != tokenizer.blank_id], dtype=np.int32)
    examples = []
    for index, duration in enumerate(durations):
        num_frames = config.features.num_frames(duration)
        most = config.model.num_output_frames(num_frames) // 2  # can be aligned even if every label repeats the last
        num_labels = max(1, min(round(duration * CHARACTERS_PER_SECOND), most))
        features = generator.standard_normal((num_frames, config.features.num_bins), dtype=np.float32)
        examples.append((index, features, generator.choice(ids, num_labels)))
    return TimedBatch(collate(examples, tokenizer.blank_id), sum(durations))


def explain_mismatch(config: Config) -> str:
    """Why the two original projects, whose convolutions and features are fixed, cannot build a network; else empty."""
    model, features = config.model, config.features
    fixed = {
        "conv_channels": [32, 32],
        "conv_kernel_frequency": [41, 21],
        "conv_kernel_time": [11, 11],
        "conv_stride_frequency": [2, 2],
        "conv_stride_time": [2, 1],
    }
    found = [f"{key} is fixed to {value}" for key, value in fixed.items() if getattr(model, key) != value]
    if features.kind != "log_spectrogram" or features.fft_size != features.window_samples:
        found.append("its features are a linear spectrogram")
    return ", ".join(found)
