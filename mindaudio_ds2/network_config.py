"""Sections that only make sense as the weights were trained with them: labels, features, network."""

import dataclasses
import math
from typing import Literal

from mindaudio_ds2.errors import require_possible as _require

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
