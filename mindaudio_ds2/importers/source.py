"""A file of another project, read and recognised by the names in it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.importers import mindspore_files, torch_files

_TORCH_STARTS = (b"PK\x03\x04", b"\x80")  # an archive; before PyTorch 1.6 a bare pickle
_FORMATS_BY_NAME: dict[str, tuple[str, ...]] = {
    "conv.seq_module.0.weight": ("deepspeech.pytorch",),
    "rnns.0.rnn.weight_hh_l0": ("deepspeech.pytorch",),
    "fc.0.module.1.weight": ("deepspeech.pytorch",),
    "conv.conv1.weight": ("mindaudio", "model_zoo"),
    "RNN.lstms.0.weight_hh_l0": ("mindaudio", "model_zoo"),
    "RNN.weight0": ("model_zoo",),  # MindSpore before 1.5, MindAudio is younger
    "fc.module.weight": ("mindaudio", "model_zoo"),
}
_SETTINGS = ("hyper_parameters", "labels", "audio_conf")
_OPTIMIZER_WORDS = {"moment1", "moment2", "moments", "accum", "mean_square", "mean_gradient"}


@dataclass(frozen=True)
class Source:
    """What a file of another project holds.

    Attributes:
        path: the file.
        formats: keys of `LAYOUTS`; several where the names do not tell them apart.
        arrays: float32 by the project's names, without what wrappers put before them.
        settings: `labels`, `sample_rate`, `window`, `window_size` and `window_stride`, as far as the file tells.
        left_out: names of what is no part of the network: the state of an optimiser, counters, the trainer's notes.
        has_checksums: whether damage would have been found.
    """

    path: Path
    formats: tuple[str, ...]
    arrays: dict[str, NDArray[np.float32]]
    settings: dict[str, Any]
    left_out: list[str]
    has_checksums: bool


def read_source(path: str | Path) -> Source:
    """Read a checkpoint of MindAudio, the model zoo or deepspeech.pytorch.

    Raises:
        CheckpointError: missing, damaged, with code in it, or without any name of the three projects.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; name a checkpoint file")
    settings: dict[str, Any] = {}
    others: set[str] = set()
    with path.open("rb") as file:
        is_torch = file.read(4).startswith(_TORCH_STARTS)
    is_sealed = torch_files.has_checksums(path) if is_torch else mindspore_files.has_checksum(path)
    if is_torch:
        content = torch_files.read_torch_file(path)
        settings = _find_settings(content)
        state = content.get("state_dict", content)
        others = set() if state is content else content.keys() - {"state_dict", *_SETTINGS}
        raw = {name: _to_array(value) for name, value in state.items() if hasattr(value, "numpy")}
    else:
        raw = mindspore_files.read_mindspore_file(path)
    no_weights = {name for name, array in raw.items() if _is_no_weight(name, array)}
    arrays = _strip_prefix({name: array for name, array in raw.items() if name not in no_weights})
    formats = _recognise(arrays)
    if not formats:
        shown = ", ".join(sorted(arrays)[:5]) or "no weights at all"
        raise CheckpointError(
            f"{path} is no DeepSpeech2 of MindAudio, the model zoo or deepspeech.pytorch, whose names it would have to "
            f"hold ({', '.join(_FORMATS_BY_NAME)}); it has {shown}"
        )
    arrays = mindspore_files.split_flat_layers(arrays, str(path))
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return Source(path, formats, floats, settings, sorted(no_weights | others), is_sealed)


def _recognise(arrays: Mapping[str, Any]) -> tuple[str, ...]:
    found = [formats for name, formats in _FORMATS_BY_NAME.items() if name in arrays]
    return min(found, key=len) if found else ()


def _is_no_weight(name: str, array: NDArray[Any]) -> bool:
    return array.size <= 1 or bool(_OPTIMIZER_WORDS & set(name.split(".")))


def _strip_prefix(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Names without what a wrapper put before them (`module.`, `network.`); `RNN` where older files say `rnn`."""
    renamed = {re.sub(r"(^|\.)rnn\.(?=lstms\.|weight\d)", r"\1RNN.", name): array for name, array in arrays.items()}
    prefixes = {
        name.removesuffix(known)
        for name in renamed
        for known in _FORMATS_BY_NAME
        if name == known or name.endswith(f".{known}")
    }
    prefix = min(prefixes, key=len, default="")
    return {name.removeprefix(prefix): array for name, array in renamed.items()}


def _to_array(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().float().numpy()
    return array


def _find_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that stand beside the weights: of Lightning's trainer (version 3), or of version 2."""
    given = content.get("hyper_parameters")
    given = given if isinstance(given, Mapping) else content
    sound = given.get("spect_cfg", given.get("audio_conf"))
    sound = sound if isinstance(sound, Mapping) else {}
    names = ("sample_rate", "window", "window_size", "window_stride")
    found = {name: sound[name] for name in names if name in sound}
    return {**found, "labels": given["labels"]} if "labels" in given else found
