"""The network of `model/deepspeech2.py` as ONNX operators, made from the weights of a checkpoint.

Batch norms of a trained network are a factor and an offset for each feature. They are put into the weights that follow
or precede them, in float64, so that the file has none. Masks stay: what stands beyond a length reaches no real frame.

Shapes: B batch, T input frames, S output frames, F bins, C channels, H hidden units, V alphabet with blank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mindaudio_ds2.export.graph import Graph
from mindaudio_ds2.network_config import ModelConfig

CLIP = 20.0  # as in model/masked_norm.py
GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""Places of ONNX's gates (i o f c; z r h) among those of our weights (i f g o; r z n)."""

Weights = Mapping[str, NDArray[np.float32]]
Exact = NDArray[np.float64]


@dataclass(frozen=True)
class RecurrentWeights:
    """One recurrent layer in ONNX's layout: D directions, G gates.

    Attributes:
        w: (D, G * H, input size) float32.
        r: (D, G * H, H) float32.
        b: (D, 2 * G * H) float32.
    """

    w: NDArray[np.float32]
    r: NDArray[np.float32]
    b: NDArray[np.float32]


class NetworkWriter:
    """Appends the network to a graph.

    Args:
        graph: takes the nodes.
        config: sizes and switches.
        weights: `Checkpoint.weights`.
    """

    def __init__(self, graph: Graph, config: ModelConfig, weights: Weights) -> None:
        self.graph = graph
        self.config = config
        self.weights = weights

    def add_network(self, features: str, lengths: str) -> tuple[str, str]:
        """Append all layers.

        Args:
            features: (B, F, T) float32, zero beyond the lengths.
            lengths: (B,) int64, in frames.

        Returns:
            Log-probabilities (B, S, V) float32 and their lengths (B,) int64.
        """
        graph, config = self.graph, self.config
        x = graph.add("Unsqueeze", features, graph.constant([1]))  # (B, 1, F, T)
        for i in range(len(config.conv_channels)):
            x, lengths = self.add_conv(i, x, lengths)
        x = self.to_sequence(x)
        steps = graph.add("Cast", lengths, to=TensorProto.INT32)
        for i in range(config.rnn_num_layers):
            x, *_ = self.add_recurrent(i, x, steps)
        if not config.bidirectional:
            x = graph.add("Transpose", x, perm=[1, 2, 0])  # (S, B, H) -> (B, H, S)
            mask = graph.add("Unsqueeze", graph.mask(lengths, graph.size(x, 2)), graph.constant([1]))
            x = graph.add("Where", mask, x, graph.constant(0.0))
            x = self.add_lookahead(x, pads=[0, config.lookahead_frames - 1])
        return self.add_head(graph.add("Transpose", x, perm=[1, 0, 2])), lengths

    def add_conv(self, i: int, x: str, lengths: str) -> tuple[str, str]:
        """Convolution, batch norm, activation, mask: (B, C, F, T) to (B, C', F', S), and the new lengths."""
        graph, stride = self.graph, self.config.conv_stride_time[i]
        left = self.config.conv_kernel_time[i] // 2
        x = self.convolve(i, x, (left, left))
        rounded = graph.add("Add", lengths, graph.constant(stride - 1))
        lengths = graph.add("Div", rounded, graph.constant(stride))  # (n - 1) // stride + 1 without negative numbers
        inside = graph.mask(lengths, graph.size(x, 3))
        mask = graph.add("Unsqueeze", graph.as_float(inside), graph.constant([1, 2]))
        return graph.add("Mul", x, mask), lengths

    def convolve(self, i: int, x: str, pad_time: tuple[int, int]) -> str:
        """Convolution, batch norm and activation without a mask; the time is padded as told."""
        config, weights, prefix = self.config, self.weights, f"convs.{i}"
        scale, shift = self._find_norm(f"{prefix}.batch_norm")
        kernel = weights[f"{prefix}.conv.weight"] * scale[:, None, None, None]
        bias = shift + scale * weights[f"{prefix}.conv.bias"] if config.conv_bias else shift
        top = config.conv_kernel_frequency[i] // 2
        x = self.graph.add(
            "Conv",
            x,
            self._store(f"{prefix}.weight", kernel),
            self._store(f"{prefix}.bias", bias),
            strides=[config.conv_stride_frequency[i], config.conv_stride_time[i]],
            pads=[top, pad_time[0], top, pad_time[1]],
        )
        return str(self.graph.add("Tanh", x) if config.activation == "tanh" else self._clip(x))

    def to_sequence(self, x: str) -> str:
        """(B, C, F, S) to (S, B, C * F)."""
        ordered = self.graph.add("Transpose", x, perm=[3, 0, 1, 2])
        return str(self.graph.add("Reshape", ordered, self.graph.constant([0, 0, -1])))

    def add_recurrent(self, i: int, x: str, steps: str, state: tuple[str, ...] = ()) -> list[str]:
        """One layer with the batch norm before it.

        Args:
            i: which layer, from 0.
            x: (S, B, input size).
            steps: (B,) int32 lengths, or "" for all of S.
            state: begin of the hidden state, and of the cell state of an LSTM, each (D, B, H); none for zeros.

        Returns:
            The output (S, B, H), and the states at the end, like `state`.
        """
        graph, config = self.graph, self.config
        layer = self.make_recurrent_weights(i)
        constants = [graph.constant(getattr(layer, name), f"rnns.{i}.{name}") for name in ("w", "r", "b")]
        outputs = graph.add(
            config.rnn_type.upper(),
            x,
            *constants,
            steps,
            *state,
            num_outputs=3 if config.rnn_type == "lstm" else 2,
            hidden_size=config.rnn_hidden_size,
            direction="bidirectional" if config.bidirectional else "forward",
            **({} if config.rnn_type == "lstm" else {"linear_before_reset": 1}),
        )
        return [graph.add("ReduceSum", outputs[0], graph.constant([1]), keepdims=0), *outputs[1:]]

    def make_recurrent_weights(self, i: int) -> RecurrentWeights:
        """The weights of layer i, its gates in ONNX's order and the batch norm before it put in."""
        config, hidden = self.config, self.config.rnn_hidden_size
        directions = ["forward_rnn", *(["backward_rnn"] if config.bidirectional else [])]
        parts: list[list[Exact]] = [[], [], []]
        for direction in directions:
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            w, r, b_ih, b_hh = (_reorder(self.weights[f"rnns.{i}.{direction}.{n}"], config.rnn_type) for n in names)
            if config.rnn_batch_norm and i > 0:
                scale, shift = self._find_norm(f"rnn_batch_norms.{i - 1}")
                w, b_ih = w * scale, b_ih + w @ shift
            for part, array in zip(parts, (w, r, np.concatenate([b_ih, b_hh])), strict=True):
                part.append(array)
        assert parts[1][0].shape[1] == hidden
        return RecurrentWeights(*(np.stack(part).astype(np.float32) for part in parts))

    def add_lookahead(self, x: str, pads: list[int]) -> str:
        """Row convolution and clipped ReLU over (B, H, S), zero beyond the lengths; gives (S, B, H)."""
        kernel = self.weights["lookahead.conv.weight"].squeeze(2)  # (H, 1, 1, N) -> (H, 1, N)
        stored = self._store("lookahead.weight", kernel)
        x = self._clip(self.graph.add("Conv", x, stored, group=self.config.rnn_hidden_size, pads=pads))
        return str(self.graph.add("Transpose", x, perm=[2, 0, 1]))

    def add_head(self, x: str) -> str:
        """Batch norm, linear layer and logarithmic softmax: (…, H) to log-probabilities (…, V)."""
        graph, weight = self.graph, self.weights["head.weight"].astype(np.float64)
        bias = np.zeros(len(weight)) + (self.weights["head.bias"] if self.config.head_bias else 0.0)
        if self.config.head_batch_norm:
            scale, shift = self._find_norm("head_batch_norm")
            weight, bias = weight * scale, bias + weight @ shift
        logits = graph.add("MatMul", x, self._store("head.weight", weight.T))
        return str(graph.add("LogSoftmax", graph.add("Add", logits, self._store("head.bias", bias)), axis=-1))

    def _find_norm(self, prefix: str) -> tuple[Exact, Exact]:
        """Factor and offset of a batch norm that normalises with its running statistics."""
        values = (
            self.weights[f"{prefix}.{name}"].astype(np.float64)
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        gamma, beta, mean, variance = values
        scale: Exact = gamma / np.sqrt(variance + self.config.batch_norm_epsilon)
        return scale, beta - mean * scale

    def _store(self, name: str, array: NDArray[Any]) -> str:
        return self.graph.constant(array.astype(np.float32), name)

    def _clip(self, x: str) -> str:
        return str(self.graph.add("Clip", x, self.graph.constant(0.0), self.graph.constant(CLIP)))


def _reorder(array: NDArray[np.float32], rnn_type: str) -> Exact:
    """The gates of a weight (G * H, …) in ONNX's order, float64."""
    gates = np.split(array.astype(np.float64), len(GATES[rnn_type]))
    return np.concatenate([gates[place] for place in GATES[rnn_type]])
