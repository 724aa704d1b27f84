"""Every knob of the package: frozen dataclasses with units. `config_reader.py` fills them.

A YAML file holds every key, there is no inheritance and no hidden default: what the file says is what runs. Any key can
be overridden on the command line by its dotted path. Four things are errors, each naming that path: an unknown key, a
missing key, a value of the wrong type, and a value that is impossible.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from mindaudio_ds2.augmentation_config import AugmentationConfig
from mindaudio_ds2.errors import require_possible as _require
from mindaudio_ds2.network_config import FeatureConfig, ModelConfig, TextConfig
from mindaudio_ds2.training_config import OptimizerConfig, ScheduleConfig, TrainingConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which utterances."""

    train_manifest: str
    """Manifest to train on, ours or another project's (path; a relative one counts from the working folder)."""
    dev_manifest: str
    """Manifest scored after each epoch; chooses the best checkpoint (path)."""
    test_manifest: str
    """Manifest that eval.py scores (path). Training never reads it."""
    root: str | None
    """Folder from which relative paths in manifests count; null for each manifest's own folder (path)."""
    min_duration_seconds: float
    """Shorter training utterances are left out, counted and listed (seconds)."""
    max_duration_seconds: float
    """Longer training utterances are left out, counted and listed, never cropped (seconds)."""
    max_excluded_share: float
    """Largest share of the training utterances that may be left out before it is an error (0 to 1)."""
    feature_cache_dir: str | None
    """Folder that keeps computed features between epochs and runs; null computes them each time (path)."""

    def __post_init__(self) -> None:
        low, high = self.min_duration_seconds, self.max_duration_seconds
        _require(0 <= low < high, "data.min_duration_seconds", low, f"choose 0 or more and below {high} s")
        _require(self.root != "", "data.root", "", "name a folder, or null")
        _require(0 <= self.max_excluded_share <= 1, "data.max_excluded_share", self.max_excluded_share, "0 to 1")


@dataclasses.dataclass(frozen=True)
class BatchingConfig:
    """How utterances are put together."""

    bucket_edges_seconds: list[float]
    """Utterances between two edges are batched together; one longer than the last edge shares its bucket (seconds).

    Where a device compiles each shape of batch (GPU, Ascend), there is one for each of these."""
    max_batch_utterances: int
    """Most utterances in a batch of one process (count)."""
    max_batch_padded_seconds: float
    """Most audio in a batch of one process, its padding included: utterances times the longest (seconds).

    Joined utterances and silence around them are counted. Speed, tempo and shift are not: they can make it 1 /
    (augmentation.speed_range[0] * tempo_range[0]) times as much, and add max_shift_seconds to each utterance."""
    accumulation_steps: int
    """Batches of one process whose gradients make one update; n processes with 1 do what one does with n (count)."""
    sortagrad: bool
    """Go through the first epoch from short to long (paper, section 3.3)."""
    prefetch_batches: int
    """Batches prepared ahead of the step (count)."""
    num_workers: int
    """Processes that load audio for each process that trains; 0 for a thread, enough for a CPU's steps (count)."""

    def __post_init__(self) -> None:
        edges = self.bucket_edges_seconds
        rising = all(a < b for a, b in zip(edges, edges[1:], strict=False))
        _require(bool(edges) and edges[0] > 0 and rising, "batching.bucket_edges_seconds", edges, "positive and rising")
        most = self.max_batch_utterances
        _require(most > 0, "batching.max_batch_utterances", most, "at least 1")
        seconds = self.max_batch_padded_seconds
        _require(seconds > 0, "batching.max_batch_padded_seconds", seconds, "above 0")
        for name in ("prefetch_batches", "accumulation_steps"):
            _require(getattr(self, name) > 0, f"batching.{name}", getattr(self, name), "at least 1")
        _require(0 <= self.num_workers <= 64, "batching.num_workers", self.num_workers, "0 to 64")


@dataclasses.dataclass(frozen=True)
class ProcessesConfig:
    """How several processes train together; one process needs none of it."""

    sync_batch_norm: bool
    """Batch norm takes its statistics over the batches of all processes instead of each its own. Then n processes do
    exactly what one does with the joint batch; it costs three messages a batch norm and step."""
    timeout_seconds: float
    """How long a process waits for the others at one point before it ends all of them with an error (seconds)."""

    def __post_init__(self) -> None:
        seconds = self.timeout_seconds
        _require(seconds > 0, "processes.timeout_seconds", seconds, "above 0; 600, say")


