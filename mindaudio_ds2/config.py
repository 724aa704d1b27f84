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


WORD_START = "▁"
"""Begins each unit that begins a word, as in sentencepiece."""


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """From transcripts to labels."""

    characters: str
    """The alphabet without the blank; where there are no units, in the order of its label ids (text)."""
    blank: Literal["first", "last"]
    """Where the CTC blank stands among the label ids: before or after the others."""
    letter_case: Literal["upper", "lower", "keep"]
    """What is done to a transcript's letters before they are looked up."""
    unknown_character: Literal["error", "drop"]
    """A character outside the alphabet stops the program, or is dropped and counted."""
    tokenizer: str | None = None
    """Labels are units of one or more characters, from a file of mindaudio-ds2 tokenizer that is read when training
    begins; null for single characters (path)."""
    units: list[str] = dataclasses.field(default_factory=list)
    """The units in the order of their label ids; ▁ begins a word. Leave it empty: training reads them from tokenizer,
    and the checkpoint has them."""
    unit_scores: list[float] = dataclasses.field(default_factory=list)
    """Log-probability of each unit, which decides how a word is split (nats); as units."""

    def __post_init__(self) -> None:
        _require(bool(self.characters), "text.characters", self.characters, "name at least one character")
        repeated = sorted({c for c in self.characters if self.characters.count(c) > 1})
        _require(not repeated, "text.characters", self.characters, f"{repeated} stand twice")
        _require(self.tokenizer != "", "text.tokenizer", "", "name a file, or null")
        strange = [x for x in self.units if not (isinstance(x, str) and x)]
        _require(not strange, "text.units", strange[:3], "units are texts")
        bad = [x for x in self.unit_scores if not (isinstance(x, (int, float)) and math.isfinite(x))]
        _require(not bad, "text.unit_scores", bad[:3], "each a finite number")
        count, wanted = len(self.unit_scores), len(self.units)
        _require(count == wanted, "text.unit_scores", f"{count} numbers", f"one number for each of {wanted} text.units")
        if self.units:
            self._require_usable_units()

    def _require_usable_units(self) -> None:
        _require(WORD_START not in self.characters, "text.characters", self.characters, "units mark words with ▁")
        known, single = set(self.units), {WORD_START, *self.characters} - {" "}
        _require(len(known) == len(self.units), "text.units", "...", "some stand twice")
        strange = sorted(x for x in known if not set(x.removeprefix(WORD_START)) <= single - {WORD_START})
        _require(not strange, "text.units", strange[:5], "these hold what is not in text.characters, or ▁ within")
        absent = sorted(single - known)
        _require(not absent, "text.units", absent, "each of these is to be a unit, so that any text can be written")


