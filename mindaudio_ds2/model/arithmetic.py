"""What a network costs and how far it sees, layer by layer, counted from its configuration.

An operation is a multiplication or an addition. Arithmetic is that of recognising; a step of training costs three times
as much: forward, gradients of the inputs, gradients of the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from mindaudio_ds2.config import Config
from mindaudio_ds2.network_config import ModelConfig
from mindaudio_ds2.text.tokenizer import Tokenizer

GATES = {"lstm": 4, "gru": 3}
PARTS = ("convolutions", "recurrent layers", "output layer")


@dataclass(frozen=True)
class Layer:
    """One layer, with the batch norm that belongs to it: after a convolution, before any other.

    Attributes:
        name: its place in `DeepSpeech2`, such as "rnns.0".
        part: one of `PARTS`; the lookahead convolution counts among the recurrent layers.
        description: what it is, in a few words.
        output_shape: of one of its frames: (C, F) after a convolution, else (H,) or (V,).
        frames_per_second: of its output.
        num_parameters: trainable weights.
        num_statistics: running means and variances, which a checkpoint holds beside the weights.
        gflop: arithmetic for one second of audio.
    """

    name: str
    part: str
    description: str
    output_shape: tuple[int, ...]
    frames_per_second: float
    num_parameters: int
    num_statistics: int
    gflop: float


def list_layers(config: Config) -> list[Layer]:
    """The layers from input to output.

    With f = 1 / hop_seconds frames of features a second, what a layer does for each of its frames is

    - a convolution: 2 * F' * C * C' * K_F * K_T for F' bins and C' channels of output, C channels of input and a kernel
      of K_F by K_T; f is divided by the time strides up to and including its own;
    - a recurrent layer: 2 * D * G * H * (I + H) for D directions, G gates (LSTM 4, GRU 3) and an input of I values,
      which is C' * F' in the first layer and H in all others; f is divided by all time strides;
    - the lookahead convolution of a network without backward direction: 2 * H * lookahead_frames;
    - the output layer: 2 * H * V.

    Padding at the borders of an utterance is counted as if it were audio; batch norms, activations, the loss and the
    optimiser are not counted.
    """
    convolutions = list(_list_convolutions(config))
    return [*convolutions, *_list_recurrent(config, prod(convolutions[-1].output_shape)), _describe_head(config)]


def _list_convolutions(config: Config) -> Iterator[Layer]:
    model, num_bins, num_in = config.model, config.features.num_bins, 1
    frames_per_second = 1 / config.features.hop_seconds
    for i, num_out in enumerate(model.conv_channels):
        kernel = model.conv_kernel_frequency[i], model.conv_kernel_time[i]
        stride = model.conv_stride_frequency[i], model.conv_stride_time[i]
        num_bins = (num_bins - 1) // stride[0] + 1
        frames_per_second /= stride[1]
        weights = num_in * num_out * prod(kernel)
        yield Layer(
            f"convs.{i}",
            PARTS[0],
            f"convolution {kernel[0]} x {kernel[1]}, stride {stride[0]} x {stride[1]}, {model.activation}",
            (num_out, num_bins),
            frames_per_second,
            weights + (3 if model.conv_bias else 2) * num_out,
            2 * num_out,
            2 * weights * num_bins * frames_per_second / 1e9,
        )
        num_in = num_out


def _list_recurrent(config: Config, num_inputs: int) -> Iterator[Layer]:
    model = config.model
    hidden, num_gates, num_directions = model.rnn_hidden_size, GATES[model.rnn_type], 2 if model.bidirectional else 1
    frames_per_second = 1 / config.seconds_per_output_frame
    direction = "bidirectional" if model.bidirectional else "forward"
    for i in range(model.rnn_num_layers):
        norm = 2 * hidden if model.rnn_batch_norm and i else 0
        weights = num_directions * num_gates * hidden * (num_inputs + hidden)
        yield Layer(
            f"rnns.{i}",
            PARTS[1],
            f"{direction} {model.rnn_type}",
            (hidden,),
            frames_per_second,
            weights + num_directions * num_gates * hidden * 2 + norm,  # two biases a gate, as in PyTorch
            norm,
            2 * weights * frames_per_second / 1e9,
        )
        num_inputs = hidden
    if not model.bidirectional:
        weights = hidden * model.lookahead_frames
        description = f"lookahead over {model.lookahead_frames} frames, clipped_relu"
        gflop = 2 * weights * frames_per_second / 1e9
        yield Layer("lookahead", PARTS[1], description, (hidden,), frames_per_second, weights, 0, gflop)


def _describe_head(config: Config) -> Layer:
    model, num_labels = config.model, Tokenizer(config.text).size
    frames_per_second = 1 / config.seconds_per_output_frame
    weights, norm = model.rnn_hidden_size * num_labels, 2 * model.rnn_hidden_size if model.head_batch_norm else 0
    num_parameters = weights + (num_labels if model.head_bias else 0) + norm
    gflop = 2 * weights * frames_per_second / 1e9
    return Layer("head", PARTS[2], "linear", (num_labels,), frames_per_second, num_parameters, norm, gflop)


def count_gflop_by_part(config: Config) -> dict[str, float]:
    """Arithmetic of recognising one second of audio by `PARTS`, in GFLOP."""
    layers = list_layers(config)
    return {part: sum(layer.gflop for layer in layers if layer.part == part) for part in PARTS}


def count_gflop_per_second(config: Config) -> float:
    """Arithmetic of recognising one second of audio, in GFLOP."""
    return sum(layer.gflop for layer in list_layers(config))


def describe_sizes(config: Config) -> str:
    """The network in a few words, such as "5 x 1024 lstm, 9.71 GFLOP": its arithmetic for a second of audio."""
    model = config.model
    direction = "" if model.bidirectional else " forward only"
    layers = f"{model.rnn_num_layers} x {model.rnn_hidden_size} {model.rnn_type}{direction}"
    return f"{layers}, {count_gflop_per_second(config):.2f} GFLOP"


def count_convolved_frames(model: ModelConfig) -> int:
    """Frames of features that the convolutions see for one frame of output; odd, as many on each side."""
    num_frames, distance = 1, 1  # distance: between the input frames of a layer, in frames of features
    for kernel, stride in zip(model.conv_kernel_time, model.conv_stride_time, strict=True):
        num_frames += (kernel - 1) * distance
        distance *= stride
    return num_frames


def count_lookahead_frames(model: ModelConfig) -> int | None:
    """Later frames of features that a frame of output depends on; None where that is the whole utterance."""
    return None if model.bidirectional else model.num_frames_ahead
