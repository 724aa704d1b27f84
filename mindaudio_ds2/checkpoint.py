"""Checkpoints that describe themselves: weights, and the configuration that gives them meaning.

A checkpoint is an ordinary MindSpore `.ckpt` with checksums. Beside the weights it holds one text entry named
`mindaudio_ds2`: JSON with the format's version, the whole configuration (features, labels, network), and the state of
the training. `last.ckpt` also holds the optimiser's moments, under `optimizer.`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.errors import CheckpointError, ConfigError
from mindaudio_ds2.files import write_atomically
from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.model.arithmetic import list_layers
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
from mindaudio_ds2.reading import ReadError, parse_json
from mindaudio_ds2.text.tokenizer import Tokenizer

ENTRY = "mindaudio_ds2"
FORMAT_VERSION = 14
OLDEST_FORMAT_VERSION = 7
"""Older ones were of development only; once a version is released, its format stays readable."""
AUGMENTATION_NEW_IN_10: dict[str, Any] = {
    "join_probability": 0.0,
    "join_max_utterances": 3,
    "join_max_seconds": 20.0,
    "tempo_probability": 0.0,
    "tempo_range": [0.9, 1.1],
    "silence_probability": 0.0,
    "silence_range_seconds": [0.0, 1.0],
    "silence_level_range_db": [-80.0, -50.0],
    "synthetic_rir_probability": 0.0,
    "synthetic_rir_range_seconds": [0.1, 0.6],
    "synthetic_noise_probability": 0.0,
    "synthetic_noise_kinds": ["white", "pink", "babble"],
    "clip_probability": 0.0,
    "clip_range_db": [3.0, 15.0],
    "low_pass_probability": 0.0,
    "low_pass_range_hz": [2000.0, 7000.0],
    "telephone_probability": 0.0,
    "codec_probability": 0.0,
    "codecs": ["mp3", "opus", "mu_law", "a_law", "gsm"],
    "codec_range_kbps": [12.0, 48.0],
}
"""Silence, joining, tempo, telephones, codecs and what needs no files: all off."""
DECODING_NEW_IN_11: dict[str, Any] = {
    "decoder": None,
    "lm": None,
    "hotwords": None,
    "nbest": None,
    "beam_width": None,
    "lm_weight": None,
    "word_bonus": None,
}
TRAINING_NEW_IN_12: dict[str, Any] = {"teacher": None, "teacher_weight": 0.5}
TRAINING_NEW_IN_13: dict[str, Any] = {"prune_share": 0.0, "prune_end_share": 0.5}
OPTIMIZER_PREFIX = "optimizer."
MAX_SMALL_WEIGHTS = 1_000_000  # a network of so many is built without a thought
CHECKSUM_MARK, CHECKSUM_BYTES = b"crc_num", 17  # how MindSpore ends a file with a checksum


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        config: what the network was trained with.
        weights: by parameter name; float32 arrays.
        optimizer: the optimiser's state by parameter name; empty where there is none.
        state: how far training had come; empty for a model that is not to be resumed.
    """

    config: Config
    weights: dict[str, NDArray[np.float32]]
    optimizer: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: str | Path,
    config: Config,
    weights: Mapping[str, Parameter],
    optimizer: Mapping[str, Parameter],
    state: dict[str, Any],
) -> None:
    """Write a checkpoint aside and rename it; whatever stood at `path` stays whole if that fails.

    Args:
        path: ends with `.ckpt`.
        config: what the network is trained with.
        weights: `DeepSpeech2.weights()`.
        optimizer: `Optimizer.state()`; empty to leave it out.
        state: plain values that JSON can hold.

    Raises:
        OutputError: no space, no permission.
    """
    entry = {"format_version": FORMAT_VERSION, "config": to_mapping(config), "state": state}
    # copies: MindSpore frees or overwrites a parameter's memory while graphs run
    named = {**weights, **{OPTIMIZER_PREFIX + name: parameter for name, parameter in optimizer.items()}}
    rows = [{"name": name, "data": Tensor(parameter.asnumpy().copy())} for name, parameter in named.items()]

    def write(partial: Path) -> None:
        try:
            ms.save_checkpoint(rows, str(partial), append_dict={ENTRY: json.dumps(entry)}, crc_check=True)
        except (RuntimeError, ValueError) as error:  # MindSpore hides the OSError behind these
            raise OSError(str(error).strip().split("\n")[0]) from error
        finally:
            partial.with_suffix(".tmp").unlink(missing_ok=True)  # what MindSpore writes first, and leaves if it fails
        partial.chmod(0o644)

    write_atomically(Path(path), write)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint: of a path, or of a model's name. Weights stored as float16 come back as float32.

    Raises:
        CheckpointError: missing, damaged, not ours, or of a format that is newer, or older than any release.
    """
    path = models.require_checkpoint(path)
    entries = _read_entries(path)
    text = entries.pop(ENTRY, None)
    if not isinstance(text, str):
        raise CheckpointError(
            f"checkpoint {path} was not written by this package: it has no entry {ENTRY!r} that tells its features, "
            "labels and network"
        )
    try:
        entry = parse_json(text)
        version = entry["format_version"]
        state = entry.get("state", {})  # a newer format may keep it elsewhere, and is refused below
    except (ReadError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: its entry {ENTRY!r} cannot be read ({error})") from None
    if version not in range(OLDEST_FORMAT_VERSION, FORMAT_VERSION + 1):
        raise CheckpointError(
            f"checkpoint {path} has format {version}, this package reads {OLDEST_FORMAT_VERSION} to {FORMAT_VERSION}; "
            "use the package version that wrote it, or a newer one"
        )
    try:
        _upgrade(entry["config"], version)
        config = from_mapping(entry["config"], str(path))
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {path} holds a configuration that this version cannot use: {error}"
        ) from error
    arrays = {name: _widen(parameter.asnumpy()) for name, parameter in entries.items()}
    weights = {name: array for name, array in arrays.items() if not name.startswith(OPTIMIZER_PREFIX)}
    optimizer = {
        name.removeprefix(OPTIMIZER_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(OPTIMIZER_PREFIX)
    }
    return Checkpoint(config, weights, optimizer, state)


def _widen(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def find_longest_seconds(checkpoint: Checkpoint) -> float:
    """The longest recording that a network was trained on (seconds); where its checkpoint is older than that entry, or
    was imported, the most that `data.max_duration_seconds` allowed."""
    seconds = checkpoint.state.get("longest_seconds")
    if isinstance(seconds, float) and 0 < seconds < float("inf"):
        return seconds
    return checkpoint.config.data.max_duration_seconds


def _upgrade(config: dict[str, Any], version: int) -> None:
    """Give a configuration of an older format the keys that came later, with the values that change nothing."""
    if version < 8:
        config["features"] |= {"normalization": "utterance", "corpus_mean": [], "corpus_deviation": []}
    if version < 9:
        config["data"]["root"] = None
        config["batching"]["num_workers"] = 0
    if version < 10:
        config["augmentation"] = {**AUGMENTATION_NEW_IN_10, **config["augmentation"]}
    if version < 11:
        config["text"] |= {"tokenizer": None, "units": [], "unit_scores": []}
        config["decoding"] = DECODING_NEW_IN_11
    if version < 12:
        config["training"] |= TRAINING_NEW_IN_12
    if version < 13:
        config["training"] |= TRAINING_NEW_IN_13
    if version < 14:
        config["augmentation"]["unit_sampling"] = 0.0


def _read_entries(path: Path) -> dict[str, Any]:
    """Everything in a checkpoint, by name, after a comparison with the checksum at its end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - CHECKSUM_BYTES))
            if not file.read().startswith(CHECKSUM_MARK):
                # MindSpore 2.10 only warns, and reads what there is of a file cut between two of its entries
                raise ValueError("it does not end with a checksum")
        entries: dict[str, Any] = ms.load_checkpoint(str(path.resolve()), crc_check=True)
    except PermissionError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}; make it readable") from None
    except Exception:  # of many kinds, whose texts blame permissions and the like for damage
        raise CheckpointError(
            f"checkpoint {path} is damaged, or was not written by this package; {_name_another(path)}"
        ) from None
    return entries


