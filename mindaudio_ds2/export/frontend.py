"""The features of `audio/features.py` as ONNX operators: waveforms in, normalised features out.

The Fourier transform is a convolution over the waveform. Measured with onnxruntime 1.32 on one core, 20 s of audio: the
convolution takes 6 ms (window and transform of 320 points) and 11 ms (400, 512), the STFT operator 94 and 21 ms, at the
same distance from NumPy's float64.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mindaudio_ds2.audio.features import (
    LEAST_VARIATION,
    MEL_ENERGY_FLOOR,
    make_mel_filters,
    make_window,
    num_samples_before,
)
from mindaudio_ds2.config import FeatureConfig
from mindaudio_ds2.export.graph import Graph


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
    inside = graph.mask(lengths, graph.size(waveforms, 1))
    clean = graph.add("Where", inside, waveforms, graph.constant(0.0))
    before = num_samples_before(config)
    transformed = graph.add(
        "Conv",
        graph.add("Unsqueeze", clean, graph.constant([1])),
        _add_transform(graph, config),
        strides=[config.hop_samples],
        pads=[before, config.window_samples - before],  # then there are 1 + L // hop frames
    )
    square = graph.add("Mul", transformed, transformed)
    real, imaginary = graph.add("Split", square, axis=1, num_outputs=2)
    features = _add_logarithm(graph, graph.add("Add", real, imaginary), config)
    hops = graph.add("Div", lengths, graph.constant(config.hop_samples))
    lengths = graph.add("Add", hops, graph.constant(1))
    return _add_normalization(graph, features, lengths, config.num_bins), lengths


def _add_transform(graph: Graph, config: FeatureConfig) -> str:
    """Kernels of the windowed Fourier transform (2 * bins, 1, window_samples): all cosines, then all sines.

    Two tables of one period are stored, and the kernels made from them when the file is loaded, in float64: they
    would be a tenth of an eight-bit file.
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
    kernels = graph.add("Unsqueeze", graph.add("Concat", *parts, axis=0), graph.constant([1]))
    return graph.as_float(kernels)


def _add_logarithm(graph: Graph, power: str, config: FeatureConfig) -> str:
    """Squares of magnitudes (B, bins, T) to features (B, F, T) before normalisation."""
    if config.kind == "log_spectrogram":
        return str(graph.add("Log", graph.add("Add", graph.add("Sqrt", power), graph.constant(1.0))))
    sizes = config.sample_rate_hz, config.fft_size, config.num_mel_bands
    filters: NDArray[np.float32] = make_mel_filters(*sizes).astype(np.float32)
    energies = graph.add("MatMul", graph.constant(filters, "mel_filters"), power)
    return str(graph.add("Log", graph.add("Max", energies, graph.constant(MEL_ENERGY_FLOOR))))


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
