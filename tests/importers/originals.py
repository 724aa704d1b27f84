"""Runs the other projects' code from checkouts, with stand-ins for what it imports and does not need here.

    DS2_DEEPSPEECH_PYTORCH=... DS2_MINDAUDIO=... python -m tests.importers.originals OUT.npz

writes what tests/data/importers.npz holds. Import it after MindSpore was started, if that is wanted.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import os
import sys
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.importers import foreign
from tests.importers.foreign import Case

SOUND = types.SimpleNamespace(sample_rate=16000, window_size=0.02, window_stride=0.01, window="hamming")


class _StandIn(types.ModuleType):
    """A module of which every attribute is some class."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None})


@contextlib.contextmanager
def _importing_from(folder: Path, stand_ins: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Modules of a checkout can be imported; afterwards everything is as it was."""
    before, path_before = dict(sys.modules), list(sys.path)
    for name, attributes in stand_ins.items():
        module = _StandIn(name)
        for key, value in attributes.items():
            setattr(module, key, value)
        sys.modules[name] = module
    sys.path.insert(0, str(folder))
    make_dataclass = dataclasses.dataclass

    def make_hashable_dataclass(cls: Any = None, **options: Any) -> Any:
        """Their defaults are objects that Python takes since 3.11 only if they can be hashed."""
        options.setdefault("unsafe_hash", True)
        return make_dataclass(**options) if cls is None else make_dataclass(cls, **options)

    dataclasses.dataclass = make_hashable_dataclass  # type: ignore[assignment]
    try:
        yield
    finally:
        dataclasses.dataclass = make_dataclass
        sys.path[:] = path_before
        for name in sys.modules.keys() - before.keys():
            if name in stand_ins or str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
        sys.modules.update({name: before[name] for name in stand_ins if name in before})


def _load_file(name: str, path: Path) -> Any:
    """A module from a file; it stays in `sys.modules`, where MindSpore looks for the source of a network."""
    name = f"{name}_{zlib.crc32(str(path).encode()):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _deepspeech_pytorch(folder: Path) -> contextlib.AbstractContextManager[None]:
    import torch

    class Module(torch.nn.Module):
        def save_hyperparameters(self) -> None:
            """Lightning's trainer is not needed."""

    class Metric:
        def __init__(self, **options: Any) -> None:
            """Its states are not needed either."""

        def add_state(self, *arguments: Any, **options: Any) -> None:
            """Likewise."""

    class OmegaConf:
        get_type = staticmethod(type)

    names: dict[str, dict[str, Any]] = {
        name: {} for name in ("sox", "Levenshtein", "matplotlib.pyplot", "librosa.display")
    }
    names |= {"pytorch_lightning": {"LightningModule": Module}, "omegaconf": {"OmegaConf": OmegaConf, "MISSING": None}}
    names |= {"torchmetrics": {"Metric": Metric}}
    names |= {"torchaudio": {"set_audio_backend": lambda name: None}, "matplotlib": {"use": lambda name: None}}
    names |= {"six": {}, "six.moves": {"xrange": range}}
    return _importing_from(folder, names)


def build_deepspeech_pytorch(folder: Path, case: Case) -> Any:
    """Their network in evaluation, with the case's weights."""
    import torch

    with _deepspeech_pytorch(folder):
        configs = importlib.import_module("deepspeech_pytorch.configs.train_config")
        enums = importlib.import_module("deepspeech_pytorch.enums")
        network = importlib.import_module("deepspeech_pytorch.model")
        sizes = (enums.RNNType[case.rnn_type], case.hidden, case.num_layers)
        model = (
            configs.BiDirectionalConfig(*sizes)
            if case.bidirectional
            else configs.UniDirectionalConfig(*sizes, case.lookahead)
        )
        labels = foreign.make_labels(case.project)
        module = network.DeepSpeech(labels, model, 32, configs.AdamConfig(), configs.SpectConfig())
    state = {name: torch.from_numpy(array) for name, array in foreign.make_weights(case).items()}
    missing, unknown = module.load_state_dict(state, strict=False)
    assert not unknown
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return module.eval()


def run_deepspeech_pytorch(folder: Path, case: Case) -> list[NDArray[np.float32]]:
    """Log-probabilities (S, V) of each utterance of the padded batch."""
    import torch

    features, lengths = foreign.make_batch()
    x = torch.from_numpy(features.transpose(0, 2, 1)[:, None].copy())
    with torch.no_grad():
        outputs, sizes, _ = build_deepspeech_pytorch(folder, case)(x, torch.from_numpy(lengths))
    return [np.log(row[:size].numpy()) for row, size in zip(outputs, sizes, strict=True)]


def compute_deepspeech_pytorch_features(folder: Path, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, F) with its settings."""
    with _deepspeech_pytorch(folder):
        configs = importlib.import_module("deepspeech_pytorch.configs.train_config")
        loader = importlib.import_module("deepspeech_pytorch.loader.data_loader")
        parser = loader.AudioParser(configs.SpectConfig(), normalize=True)
        return np.asarray(parser.compute_spectrogram(waveform).numpy().T)


def build_mindspore(path: Path, case: Case) -> Any:
    """The network that a file of MindAudio or the model zoo defines, in evaluation, with the case's weights."""
    from mindspore import Tensor

    module = _load_file("original_deepspeech2", path)
    network = module.DeepSpeechModel(1, foreign.make_labels(case.project), case.hidden, case.num_layers, SOUND)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    weights = foreign.make_weights(case)
    assert parameters.keys() == weights.keys()
    for name, array in weights.items():
        parameters[name].set_data(Tensor(array))
    return network.set_train(False)


def run_mindspore(network: Any, features: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Log-probabilities (S, V) of one utterance (T, F), of which `length` frames are real."""
    from mindspore import Tensor, ops

    x = Tensor(features.T[None, None].copy())
    logits, _ = network(x, Tensor(np.array([length], np.int32)))
    return np.asarray(ops.log_softmax(logits, -1).asnumpy()[:, 0])


def run_mindspore_batch(path: Path) -> dict[str, NDArray[np.float32]]:
    """Each utterance without padding, and the shortest once more with it."""
    network = build_mindspore(path, foreign.MINDSPORE)
    features, lengths = foreign.make_batch()
    numbers = {
        f"{foreign.MINDSPORE.key}/{row}": run_mindspore(network, features[row, :length], length)
        for row, length in enumerate(lengths)
    }
    return {**numbers, f"{foreign.MINDSPORE.key}/padded": run_mindspore(network, features[-1], int(lengths[-1]))}


def compute_mindaudio_features(folder: Path, path: Path) -> NDArray[np.float32]:
    """(T, F) of a WAV file as MindAudio's example reads and transforms it."""
    data = folder / "mindaudio" / "data"
    reading, spectrum = _load_file("original_io", data / "io.py"), _load_file("original_spectrum", data / "spectrum.py")
    functions = {"read": reading.read, "stft": spectrum.stft, "magphase": spectrum.magphase}
    names = {"mindaudio": functions, "mindaudio.utils": {}, "mindaudio.utils.distributed": {}}
    with _importing_from(folder, names):
        dataset = _load_file("original_dataset", folder / "examples" / "deepspeech2" / "dataset.py")
    return np.asarray(dataset.LoadAudioAndTranscript(SOUND, normalize=True).parse_audio(path).T)


def compute_model_zoo_features(folder: Path, path: Path) -> NDArray[np.float32]:
    """(T, F) of a WAV file as the model zoo reads and transforms it."""
    dataset = _load_file("original_zoo_dataset", folder / "official" / "audio" / "DeepSpeech2" / "src" / "dataset.py")
    return np.asarray(dataset.LoadAudioAndTranscript(SOUND, normalize=True).parse_audio(path).T)


def locate(variable: str, file: str) -> Path | None:
    """A checkout named by an environment variable, if it holds the file; None without the variable."""
    folder = Path(os.environ[variable]) if os.environ.get(variable) else None
    assert folder is None or (folder / file).is_file(), f"{variable} is {folder}, which does not hold {file}"
    return folder


MINDAUDIO_NETWORK = "mindaudio/models/deepspeech2.py"
MODEL_ZOO_NETWORK = "official/audio/DeepSpeech2/src/deepspeech2.py"
DEEPSPEECH_PYTORCH_NETWORK = "deepspeech_pytorch/model.py"


def main() -> None:
    """Write the stored numbers."""
    from mindaudio_ds2.machine import runtime

    runtime.start("CPU", 1)
    torch_folder = locate("DS2_DEEPSPEECH_PYTORCH", DEEPSPEECH_PYTORCH_NETWORK)
    mindaudio_folder = locate("DS2_MINDAUDIO", MINDAUDIO_NETWORK)
    assert torch_folder is not None, "DS2_DEEPSPEECH_PYTORCH is not set"
    assert mindaudio_folder is not None, "DS2_MINDAUDIO is not set"
    numbers = {
        f"{case.key}/{row}": array
        for case in foreign.DEEPSPEECH_PYTORCH
        for row, array in enumerate(run_deepspeech_pytorch(torch_folder, case))
    }
    numbers |= run_mindspore_batch(mindaudio_folder / MINDAUDIO_NETWORK)
    np.savez_compressed(sys.argv[1], **numbers)


if __name__ == "__main__":
    main()
