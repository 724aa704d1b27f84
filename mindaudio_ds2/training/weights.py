"""Which weights a run begins with, and which of them it trains."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from mindspore import Parameter
from numpy.typing import NDArray

from mindaudio_ds2.checkpoint import fill, load_checkpoint
from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2, count_parameters
from mindaudio_ds2.model.masked_norm import MaskedBatchNorm
from mindaudio_ds2.network_config import ModelConfig, TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.training.resuming import check_same_meaning
from mindaudio_ds2.training_config import TrainingConfig


def start_from(path: str, config: Config, network: DeepSpeech2) -> str:
    """Take only the weights of another run's checkpoint.

    Args:
        path: of the checkpoint.
        config: of the run that begins.
        network: gets the weights.

    Returns:
        What was taken, for the log.

    Raises:
        CheckpointError: other features, another network, or a damaged file.
    """
    checkpoint = load_checkpoint(path)
    check_same_meaning(checkpoint.config, config, path)
    weights, note = fit_head(checkpoint.weights, checkpoint.config.text, config.text, network)
    weights, view = fit_view(weights, checkpoint.config.model, config.model, network)
    if checkpoint.config.model.bidirectional and not config.model.bidirectional:
        note = ""  # the output layer begins anew for another reason
    fill(network.weights(), weights, path)
    before, now = (1000 * each.seconds_per_output_frame for each in (checkpoint.config, config))
    frames = f"; it hears a frame each {now:g} ms, {before:g} ms before" if before != now else ""
    old, new = (each.features.normalization for each in (checkpoint.config, config))
    normalized = f"; its features are normalised by {new}, by {old} before" if old != new else ""
    return f"starting from the weights of {path}{frames}{normalized}{note}{view}"


def require_nothing_frozen(config: Config) -> None:
    """Make sure that a run which starts from random weights keeps neither them nor the statistics of batch norms.

    Raises:
        ConfigError: `training.freeze` names layers, or norms are frozen in all epochs.
    """
    if config.training.freeze:
        raise ConfigError(
            f"training.freeze is {config.training.freeze}, but there are only random weights to keep; start from a "
            "checkpoint with --pre_trained_model_path"
        )
    if config.training.frozen_norm_share == 1:
        raise ConfigError(
            "training.frozen_norm_share is 1, but there are no statistics to keep yet; choose less, or start from a "
            "checkpoint with --pre_trained_model_path"
        )


def fit_head(
    weights: Mapping[str, NDArray[np.float32]], old: TextConfig, new: TextConfig, network: DeepSpeech2
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Weights for a run whose labels may be others.

    The output layer has a row for each label, the blank among them. The same labels in another order take their rows
    along; with others the whole layer begins anew, since its rows compete with each other.

    Args:
        weights: of the checkpoint.
        old: the labels they were trained with.
        new: the labels of the run that begins.
        network: fresh; what is not taken is as it is there.

    Returns:
        Weights that fit the network, and what has become of the output layer; empty if nothing has.
    """
    before, now = Tokenizer(old).symbols, Tokenizer(new).symbols
    if before == now:
        return dict(weights), ""
    is_head = {name: is_inside(name, "head") for name in weights}
    if sorted(before) == sorted(now):
        rows = [before.index(symbol) for symbol in now]
        moved = {name: array[rows] if is_head[name] else array for name, array in weights.items()}
        return moved, "; the labels have another order, and the rows of head went along"
    fresh = network.weights()
    taken = {name: fresh[name].asnumpy().copy() if is_head[name] else array for name, array in weights.items()}
    layers = list_layers(name for name in weights if not is_head[name])
    note = (
        f"\n  taken: {', '.join(layers)}"
        f"\n  NEW, with random weights: head, because the labels are others: {Tokenizer(old).describe()} before, "
        f"{Tokenizer(new).describe()} now"
    )
    return taken, note