def _name_another(path: Path) -> str:
    best, last = path.with_name("best.ckpt"), path.with_name("last.ckpt")
    if path.name != best.name and best.is_file():
        return f"use {best}; to train on, start a new run with --run_dir and --pre_trained_model_path {best}"
    there = path.name != last.name and last.is_file()
    return f"use another one, such as {last}" if there else "use another one"


def fill(parameters: Mapping[str, Parameter], arrays: Mapping[str, NDArray[np.float32]], source: str) -> None:
    """Set every parameter from `arrays`, strictly; nothing is changed unless all fit.

    Call it before the first step: MindSpore 2.10 loses what is set on an optimiser's state once the step is compiled.

    Args:
        parameters: `DeepSpeech2.weights()` or `Optimizer.state()`.
        arrays: by the same names.
        source: where the arrays come from, for the error's text.

    Raises:
        CheckpointError: lists every missing, unknown and wrongly shaped entry, and those that are no finite numbers.
    """
    problems = [f"missing {name}" for name in parameters if name not in arrays]
    problems += [f"unknown {name}" for name in arrays if name not in parameters]
    problems += [
        f"{name} has shape {arrays[name].shape}, the network's has {tuple(parameter.shape)}"
        for name, parameter in parameters.items()
        if name in arrays and arrays[name].shape != tuple(parameter.shape)
    ]
    problems += [
        f"{name} is complex, or holds NaN or infinity: a network of such weights recognises nothing"
        for name, array in arrays.items()
        if name in parameters and (np.iscomplexobj(array) or not np.isfinite(array).all())
    ]
    if problems:
        shown = "\n  ".join(problems)
        raise CheckpointError(
            f"{source} does not fit this network; use the configuration it was trained with:\n  {shown}"
        )
    for name, parameter in parameters.items():
        parameter.set_data(Tensor(arrays[name]))


