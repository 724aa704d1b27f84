"""The same network as an ONNX file of this project's exporter, in onnxruntime. Needs the extra `onnx`.

The file takes features, so that it computes what the other contenders compute. MindSpore is needed to write it only,
which a process of its own does: the one that is measured never loads MindSpore.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.model.arithmetic import list_layers
from mindaudio_ds2.portable.description import WeightKind
from mindaudio_ds2.portable.network import OnnxNetwork
from recipes.benchmark.case import ContenderError

ONNX_MISSING = "its file cannot be written or run without onnx and onnxruntime; pip install 'mindaudio_ds2[onnx]'"


def export_apart(config: Config, weights: WeightKind, path: Path) -> None:
    """Write a network with fresh weights, by a process that then ends.

    Args:
        config: the network.
        weights: how they are stored.
        path: of the ONNX file.

    Raises:
        ContenderError: `onnx` or onnxruntime is not installed.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(_export, to_mapping(config), weights, path).result()


def _export(mapping: dict[str, Any], weights: WeightKind, path: Path) -> None:
    config: Config = from_mapping(mapping, "the job")
    runtime.start("CPU", config.seed)
    from mindaudio_ds2.checkpoint import build_network

    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ContenderError(f"{ONNX_MISSING} ({error})") from None
    onnx.save(make_model(build_network(config), config, weights), path)


def make_model(network: Any, config: Config, weights: WeightKind) -> Any:
    """A network of ours as an `onnx.ModelProto` that takes features."""
    from mindaudio_ds2.checkpoint import Checkpoint
    from mindaudio_ds2.export.onnx_model import OnnxForm, build_onnx

    arrays = {name: parameter.asnumpy() for name, parameter in network.weights().items()}
    return build_onnx(Checkpoint(config, arrays), OnnxForm("features", weights), {})


class OnnxContender:
    """The network in onnxruntime, as `transcribe` runs it: with eight bits one utterance after the other.

    Args:
        config: the network.
        path: of the file that `export_apart` wrote; it is not needed any more afterwards.
    """

    def __init__(self, config: Config, path: Path) -> None:
        self.num_threads = len(os.sched_getaffinity(0))
        self.network = OnnxNetwork(path, self.num_threads)
        self.num_parameters = sum(layer.num_parameters for layer in list_layers(config))
        self.compiles_each_shape = False
        self._products: dict[int, tuple[Any, NDArray[np.float32]]] = {}

    def take(self, batch: Batch) -> float:
        """See `Contender`."""
        rows = [row[:length] for row, length in zip(batch.features, batch.feature_lengths, strict=True)]
        return float(self.network.recognize_features(rows)[0].sum())

    def multiply(self, size: int) -> None:
        """See `Contender`."""
        if size not in self._products:
            matrix = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
            self._products[size] = (_make_product(size, self.num_threads), matrix)
        session, matrix = self._products[size]
        session.run(None, {"x": matrix})


def _make_product(size: int, num_threads: int) -> Any:
    """A session that multiplies (size, size) float32 with itself, and hands out a corner."""
    import onnxruntime
    from onnx import TensorProto

    from mindaudio_ds2.export.graph import Graph

    graph = Graph()
    x = graph.add_input("x", TensorProto.FLOAT, [size, size])
    corner = graph.add("Slice", graph.add("MatMul", x, x), graph.constant([0, 0]), graph.constant([1, 1]))
    graph.add_output(corner, "corner", TensorProto.FLOAT, [1, 1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    content = graph.to_model().SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
