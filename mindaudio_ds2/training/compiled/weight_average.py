"""Averages of weights: a moving one over the steps of a run, and the mean of several checkpoints.

Both average the running statistics of batch norms by the same rule as the weights. Taken anew from the training set for
the averaged weights, they cost a pass over it and were no better (ARCHITECTURE.md, "The moving average").
"""

from collections.abc import Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from numpy.typing import NDArray

from mindaudio_ds2.checkpoint import load_checkpoint
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2


class MovingAverage(nn.Cell):
    """Exponential moving average of a network's weights and running statistics (Polyak and Juditsky 1992).

    After update t, counted from 0, the average moves to `d * average + (1 - d) * weight` with
    d = min(decay, (1 + t) / (10 + t)), so that it follows closely at first (as TensorFlow's ExponentialMovingAverage
    does when it is given num_updates). Has run on the CPU only.

    Args:
        network: that is trained.
        averaged: another of the same sizes, whose weights are set to the average.
        decay: share of the average that stays at each update.
    """

    def __init__(self, network: DeepSpeech2, averaged: DeepSpeech2, decay: float) -> None:
        super().__init__()
        averaged.update_parameters_name("averaged.")  # a graph wants different names; checkpoints go by `weights()`
        self.named = averaged.weights()
        self.weights = ParameterTuple(list(network.weights().values()))
        self.averages = ParameterTuple(list(self.named.values()))
        self.num_updates = Parameter(Tensor(0.0, ms.float32), name="num_averaged", requires_grad=False)
        self.decay = decay
        self.begin()

    def begin(self) -> None:
        """Set the average to the weights as they are. Call it again where those are set before the first step."""
        for average, weight in zip(self.averages, self.weights, strict=True):
            average.set_data(Tensor(weight.asnumpy().copy()))

    def construct(self) -> Tensor:
        """Move every average towards its weight.

        Returns:
            The share of the average that stayed, () float32.
        """
        count = self.num_updates + 0.0
        decay = ops.minimum((1 + count) / (10 + count), self.decay)
        for i, average in enumerate(self.averages):
            ops.assign(average, average + (self.weights[i] - average) * (1 - decay))
        return ops.depend(decay, ops.assign(self.num_updates, count + 1))

    def state(self) -> dict[str, Parameter]:
        """What must be saved beside the weights for an exact resume, by name."""
        averages = {f"average.{name}": average for name, average in self.named.items()}
        return {**averages, "num_averaged": self.num_updates}


def average_checkpoints(paths: Sequence[Path]) -> dict[str, NDArray[np.float32]]:
    """The mean of the weights and running statistics of several checkpoints of one run, taken in float64.

    Args:
        paths: at least one.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    for path in paths:  # one after another: a large network should not be in memory many times
        for name, array in load_checkpoint(path).weights.items():
            sums[name] = sums.get(name, np.zeros(array.shape)) + array
    return {name: (array / len(paths)).astype(np.float32) for name, array in sums.items()}
