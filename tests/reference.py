"""Second implementations, in NumPy and float64, written for clearness and never for speed.

They take utterances one by one and know no padding: nothing can leak through what is not there.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.network_config import ModelConfig

Array = NDArray[np.float64]
Weight = NDArray[Any]  # float32 or float64
Weights = Mapping[str, Weight]
Statistics = list[tuple[Array, Array]]


def enumerate_ctc_loss(log_probs: Array, labels: Sequence[int], blank_id: int) -> float:
    """Negative log-likelihood of `labels`: the sum over every path there is that collapses to them.

    Args:
        log_probs: (S, V); V ** S paths are looked at.
        labels: L ids without the blank.
        blank_id: id of the blank.
    """
    num_frames, size = log_probs.shape
    likelihood = 0.0
    for path in itertools.product(range(size), repeat=num_frames):
        if [label for label, _ in itertools.groupby(path) if label != blank_id] == list(labels):
            likelihood += math.exp(sum(log_probs[frame, label] for frame, label in enumerate(path)))
    return -math.log(likelihood) if likelihood else math.inf


def log_softmax(logits: Array) -> Array:
    """Over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def find_slopes(score: Callable[[], float], array: Array, distance: float = 1e-5) -> Array:
    """Finite differences of `score` by each value of `array`, which it reads; the array is left as it was."""
    slopes = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        middle = array[place]
        array[place] = middle + distance
        above = score()
        array[place] = middle - distance
        slopes[place] = (above - score()) / (2 * distance)
        array[place] = middle
    return slopes


