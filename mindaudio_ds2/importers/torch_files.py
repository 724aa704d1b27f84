"""Files of PyTorch, read without running anything that stands in them.

A file of `torch.save` is a pickle, which may name any function and have it called. deepspeech.pytorch's name classes of
OmegaConf and of its own, for the settings of the training. Here every such name gets an inert stand-in that only keeps
what it was given; and a file with a name that no training of deepspeech.pytorch leaves is refused.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.files import write_atomically

_KNOWN_MODULES = (
    "deepspeech_pytorch", "omegaconf", "pytorch_lightning", "lightning", "lightning_fabric", "torchmetrics",
    "typing", "collections", "enum", "pathlib", "torch.nn.modules.rnn", "torch.optim",
)  # fmt: skip
_KNOWN_BUILTINS = {
    f"builtins.{name}"
    for name in (
        "int",
        "float",
        "complex",
        "bool",
        "str",
        "bytes",
        "list",
        "tuple",
        "dict",
        "set",
        "frozenset",
        "object",
    )
} | {"builtins.Ellipsis", "builtins.getattr", "_operator.getitem"}  # the last two: how enums and Tuple[...] are named


class _Inert:
    """Stands for an object of a class that is not loaded: keeps arguments and state, does nothing."""

    qualified_name = ""

    def __new__(cls, *arguments: Any) -> "_Inert":
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = {}
        return made

    def __init__(self, *arguments: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_torch_file(path: Path) -> dict[str, Any]:
    """Read what `torch.save` wrote.

    Args:
        path: the file.

    Returns:
        The dictionary in it; tensors as PyTorch has them, settings as plain values.

    Raises:
        CheckpointError: no PyTorch, damaged, no dictionary, or names of functions and classes that are not
            deepspeech.pytorch's.
    """
    torch = _import_torch(path)
    stand_ins = _make_stand_ins(path, torch)
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(str(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was not loaded: it is damaged, or its pickle asks for code to be run ({_first_line(error)}); "
            "save the network's state_dict alone, or use another file"
        ) from None
    except Exception as error:  # PyTorch raises many kinds for damaged files
        raise CheckpointError(f"{path} is damaged, or not a file of PyTorch ({_first_line(error)})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary with a state_dict")
    return {str(key): _to_plain(value) for key, value in content.items()}


def write_torch_file(path: Path, weights: Mapping[str, NDArray[np.float32]], entries: Mapping[str, Any]) -> None:
    """Write weights as deepspeech.pytorch's trainer does, under `state_dict`.

    Args:
        path: the file, written whole or not at all.
        weights: by name.
        entries: plain values that stand beside them.

    Raises:
        CheckpointError: no PyTorch.
        OutputError: the file cannot be written.
    """
    torch = _import_torch(path)
    state = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in weights.items()}
    for name in weights:
        if name.endswith(".running_mean"):  # only counts steps; strict loading asks for it
            state[name.replace(".running_mean", ".num_batches_tracked")] = torch.tensor(0)

    def write(partial: Path) -> None:
        try:
            torch.save({**entries, "state_dict": state}, str(partial))
        except RuntimeError as error:  # PyTorch hides the OSError behind it
            raise OSError(_first_line(error)) from error

    write_atomically(path, write)


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise CheckpointError(f"{path}: files of PyTorch need PyTorch; pip install 'mindaudio_ds2[torch]'") from None
    return torch


def _make_stand_ins(path: Path, torch: Any) -> list[tuple[type[_Inert], str]]:
    """An inert class for each name in the file's pickle that PyTorch does not hold harmless."""
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # before PyTorch 1.6 the file was no archive: such hold only weights and plain values, or fail
        names = []
    strangers = [name for name in names if not _is_known(name)]
    if strangers:
        raise CheckpointError(
            f"{path} was not loaded: its pickle asks for {', '.join(strangers)}, which no file of deepspeech.pytorch "
            "does and which could be code to be run; save the network's state_dict alone, or use another file"
        )
    return [(type(name.rpartition(".")[2], (_Inert,), {"qualified_name": name}), name) for name in names]


def _is_known(name: str) -> bool:
    return name in _KNOWN_BUILTINS or any(name.startswith(f"{module}.") for module in _KNOWN_MODULES)


def _to_plain(value: Any) -> Any:
    """Settings of OmegaConf as dictionaries, lists and plain values; classes by their names, enums by their values."""
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    if isinstance(value, type):
        return value.__name__
    if not isinstance(value, _Inert):
        return value
    state = value.state if isinstance(value.state, dict) else {}
    for key in ("_content", "_val"):
        if key in state:
            return _to_plain(state[key])
    return _to_plain(value.arguments[-1]) if value.arguments else type(value).__name__


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
