"""Which weights a run begins with, and which of them it trains."""

from collections.abc import Collection, Iterable, Mapping
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

Arrays = dict[str, NDArray[np.float32]]


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
        ConfigError: layers that begin anew are to stay as they are.
    """
    checkpoint = load_checkpoint(path)
    check_same_meaning(checkpoint.config, config, path)
    taken, fresh, note = fit_weights(checkpoint.weights, checkpoint.config, config, network)
    require_nothing_frozen(config, fresh)
    fill(network.weights(), taken | fresh, path)
    before, now = (1000 * each.seconds_per_output_frame for each in (checkpoint.config, config))
    frames = f"; it hears a frame each {now:g} ms, {before:g} ms before" if before != now else ""
    old, new = (each.features.normalization for each in (checkpoint.config, config))
    normalized = f"; its features are normalised by {new}, by {old} before" if old != new else ""
    return f"starting from the weights of {path}{frames}{normalized}{note}"


def require_nothing_frozen(config: Config, fresh: Collection[str]) -> None:
    """Make sure that a run keeps neither untrained weights nor statistics of batch norms that have heard nothing.

    Args:
        config: of the run.
        fresh: the weights that begin anew, running statistics among them, by name.

    Raises:
        ConfigError: `training.freeze` names such layers, or norms are frozen in all epochs.
    """
    frozen = [layer for layer in config.training.freeze if any(is_inside(name, layer) for name in fresh)]
    if frozen:
        raise ConfigError(
            f"training.freeze names {', '.join(frozen)}, but there are only random weights to keep; start from a "
            "checkpoint with --pre_trained_model_path that has such layers for this network, or freeze others"
        )
    if config.training.frozen_norm_share == 1 and any(name.endswith(".moving_mean") for name in fresh):
        raise ConfigError(
            "training.frozen_norm_share is 1, but there are no statistics to keep yet; choose less, or start from a "
            "checkpoint with --pre_trained_model_path that has them"
        )


def fit_weights(weights: Arrays, old: Config, new: Config, network: DeepSpeech2) -> tuple[Arrays, Arrays, str]:
    """Weights for a run whose labels are others, or whose network looks less or further ahead.

    Args:
        weights: of the checkpoint.
        old: the run they come from.
        new: the run that begins; `check_same_meaning` has seen both.
        network: fresh.

    Returns:
        The weights that are taken; those of layers that begin anew, as they are in `network`; and what has become of
        the checkpoint's, empty where all are taken as they are.
    """
    reasons = _list_new_layers(old, new)
    anew = dict.fromkeys(layer for layers, _ in reasons for layer in layers)

    def is_new(name: str) -> bool:
        return any(is_inside(name, layer) for layer in anew)

    fresh = {name: parameter.asnumpy().copy() for name, parameter in network.weights().items() if is_new(name)}
    taken = {name: array for name, array in weights.items() if not is_new(name)}
    if turned := _turns_forward(old, new):
        taken = {name: array for name, array in taken.items() if "backward_rnn" not in name.split(".")}
    taken, order = _reorder_head(taken, old.text, new.text)
    taken, lookahead = _fit_lookahead(taken, old.model, new.model)
    if not anew:
        return taken, fresh, order + lookahead
    direction = ", of recurrent layers the forward direction" if turned else ""
    note = (
        f"\n  taken: {', '.join(list_layers(taken))}{direction}"
        f"\n  NEW, untrained: {', '.join(list_layers(fresh))}, because {' and '.join(text for _, text in reasons)}"
    )
    return taken, fresh, order + lookahead + note


def _turns_forward(old: Config, new: Config) -> bool:
    return old.model.bidirectional and not new.model.bidirectional


def _list_new_layers(old: Config, new: Config) -> list[tuple[tuple[str, ...], str]]:
    """Layers that begin anew together, and why.

    Behind the last recurrent layer, that of two directions becoming one, since a lookahead with its clipped ReLU comes
    in between. With other labels the whole output layer, since its rows, one for each label, compete with each other.
    """
    found: list[tuple[tuple[str, ...], str]] = []
    if _turns_forward(old, new):
        found.append((("lookahead", "head_batch_norm", "head"), "two directions became one"))
    before, now = Tokenizer(old.text), Tokenizer(new.text)
    if sorted(before.symbols) != sorted(now.symbols):
        found.append((("head",), f"the labels are others: {before.describe()} before, {now.describe()} now"))
    return found


def _reorder_head(taken: Arrays, old: TextConfig, new: TextConfig) -> tuple[Arrays, str]:
    """The same labels, the blank among them, in another order take their rows along."""
    before, now = Tokenizer(old).symbols, Tokenizer(new).symbols
    head = {name: array for name, array in taken.items() if is_inside(name, "head")}
    if before == now or not head:
        return taken, ""
    rows = [before.index(symbol) for symbol in now]
    moved = {name: array[rows] for name, array in head.items()}
    return taken | moved, "; the labels have another order, and the rows of head went along"


def _fit_lookahead(taken: Arrays, old: ModelConfig, new: ModelConfig) -> tuple[Arrays, str]:
    """A lookahead of another length keeps the frames that both have, and does not see the others yet."""
    name, before, now = "lookahead.conv.weight", old.lookahead_frames, new.lookahead_frames
    if name not in taken or before == now:
        return taken, ""
    seen = taken[name][..., :now]
    unseen = np.zeros((*seen.shape[:-1], now - seen.shape[-1]), np.float32)
    fitted = {name: np.concatenate([seen, unseen], axis=-1)}
    return taken | fitted, f"\n  the lookahead has {now} frames, {before} before"


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
