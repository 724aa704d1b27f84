"""The same network with fewer bytes for its weights."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mindaudio_ds2.portable.description import WeightKind

FEWEST_VALUES = 256
"""Smaller constants keep their type: they save nothing."""


def compress(model: onnx.ModelProto, kind: WeightKind) -> onnx.ModelProto:
    """Store weights with fewer bytes.

    `fp16` stores float16 and computes in float32. `int8` stores recurrent layers and the output layer as whole numbers
    with a scale for each row. LSTM and output layer are also computed with them; for GRU onnxruntime has no such
    operator, so it computes in float32. Convolutions stay float32: as whole numbers they are slower (issue 20's
    measurement: 1.02 s instead of 0.25 s for 20 s of audio).

    Args:
        model: with float32 weights.
        kind: which.
    """
    if kind == "fp16":
        return _store_half(model)
    if kind == "int8":
        return _quantize_gru(_quantize_lstm(model))
    return model


def _store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    for tensor in smaller.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= FEWEST_VALUES:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            cast = helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
            smaller.graph.node.insert(0, cast)
    return smaller


def _quantize_lstm(model: onnx.ModelProto) -> onnx.ModelProto:
    """LSTM and MatMul of the output layer, by onnxruntime's own tool."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    stored = {tensor.name for tensor in model.graph.initializer}
    others = [n.name for n in model.graph.node if n.op_type == "MatMul" and n.input[1] not in stored]
    with tempfile.TemporaryDirectory() as folder, _silenced():
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["LSTM", "MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=others,
        )
        return onnx.load(path)


def _quantize_gru(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of GRU layers as int8 with a scale for each row, made float again when they are used."""
    names = {name for node in model.graph.node if node.op_type == "GRU" for name in node.input[1:3]}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in names]:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        rows, scales = _round_rows(values.reshape(-1, values.shape[-1]))
        tensor.CopyFrom(numpy_helper.from_array(rows, f"{name}.rows"))
        model.graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(values.shape), f"{name}.shape"))
        nodes = [
            helper.make_node("DequantizeLinear", [f"{name}.rows", f"{name}.scales"], [f"{name}.float"], axis=0),
            helper.make_node("Reshape", [f"{name}.float", f"{name}.shape"], [name]),
        ]
        for place, node in enumerate(nodes):
            node.name = f"{name}.node{place}"
            model.graph.node.insert(place, node)
    return model


def _round_rows(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(n, m) float32 as (n, m) int8 and (n,) factors."""
    scales = np.maximum(np.abs(values).max(axis=1), np.float32(1e-12)) / np.float32(127)
    return np.rint(values / scales[:, None]).astype(np.int8), scales.astype(np.float32)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """onnxruntime's tool advises, on the root logger, a step that this graph does not need."""
    logger = logging.getLogger()
    was = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was
