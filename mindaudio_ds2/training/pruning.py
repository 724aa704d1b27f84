"""Setting the smallest weights of a network to zero while it is trained."""

import re
from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.training.compiled.optimizer import Optimizer

PRUNED = re.compile(r"rnns\.\d+\.(forward|backward)_rnn\.weight_(ih|hh)_l0|head\.weight")
"""The matrices of recurrent layers and of the output layer. Convolutions have 2 % of the weights and most of the
arithmetic for each, norms and biases next to nothing."""


class Pruner:
    """Sets the smallest weights of each large matrix to zero, more and more of them, and all that goes with them.

    That is the optimiser's averages, so that nothing moves the weight again, and the moving average, which is scored
    and kept. That a zero stays one is up to the step, which gives it no gradient: so the weights alone say which are
    pruned, and a run that goes on needs to know no more.

    Args:
        weights: of the network, by name.
        optimizer: what it does not train is not pruned.
        averaged: the moving average, by the same names; empty where there is none.
        final_share: of zeros, at the end.

    Attributes:
        is_pruned: whether each of the optimiser's weights is pruned.
        share: of zeros, so far; 0 in a run that goes on, until it is told.

    Raises:
        ConfigError: no weight would become zero, or none of a matrix would be left.
    """

    def __init__(
        self,
        weights: Mapping[str, Parameter],
        optimizer: Optimizer,
        averaged: Mapping[str, Parameter],
        final_share: float,
    ) -> None:
        names = {id(parameter): name for name, parameter in weights.items()}
        trained = [names[id(parameter)] for parameter in optimizer.weights]
        _require_some_zeros({name: weights[name].size for name in trained if PRUNED.fullmatch(name)}, final_share)
        self.is_pruned = tuple(bool(PRUNED.fullmatch(name)) for name in trained)
        self.groups: list[tuple[Parameter, list[Parameter]]] = []
        for i, name in enumerate(trained):
            if self.is_pruned[i]:
                followers = [many[i] for many in optimizer.averages.values()]
                self.groups.append((weights[name], followers + ([averaged[name]] if averaged else [])))
        self.share = 0.0

    @property
    def num_weights(self) -> int:
        """Numbers in all pruned matrices."""
        return sum(weight.size for weight, _ in self.groups)

    @property
    def zero_share(self) -> float:
        """The share of zeros in all pruned matrices as they are, those of an earlier pruning among them."""
        return 1 - sum(np.count_nonzero(weight.asnumpy()) for weight, _ in self.groups) / self.num_weights

    def prune(self, share: float) -> None:
        """Let so many weights of each matrix be zero. Where they are already, nothing changes.

        Args:
            share: of zeros; nothing happens unless it is more than before.
        """
        if share <= self.share:
            return
        self.share = share
        for weight, followers in self.groups:
            is_kept = find_kept(weight.asnumpy(), share)
            for parameter in (weight, *followers):
                # MindSpore 2.10 loses what `set_data` sets on an optimiser's state once the step is compiled
                ops.assign(parameter, Tensor(parameter.asnumpy() * is_kept))


def _require_some_zeros(sizes: Mapping[str, int], share: float) -> None:
    """Make sure that pruning to this share leaves some zeros, and some weights of each matrix.

    Args:
        sizes: of the matrices that are trained and can be pruned (count), by name.
        share: of zeros at the end.

    Raises:
        ConfigError: says which it is, and what to do.
    """
    if not sizes:
        raise ConfigError(
            f"training.prune_share is {share:g}, but training.freeze keeps all that could be pruned, the recurrent and "
            "output matrices; freeze less, or set training.prune_share to 0"
        )
    num_zeros = {name: round(share * size) for name, size in sizes.items()}
    if not any(num_zeros.values()):
        raise ConfigError(f"training.prune_share is {share:g}, which makes no weight zero; choose more, or 0 for none")
    smallest = min(sizes, key=lambda name: sizes[name])
    if num_zeros[smallest] == sizes[smallest]:
        raise ConfigError(
            f"training.prune_share is {share:g}, which leaves none of the {sizes[smallest]:,} weights of {smallest}; "
            "choose less; 0.8, say"
        )


def find_kept(weight: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Which weights of a matrix are not among the smallest.

    Args:
        weight: of any shape.
        share: of all that are not kept, rounded to whole weights; of equally large ones all are kept or none.
    """
    sizes = np.abs(weight)
    num_zeros = round(share * weight.size)
    if num_zeros == 0:
        return np.ones(weight.shape, np.bool_)
    is_kept: NDArray[np.bool_] = sizes > np.partition(sizes, num_zeros - 1, axis=None)[num_zeros - 1]
    return is_kept


def measure_zeros(weights: Mapping[str, NDArray[np.float32]]) -> float:
    """The share of zeros in all matrices of a network that can be pruned.

    Args:
        weights: of a checkpoint.
    """
    pruned = [array for name, array in weights.items() if PRUNED.fullmatch(name)]
    return 1 - sum(map(np.count_nonzero, pruned)) / sum(array.size for array in pruned)
