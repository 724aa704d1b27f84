"""Files of MindSpore that other programs wrote, also those of its first versions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from mindaudio_ds2.checkpoint import CHECKSUM_BYTES, CHECKSUM_MARK, ENTRY
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.files import write_atomically

HEAD = "fc.module.weight"
_GATES = 4
_FLAT_PARTS = (
    "weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse",
    "bias_ih_l0", "bias_hh_l0", "bias_ih_l0_reverse", "bias_hh_l0_reverse",
)  # fmt: skip


def read_mindspore_file(path: Path) -> dict[str, NDArray[Any]]:
    """Read a `.ckpt` of MindSpore.

    Args:
        path: the file.

    Returns:
        All arrays in it by name, in the types they have there.

    Raises:
        CheckpointError: damaged, not a file of MindSpore, or a checkpoint of this package already.
    """
    if path.suffix != ".ckpt":
        raise CheckpointError(f"{path}: MindSpore reads only files whose name ends with .ckpt; rename it")
    try:
        entries: dict[str, Any] = ms.load_checkpoint(str(path.resolve()), crc_check=has_checksum(path))
    except PermissionError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; make it readable") from None
    except Exception:  # of many kinds, whose texts blame permissions and the like for damage
        raise CheckpointError(f"{path} is damaged, or a file of neither MindSpore nor PyTorch; use another") from None
    if ENTRY in entries:
        raise CheckpointError(f"{path} is a checkpoint of this package already; use it as it is")
    return {name: entry.asnumpy() for name, entry in entries.items() if hasattr(entry, "asnumpy")}


def has_checksum(path: Path) -> bool:
    """Whether damage can be found: MindSpore writes a checksum only where it is asked for."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - CHECKSUM_BYTES))
        return file.read().startswith(CHECKSUM_MARK)


def write_mindspore_file(path: Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Write weights as a `.ckpt` that `mindspore.load_checkpoint` reads.

    Args:
        path: the file, written whole or not at all; ends with `.ckpt`.
        weights: by name.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = [{"name": name, "data": Tensor(np.ascontiguousarray(array))} for name, array in weights.items()]

    def write(partial: Path) -> None:
        try:
            ms.save_checkpoint(rows, str(partial))
        except (RuntimeError, ValueError) as error:  # MindSpore hides the OSError behind these
            raise OSError(str(error).strip().split("\n")[0]) from error
        finally:
            partial.with_suffix(".tmp").unlink(missing_ok=True)
        partial.chmod(0o644)

    write_atomically(path, write)


def split_flat_layers(arrays: Mapping[str, NDArray[Any]], source: str) -> dict[str, NDArray[Any]]:
    """Replace the one vector that MindSpore before 1.5 kept for each bidirectional LSTM layer, `RNN.weight0` and so on.

    It is laid out as cuDNN does: all matrices, forward before backward, then all biases; two biases for each gate.

    Args:
        arrays: by name; returned as they are where there is no such vector.
        source: where they come from, for the error's text.

    Returns:
        By the names that later versions have.

    Raises:
        CheckpointError: a vector of another size, such as those that were written on a CPU.
    """
    flat = [name for name in arrays if _is_flat(name)]
    if not flat:
        return dict(arrays)
    if HEAD not in arrays:
        raise CheckpointError(f"{source}: missing {HEAD}, whose shape tells how to split {', '.join(flat)}")
    hidden = arrays[HEAD].shape[-1]
    split = {name: array for name, array in arrays.items() if name not in flat}
    for name in flat:
        place = int(name.removeprefix("RNN.weight"))
        vector = arrays[name].reshape(-1)
        columns, rest = divmod(vector.size, 2 * _GATES * hidden)
        input_size = columns - hidden - 2
        if rest or input_size < 1 or (place > 0 and input_size != hidden):
            expected = f", expected {2 * _GATES * hidden * (2 * hidden + 2)}" if place else ""
            raise CheckpointError(
                f"{source}: {name} has {vector.size} values{expected}: not a layer of {hidden} units as MindSpore "
                "before 1.5 kept it on a GPU. Files written on a CPU have fewer values, in an order that is not known"
            )
        split.update(_split_flat_layer(vector, place, input_size, hidden))
    return split


def _is_flat(name: str) -> bool:
    return name.startswith("RNN.weight") and name.removeprefix("RNN.weight").isdigit()


def _split_flat_layer(vector: NDArray[Any], place: int, input_size: int, hidden: int) -> dict[str, NDArray[Any]]:
    rows = _GATES * hidden
    parts, start = {}, 0
    for part in _FLAT_PARTS:
        shape = (rows,) if "bias" in part else (rows, input_size if "ih" in part else hidden)
        end = start + int(np.prod(shape))
        parts[f"RNN.lstms.{place}.{part}"] = vector[start:end].reshape(shape)
        start = end
    assert start == vector.size, f"{vector.size} values, {start} used"
    return parts
