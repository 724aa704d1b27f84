"""The features of `audio/features.py` as MindSpore operators: waveforms in, normalised features out, in one graph.

Frames are gathered, and the Fourier transform is a matrix product. Sums are float32, over bands first and frames then,
because float64 is slow or missing on devices.

Shapes: B batch, L samples, T frames, F bands, W samples of a window.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindaudio_ds2.audio.bands import make_mel_filters
from mindaudio_ds2.audio.features import (
    LEAST_VARIATION,
    MEL_ENERGY_FLOOR,
    list_white_energies,
    make_window,
    num_samples_before,
)
from mindaudio_ds2.audio.normalization import (
    FLOOR_DB,
    LOOKAHEAD_SECONDS,
    LOUDEST_SECONDS,
    MEMORY_SECONDS,
    NEAR_DB,
    TYPICAL_DEVIATION,
    TYPICAL_MEAN,
    TYPICAL_SECONDS,
    as_ratio,
    count_frames,
    find_least_level,
    list_level_bands,
)
from mindaudio_ds2.model.deepspeech2 import Recognizer
from mindaudio_ds2.model.masked_norm import make_mask
from mindaudio_ds2.network_config import FeatureConfig


class WaveformRecognizer(nn.Cell):
    """A network with its features in front: waveforms to log-probabilities.

    Args:
        recognizer: from features on.
        config: which features.
    """

    def __init__(self, recognizer: Recognizer, config: FeatureConfig) -> None:
        super().__init__()
        self.features = WaveformFeatures(config)
        self.recognizer = recognizer

    def construct(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Recognise; the result is that of `Recognizer`, the arguments are those of `WaveformFeatures`."""
        features, lengths = self.features(waveforms, lengths)
        log_probs, lengths = self.recognizer(features, lengths)
        return log_probs, lengths


class WaveformFeatures(nn.Cell):
    """What `compute_features` does, for many waveforms side by side.

    Args:
        config: which features.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.spectrum = Spectrum(config)
        self.normalize = Standardized(config) if config.normalization == "utterance" else Leveled(config)

    def construct(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute.

        Args:
            waveforms: (B, L) float32; anything may stand beyond the lengths.
            lengths: (B,) int32, in samples.

        Returns:
            Features (B, T, F) float32, zero beyond their lengths; and those, (B,) int32 in frames.
        """
        energies, lengths = self.spectrum(waveforms, lengths)
        return self.normalize(energies, lengths), lengths


