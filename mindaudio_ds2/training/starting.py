"""Where a run's first weights come from: its own last.ckpt, or the checkpoint of another run."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mindspore import Parameter
from numpy.typing import NDArray

from mindaudio_ds2.checkpoint import fill, load_checkpoint
from mindaudio_ds2.config import Config, TextConfig
from mindaudio_ds2.errors import CheckpointError, ConfigError
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
from mindaudio_ds2.training.layer_choice import is_inside, list_layers
from mindaudio_ds2.training.progress import Progress, check_same_meaning, check_same_run


def take_up(
    path: Path, config: Config, network: DeepSpeech2, optimizer_state: Mapping[str, Parameter], beginning: Progress
) -> Progress:
    """Take everything from a run's own last.ckpt.

    Args:
        path: of last.ckpt.
        config: of the run that goes on.
        network: gets the weights.
        optimizer_state: what was saved beside the weights; gets its values.
        beginning: of a new run with these utterances on this device.

    Returns:
        How far the run had come.

    Raises:
        CheckpointError: it is damaged, or belongs to other data or to a configuration that gives other numbers.
    """
    checkpoint = load_checkpoint(path)
    check_same_run(checkpoint.config, config, path)
    progress = Progress(**checkpoint.state)
    if progress.fingerprint != beginning.fingerprint:
        raise CheckpointError(
            f"{path} was trained on other utterances than {config.data.train_manifest} holds now, or with other noise "
            "or rooms than augmentation.noise_path and rir_path hold; restore them, or start a new run with --run_dir "
            "and --pre_trained_model_path"
        )
    if progress.dev_fingerprint not in ("", beginning.dev_fingerprint):
        raise CheckpointError(
            f"{path} was scored on other utterances than {config.data.dev_manifest} holds now, so that its best epoch "
            "means something else; restore them, or start a new run with --run_dir and --pre_trained_model_path"
        )
    progress.dev_fingerprint = beginning.dev_fingerprint
    progress.longest_seconds = beginning.longest_seconds
    if progress.has_fixed_shapes != beginning.has_fixed_shapes:
        if progress.batch or progress.finished:
            raise CheckpointError(
                f"{path} was saved in the middle of epoch {progress.epoch + 1}, whose batches were put together for "
                "another kind of device or for other kernels; finish that epoch with what it was begun with"
            )
        progress.has_fixed_shapes = beginning.has_fixed_shapes
    fill(network.weights(), checkpoint.weights, str(path))
    fill(optimizer_state, checkpoint.optimizer, str(path))
    return progress


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
    fill(network.weights(), weights, path)
    before, now = (1000 * each.seconds_per_output_frame for each in (checkpoint.config, config))
    frames = f"; it hears a frame each {now:g} ms, {before:g} ms before" if before != now else ""
    return f"starting from the weights of {path}{frames}{note}"


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
    """Weights for a run whose alphabet may be another one.

    The output layer has a row for each character and one for the blank. The same characters in another order take their
    rows along; with other characters the whole layer begins anew, since its rows compete with each other.

    Args:
        weights: of the checkpoint.
        old: the alphabet they were trained with.
        new: the alphabet of the run that begins.
        network: fresh; what is not taken is as it is there.

    Returns:
        Weights that fit the network, and what has become of the output layer; empty if nothing has.
    """
    before, now = _list_symbols(old), _list_symbols(new)
    if before == now:
        return dict(weights), ""
    is_head = {name: is_inside(name, "head") for name in weights}
    if sorted(before) == sorted(now):
        rows = [before.index(symbol) for symbol in now]
        moved = {name: array[rows] if is_head[name] else array for name, array in weights.items()}
        return moved, "; the alphabet has another order, and the rows of head went along"
    fresh = network.weights()
    taken = {name: fresh[name].asnumpy().copy() if is_head[name] else array for name, array in weights.items()}
    layers = list_layers(name for name in weights if not is_head[name])
    note = (
        f"\n  taken: {', '.join(layers)}"
        f"\n  NEW, with random weights: head, because the alphabet is another one: {old.characters!r} before, "
        f"{new.characters!r} now"
    )
    return taken, note


def _list_symbols(text: TextConfig) -> list[str]:
    """The characters in the order of their ids, and an empty text for the blank."""
    return ["", *text.characters] if text.blank == "first" else [*text.characters, ""]