def fit_view(
    weights: Mapping[str, NDArray[np.float32]], old: ModelConfig, new: ModelConfig, network: DeepSpeech2
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Weights for a network that looks less or further ahead.

    A forward-only network takes the forward direction of a two-sided one. What stands behind the last recurrent layer
    begins anew, since there the lookahead with its clipped ReLU comes in between. A lookahead of another length keeps
    the frames that both have, and does not see the others yet.

    Args:
        weights: of the checkpoint.
        old: the network they were trained in.
        new: the network of the run that begins.
        network: fresh; what is not taken is as it is there.

    Returns:
        Weights that fit the network, and what was done; empty if nothing was.
    """
    if old.bidirectional and not new.bidirectional:
        is_new = {name: name.split(".")[0] in ("lookahead", "head_batch_norm", "head") for name in network.weights()}
        fresh = {name: p.asnumpy().copy() for name, p in network.weights().items() if is_new[name]}
        taken = {name: array for name, array in weights.items() if not is_new.get(name, True)}
        note = (
            f"\n  taken: {', '.join(list_layers(taken))}, of recurrent layers the forward direction"
            f"\n  NEW, with random weights: {', '.join(list_layers(fresh))}, because two directions became one"
        )
        return taken | fresh, note
    before, now = old.lookahead_frames, new.lookahead_frames
    if new.bidirectional or old.bidirectional or before == now:
        return dict(weights), ""
    name = "lookahead.conv.weight"
    seen = weights[name][..., :now]
    unseen = np.zeros((*seen.shape[:-1], now - seen.shape[-1]), np.float32)
    note = f"\n  the lookahead has {now} frames, {before} before"
    return dict(weights) | {name: np.concatenate([seen, unseen], axis=-1)}, note


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """What the optimiser gets.

    Attributes:
        parameters: that are trained, from input to output.
        factors: of the learning rate, one for each of them.
        num_parameters: numbers in all weights of the network, the frozen ones included.
    """

    parameters: list[Parameter]
    factors: list[float]
    num_parameters: int

    @property
    def num_trained(self) -> int:
        """Numbers that are trained."""
        return sum(parameter.size for parameter in self.parameters)


def choose_trained(network: DeepSpeech2, config: TrainingConfig) -> TrainedWeights:
    """Choose what is trained, and freeze the rest.

    A name means all weights below it: `rnns` all recurrent layers, `rnns.2` the third, `head` the output layer (and not
    `head_batch_norm`). A batch norm that is frozen also keeps its running statistics, and normalises with them.

    Args:
        network: its frozen batch norms are told so.
        config: `freeze` and `learning_rate_factors`.

    Raises:
        ConfigError: a name that the network does not have, or nothing is left to be trained.
    """
    weights = network.weights()
    _require_known(config.freeze, weights, "training.freeze")
    _require_known(config.learning_rate_factors, weights, "training.learning_rate_factors")
    frozen = {name for name in weights if any(is_inside(name, layer) for layer in config.freeze)}
    for path, cell in network.cells_and_names():
        if isinstance(cell, MaskedBatchNorm):
            cell.is_frozen = f"{path}.gamma" in frozen
    trained = {name: p for name, p in weights.items() if p.requires_grad and name not in frozen}
    if not trained:
        raise ConfigError(f"training.freeze is {config.freeze}, which leaves nothing to be trained; name fewer layers")
    factors = [_find_factor(name, config.learning_rate_factors) for name in trained]
    return TrainedWeights(list(trained.values()), factors, count_parameters(network))


def is_inside(name: str, layer: str) -> bool:
    """Whether a weight belongs to the layer of that name.

    Args:
        name: of a weight, as in `DeepSpeech2.weights()`.
        layer: any beginning of such names that ends where a dot is.
    """
    return name == layer or name.startswith(f"{layer}.")


def list_layers(names: Iterable[str]) -> list[str]:
    """The layers that weights belong to, from input to output: convs.0, convs.1, rnns.0, ..., head.

    Args:
        names: of weights, as in `DeepSpeech2.weights()`.
    """
    split = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(parts[: 2 if parts[1].isdigit() else 1]) for parts in split))


def _require_known(layers: Iterable[str], weights: Mapping[str, Parameter], key: str) -> None:
    unknown = [layer for layer in layers if not any(is_inside(name, layer) for name in weights)]
    if unknown:
        raise ConfigError(
            f"{key} names {', '.join(unknown)}, which this network does not have; its layers are "
            f"{', '.join(list_layers(weights))}"
        )


def _find_factor(name: str, factors: Mapping[str, float]) -> float:
    """The factor of the longest layer name that a weight is inside; 1 where there is none."""
    layers = [layer for layer in factors if is_inside(name, layer)]
    return factors[max(layers, key=len)] if layers else 1.0
