"""Which weights the layer names of the configuration mean, and which are trained."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mindspore import Parameter

from mindaudio_ds2.config import TrainingConfig
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2, count_parameters
from mindaudio_ds2.model.masked_norm import MaskedBatchNorm


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
