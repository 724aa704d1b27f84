"""The network as a graph that takes one chunk and carries its state to the next: the same numbers as from the whole.

Each convolution keeps the frames that its next outputs will see, each recurrent layer its state, the lookahead what
came last. So what comes out lags behind what goes in, by a number of frames that is known here; what would stand before
the first frame or beyond the last is cut off inside the graph.
"""

from dataclasses import dataclass

from onnx import TensorProto

from mindaudio_ds2.export.graph import Dims, Graph
from mindaudio_ds2.export.layers import NetworkWriter, Weights
from mindaudio_ds2.network_config import ModelConfig
from mindaudio_ds2.portable.stream import BATCH, NEXT, STREAM_INPUTS, STREAM_OUTPUT


@dataclass(frozen=True)
class ConvTiming:
    """How a convolution is cut into chunks.

    Attributes:
        context: frames kept from the chunk before.
        delay: output j of the stream is output j - delay of the whole.
    """

    context: int
    delay: int


def plan_convs(config: ModelConfig) -> list[ConvTiming]:
    """Context and delay of each convolution.

    Window j of a stream ends at input j * stride + stride - 1 - spare, where `spare` of the kept frames are more than
    needed. It has to end half a kernel behind the input that stands in its middle, which is itself late by the delay of
    the layer below.
    """
    timings, delay = [], 0
    for size, stride in zip(config.conv_kernel_time, config.conv_stride_time, strict=True):
        late = size // 2 + delay
        delay = late // stride
        spare = stride * delay + stride - 1 - late
        timings.append(ConvTiming(size - stride + spare, delay))
    return timings


def add_stream(graph: Graph, config: ModelConfig, num_bins: int, weights: Weights) -> None:
    """Append inputs, network and outputs of streams side by side, of which all are at the same place.

    Inputs: `features` (B, T, F) float32, T a multiple of the time stride; `first_frame` (1,) int64, how many came
    before; `num_frames` (1,) int64, how many there are in all, or a large number while nobody knows; the states. The
    first chunk must be long enough for one output frame of the convolutions. Outputs: `logprobs` (B, S, V), each output
    frame of the utterance exactly once; and `next_` and the name of each state. Away from both ends places make no
    difference: there any streams go side by side.

    Args:
        graph: takes the nodes.
        config: of a network without a backward direction.
        num_bins: F.
        weights: `Checkpoint.weights`.
    """
    _StreamWriter(graph, config, num_bins, weights).add()