def build_network(config: Config, backend: Backend = STOCK) -> DeepSpeech2:
    """A network with fresh weights, of the sizes that the configuration gives.

    Args:
        config: the network's sizes, features and labels.
        backend: how this process computes, from `runtime.start`.
    """
    return DeepSpeech2(config.model, config.features.num_bins, Tokenizer(config.text).size, backend)


def check_size(config: Config, num_held: int, source: str) -> None:
    """Before memory is taken for a network: a small file may claim a huge one.

    Args:
        config: what the file claims.
        num_held: how many numbers it holds.
        source: the file, for the error's text.

    Raises:
        CheckpointError: the network would be much larger.
    """
    num_claimed = sum(layer.num_parameters + layer.num_statistics for layer in list_layers(config))
    if num_claimed > 2 * num_held + MAX_SMALL_WEIGHTS:
        raise CheckpointError(
            f"{source} does not fit this network: it holds {num_held:,} numbers, and its configuration is that of a "
            f"network of {num_claimed:,}. It is damaged, or was made to fill memory; use another one"
        )


def require_fitting(checkpoint: Checkpoint, source: str) -> Mapping[str, NDArray[np.float32]]:
    """The weights of a checkpoint, made sure of to be those of the network that it describes.

    Raises:
        CheckpointError: they are not.
    """
    check_size(checkpoint.config, sum(array.size for array in checkpoint.weights.values()), source)
    fill(build_network(checkpoint.config).weights(), checkpoint.weights, source)
    return checkpoint.weights


def restore_network(checkpoint: Checkpoint, source: str, backend: Backend = STOCK) -> DeepSpeech2:
    """The network of a checkpoint, ready for evaluation.

    Args:
        checkpoint: weights and configuration.
        source: where it comes from, for the error's text.
        backend: as in `build_network`.

    Raises:
        CheckpointError: weights and configuration disagree.
    """
    check_size(checkpoint.config, sum(array.size for array in checkpoint.weights.values()), source)
    network = build_network(checkpoint.config, backend)
    fill(network.weights(), checkpoint.weights, source)
    network.set_train(False)
    if backend.is_int8:
        assert backend.kernels is not None, "runtime.start has made sure"
        network.quantize(backend.kernels)
    return network
