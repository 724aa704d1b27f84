"""Looks through an ONNX file before onnxruntime gets to see it.

A file from elsewhere may name other files to read as weights, operators of foreign libraries, or tensors of any size.
What this package writes has none of that, so whatever else is found is refused. The protocol buffers are read here
directly (onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto): the `onnx` package is not needed to
recognise speech, and would build the whole model in memory first.
"""

import math
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from mindaudio_ds2.errors import CheckpointError

# fmt: off
OPERATORS = frozenset([
    "Abs", "Add", "And", "AveragePool", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Div",
    "DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "GRU", "Gather", "GatherElements",
    "Greater", "GreaterOrEqual", "Identity", "LSTM", "Less", "Log", "LogSoftmax", "MatMul", "MatMulInteger",
    "MatMulIntegerToFloat", "Max", "MaxPool", "Min", "Mod", "Mul", "Neg", "Range", "ReduceSum", "Reshape",
    "Shape", "Slice", "Split", "Sqrt", "Sub", "Tanh", "TopK", "Transpose", "Unsqueeze", "Where",
])
# fmt: on
DOMAINS = ("", "ai.onnx", "com.microsoft")
LARGEST_FILE_BYTES = 2**31 - 1  # of a protocol buffer
MOST_NODES = 5000
LARGEST_WHOLE_NUMBER = 2**20
"""Of constants and attributes. Sizes are made of them: a larger one asks for memory, not for speech."""

MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14}  # all but training information and functions
GRAPH_FIELDS = {1, 2, 5, 10, 11, 12, 13}  # all but sparse weights and annotations
ATTRIBUTE_FIELDS = {1, 2, 3, 4, 5, 7, 8, 9, 13, 20}  # all but graphs, sparse tensors and types
ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
"""Bytes of an element by TensorProto.DataType: FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, DOUBLE."""
INT32, INT64 = 6, 7
VALUE_FIELDS = {4, 5, 7, 9, 10}
"""Of a tensor: its values as float32, 32 bits, 64 bits, raw or float64, all of them in one piece."""
RAW = 9
PACKED_FIELDS = (5, 7)
MOST_DIMENSIONS = 8

Field = tuple[int, "int | memoryview"]


class _Refused(Exception):
    """Says what is wrong with the file."""


def read_model_bytes(path: str | Path) -> bytes:
    """Read an ONNX file that is safe to hand to onnxruntime.

    Args:
        path: of the file.

    Returns:
        Its content, which names no other file and holds only operators that this package writes.

    Raises:
        CheckpointError: missing, damaged, not ONNX, or with something in it that this package never writes.
    """
    path = Path(path)
    try:
        num_bytes = path.stat().st_size
        if num_bytes > LARGEST_FILE_BYTES:
            raise CheckpointError(f"{path} has {num_bytes} bytes; an ONNX file has less than 2 GiB")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; name an .onnx file") from None
    try:
        _check_model(memoryview(content))
    except _Refused as refusal:
        raise CheckpointError(f"{path} is refused: {refusal}; use a file that this package exported") from None
    except (struct.error, IndexError, UnicodeDecodeError):
        raise CheckpointError(f"{path} is damaged, or no ONNX file; export it again from its checkpoint") from None
    return content


def _check_model(model: memoryview) -> None:
    graphs = []
    for number, value in _read_fields(model):
        if number not in MODEL_FIELDS:
            raise _Refused(f"it has functions or other parts (field {number} of the model)")
        if number == 7:
            graphs.append(_expect_bytes(value))
    if len(graphs) != 1:
        raise _Refused(f"it has {len(graphs)} graphs instead of one")
    num_nodes = 0
    for number, value in _read_fields(graphs[0]):
        if number not in GRAPH_FIELDS:
            raise _Refused(f"its graph has sparse weights or other parts (field {number})")
        if number == 1:
            num_nodes += 1
            _check_node(_expect_bytes(value))
        elif number == 5:
            _check_tensor(_expect_bytes(value))
    if num_nodes > MOST_NODES:
        raise _Refused(f"it has {num_nodes} nodes")


