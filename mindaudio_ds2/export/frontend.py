"""The features of `audio/features.py` as ONNX operators: waveforms in, normalised features out.

The Fourier transform is a convolution over the waveform. Measured with onnxruntime 1.32 on one core, 20 s of audio: the
convolution takes 6 ms (window and transform of 320 points) and 11 ms (400, 512), the STFT operator 94 and 21 ms, at the
same distance from NumPy's float64.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

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
from mindaudio_ds2.export.graph import Graph
from mindaudio_ds2.network_config import FeatureConfig


def add_features(graph: Graph, waveforms: str, lengths: str, config: FeatureConfig) -> tuple[str, str]:
    """Append what turns sound into features.

    Args:
        graph: takes the nodes.
        waveforms: (B, L) float32; anything may stand beyond the lengths.
        lengths: (B,) int64, in samples.
        config: which features.

    Returns:
        Normalised features (B, F, T) float32, zero beyond the lengths, and those lengths (B,) int64 in frames.
    """
    before = num_samples_before(config)
    ends = [before, config.window_samples - before]  # then there are 1 + L // hop frames
    is_leveled = config.normalization != "utterance"
    if is_leveled:
        samples, ends = _continue_ends(graph, waveforms, lengths, ends), [0, 0]
    else:
        inside = graph.mask(lengths, graph.size(waveforms, 1))
        samples = graph.add("Where", inside, waveforms, graph.constant(0.0))
    transformed = graph.add(
        "Conv",
        graph.add("Unsqueeze", samples, graph.constant([1])),
        _add_transform(graph, config, is_centred=is_leveled),
        strides=[config.hop_samples],
        pads=ends,
    )
    square = graph.add("Mul", transformed, transformed)
    real, imaginary = graph.add("Split", square, axis=1, num_outputs=2)
    power = graph.add("Add", real, imaginary)
    hops = graph.add("Div", lengths, graph.constant(config.hop_samples))
    lengths = graph.add("Add", hops, graph.constant(1))
    if is_leveled:
        return _add_leveled(graph, _gather_bands(graph, power, config), lengths, config), lengths
    return _add_normalization(graph, _add_logarithm(graph, power, config), lengths, config.num_bins), lengths


def _continue_ends(graph: Graph, waveforms: str, lengths: str, ends: list[int]) -> str:
    """Waveforms (B, L + ends) in which the first and the last sample go on, less the first.

    The kernels take away what is constant, but in float32: of a large offset too much would be left.
    """
    stop = graph.add("Add", graph.size(waveforms, 1), graph.constant(ends[1]))
    places = graph.add("Range", graph.constant(-ends[0]), stop, graph.constant(1))
    places = graph.add("Max", graph.add("Unsqueeze", places, graph.constant([0])), graph.constant([0]))
    last = graph.add("Sub", graph.add("Unsqueeze", lengths, graph.constant([1])), graph.constant(1))
    samples = graph.add("GatherElements", waveforms, graph.add("Min", places, last), axis=1)
    return str(graph.add("Sub", samples, graph.add("Gather", samples, graph.constant([0]), axis=1)))


def _add_transform(graph: Graph, config: FeatureConfig, *, is_centred: bool) -> str:
    """Kernels of the windowed Fourier transform (2 * bins, 1, window_samples): all cosines, then all sines.

    Two tables of one period are stored, and the kernels made from them when the file is loaded, in float64: they
    would be a tenth of an eight-bit file. Centred kernels take the mean of a frame away first.
    """
    size, num_bins = config.fft_size, config.fft_size // 2 + 1
    angles = 2 * np.pi * np.arange(size) / size
    zero, one = graph.constant(0), graph.constant(1)
    bins = graph.add("Unsqueeze", graph.add("Range", zero, graph.constant(num_bins), one), graph.constant([1]))
    samples = graph.add("Range", zero, graph.constant(config.window_samples), one)
    places = graph.add("Mod", graph.add("Mul", bins, samples), graph.constant(size))
    window = graph.constant(make_window(config), "window")
    parts = [
        graph.add("Mul", graph.add("Gather", graph.constant(table, name), places), window)
        for name, table in (("cosine", np.cos(angles)), ("sine", np.sin(angles)))
    ]
    kernels = graph.add("Concat", *parts, axis=0)
    if is_centred:
        total = graph.add("ReduceSum", kernels, graph.constant([1]), keepdims=1)
        count = graph.constant(np.array(float(config.window_samples)), "window_samples")
        kernels = graph.add("Sub", kernels, graph.add("Div", total, count))
    return graph.as_float(graph.add("Unsqueeze", kernels, graph.constant([1])))


def _add_logarithm(graph: Graph, power: str, config: FeatureConfig) -> str:
    """Squares of magnitudes (B, bins, T) to features (B, F, T) before normalisation."""
    if config.kind == "log_spectrogram":
        return str(graph.add("Log", graph.add("Add", graph.add("Sqrt", power), graph.constant(1.0))))
    energies = _gather_bands(graph, power, config)
    return str(graph.add("Log", graph.add("Max", energies, graph.constant(MEL_ENERGY_FLOOR))))


def _gather_bands(graph: Graph, power: str, config: FeatureConfig) -> str:
    """Squares of magnitudes (B, bins, T) to energies (B, F, T)."""
    if config.kind == "log_spectrogram":
        return power
    sizes = config.sample_rate_hz, config.fft_size, config.num_mel_bands
    filters: NDArray[np.float32] = make_mel_filters(*sizes).astype(np.float32)
    return str(graph.add("MatMul", graph.constant(filters, "mel_filters"), power))


def _add_leveled(graph: Graph, energies: str, lengths: str, config: FeatureConfig) -> str:
    """What `audio/normalization.py` does, over the real frames of each utterance."""
    inside = graph.add("Unsqueeze", graph.mask(lengths, graph.size(energies, 2)), graph.constant([1]))  # (B, 1, T)
    chosen = list_level_bands(config)
    shares = np.zeros((1, config.num_bins), np.float32)
    shares[0, chosen] = 1 / len(chosen)
    powers = graph.add("MatMul", graph.constant(shares, "level_bands"), energies)
    powers = graph.add("Where", inside, powers, graph.constant(0.0))
    loudest = _measure_level if config.normalization == "speech" else _follow_level
    least = find_least_level(list_white_energies(config), config)
    levels = graph.add("Max", loudest(graph, powers, lengths, config), graph.constant(least))
    relative = graph.add("Add", graph.add("Div", energies, levels), graph.constant(as_ratio(-FLOOR_DB)))
    features = graph.add("Log", relative)
    if config.normalization == "corpus":
        mean = graph.constant(np.array(config.corpus_mean, np.float32)[:, None], "corpus_mean")
        deviation = graph.constant(np.array(config.corpus_deviation, np.float32)[:, None], "corpus_deviation")
    else:
        near = graph.add("GreaterOrEqual", powers, graph.add("Mul", levels, graph.constant(as_ratio(-NEAR_DB))))
        mean, deviation = _measure_speech(graph, features, graph.add("And", inside, near), config)
    normalized = graph.add("Div", graph.add("Sub", features, mean), deviation)
    return str(graph.add("Where", inside, normalized, graph.constant(0.0)))


def _measure_level(graph: Graph, powers: str, lengths: str, config: FeatureConfig) -> str:
    """The power (B, 1, 1) that the loudest `LOUDEST_SECONDS` of each utterance reach."""
    most = graph.constant(count_frames(LOUDEST_SECONDS, config))
    count = graph.add("Unsqueeze", graph.add("Min", graph.size(powers, 2), most), graph.constant([0]))
    largest, _ = graph.add("TopK", powers, count, axis=2, num_outputs=2)
    last = graph.add("Sub", graph.add("Min", lengths, most), graph.constant(1))
    return str(graph.add("GatherElements", largest, graph.add("Unsqueeze", last, graph.constant([1, 2])), axis=2))


def _follow_level(graph: Graph, powers: str, lengths: str, config: FeatureConfig) -> str:
    """The loudest mean (B, 1, T) of `LOUDEST_SECONDS` within the memory of each frame."""
    count = count_frames(LOUDEST_SECONDS, config)
    before, ahead = count_frames(MEMORY_SECONDS, config), count_frames(LOOKAHEAD_SECONDS, config)
    means = graph.add("AveragePool", powers, kernel_shape=[count], pads=[count - 1, 0], count_include_pad=1)
    return str(graph.add("MaxPool", means, kernel_shape=[before + ahead + 1], pads=[before, ahead]))


def _measure_speech(graph: Graph, features: str, near: str, config: FeatureConfig) -> tuple[str, str]:
    """Mean and deviation (B, 1, 1) float32 over the frames (B, 1, T) near the level and typical ones, in float64."""
    num_typical = count_frames(TYPICAL_SECONDS, config) * config.num_bins

    def exact(value: float) -> str:
        return graph.constant(np.array(float(value)), f"exactly_{value!r}")

    def total(values: str) -> str:
        return str(graph.add("ReduceSum", values, graph.constant([1, 2]), keepdims=1))

    mask = graph.add("Cast", near, to=TensorProto.DOUBLE)
    count = graph.add("Add", graph.add("Mul", total(mask), exact(config.num_bins)), exact(num_typical))
    values = graph.add("Cast", features, to=TensorProto.DOUBLE)
    mean = graph.add("Add", total(graph.add("Mul", values, mask)), exact(num_typical * TYPICAL_MEAN))
    mean = graph.add("Div", mean, count)
    centred = graph.add("Mul", graph.add("Sub", values, mean), mask)
    off = graph.add("Sub", exact(TYPICAL_MEAN), mean)
    typical = graph.add("Add", graph.add("Mul", off, off), exact(TYPICAL_DEVIATION**2))
    squares = graph.add("Add", total(graph.add("Mul", centred, centred)), graph.add("Mul", typical, exact(num_typical)))
    deviation = graph.add("Sqrt", graph.add("Div", squares, count))
    return graph.as_float(mean), graph.as_float(deviation)


def _add_normalization(graph: Graph, features: str, lengths: str, num_bins: int) -> str:
    """Mean 0 and deviation 1 over the real frames of each utterance; both are summed in float64."""
    inside = graph.add("Unsqueeze", graph.mask(lengths, graph.size(features, 2)), graph.constant([1]))  # (B, 1, T)
    mask = graph.add("Cast", inside, to=TensorProto.DOUBLE)
    count = graph.add("Cast", graph.add("Mul", lengths, graph.constant(num_bins)), to=TensorProto.DOUBLE)
    count = graph.add("Unsqueeze", count, graph.constant([1, 2]))

    def average(values: str) -> str:
        return str(graph.add("Div", graph.add("ReduceSum", values, graph.constant([1, 2]), keepdims=1), count))

    exact = graph.add("Cast", features, to=TensorProto.DOUBLE)
    mean = average(graph.add("Mul", exact, mask))
    centred = graph.add("Mul", graph.add("Sub", exact, mean), mask)
    deviation = graph.add("Sqrt", average(graph.add("Mul", centred, centred)))
    least = graph.add("Mul", graph.add("Abs", mean), graph.constant(np.array(LEAST_VARIATION), "least_variation"))
    varies = graph.add("And", inside, graph.add("Greater", deviation, least))
    shifted = graph.add("Sub", features, graph.as_float(mean))
    normalized = graph.add("Div", shifted, graph.as_float(deviation))
    return str(graph.add("Where", varies, normalized, graph.constant(0.0)))
