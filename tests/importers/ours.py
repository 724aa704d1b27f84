"""Files of other projects as their programs write them, and what our network makes of them. Import it after MindSpore
was started."""

from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.importers.importing import Choices, Imported, import_checkpoint
from mindaudio_ds2.model.deepspeech2 import Recognizer
from tests.importers import foreign
from tests.importers.foreign import Arrays, Case

ROOT = Path(__file__).resolve().parent.parent.parent


def read_template() -> Config:
    return read_config(ROOT / "hparams" / "deepspeech2.yaml")


def write_torch(path: Path, arrays: Arrays, **entries: Any) -> Path:
    """A file with a state_dict, as Lightning's trainer writes it."""
    import torch

    state = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    state |= {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
        for name in arrays
        if name.endswith("running_mean")
    }
    torch.save({"state_dict": state, **entries}, path)
    return path


def write_mindspore(path: Path, arrays: Arrays) -> Path:
    ms.save_checkpoint([{"name": name, "data": Tensor(array)} for name, array in arrays.items()], str(path))
    return path


def write(folder: Path, case: Case, arrays: Arrays | None = None) -> Path:
    """The case's network as a file of its project; `arrays` in place of its own weights."""
    arrays = foreign.make_weights(case) if arrays is None else arrays
    if case.project == "deepspeech.pytorch":
        return write_torch(folder / "theirs.ckpt", arrays)
    return write_mindspore(folder / "theirs.ckpt", arrays)


def run_import(source: Path, **choices: Any) -> Imported:
    return import_checkpoint(source, source.parent / "ours.ckpt", read_template(), Choices(**choices))


def recognise(
    checkpoint: Path, features: NDArray[np.float32], *all_lengths: NDArray[np.int32]
) -> list[list[NDArray[np.float32]]]:
    """Log-probabilities (S, V) of each utterance of a batch, for each array of lengths."""
    recognizer = Recognizer(restore_network(load_checkpoint(checkpoint), str(checkpoint))).set_train(False)
    results = []
    for lengths in all_lengths:
        outputs, sizes = recognizer(Tensor(features), Tensor(lengths))
        rows = zip(outputs.asnumpy(), sizes.asnumpy(), strict=True)
        results.append([row[:size].copy() for row, size in rows])
    return results
