"""Where a run's first weights come from: its own last.ckpt, or the checkpoint of another run."""

from collections.abc import Mapping
from pathlib import Path

from mindspore import Parameter

from mindaudio_ds2.checkpoint import fill, load_checkpoint
from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
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
            f"{path} was trained on other utterances than {config.data.train_manifest} holds now; "
            "restore the manifest, or start a new run with --run_dir and --pre_trained_model_path"
        )
    if progress.has_fixed_shapes != beginning.has_fixed_shapes:
        if progress.batch:
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
        CheckpointError: other features, another alphabet or network, or a damaged file.
    """
    checkpoint = load_checkpoint(path)
    check_same_meaning(checkpoint.config, config, path)
    fill(network.weights(), checkpoint.weights, path)
    return f"starting from the weights of {path}"
