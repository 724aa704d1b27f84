"""Files of PyTorch, read without running anything that stands in them.

A file of `torch.save` is a pickle, which may name any function and have it called. deepspeech.pytorch's name classes of
OmegaConf and of its own, for the settings of the training. Here every such name gets an inert stand-in that only keeps
what it was given; and a file with a name that no training of deepspeech.pytorch leaves is refused.

PyTorch does not compare the checksums of its archives, and a tensor may claim more than its storage holds (strides of
0). Both are checked here. Files of PyTorch before 1.6 have no checksums.
"""

import pickle
import zipfile
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


MOST_BYTES_UNASKED = 1_000_000  # that tensors may claim without anybody asking


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
    _check_archive(path)
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
    _check_tensors(path, content, torch)
    try:
        return {str(key): _to_plain(value) for key, value in content.items()}
    except RecursionError:
        raise CheckpointError(f"{path} was not loaded: it is nested too deeply; use another file") from None


def has_checksums(path: Path) -> bool:
    """Whether damage can be found: an archive has a checksum for each of its parts, a bare pickle has none."""
    return zipfile.is_zipfile(path)


def _check_archive(path: Path) -> None:
    """Compare all checksums of an archive. Nothing in one of PyTorch is compressed: what is could fill the memory."""
    if not has_checksums(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [member.filename for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]
            damaged = None if packed else archive.testzip()
    except Exception as error:  # a damaged directory raises whatever its first wrong byte leads to
        raise CheckpointError(f"{path} is damaged ({_first_line(error)}); copy or download it again") from None
    if packed:
        raise CheckpointError(f"{path} was not loaded: PyTorch compresses nothing, and {packed[0]!r:.80} is compressed")
    if damaged:
        raise CheckpointError(
            f"{path} is damaged: {damaged!r:.80} does not match its checksum; copy or download it again"
        )


def _check_tensors(path: Path, content: Any, torch: Any) -> None:
    """All tensors together are no larger than the storages that they look into: else strides of 0 fill the memory."""
    num_claimed = 0
    storages: dict[int, int] = {}
    seen: set[int] = set()  # a list may hold itself
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided:
                raise CheckpointError(f"{path} was not loaded: it holds a sparse tensor, which no network here has")
            num_claimed += value.numel() * value.element_size()
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    num_held = sum(storages.values())
    if num_claimed > 2 * num_held + MOST_BYTES_UNASKED:
        raise CheckpointError(
            f"{path} was not loaded: its tensors claim {num_claimed:,} bytes, and the file holds {num_held:,} of them. "
            "It is damaged, or was made to fill memory; use another one"
        )


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