@dataclasses.dataclass(frozen=True)
class FeatureConfig:
    """From sound to features. Training stores it in the checkpoint; every other verb reads it from there."""

    sample_rate_hz: int
    """All audio is resampled to this rate (Hz)."""
    kind: Literal["log_spectrogram", "log_mel"]
    """log(1 + magnitude) of a linear spectrogram, or log of mel band energies."""
    window: Literal["hamming", "hann"]
    """Window function of the short-time Fourier transform."""
    window_seconds: float
    """Length of a window (seconds)."""
    hop_seconds: float
    """Distance between frames (seconds)."""
    fft_size: int
    """Points of the Fourier transform, at least a window (samples)."""
    num_mel_bands: int
    """Bands of the log_mel features; not used by log_spectrogram (count)."""
    normalization: Literal["utterance", "speech", "corpus"]
    """Mean and deviation of the whole utterance; of its speech, which silence, level and offset do not move; or of the
    training set, with a level that follows the sound, as a stream needs it."""
    corpus_mean: list[float]
    """What `corpus` takes away from each band. Leave it empty: training measures it, and the checkpoint has it."""
    corpus_deviation: list[float]
    """What `corpus` divides each band by; as corpus_mean."""

    def __post_init__(self) -> None:
        _require(self.sample_rate_hz > 0, "features.sample_rate_hz", self.sample_rate_hz, "choose 16000, say")
        _require(self.hop_samples > 0, "features.hop_seconds", self.hop_seconds, "at least one sample")
        _require(self.window_samples > 1, "features.window_seconds", self.window_seconds, "at least two samples")
        _require(
            self.fft_size >= self.window_samples,
            "features.fft_size",
            self.fft_size,
            f"a window has {self.window_samples} samples; choose at least that many points",
        )
        _require(
            0 < self.num_mel_bands <= self.fft_size // 2,
            "features.num_mel_bands",
            self.num_mel_bands,
            f"choose 1 to {self.fft_size // 2}",
        )
        sizes = (0, self.num_bins) if self.normalization == "corpus" else (0,)
        for name in ("corpus_mean", "corpus_deviation"):
            values = getattr(self, name)
            is_right = len(values) in sizes and all(isinstance(x, (int, float)) and math.isfinite(x) for x in values)
            _require(is_right, f"features.{name}", values, "leave it empty, training measures it for corpus")
        is_whole = len(self.corpus_mean) == len(self.corpus_deviation) and all(x > 0 for x in self.corpus_deviation)
        _require(is_whole, "features.corpus_deviation", self.corpus_deviation, "one above 0 for each of corpus_mean")

    @property
    def window_samples(self) -> int:
        """Length of a window in samples."""
        return round(self.window_seconds * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        """Distance between frames in samples."""
        return round(self.hop_seconds * self.sample_rate_hz)

    @property
    def num_bins(self) -> int:
        """F, the number of values in one frame of features."""
        return self.num_mel_bands if self.kind == "log_mel" else self.fft_size // 2 + 1

    def num_frames(self, duration_seconds: float) -> int:
        """T, the number of frames that audio of this duration gives: one around every hop, both ends included."""
        num_samples = math.ceil(duration_seconds * self.sample_rate_hz - 1e-6)
        return 1 + num_samples // self.hop_samples


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
class ModelConfig:
    """The network (Amodei et al. 2015, arXiv:1512.02595) and the switches in which its implementations differ."""

    conv_channels: list[int]
    """Output channels of each convolution (counts)."""
    conv_kernel_frequency: list[int]
    """Kernel size of each convolution across frequency; odd (bins)."""
    conv_kernel_time: list[int]
    """Kernel size of each convolution across time; odd (frames)."""
    conv_stride_frequency: list[int]
    """Stride of each convolution across frequency (bins)."""
    conv_stride_time: list[int]
    """Stride of each convolution across time (frames)."""
    conv_bias: bool
    """Whether the convolutions have a bias (deepspeech.pytorch: yes; MindAudio: no)."""
    activation: Literal["clipped_relu", "tanh"]
    """After the convolutions' batch norm: min(max(x, 0), 20) as in the paper, or tanh as in MindAudio."""
    rnn_type: Literal["lstm", "gru"]
    """Recurrent cell. On the CPU, MindSpore has a fast kernel for lstm only."""
    rnn_num_layers: int
    """Recurrent layers (count)."""
    rnn_hidden_size: int
    """H, units of a recurrent layer in each direction (count)."""
    bidirectional: bool
    """Both directions, summed; or forward only, with a lookahead convolution on top."""
    lookahead_frames: int
    """Output frames a forward-only network looks ahead, its own included; not used by bidirectional (frames)."""
    rnn_initialization: Literal["uniform", "orthogonal"]
    """Recurrent weights begin uniform in +-1 / sqrt(H), as in PyTorch; or, per gate, Xavier uniform from the input and
    orthogonal from the state, with zero biases but 1 at an LSTM's forget gate."""
    rnn_dropout: float
    """Share of a recurrent layer's outputs that training drops for a whole utterance; 0 for none (0 to 1)."""
    rnn_batch_norm: bool
    """Sequence-wise batch norm before each recurrent layer but the first (paper, section 3.2)."""
    head_batch_norm: bool
    """Sequence-wise batch norm before the output layer."""
    head_bias: bool
    """Whether the output layer has a bias."""
    batch_norm_momentum: float
    """Share of the old running statistics kept at each step (0 to 1)."""
    batch_norm_epsilon: float
    """Added to the variance."""

    def __post_init__(self) -> None:
        per_layer = [f.name for f in dataclasses.fields(self) if f.name.startswith("conv_") and f.name != "conv_bias"]
        num_layers = len(self.conv_channels)
        for name in per_layer:
            values = getattr(self, name)
            _require(
                len(values) == num_layers > 0,
                f"model.{name}",
                values,
                f"give one value for each of {num_layers} layers",
            )
            _require(all(v > 0 for v in values), f"model.{name}", values, "values are positive")
            if "kernel" in name:
                _require(
                    all(v % 2 for v in values), f"model.{name}", values, "kernels are odd, so that they have a middle"
                )
        for name in ("rnn_num_layers", "rnn_hidden_size", "lookahead_frames", "batch_norm_epsilon"):
            _require(getattr(self, name) > 0, f"model.{name}", getattr(self, name), "must be positive")
        momentum = self.batch_norm_momentum
        _require(0 <= momentum < 1, "model.batch_norm_momentum", momentum, "0 or more, below 1")
        _require(0 <= self.rnn_dropout < 1, "model.rnn_dropout", self.rnn_dropout, "0 or more, below 1")

    @property
    def time_stride(self) -> int:
        """Frames of features for one frame of output."""
        return math.prod(self.conv_stride_time)

    def num_output_frames(self, num_frames: int) -> int:
        """S, the output frames for T frames of features. The one owner of this formula.

        With odd kernels and half a kernel of padding on both sides, a convolution of stride s turns n frames into
        (n - 1) // s + 1.
        """
        for stride in self.conv_stride_time:
            num_frames = (num_frames - 1) // stride + 1
        return num_frames

    @property
    def num_frames_ahead(self) -> int:
        """Frames of features behind its own that an output frame of a forward-only network depends on."""
        ahead, stride = 0, 1
        for size, layer_stride in zip(self.conv_kernel_time, self.conv_stride_time, strict=True):
            ahead += size // 2 * stride
            stride *= layer_stride
        return ahead + (self.lookahead_frames - 1) * stride

    def num_output_bins(self, num_bins: int) -> int:
        """Frequency bins that the convolutions leave of F."""
        for stride in self.conv_stride_frequency:
            num_bins = (num_bins - 1) // stride + 1
        return num_bins


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become updates."""

    name: Literal["adam", "adamw", "sgd", "lamb"]
    """Adam and sgd add weight decay to the gradient; AdamW takes it off the weights (arXiv:1711.05101). LAMB is for
    very large batches (arXiv:1904.00962)."""
    betas: tuple[float, float]
    """Decay of the running mean and of the running square of the gradient; not used by sgd (0 to 1)."""
    momentum: float
    """Nesterov momentum of sgd; not used by the others (0 to 1)."""
    epsilon: float
    """Added to the root of the running square; not used by sgd."""
    weight_decay: float
    """Decay of weight matrices and kernels; norms and biases are never decayed."""
    max_gradient_norm: float
    """Gradients are scaled down to this L2 norm over all parameters, where theirs is larger."""

    def __post_init__(self) -> None:
        _require(all(0 <= b < 1 for b in self.betas), "optimizer.betas", self.betas, "each 0 or more, below 1")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 or more, below 1")
        _require(self.epsilon > 0, "optimizer.epsilon", self.epsilon, "must be positive")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        norm = self.max_gradient_norm
        _require(norm > 0, "optimizer.max_gradient_norm", norm, "must be positive; choose a large one to clip nothing")


ONE_CYCLE_RANGE = 10.0
"""Peak of the one_cycle schedule over the rate from which it rises, and to which it falls before it falls on."""


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate at every step."""

    name: Literal["constant", "exponential", "cosine", "one_cycle", "plateau"]
    """After the warm-up: stay at the peak, multiply by decay_per_epoch each epoch, fall along half a cosine, fall as
    fast as it rose and then on (Smith 2018, arXiv:1803.09820), or multiply by plateau_factor when dev WER stalls."""
    peak_learning_rate: float
    """Highest learning rate."""
    final_learning_rate: float
    """Where cosine and one_cycle end; the others never go below it."""
    warmup_epochs: float
    """Linear rise to the peak, from 0, with one_cycle from a tenth of the peak, to which it also falls (epochs)."""
    decay_per_epoch: float
    """Factor of the exponential schedule (0 to 1)."""
    plateau_patience_epochs: int
    """Epochs in a row without a lower dev WER before the plateau schedule lowers the rate (epochs)."""
    plateau_factor: float
    """Factor of the plateau schedule (0 to 1)."""

    def __post_init__(self) -> None:
        low, peak = self.final_learning_rate, self.peak_learning_rate
        _require(peak > 0, "schedule.peak_learning_rate", peak, "must be positive")
        _require(0 <= low <= peak, "schedule.final_learning_rate", low, "0 to the peak")
        _require(self.warmup_epochs >= 0, "schedule.warmup_epochs", self.warmup_epochs, "0 or more")
        for name in ("decay_per_epoch", "plateau_factor"):
            _require(0 < getattr(self, name) <= 1, f"schedule.{name}", getattr(self, name), "above 0, at most 1")
        patience = self.plateau_patience_epochs
        _require(patience > 0, "schedule.plateau_patience_epochs", patience, "at least 1")
        if self.name == "one_cycle":
            remedy = f"one_cycle ends at most at a {ONE_CYCLE_RANGE:g}th of the peak"
            _require(low <= peak / ONE_CYCLE_RANGE, "schedule.final_learning_rate", low, remedy)
            _require(self.warmup_epochs > 0, "schedule.warmup_epochs", self.warmup_epochs, "one_cycle rises and falls")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, and what is kept."""

    epochs: int
    """Passes over the training utterances (count)."""
    early_stopping_epochs: int
    """Stop when the dev WER has not fallen for so many epochs, after those with frozen norms; 0 never does (epochs)."""
    max_bad_steps: int
    """Stop with an error after so many steps whose loss or gradient was not finite (count)."""
    checkpoint_every_minutes: float
    """Save last.ckpt at least so often, also within an epoch (minutes)."""
    keep_every_epochs: int
    """Also keep epoch_N.ckpt every so many epochs; 0 keeps none (epochs)."""
    ema_decay: float
    """Score and keep a moving average of the weights, of which this share stays at each step; 0 for none (0 to 1)."""
    average_best: int
    """At the end, score the mean weights of so many of the best epochs; best.ckpt if it is better; 0: none (epochs)."""
    label_smoothing: float
    """Share of the loss that is how far each frame's probabilities are from equal ones; 0 for none (0 to 1)."""
    consistency_weight: float
    """Show each utterance twice in a step, with masks, vocal tract and dropout drawn twice, and add this times how far
    apart the two answers are to the loss; twice the work. 0 for once; 0.2 is usual (factor)."""
    frozen_norm_share: float
    """In this share of the epochs, the last ones, batch norms use and keep their running statistics; at least in one,
    and never in the first unless it is 1 (0 to 1)."""
    freeze: list[str]
    """Layers that stay as they are, running statistics included: convs, rnns.2, head_batch_norm, ... (names)."""
    learning_rate_factors: dict[str, float]
    """Factors of the learning rate by layer; of several names that fit a weight, the longest counts."""

    def __post_init__(self) -> None:
        _require(self.epochs > 0, "training.epochs", self.epochs, "at least 1")
        for name in ("early_stopping_epochs", "max_bad_steps", "keep_every_epochs", "average_best"):
            _require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "0 or more")
        _require(0 <= self.ema_decay < 1, "training.ema_decay", self.ema_decay, "0 or more, below 1; 0.999, say")
        _require(self.average_best != 1, "training.average_best", self.average_best, "0, or at least 2")
        _require(0 <= self.frozen_norm_share <= 1, "training.frozen_norm_share", self.frozen_norm_share, "0 to 1")
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, "training.label_smoothing", smoothing, "0 or more, below 1; 0.05, say")
        weight = self.consistency_weight
        _require(weight >= 0, "training.consistency_weight", weight, "0 or more; 0.2, say")
        factors = self.learning_rate_factors
        remedy = "factors are above 0; name what stays as it is in training.freeze"
        _require(all(factor > 0 for factor in factors.values()), "training.learning_rate_factors", factors, remedy)
        minutes = self.checkpoint_every_minutes
        _require(minutes > 0, "training.checkpoint_every_minutes", minutes, "must be positive")

    @property
    def num_views(self) -> int:
        """How many rows of a batch each utterance has."""
        return 2 if self.consistency_weight else 1


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
    """Of convolutions, recurrent layers and output layer; recurrent layers have no bf16 and stay fp32 with it. On the
    CPU only fp32 is possible. eval.py, transcribe.py and export.py always compute in fp32."""
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
