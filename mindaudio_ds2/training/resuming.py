"""Whether a run may be taken up again, or begin with another run's weights, and taking it up."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mindspore import Parameter

from mindaudio_ds2.checkpoint import fill, load_checkpoint
from mindaudio_ds2.config import Config, flatten, to_mapping
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
from mindaudio_ds2.text.units import read_units
from mindaudio_ds2.training.progress import Progress
from mindaudio_ds2.training.runlog import LAST_CHECKPOINT
from mindaudio_ds2.training.schedule import has_looked_ahead

FREE_KEYS = (
    "run_dir",
    "device_target",
    "data.",
    "batching.prefetch_batches",
    "batching.num_workers",
    "batching.accumulation_steps",
    "processes.timeout_seconds",
    "training.early_stopping_epochs",
    "training.max_bad_steps",
    "training.checkpoint_every_minutes",
    "training.keep_every_epochs",
)
"""What may change between the parts of a run: the numbers do not depend on it. Accumulation may, because the number of
processes may; what counts is the product of both, and `Progress.change_parts` sees to that."""


LONGEST_SHOWN = 100
"""Characters of a value that an error shows."""


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
    progress = Progress(**checkpoint.state)
    check_same_run(checkpoint.config, config, progress, path)
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
    if progress.teacher != beginning.teacher:
        raise CheckpointError(
            f"{path} was taught by other weights than training.teacher, {config.training.teacher}, holds now; restore "
            "them, or start a new run with --run_dir and --pre_trained_model_path"
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


def settle_tokenizer(config: Config, resume: bool) -> Config:
    """The configuration with the units of its tokenizer: of the run that goes on, or else from the tokenizer's file.

    Args:
        config: of the run.
        resume: whether an earlier run in its folder goes on, if there is one.

    Raises:
        CheckpointError: last.ckpt cannot be used.
        ConfigError: the file cannot be read, or does not fit `text.characters`.
    """
    text, last = config.text, Path(config.run_dir) / LAST_CHECKPOINT
    if resume and text.tokenizer and not text.units and last.exists():
        before = load_checkpoint(last).config.text
        if before.tokenizer == text.tokenizer:  # else the comparison of both configurations says so
            text = replace(text, units=before.units, unit_scores=before.unit_scores)
    return replace(config, text=read_units(text))


def check_same_meaning(old: Config, new: Config, path: str | Path) -> None:
    """Make sure that weights mean the same in another run: with the same features and network.

    The labels are another matter, and so is how far a network looks ahead, see `weights.fit_weights`. So are the stride
    in time and the normalisation of features: no weight's shape depends on them, and a network that has learnt from
    long frames, or from features that their own utterance normalises, soon finds its way with shorter ones, and with
    those of a stream.

    Args:
        old: of the checkpoint.
        new: of the run that wants to start from its weights.
        path: of the checkpoint, for the error's text.

    Raises:
        CheckpointError: names the keys that differ, with both values.
    """
    free = ["rnn_dropout", "rnn_initialization", "batch_norm_momentum", "conv_stride_time", "lookahead_frames"]
    free = [f"model.{key}" for key in free]
    if old.features.normalization != new.features.normalization:
        free += [f"features.{key}" for key in ("normalization", "corpus_mean", "corpus_deviation")]
    if old.model.bidirectional and not new.model.bidirectional:
        free.append("model.bidirectional")
    differing = describe_difference(old, new, lambda key: key.startswith(("features.", "model.")) and key not in free)
    if differing:
        raise CheckpointError(
            f"{path} was trained with another {differing}; its weights mean nothing here. Give these keys the "
            "checkpoint's values, or start without it"
        )


def check_same_run(old: Config, new: Config, progress: Progress, path: Path) -> None:
    """Make sure that nothing that decides the numbers has changed between the parts of a run.

    Args:
        old: of the checkpoint.
        new: of the run that wants to go on.
        progress: of the checkpoint.
        path: of the checkpoint, for the error's text.

    Raises:
        CheckpointError: names the keys that differ, with both values; or says why the run cannot have another length.
    """
    num_epochs, before = new.training.epochs, old.training.epochs
    obstacle = find_obstacle(old, num_epochs, progress) if num_epochs != before else ""
    if obstacle:
        raise CheckpointError(
            f"{path} is of a run of {before} epochs and cannot go on to {num_epochs}: {obstacle}. Resume with "
            f"--training.epochs {before}, or start a new run from its weights with --run_dir and "
            f"--pre_trained_model_path {path.parent / 'best.ckpt'}"
        )
    differing = describe_difference(old, new, lambda key: not key.startswith((*FREE_KEYS, "training.epochs")))
    if differing:
        raise CheckpointError(
            f"{path} was trained with another {differing}; resume with the configuration in its folder "
            "(config.yaml), or start a new run with --run_dir and --pre_trained_model_path"
        )


def find_obstacle(old: Config, num_epochs: int, progress: Progress) -> str:
    """Why a run cannot go on to another number of epochs, with the numbers of one that was so long from the start.

    Args:
        old: of the run so far.
        num_epochs: wished for.
        progress: of the run.

    Returns:
        The reason; empty where there is none.
    """
    training, name = old.training, old.schedule.name
    done = progress.epoch + bool(progress.batch or progress.finished)
    if num_epochs < done:
        return f"it has come to epoch {done} already"
    if has_looked_ahead(old.schedule, done):
        return (
            f"schedule.name is {name}, whose learning rate has been falling towards the end of epoch "
            f"{training.epochs}; runs with constant, exponential or plateau can become longer"
        )
    if training.prune_share and done:
        return (
            f"training.prune_share is {training.prune_share:g}, and how many weights are zero by now depends on the "
            "number of epochs"
        )
    longer = replace(training, epochs=num_epochs)
    frozen_from = min(progress.plan_end(training)[0], progress.plan_end(longer)[0])
    if 0 < training.frozen_norm_share < 1 and done > frozen_from:
        return (
            f"training.frozen_norm_share is {training.frozen_norm_share:g}, and batch norms are or would be frozen "
            f"from epoch {frozen_from + 1} on"
        )
    if training.average_best and progress.epoch > 1 and len(progress.best_epochs) <= 1:
        return f"training.average_best is {training.average_best}, and the checkpoints of the best epochs are averaged"
    return ""


def describe_difference(old: Config, new: Config, counts: Callable[[str], bool]) -> str:
    """The keys of two configurations that differ, among those that count, with both values; empty if none does.

    Of long values, such as the means of a corpus or the units of a tokenizer, only how many there are.
    """
    before, now = flatten(to_mapping(old)), flatten(to_mapping(new))
    differing = [key for key in before if before[key] != now[key] and counts(key)]
    return ", ".join(f"{key} ({_describe_change(before[key], now[key])})" for key in differing)


def _describe_change(before: object, now: object) -> str:
    old, new = _show_value(before), _show_value(now)
    return f"{old}, now {new if new != old else 'others'}"


def _show_value(value: object) -> str:
    text = repr(value)
    if len(text) <= LONGEST_SHOWN or not isinstance(value, list | str):
        return text
    if isinstance(value, str):
        return f"{len(value)} characters"
    return f"{len(value)} {'numbers' if all(isinstance(each, int | float) for each in value) else 'texts'}"
