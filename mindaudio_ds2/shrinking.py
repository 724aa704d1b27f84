"""Making the recurrent layers of a trained network narrower: structured pruning, to be followed by training."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.checkpoint import (
    build_network,
    fill,
    find_longest_seconds,
    load_checkpoint,
    require_fitting,
    save_checkpoint,
)
from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.model.arithmetic import GATES
from mindaudio_ds2.network_config import ModelConfig

Arrays = Mapping[str, NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Shrunk:
    """What was made of a network.

    Attributes:
        config: the narrower network's.
        num_before, num_after: values in all weights, running statistics included.
        kept_shares: of what all units of each recurrent layer send on, the part that comes from those that stay, a
            share of the sum of squares.
    """

    config: Config
    num_before: int
    num_after: int
    kept_shares: list[float]


def shrink_checkpoint(source: str | Path, output: str | Path, hidden_size: int) -> Shrunk:
    """Write `output`, a checkpoint of the network in `source` with fewer units in each recurrent layer.

    Args:
        source: a checkpoint, or a model's name.
        output: ends with `.ckpt`.
        hidden_size: units that stay in each layer and direction, those that matter most.

    Raises:
        CheckpointError: `source` cannot be used.
        ConfigError: it has no more units than that.
        OutputError: `output` cannot be written.
    """
    output = Path(output)
    source = models.require_checkpoint(source)
    models.require_new_checkpoint(output, source)
    checkpoint = load_checkpoint(source)
    model = checkpoint.config.model
    if not 0 < hidden_size < model.rnn_hidden_size:
        raise ConfigError(
            f"hidden_size is {hidden_size}, and the layers of {source} have {model.rnn_hidden_size} units; choose "
            "fewer, and at least 1"
        )
    whole = require_fitting(checkpoint, str(source))
    scores = [score_units(whole, model, layer) for layer in range(model.rnn_num_layers)]
    kept = [np.sort(np.argsort(-each, kind="stable")[:hidden_size]) for each in scores]
    narrow = dataclasses.replace(model, rnn_hidden_size=hidden_size)
    config = dataclasses.replace(checkpoint.config, model=narrow, run_dir=f"runs/{output.stem}")
    network = build_network(config)
    weights = {name: cut(name, array, kept, GATES[model.rnn_type]) for name, array in whole.items()}
    fill(network.weights(), weights, str(source))
    state = {"longest_seconds": find_longest_seconds(checkpoint)}
    save_checkpoint(output, config, network.weights(), {}, state)
    shares = [float(each[units].sum() / max(each.sum(), 1e-30)) for each, units in zip(scores, kept, strict=True)]
    return Shrunk(config, _count(whole), _count(weights), shares)


def score_units(weights: Arrays, model: ModelConfig, layer: int) -> NDArray[np.float64]:
    """How much the units of a recurrent layer matter to what comes after them, (H,).

    Unit j of both directions is one value of the layer's output, their sum, and so they stay or go together. Its score
    is the sum of the squares of what it adds to each gate that it reaches or, from the last layer, to each logit: of
    the norm of a matrix's column, times the deviation of what the column is multiplied by. A batch norm behind the
    layer knows both deviations: that of its output, and, by its running variance, that of the sum of both directions,
    which stands for each of them. Without one, and in front of a lookahead, the unit counts as if its deviation were 1.

    Args:
        weights: of the whole network.
        model: its sizes.
        layer: counted from 0.
    """
    deviation = output_deviation = np.ones(model.rnn_hidden_size)
    is_last = layer == model.rnn_num_layers - 1
    norm = "head_batch_norm" if is_last else f"rnn_batch_norms.{layer}"
    lookahead = weights.get("lookahead.conv.weight") if is_last else None
    if f"{norm}.gamma" in weights:
        variance = weights[f"{norm}.moving_variance"].astype(np.float64)
        output_deviation = weights[f"{norm}.gamma"] * np.sqrt(variance / (variance + model.batch_norm_epsilon))
        deviation = np.sqrt(variance) if lookahead is None else deviation
    elif lookahead is not None:
        output_deviation = np.sqrt(_sum_squares(lookahead.reshape(model.rnn_hidden_size, -1).T))
    readers = ["head.weight"] if is_last else _name_matrices(model, layer + 1, "weight_ih_l0")
    squares = output_deviation**2 * sum(_sum_squares(weights[name]) for name in readers)
    own = sum(_sum_squares(weights[name]) for name in _name_matrices(model, layer, "weight_hh_l0"))
    scores: NDArray[np.float64] = squares + deviation**2 * own
    return scores


def cut(name: str, array: NDArray[np.float32], kept: list[NDArray[np.intp]], num_gates: int) -> NDArray[np.float32]:
    """What stays of a weight.

    Args:
        name: as in `DeepSpeech2.weights()`.
        array: the whole weight.
        kept: the units that stay in each recurrent layer.
        num_gates: whose rows follow each other in the weights of a recurrent layer.
    """
    part, *places = name.split(".")
    if part == "rnns":
        layer, kind = int(places[0]), places[-1]
        gates = array.reshape(num_gates, -1, *array.shape[1:])
        rows = gates[:, kept[layer]].reshape(-1, *array.shape[1:])
        columns = {"weight_hh_l0": layer, "weight_ih_l0": layer - 1}.get(kind, -1)
        return rows[:, kept[columns]] if columns >= 0 else rows
    if part == "rnn_batch_norms":
        return array[kept[int(places[0])]]
    if part in ("lookahead", "head_batch_norm"):
        return array[kept[-1]]
    return array[:, kept[-1]] if name == "head.weight" else array


def _name_matrices(model: ModelConfig, layer: int, kind: str) -> list[str]:
    directions = ("forward_rnn", "backward_rnn") if model.bidirectional else ("forward_rnn",)
    return [f"rnns.{layer}.{direction}.{kind}" for direction in directions]


def _sum_squares(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each column."""
    squares: NDArray[np.float64] = np.square(matrix, dtype=np.float64).sum(axis=0)
    return squares


def _count(weights: Arrays) -> int:
    return sum(array.size for array in weights.values())