@dataclasses.dataclass(frozen=True)
class PrecisionConfig:
    """In which numbers training computes. Weights, batch norm, CTC, clipping and the update are always float32."""

    compute: Literal["fp32", "fp16", "bf16"]
    """Of convolutions, recurrent layers and output layer. On the CPU fp32, or bf16 where the processor has AVX512-BF16
    and native kernels are used; the output layer stays fp32. On Ascend recurrent layers have no bf16 and stay fp32 with
    it. eval.py, transcribe.py and export.py always compute in fp32."""
    loss_scale: float
    """Factor of the loss before gradients are taken, which keeps fp16 gradients from vanishing; a power of two; 1 for
    none. Where the scale is dynamic, what it starts from."""
    loss_scale_window: int
    """A dynamic scale doubles after so many steps without overflow, and an overflow halves it; 0 keeps it (steps)."""

    def __post_init__(self) -> None:
        scale = self.loss_scale
        is_power = 1 <= scale <= 2**24 and math.log2(scale).is_integer()
        _require(is_power, "precision.loss_scale", scale, "a power of two from 1 to 2 ** 24")
        window = self.loss_scale_window
        _require(window >= 0, "precision.loss_scale_window", window, "0 for a scale that stays, or more")


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
    """From log-probabilities to text: how train scores dev, and eval its manifests. Options of eval come first."""

    decoder: str | None = None
    """Greedy, beam, or a decoder.json of mindaudio-ds2 tune (path). Null: eval takes the decoder.json beside the
    checkpoint, or decodes greedily, as train always does then."""
    lm: str | None = None
    """Language model of mindaudio-ds2 build_lm for the beam (path)."""
    hotwords: str | None = None
    """Names and phrases to expect, for the beam: one a line, a tab and a weight may follow (path)."""
    nbest: int | None = None
    """Hypotheses that the beam keeps for each utterance; null for 1 (count)."""
    beam_width: int | None = None
    """Prefixes that the beam keeps after each frame; null for 100, or what decoder.json says (count)."""
    lm_weight: float | None = None
    """Weight of the language model; null for 1, or what decoder.json says (factor)."""
    word_bonus: float | None = None
    """Added for each word; null for 1, or what decoder.json says (nats)."""

    def __post_init__(self) -> None:
        for name in ("decoder", "lm", "hotwords"):
            _require(getattr(self, name) != "", f"decoding.{name}", "", "name a file, or null")
        for name in ("nbest", "beam_width"):
            count = getattr(self, name)
            _require(count is None or count > 0, f"decoding.{name}", count, "at least 1")
        weight = self.lm_weight
        _require(weight is None or weight >= 0, "decoding.lm_weight", weight, "0 or more")

    @property
    def of_the_beam(self) -> list[str]:
        """The keys given that mean nothing to greedy decoding."""
        return [name for name, value in vars(self).items() if name != "decoder" and value is not None]


@dataclasses.dataclass(frozen=True)
class OpsConfig:
    """How the network is computed; not what it computes."""

    native: Literal["auto", "on", "off"]
    """Our own C++ kernels on the CPU: auto uses them where a compiler is found, on insists, off takes MindSpore's."""


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    run_dir: str
    """Folder of this run: log, metrics, checkpoints, results (path)."""
    device_target: Literal["CPU", "GPU", "Ascend"]
    """Where the network runs."""
    seed: int
    """All randomness comes from it, the epoch and the utterance (integer)."""
    data: DataConfig
    text: TextConfig
    features: FeatureConfig
    augmentation: AugmentationConfig
    batching: BatchingConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    training: TrainingConfig
    precision: PrecisionConfig
    processes: ProcessesConfig
    decoding: DecodingConfig
    ops: OpsConfig

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        longest, last_edge = self.data.max_duration_seconds, self.batching.bucket_edges_seconds[-1]
        padded = self.batching.max_batch_padded_seconds
        _require(
            longest <= padded,
            "batching.max_batch_padded_seconds",
            padded,
            f"one utterance may have data.max_duration_seconds = {longest} s; choose at least that",
        )
        _require(
            longest <= last_edge,
            "batching.bucket_edges_seconds",
            self.batching.bucket_edges_seconds,
            f"the last edge must reach data.max_duration_seconds = {longest} s",
        )
        joined = self.augmentation.join_max_seconds
        is_within = joined <= longest or not self.augmentation.join_probability
        _require(is_within, "augmentation.join_max_seconds", joined, f"at most data.max_duration_seconds = {longest} s")
        power, has_units = self.augmentation.unit_sampling, bool(self.text.tokenizer or self.text.units)
        remedy = "characters can be written one way only; name units in text.tokenizer, or set it to 0"
        _require(not power or has_units, "augmentation.unit_sampling", power, remedy)
        rise, epochs = self.schedule.warmup_epochs, self.training.epochs
        fits = self.schedule.name != "one_cycle" or 2 * rise <= epochs
        _require(fits, "schedule.warmup_epochs", rise, f"one_cycle rises and falls within training.epochs = {epochs}")
        beamless, keys = self.decoding.decoder in (None, "greedy"), self.decoding.of_the_beam
        decoder = self.decoding.decoder or "null"
        _require(not (beamless and keys), "decoding.decoder", decoder, f"{', '.join(keys)}: for the beam, so name that")

    @property
    def seconds_per_output_frame(self) -> float:
        """Distance between two frames of the network's output, in seconds."""
        return self.features.hop_seconds * self.model.time_stride

    @property
    def can_stream(self) -> bool:
        """Whether sound can be recognised as it comes: nothing in the network or its features needs the whole."""
        return not self.model.bidirectional and self.features.normalization == "corpus"


def to_mapping(config: Any) -> dict[str, Any]:
    """A dataclass of this module as plain nested dicts and lists, as in its YAML."""
    plain: dict[str, Any] = listed(dataclasses.asdict(config))
    return plain


def flatten(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration by their dotted paths; those that are mappings themselves stay whole.

    Args:
        mapping: nested as in the YAML.
    """
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        flat |= (
            {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, Mapping) else {key: value}
        )
    return flat


def listed(value: Any) -> Any:
    """Nested values with lists for tuples, as YAML and JSON have them."""
    if isinstance(value, Mapping):
        return {key: listed(item) for key, item in value.items()}
    return [listed(item) for item in value] if isinstance(value, (list, tuple)) else value