def _check_node(node: memoryview) -> None:
    operator, domain = "", ""
    for number, value in _read_fields(node):
        if number == 4:
            operator = _as_text(value)
        elif number == 7:
            domain = _as_text(value)
        elif number == 5:
            _check_attribute(_expect_bytes(value))
    if operator not in OPERATORS or domain not in DOMAINS:
        raise _Refused(f"it holds the operator {domain + '.' if domain else ''}{operator}")


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _read_fields(attribute):
        if number not in ATTRIBUTE_FIELDS:
            raise _Refused(f"an operator holds a graph of its own or other parts (field {number} of an attribute)")
        if number == 5:
            _check_tensor(_expect_bytes(value))
        elif number in (3, 8):
            for whole in [value] if isinstance(value, int) else _read_packed(value):
                _check_whole_number(whole)


def _check_tensor(tensor: memoryview) -> None:
    """Its values are in the file, once and as many as it says, and none that is a size is huge."""
    dims: list[int] = []
    kind, encodings = 0, []
    for number, value in _read_fields(tensor):
        if number in (13, 14) and (not isinstance(value, int) or value != 0):
            raise _Refused("its weights lie in another file (external data)")
        if number == 1:
            dims += [value] if isinstance(value, int) else _read_packed(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number in VALUE_FIELDS:
            encodings.append((number, _expect_bytes(value)))
    shape = f"{dims}" if len(dims) <= MOST_DIMENSIONS else f"{len(dims)} dimensions"
    if kind not in ITEM_BYTES or len(dims) > MOST_DIMENSIONS or any(dim < 0 for dim in dims):
        raise _Refused(f"a tensor has the type {kind} and the shape {shape}")
    if len(encodings) > 1:
        raise _Refused(f"a tensor of the shape {shape} has its values more than once")
    for number, content in encodings or [(RAW, memoryview(b""))]:
        num_values, num_bytes = math.prod(dims), len(content)
        if num_values * ITEM_BYTES[kind] != num_bytes if number == RAW else num_values > num_bytes:
            raise _Refused(f"a tensor of the shape {shape} has {num_bytes} bytes of values")
        for whole in _read_whole_numbers(number, kind, content):
            _check_whole_number(whole)


def _read_whole_numbers(number: int, kind: int, content: memoryview) -> Iterable[int]:
    """Those of a tensor's values that can be sizes: whole numbers of 32 and 64 bits."""
    if number in PACKED_FIELDS:
        return _read_packed(content)
    letter = {INT32: "i", INT64: "q"}.get(kind) if number == RAW else None
    return (whole for (whole,) in struct.iter_unpack(f"<{letter}", content)) if letter else ()


def _check_whole_number(value: int) -> None:
    if not -LARGEST_WHOLE_NUMBER <= _signed(value) <= LARGEST_WHOLE_NUMBER:
        raise _Refused(f"it computes with the number {_signed(value)}, as if to fill the memory")


def _read_fields(message: memoryview) -> Iterator[Field]:
    """Numbers and values of a message: whole numbers, or the bytes of anything else."""
    place = 0
    while place < len(message):
        key, place = _read_varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _read_varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            size, place = _read_varint(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise IndexError("no such kind of field")
        if place + size > len(message):
            raise IndexError("cut off")
        yield key >> 3, message[place : place + size]
        place += size


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128 and value < 2**64:
            return value, place
    raise IndexError("a number without an end")


def _read_packed(content: memoryview) -> list[int]:
    values, place = [], 0
    while place < len(content):
        value, place = _read_varint(content, place)
        values.append(_signed(value))
    return values


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _expect_bytes(value: "int | memoryview") -> memoryview:
    if isinstance(value, int):
        raise IndexError("a number instead of a message")
    return value


def _as_text(value: "int | memoryview") -> str:
    return bytes(_expect_bytes(value)).decode()