class Spectrum(nn.Cell):
    """Waveforms to energies of bands, or, where normalisation is over the utterance, to their logarithms.

    Args:
        config: which features.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.hop = config.hop_samples
        self.is_leveled = config.normalization != "utterance"
        self.is_mel = config.kind == "log_mel"
        self.window = config.window_samples
        self.places = Tensor(np.arange(self.window) - num_samples_before(config), ms.int32)  # of frame 0
        angles = 2 * np.pi * np.outer(np.arange(self.window), np.arange(config.fft_size // 2 + 1)) / config.fft_size
        window = make_window(config)[:, None]
        self.cosines = Tensor(window * np.cos(angles), ms.float32)
        self.sines = Tensor(window * np.sin(angles), ms.float32)
        self.filters = None
        if self.is_mel:
            filters = make_mel_filters(config.sample_rate_hz, config.fft_size, config.num_mel_bands)
            self.filters = Tensor(filters.T, ms.float32)

    def construct(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) float32 and (B,) int32 in samples -> (B, T, F) float32 and (B,) int32 in frames."""
        frames = self._cut_frames(waveforms, lengths)
        batch, num_frames = frames.shape[0], frames.shape[1]
        flat = frames.reshape((-1, self.window))
        multiply = ops.MatMul()
        bands = ops.square(multiply(flat, self.cosines)) + ops.square(multiply(flat, self.sines))
        if self.is_mel:
            bands = multiply(bands, self.filters)
        if not self.is_leveled:
            bands = ops.log(ops.maximum(bands, MEL_ENERGY_FLOOR)) if self.is_mel else ops.log(ops.sqrt(bands) + 1)
        return bands.reshape((batch, num_frames, -1)), lengths // self.hop + 1

    def _cut_frames(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, W) float32. Beyond both ends stand zeros, or the first and the last sample, if levels are measured."""
        starts = ops.arange(waveforms.shape[1] // self.hop + 1).astype(ms.int32) * self.hop
        places = (starts.expand_dims(1) + self.places).expand_dims(0)  # (1, T, W)
        last = ops.maximum(lengths - 1, 0).reshape((-1, 1, 1))
        inside = ops.minimum(ops.maximum(places, 0), last)
        frames = ops.gather_elements(waveforms, 1, inside.reshape((inside.shape[0], -1))).reshape(inside.shape)
        if not self.is_leveled:
            return ops.select(ops.equal(places, inside), frames, ops.zeros_like(frames))
        frames = frames - waveforms[:, :1].expand_dims(2)  # of a large offset, float32 would leave too much
        return frames - ops.ReduceMean(True)(frames, 2)


class Standardized(nn.Cell):
    """Mean 0 and deviation 1 over the real frames of each utterance.

    Args:
        config: which features.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.num_bins = config.num_bins

    def construct(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F) float32, of lengths (B,) -> the same, zero beyond them."""
        mask = make_mask(lengths, features.shape[1]).expand_dims(2)
        count = (lengths * self.num_bins).astype(ms.float32).reshape((-1, 1, 1))
        mean = _total(features * mask) / count
        centred = (features - mean) * mask
        deviation = ops.sqrt(_total(ops.square(centred)) / count)
        varies = (deviation > LEAST_VARIATION * ops.abs(mean)).astype(ms.float32)
        return centred * varies / ops.maximum(deviation, 1e-30)


class Leveled(nn.Cell):
    """Energies over the level of the speech, as `audio/normalization.py` does it for `speech` and `corpus`.

    Args:
        config: which features.
    """

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.is_corpus = config.normalization == "corpus"
        chosen = list_level_bands(config)
        shares = np.zeros((1, 1, config.num_bins), np.float32)
        shares[..., chosen] = 1 / len(chosen)
        self.shares = Tensor(shares)
        self.least = find_least_level(list_white_energies(config), config)
        self.num_loudest = count_frames(LOUDEST_SECONDS, config)
        self.before, self.ahead = count_frames(MEMORY_SECONDS, config), count_frames(LOOKAHEAD_SECONDS, config)
        self.num_bins = config.num_bins
        self.num_typical = float(count_frames(TYPICAL_SECONDS, config) * config.num_bins)
        self.floor, self.near = as_ratio(-FLOOR_DB), as_ratio(-NEAR_DB)
        self.mean = Tensor(config.corpus_mean, ms.float32) if self.is_corpus else None
        self.deviation = Tensor(config.corpus_deviation, ms.float32) if self.is_corpus else None

    def construct(self, energies: Tensor, lengths: Tensor) -> Tensor:
        """Energies (B, T, F) float32 of lengths (B,) -> features, zero beyond them."""
        mask = make_mask(lengths, energies.shape[1])
        powers = ops.reduce_sum(energies * self.shares, 2) * mask  # (B, T)
        loudest = self._follow(powers) if self.is_corpus else self._measure(powers, lengths)
        levels = ops.maximum(loudest, self.least)
        features = ops.log(energies / levels.expand_dims(2) + self.floor)
        if self.is_corpus:
            return (features - self.mean) / self.deviation * mask.expand_dims(2)
        is_near = (powers >= levels * self.near).astype(ms.float32) * mask
        mean, deviation = self._measure_speech(features, is_near.expand_dims(2))
        return (features - mean) / deviation * mask.expand_dims(2)

    def _measure(self, powers: Tensor, lengths: Tensor) -> Tensor:
        """The power (B, 1) that the loudest frames of each utterance reach."""
        largest, _ = ops.topk(_pad(powers, 0, self.num_loudest), self.num_loudest)
        return ops.gather_elements(largest, 1, (ops.minimum(lengths, self.num_loudest) - 1).expand_dims(1))

    def _follow(self, powers: Tensor) -> Tensor:
        """The loudest mean of some frames within the memory of each frame, (B, T)."""
        count = self.num_loudest
        padded = _pad(powers, count - 1, 0)
        means = padded[:, count - 1 :]
        for i in range(1, count):
            means = means + padded[:, count - 1 - i : -i]
        loudest = _pad(means / count, self.before, self.ahead)
        span, width = 1, self.before + self.ahead + 1
        while span < width:
            shift = min(span, width - span)
            loudest = ops.maximum(loudest[:, :-shift], loudest[:, shift:])
            span = span + shift
        return loudest

    def _measure_speech(self, features: Tensor, is_near: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, 1, 1) over the frames (B, T, 1) near the level, and typical ones."""
        count = _total(is_near) * self.num_bins + self.num_typical
        mean = (_total(features * is_near) + self.num_typical * TYPICAL_MEAN) / count
        squares = _total(ops.square((features - mean) * is_near))
        squares = squares + self.num_typical * (ops.square(mean - TYPICAL_MEAN) + TYPICAL_DEVIATION**2)
        return mean, ops.sqrt(squares / count)


def _pad(values: Tensor, before: int, behind: int) -> Tensor:
    """(B, T) with zeros around: (B, before + T + behind)."""
    if before > 0:
        values = ops.concat((ops.zeros((values.shape[0], before), ms.float32), values), 1)
    if behind > 0:
        values = ops.concat((values, ops.zeros((values.shape[0], behind), ms.float32)), 1)
    return values


def _total(values: Tensor) -> Tensor:
    """(B, T, F) -> (B, 1, 1), over bands first: a sum of fewer numbers loses less."""
    return ops.ReduceSum(True)(ops.ReduceSum(True)(values, 2), 1)