class _StreamWriter:
    def __init__(self, graph: Graph, config: ModelConfig, num_bins: int, weights: Weights) -> None:
        self.graph = graph
        self.config = config
        self.num_bins = num_bins
        self.network = NetworkWriter(graph, config, weights)
        self.next_states: list[tuple[str, str, Dims]] = []

    def add(self) -> None:
        graph, config = self.graph, self.config
        features = graph.add_input(STREAM_INPUTS[0], TensorProto.FLOAT, [BATCH, "T", self.num_bins])
        place = graph.add_input(STREAM_INPUTS[1], TensorProto.INT64, [1])
        length = graph.add_input(STREAM_INPUTS[2], TensorProto.INT64, [1])
        x = graph.add("Unsqueeze", graph.add("Transpose", features, perm=[0, 2, 1]), graph.constant([1]))
        x = graph.add("Mul", x, self._mask(place, length, graph.size(x, 3), [1, 1, 1, -1]))
        timings, bins = plan_convs(config), self.num_bins
        for i, timing in enumerate(timings):
            stride = config.conv_stride_time[i]
            channels = config.conv_channels[i - 1] if i else 1
            x = self._with_context(f"context_{i}", x, [BATCH, channels, bins, timing.context], 3)
            x = self.network.convolve(i, x, (0, 0))
            bins = (bins - 1) // config.conv_stride_frequency[i] + 1
            place = graph.add("Div", place, graph.constant(stride))
            length = graph.add("Div", graph.add("Add", length, graph.constant(stride - 1)), graph.constant(stride))
            first = graph.add("Sub", place, graph.constant(timing.delay))
            x = graph.add("Mul", x, self._mask(first, length, graph.size(x, 3), [1, 1, 1, -1]))
        sequence = self.network.to_sequence(x)
        sequence = self._slice(sequence, self._positive(graph.add("Neg", first)), graph.size(sequence, 0), 0)
        first = self._positive(first)
        for i in range(config.rnn_num_layers):
            sequence = self._add_recurrent(i, sequence)
        self._add_end(sequence, first, length)
        for name, value, shape in self.next_states:
            graph.add_output(value, NEXT + name, TensorProto.FLOAT, shape)

    def _add_end(self, x: str, first: str, length: str) -> None:
        """Lookahead and head for (S, 1, H), whose frame 0 is frame `first` of the utterance."""
        graph, context = self.graph, self.config.lookahead_frames - 1
        x = graph.add("Transpose", x, perm=[1, 2, 0])
        x = graph.add("Mul", x, self._mask(first, length, graph.size(x, 2), [1, 1, -1]))
        if context:
            x = self._with_context("context_lookahead", x, [BATCH, self.config.rnn_hidden_size, context], 2)
        x = self.network.add_lookahead(x, pads=[0, 0])
        begin = graph.add("Sub", graph.constant([context]), first)
        end = graph.add("Add", length, begin)
        x = self._slice(x, self._positive(begin), self._positive(end), 0)
        log_probs = self.network.add_head(graph.add("Transpose", x, perm=[1, 0, 2]))
        size = len(self.network.weights["head.weight"])
        graph.add_output(log_probs, STREAM_OUTPUT, TensorProto.FLOAT, [BATCH, "S", size])

    def _add_recurrent(self, i: int, x: str) -> str:
        shape: Dims = [1, BATCH, self.config.rnn_hidden_size]
        names = [f"hidden_{i}", *([f"cell_{i}"] if self.config.rnn_type == "lstm" else [])]
        states = tuple(self.graph.add_input(name, TensorProto.FLOAT, shape) for name in names)
        output, *ends = self.network.add_recurrent(i, x, "", states)
        self.next_states += [(name, end, shape) for name, end in zip(names, ends, strict=True)]
        return output

    def _with_context(self, name: str, x: str, shape: Dims, axis: int) -> str:
        """The kept frames and the new ones; as many of the last are kept again."""
        graph = self.graph
        size = shape[axis]
        assert isinstance(size, int), "a context has a fixed length"
        if size == 0:
            return x
        joined = str(graph.add("Concat", graph.add_input(name, TensorProto.FLOAT, shape), x, axis=axis))
        end = graph.size(joined, axis)
        begin = graph.add("Unsqueeze", graph.add("Sub", end, graph.constant(size)), graph.constant([0]))
        self.next_states.append((name, self._slice(joined, begin, end, axis), shape))
        return joined

    def _mask(self, first: str, length: str, size: str, shape: list[int]) -> str:
        """1 where place `first`, and those that follow, lie within the utterance; float32 of a shape to multiply by."""
        graph = self.graph
        places = graph.add("Add", graph.add("Range", graph.constant(0), size, graph.constant(1)), first)
        inside = graph.add("GreaterOrEqual", places, graph.constant(0))
        inside = graph.add("And", inside, graph.add("Less", places, length))
        return str(graph.add("Reshape", graph.as_float(inside), graph.constant(shape)))

    def _positive(self, value: str) -> str:
        return str(self.graph.add("Max", value, self.graph.constant(0)))

    def _slice(self, x: str, begin: str, end: str, axis: int) -> str:
        end = self.graph.add("Reshape", end, self.graph.constant([1]))
        return str(self.graph.add("Slice", x, begin, end, self.graph.constant([axis])))