def convolve(x: Array, kernels: Weight, bias: Weight | float, stride: tuple[int, int]) -> Array:
    """(C, F, T) -> (C', F', S) with zeros around: half a kernel on each side."""
    height, width = kernels.shape[2:]
    x = np.pad(x, ((0, 0), (height // 2, height // 2), (width // 2, width // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width), (1, 2))  # type: ignore[call-overload]
    windows = windows[:, :: stride[0], :: stride[1]]  # (C, F', S, height, width)
    return np.asarray(np.einsum("cfshw,dchw->dfs", windows, kernels) + np.reshape(bias, (-1, 1, 1)))


def run_lstm(x: Array, weight_ih: Weight, weight_hh: Weight, bias: Weight) -> Array:
    """(S, I) -> (S, H); the gates are input, forget, cell, output."""
    hidden = cell = np.zeros(weight_hh.shape[1])
    outputs = []
    for frame in x:
        i, f, g, o = np.split(weight_ih @ frame + weight_hh @ hidden + bias, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.stack(outputs)


def run_gru(x: Array, weight_ih: Weight, weight_hh: Weight, bias_ih: Weight, bias_hh: Weight) -> Array:
    """(S, I) -> (S, H); the gates are reset, update, new, and the reset gate acts after the product."""
    hidden = np.zeros(weight_hh.shape[1])
    outputs = []
    for frame in x:
        reset_x, update_x, new_x = np.split(weight_ih @ frame + bias_ih, 3)
        reset_h, update_h, new_h = np.split(weight_hh @ hidden + bias_hh, 3)
        update = sigmoid(update_x + update_h)
        new = np.tanh(new_x + sigmoid(reset_x + reset_h) * new_h)
        hidden = (1 - update) * new + update * hidden
        outputs.append(hidden)
    return np.stack(outputs)


def look_ahead(x: Array, kernels: Weight) -> Array:
    """(S, H) -> (S, H): each frame sees itself and those that follow, zeros after the last; then a clipped ReLU."""
    num_ahead = kernels.shape[1]
    padded = np.concatenate([x, np.zeros((num_ahead - 1, x.shape[1]))])
    mixed = np.stack([(padded[s : s + num_ahead] * kernels.T).sum(0) for s in range(len(x))])
    return np.asarray(np.clip(mixed, 0, 20))


class Normaliser:
    """Batch norm over the concatenation of all frames of all utterances, feature by feature.

    Args:
        weights: gamma, beta, moving_mean, moving_variance under a prefix.
        epsilon: added to the variance.
        in_training: take the statistics from the batch, and leave them in `statistics`.
    """

    def __init__(self, weights: Weights, epsilon: float, in_training: bool) -> None:
        self.weights, self.epsilon, self.in_training = weights, epsilon, in_training
        self.statistics: Statistics = []

    def __call__(self, utterances: Sequence[Array], prefix: str, axis: int) -> list[Array]:
        """Normalise along the feature axis `axis` of each array."""
        moved = [np.moveaxis(x, axis, -1) for x in utterances]
        frames = np.concatenate([x.reshape(-1, x.shape[-1]) for x in moved])
        mean, variance = frames.mean(0), frames.var(0)
        self.statistics.append((mean, variance))
        if not self.in_training:
            mean = self.weights[f"{prefix}.moving_mean"].astype(np.float64)
            variance = self.weights[f"{prefix}.moving_variance"].astype(np.float64)
        gamma, beta = self.weights[f"{prefix}.gamma"], self.weights[f"{prefix}.beta"]
        normalised = [(x - mean) / np.sqrt(variance + self.epsilon) * gamma + beta for x in moved]
        return [np.moveaxis(x, -1, axis) for x in normalised]


def recognise(
    weights: Weights, config: ModelConfig, utterances: Sequence[NDArray[np.float32]], in_training: bool
) -> tuple[list[Array], Statistics]:
    """DeepSpeech2 from features to logits.

    Args:
        weights: by parameter name.
        config: sizes and switches.
        utterances: (T, F) each.
        in_training: whether batch norms take the statistics of this batch.

    Returns:
        Logits (S, V) of each utterance; mean and variance that each batch norm saw, from input to output.
    """
    normalise = Normaliser(weights, config.batch_norm_epsilon, in_training)
    xs = [features.T[None].astype(np.float64) for features in utterances]  # (T, F) -> (1, F, T)
    for i, stride in enumerate(zip(config.conv_stride_frequency, config.conv_stride_time, strict=True)):
        kernels, bias = weights[f"convs.{i}.conv.weight"], weights.get(f"convs.{i}.conv.bias", 0.0)
        xs = normalise([convolve(x, kernels, bias, stride) for x in xs], f"convs.{i}.batch_norm", 0)
        xs = [np.tanh(x) if config.activation == "tanh" else np.clip(x, 0, 20) for x in xs]
    xs = [np.moveaxis(x, 2, 0).reshape(x.shape[2], -1) for x in xs]  # (C, F, S) -> (S, C * F)
    for i in range(config.rnn_num_layers):
        if config.rnn_batch_norm and i > 0:
            xs = normalise(xs, f"rnn_batch_norms.{i - 1}", 1)
        xs = [run_recurrent(x, weights, f"rnns.{i}", config) for x in xs]
    if not config.bidirectional:
        xs = [look_ahead(x, weights["lookahead.conv.weight"][:, 0, 0]) for x in xs]
    if config.head_batch_norm:
        xs = normalise(xs, "head_batch_norm", 1)
    bias = weights.get("head.bias", 0.0)
    return [x @ weights["head.weight"].T + bias for x in xs], normalise.statistics


def run_recurrent(x: Array, weights: Weights, prefix: str, config: ModelConfig) -> Array:
    """One layer over one utterance (S, I) -> (S, H), both directions summed."""

    def run(frames: Array, direction: str) -> Array:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weight_ih, weight_hh, bias_ih, bias_hh = (weights[f"{prefix}.{direction}.{name}"] for name in names)
        if config.rnn_type == "gru":
            return run_gru(frames, weight_ih, weight_hh, bias_ih, bias_hh)
        return run_lstm(frames, weight_ih, weight_hh, bias_ih + bias_hh)

    output = run(x, "forward_rnn")
    return output + run(x[::-1], "backward_rnn")[::-1] if config.bidirectional else output


class Adam:
    """Adam in float64, as Kingma and Ba write it at the end of their section 2: epsilon is added to the root of the
    running square before its bias is corrected. Weight decay on arrays of two or more axes.

    Args:
        weights: changed in place.
        betas, epsilon, weight_decay: as in `OptimizerConfig`.
        decoupled: AdamW.
    """

    def __init__(
        self, weights: list[Array], betas: tuple[float, float], epsilon: float, weight_decay: float, decoupled: bool
    ) -> None:
        self.weights, self.betas, self.epsilon = weights, betas, epsilon
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.means = [np.zeros_like(weight) for weight in weights]
        self.squares = [np.zeros_like(weight) for weight in weights]
        self.num_steps = 0

    def step(self, gradients: Sequence[Array], learning_rate: float) -> None:
        """Update every weight once."""
        self.num_steps += 1
        (beta1, beta2), n = self.betas, self.num_steps
        rate = learning_rate * math.sqrt(1 - beta2**n) / (1 - beta1**n)
        for weight, gradient, mean, square in zip(self.weights, gradients, self.means, self.squares, strict=True):
            decay = self.weight_decay if weight.ndim > 1 else 0.0
            if self.decoupled:
                weight *= 1 - learning_rate * decay
            else:
                gradient = gradient + decay * weight
            mean += (1 - beta1) * (gradient - mean)
            square += (1 - beta2) * (gradient**2 - square)
            weight -= rate * mean / (np.sqrt(square) + self.epsilon)


class NesterovSGD:
    """Stochastic gradient descent with Nesterov momentum in float64, in PyTorch's form: the velocity is a sum of
    gradients, and meets the learning rate of the step that uses it.

    Args:
        weights: changed in place.
        momentum, weight_decay: as in `OptimizerConfig`.
    """

    def __init__(self, weights: list[Array], momentum: float, weight_decay: float) -> None:
        self.weights, self.momentum, self.weight_decay = weights, momentum, weight_decay
        self.velocities = [np.zeros_like(weight) for weight in weights]

    def step(self, gradients: Sequence[Array], learning_rate: float) -> None:
        """Update every weight once."""
        for weight, gradient, velocity in zip(self.weights, gradients, self.velocities, strict=True):
            slope = gradient + (self.weight_decay if weight.ndim > 1 else 0.0) * weight
            velocity *= self.momentum
            velocity += slope
            weight -= learning_rate * (slope + self.momentum * velocity)


class LAMB:
    """LAMB in float64, algorithm 2 of arXiv:1904.00962; arrays of one axis have neither decay nor trust ratio.

    Args:
        weights: changed in place.
        betas, epsilon, weight_decay: as in `OptimizerConfig`.
    """

    def __init__(self, weights: list[Array], betas: tuple[float, float], epsilon: float, weight_decay: float) -> None:
        self.weights, self.betas, self.epsilon, self.weight_decay = weights, betas, epsilon, weight_decay
        self.means = [np.zeros_like(weight) for weight in weights]
        self.squares = [np.zeros_like(weight) for weight in weights]
        self.num_steps = 0

    def step(self, gradients: Sequence[Array], learning_rate: float) -> None:
        """Update every weight once."""
        self.num_steps += 1
        beta1, beta2 = self.betas
        for i, (weight, gradient) in enumerate(zip(self.weights, gradients, strict=True)):
            self.means[i] = beta1 * self.means[i] + (1 - beta1) * gradient
            self.squares[i] = beta2 * self.squares[i] + (1 - beta2) * gradient**2
            mean = self.means[i] / (1 - beta1**self.num_steps)
            square = self.squares[i] / (1 - beta2**self.num_steps)
            ratio = mean / (np.sqrt(square) + self.epsilon)
            if weight.ndim > 1:
                ratio = ratio + self.weight_decay * weight
                ratio = ratio * np.linalg.norm(weight) / np.linalg.norm(ratio)
            weight -= learning_rate * ratio
