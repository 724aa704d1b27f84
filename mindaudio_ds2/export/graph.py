"""An ONNX graph in the making: nodes and constants, each under a name of its own."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8  # what onnxruntime reads since 1.12, onnxruntime-web too

Dims = list[int | str | None]


class Graph:
    """Collects nodes in the order in which they run.

    Attributes:
        inputs: the graph's own inputs.
        outputs: its own outputs.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def add(self, operator: str, *inputs: str, num_outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; gives the name of its output, or a list of names where there are several."""
        number = len(self._nodes)
        outputs = [f"{operator}_{number}" + (f"_{i}" if num_outputs > 1 else "") for i in range(num_outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), outputs, name=f"{operator}_{number}", **attributes))
        return outputs[0] if num_outputs == 1 else outputs

    def constant(self, array: NDArray[Any] | float | list[int], name: str | None = None, dtype: Any = None) -> str:
        """A constant; plain whole numbers become int64, plain fractions float32. Equal plain ones are stored once."""
        if dtype is None:
            dtype = (
                array.dtype if isinstance(array, np.ndarray) else np.float32 if isinstance(array, float) else np.int64
            )
        values = np.asarray(array, dtype=dtype, order="C")
        name = name or f"{values.dtype}_{'x'.join(map(str, values.shape))}_{'_'.join(map(str, values.ravel()))}"
        self._constants.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def add_input(self, name: str, dtype: int, dims: Dims) -> str:
        """An input of the graph, of a type such as `TensorProto.FLOAT`; open dimensions have names."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def add_output(self, value: str, name: str, dtype: int, dims: Dims) -> None:
        """An output of the graph under a name of its own."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self.outputs.append(helper.make_tensor_value_info(name, dtype, dims))

    def size(self, value: str, axis: int) -> str:
        """Length of a value along an axis, () int64."""
        return str(self.add("Gather", self.add("Shape", value), self.constant(axis)))

    def mask(self, lengths: str, size: str) -> str:
        """Which of `size` () places lie within the lengths (B,): (B, size) bool."""
        places = self.add("Range", self.constant(0), size, self.constant(1))
        first = self.add("Unsqueeze", places, self.constant([0]))
        return str(self.add("Less", first, self.add("Unsqueeze", lengths, self.constant([1]))))

    def as_float(self, value: str) -> str:
        """Float32 of any numbers."""
        return str(self.add("Cast", value, to=TensorProto.FLOAT))

    def to_model(self) -> onnx.ModelProto:
        """The finished model, checked by the `onnx` package."""
        body = helper.make_graph(self._nodes, "deepspeech2", self.inputs, self.outputs, list(self._constants.values()))
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "mindaudio_ds2"
        onnx.checker.check_model(model, full_check=True)
        return model
