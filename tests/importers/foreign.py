"""Networks of other projects as facts: names, shapes, and weights that are the same on every machine.

Nothing here knows `mindaudio_ds2.importers`, which is tested against it.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]

NUM_BINS = 161
NUM_LABELS = 29
LENGTHS = (17, 12, 6)  # frames of three utterances, padded to the first
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STORED = Path(__file__).resolve().parent.parent / "data" / "importers.npz"


@dataclass(frozen=True)
class Case:
    """A network: `deepspeech.pytorch` or `mindspore`, which is MindAudio's and the model zoo's."""

    project: str
    rnn_type: str
    bidirectional: bool
    num_layers: int = 2
    hidden: int = 5
    lookahead: int = 4

    @property
    def key(self) -> str:
        return f"{self.project}/{self.rnn_type}/{'both' if self.bidirectional else 'forward'}"


DEEPSPEECH_PYTORCH = [Case("deepspeech.pytorch", kind, both) for kind in ("lstm", "gru") for both in (True, False)]
MINDSPORE = Case("mindspore", "lstm", True, num_layers=3)


def list_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights, as the project's own code makes them."""
    is_torch = case.project == "deepspeech.pytorch"
    return _list_torch_shapes(case) if is_torch else _list_mindspore_shapes(case)


def _list_torch_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "conv.seq_module.0.weight": (32, 1, 41, 11),
        "conv.seq_module.0.bias": (32,),
        "conv.seq_module.3.weight": (32, 32, 21, 11),
        "conv.seq_module.3.bias": (32,),
        "fc.0.module.1.weight": (NUM_LABELS, case.hidden),
    }
    norms = {"conv.seq_module.1": 32, "conv.seq_module.4": 32, "fc.0.module.0": case.hidden}
    norms |= {f"rnns.{i}.batch_norm.module": case.hidden for i in range(1, case.num_layers)}
    for norm, size in norms.items():
        shapes |= {f"{norm}.{kind}": (size,) for kind in ("weight", "bias", "running_mean", "running_var")}
    for i in range(case.num_layers):
        shapes |= _list_recurrent_shapes(case, f"rnns.{i}.rnn", i)
    if not case.bidirectional:
        shapes["lookahead.0.conv.weight"] = (case.hidden, 1, case.lookahead)
    return shapes


def _list_mindspore_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "conv.conv1.weight": (32, 1, 41, 11),
        "conv.conv2.weight": (32, 32, 21, 11),
        "fc.module.weight": (NUM_LABELS, case.hidden),
    }
    for norm in ("conv.bn1", "conv.bn2"):
        shapes |= {f"{norm}.{kind}": (32,) for kind in ("gamma", "beta", "moving_mean", "moving_variance")}
    for i in range(case.num_layers):
        shapes |= _list_recurrent_shapes(case, f"RNN.lstms.{i}", i)
    return shapes


def _list_recurrent_shapes(case: Case, prefix: str, layer: int) -> dict[str, tuple[int, ...]]:
    rows = {"lstm": 4, "gru": 3, "rnn": 1}[case.rnn_type] * case.hidden
    columns = case.hidden if layer else 32 * 41
    shapes: dict[str, tuple[int, ...]] = {}
    for suffix in ("", "_reverse") if case.bidirectional else ("",):
        shapes |= {
            f"{prefix}.weight_ih_l0{suffix}": (rows, columns),
            f"{prefix}.weight_hh_l0{suffix}": (rows, case.hidden),
        }
        shapes |= {f"{prefix}.bias_{kind}_l0{suffix}": (rows,) for kind in ("ih", "hh")}
    return shapes


def make_weights(case: Case) -> Arrays:
    """Weights that follow from their names; no two alike, variances positive."""
    return {name: _draw(name, shape) for name, shape in list_shapes(case).items()}


def _draw(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    generator = np.random.RandomState(zlib.crc32(name.encode()))  # NumPy has frozen this one for good
    if name.endswith(("running_var", "moving_variance")):
        low, high = 0.5, 2.0
    elif name.endswith("gamma") or (len(shape) == 1 and name.endswith(".weight")):
        low, high = 0.5, 1.5
    elif len(shape) == 1:
        low, high = -0.5, 0.5
    else:
        high = 2.0 / np.sqrt(np.prod(shape[1:])) if "hh" not in name else 1.0
        low = -high
    return generator.uniform(low, high, shape).astype(np.float32)


def make_batch() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Features (B, T, F), zero beyond the lengths, and the lengths (B,)."""
    features = np.random.RandomState(3).normal(size=(len(LENGTHS), max(LENGTHS), NUM_BINS)).astype(np.float32)
    for row, length in enumerate(LENGTHS):
        features[row, length:] = 0
    return features, np.array(LENGTHS, np.int32)


def make_labels(project: str) -> list[str]:
    return ["_", "'", *LETTERS, " "] if project == "deepspeech.pytorch" else ["'", *LETTERS, " ", "_"]


def make_waveform() -> NDArray[np.float32]:
    """A second and a bit of 16 kHz, in steps of 16 bits: silence, tones that rise, noise."""
    generator = np.random.RandomState(4)
    seconds = np.arange(20123) / 16000
    waveform = 0.3 * np.sin(2 * np.pi * (200 + 900 * seconds) * seconds) + 0.02 * generator.normal(size=seconds.size)
    waveform[:800] = 0
    samples: NDArray[np.float32] = (np.round(waveform * 32767) / 32768).astype(np.float32)
    return samples


def to_flat_layers(arrays: Mapping[str, Any]) -> Arrays:
    """The same weights as MindSpore before 1.5 kept them on a GPU, which is cuDNN's order."""
    num_layers = sum(name.endswith("weight_hh_l0") for name in arrays)
    flat = {name: array for name, array in arrays.items() if ".lstms." not in name}
    for i in range(num_layers):
        parts = [f"weight_{kind}_l0{way}" for way in ("", "_reverse") for kind in ("ih", "hh")]
        parts += [f"bias_{kind}_l0{way}" for way in ("", "_reverse") for kind in ("ih", "hh")]
        vector = np.concatenate([arrays[f"RNN.lstms.{i}.{part}"].reshape(-1) for part in parts])
        flat[f"RNN.weight{i}"] = vector.reshape(-1, 1, 1)
    return flat
