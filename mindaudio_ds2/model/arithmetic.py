"""How much arithmetic a network does: multiplications and additions, each counted as one operation."""

from mindaudio_ds2.config import Config
from mindaudio_ds2.text.alphabet import Alphabet

GATES = {"lstm": 4, "gru": 3}


def count_gflop_by_part(config: Config) -> dict[str, float]:
    """Arithmetic of recognising one second of audio, part by part, in GFLOP.

    With f = 1 / hop_seconds frames of features a second, what a layer does for each of its frames is

    - a convolution: 2 * F' * C * C' * K_F * K_T for F' bins and C' channels of output, C channels of input and a kernel
      of K_F by K_T; f is divided by the time strides up to and including its own;
    - a recurrent layer: 2 * D * G * H * (I + H) for D directions, G gates (LSTM 4, GRU 3) and an input of I values,
      which is C' * F' in the first layer and H in all others; f is divided by all time strides;
    - the lookahead convolution of a network without backward direction: 2 * H * lookahead_frames;
    - the output layer: 2 * H * V.

    Padding at the borders of an utterance is counted as if it were audio; batch norms, activations, the loss and the
    optimiser are not counted. A step of training costs three times as much: forward, gradients of the inputs, gradients
    of the weights.

    Returns:
        GFLOP for a second of audio by "convolutions", "recurrent layers" and "output layer".
    """
    model = config.model
    frames_per_second = 1 / config.features.hop_seconds
    num_bins, num_channels, convolutions = config.features.num_bins, 1, 0.0
    for i, num_out in enumerate(model.conv_channels):
        frames_per_second /= model.conv_stride_time[i]
        num_bins = (num_bins - 1) // model.conv_stride_frequency[i] + 1
        taps = model.conv_kernel_frequency[i] * model.conv_kernel_time[i]
        convolutions += 2 * frames_per_second * num_bins * num_channels * num_out * taps
        num_channels = num_out
    hidden, num_directions = model.rnn_hidden_size, 2 if model.bidirectional else 1
    inputs = [num_channels * num_bins] + [hidden] * (model.rnn_num_layers - 1)
    recurrent = sum(2 * num_directions * GATES[model.rnn_type] * hidden * (size + hidden) for size in inputs)
    lookahead = 0 if model.bidirectional else 2 * hidden * model.lookahead_frames
    return {
        "convolutions": convolutions / 1e9,
        "recurrent layers": (recurrent + lookahead) * frames_per_second / 1e9,
        "output layer": 2 * hidden * Alphabet(config.text).size * frames_per_second / 1e9,
    }


def count_gflop_per_second(config: Config) -> float:
    """Arithmetic of recognising one second of audio, in GFLOP; the sum of `count_gflop_by_part`."""
    return sum(count_gflop_by_part(config).values())
