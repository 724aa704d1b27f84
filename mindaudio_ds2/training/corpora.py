"""What a run reads at its beginning, and what may be wrong with it: found before MindSpore is started."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mindaudio_ds2 import models
from mindaudio_ds2.audio.sound_pool import list_pool
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.decoding.choice import DecoderChoice, make_choice
from mindaudio_ds2.errors import CheckpointError, OutputError
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.ops.library import find_kernels
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.text.units import read_units
from mindaudio_ds2.training.runlog import LAST_CHECKPOINT, require_new_or_resumable
from mindaudio_ds2.training.training_set import TrainingSet, read_training_set, require_audio


@dataclass(frozen=True, slots=True, eq=False)
class Corpora:
    """What a run trains on, and the utterances that it is scored on after each epoch.

    Attributes:
        text: of the configuration, with the units that transcripts were encoded in.
        training_set: what is trained on.
        dev_utterances: scored after each epoch.
    """

    text: TextConfig
    training_set: TrainingSet
    dev_utterances: Sequence[Utterance]


def read_corpora(config: Config) -> Corpora:
    """Read both manifests, and look for the audio of both.

    Args:
        config: of the run, with the units of its tokenizer.

    Raises:
        ManifestError, AudioError, TrainingError: as `read_training_set`, of either manifest.
    """
    training_set = read_training_set(config)
    dev_utterances = open_manifest(config.data.dev_manifest, config.data.root)
    require_audio(dev_utterances, config.data.dev_manifest)
    return Corpora(config.text, training_set, dev_utterances)


def check_start(config: Config, resume: bool, pre_trained_model_path: str | None, is_first: bool) -> Corpora | None:
    """Find what would end a run at its beginning, without MindSpore.

    Args:
        config, resume, pre_trained_model_path: as of `trainer.train`.
        is_first: whether this is the process that uses the run folder and the checkpoint; others may not have them.

    Returns:
        What was read on the way; None where only last.ckpt knows the units that transcripts are made of.

    Raises:
        ConfigError, ManifestError, AudioError, CheckpointError, LanguageModelError, TrainingError, OutputError: as
            each says.
    """
    has_last = resume and (Path(config.run_dir) / LAST_CHECKPOINT).exists()
    if is_first:
        _require_folder(Path(config.run_dir), resume)
    if is_first and pre_trained_model_path and not has_last:
        models.require_checkpoint(pre_trained_model_path)
    if is_first and config.training.teacher:
        try:
            models.require_checkpoint(config.training.teacher)
        except CheckpointError as error:
            raise CheckpointError(f"training.teacher: {error}") from None
    list_pool(config.augmentation.rir_path, "augmentation.rir_path")
    list_pool(config.augmentation.noise_path, "augmentation.noise_path")
    if config.text.tokenizer and not config.text.units and has_last:
        return None
    config = replace(config, text=read_units(config.text))
    choice = make_choice(config.decoding) or DecoderChoice()
    library = find_kernels("auto", "CPU") if choice.kind == "beam" else None
    choice.open(Tokenizer(config.text), config.seconds_per_output_frame, library)
    return read_corpora(config)


def _require_folder(folder: Path, resume: bool) -> None:
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    try:
        tempfile.TemporaryDirectory(dir=nearest).cleanup()
    except OSError as error:  # of /proc and the like no permission tells
        reason = f"may not be written ({error.strerror})" if nearest.is_dir() else "is a file"
        raise OutputError(f"cannot write into run_dir {folder}: {nearest} {reason}; choose another --run_dir") from None
    require_new_or_resumable(folder, resume)
