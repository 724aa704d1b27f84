"""SeanNaren's deepspeech.pytorch, from a checkout. Import it only where PyTorch is installed.

Its model file is imported as it is. What that imports besides and is not installed (PyTorch Lightning, Hydra's
configuration, metrics) has stand-ins that hold just what building and training the network touch.
"""

import dataclasses
import functools
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.config import Config
from mindaudio_ds2.text.tokenizer import Tokenizer
from recipes.benchmark.case import ContenderError, Task, explain_mismatch
from recipes.benchmark.with_torch import TorchMultiplication, count_weights

MAX_GRADIENT_NORM = 400.0  # gradient_clip_val of its configs/librispeech.yaml


class DeepSpeechPytorch(TorchMultiplication):
    """Their network, their training step and their optimiser. It has run on the CPU.

    Args:
        config: sizes of the recurrent layers, features, and the alphabet's size; the rest is theirs.
        task: "train" or "inference".
        checkout: of SeanNaren/deepspeech.pytorch.

    Raises:
        ContenderError: no such file, or a network that theirs cannot be.
    """

    def __init__(self, config: Config, task: Task, checkout: Path) -> None:
        super().__init__()
        if reason := explain_mismatch(config):
            raise ContenderError(f"it cannot build this network: {reason}")
        model, configs, enums = _load(checkout)
        sizes = {
            "rnn_type": enums.RNNType[config.model.rnn_type],
            "hidden_size": config.model.rnn_hidden_size,
            "hidden_layers": config.model.rnn_num_layers,
        }
        kind = configs.BiDirectionalConfig if config.model.bidirectional else configs.UniDirectionalConfig
        spectrogram = configs.SpectConfig(
            sample_rate=config.features.sample_rate_hz, window_size=config.features.window_seconds
        )
        torch.manual_seed(config.seed)
        tokenizer = Tokenizer(config.text)
        labels = ["?"] * tokenizer.size
        labels[tokenizer.blank_id] = "_"
        self.network = model.DeepSpeech(labels, kind(**sizes), 32, configs.AdamConfig(learning_rate=1e-5), spectrogram)
        self.num_parameters = count_weights(self.network)
        self.is_training = task == "train"
        self.network.train(self.is_training)
        self.optimizer = self.network.configure_optimizers()[0][0]

    def take(self, batch: Batch) -> float:
        """See `Contender`."""
        order = np.argsort(-batch.feature_lengths, kind="stable")  # it packs sequences, the longest first
        features = torch.from_numpy(batch.features[order]).transpose(1, 2).unsqueeze(1).contiguous()
        lengths = torch.from_numpy(batch.feature_lengths[order])
        if not self.is_training:
            with torch.inference_mode():
                return float(self.network(features, lengths)[0].sum())
        rows = [batch.labels[i, : batch.label_lengths[i]] for i in order]
        targets = torch.from_numpy(np.concatenate(rows)).long()
        shares = lengths.float() / features.shape[3]
        inputs = (features, targets, shares, torch.from_numpy(batch.label_lengths[order]))
        loss = self.network.training_step(inputs, 0)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        return float(loss.detach()) / len(order)


def _load(checkout: Path) -> tuple[ModuleType, ModuleType, ModuleType]:
    if not (checkout / "deepspeech_pytorch" / "model.py").is_file():
        raise ContenderError(
            f"{checkout} holds no deepspeech_pytorch/model.py; give the checkout of SeanNaren/deepspeech.pytorch with "
            "--deepspeech_pytorch"
        )
    sys.path.insert(0, str(checkout))
    with _with_stand_ins():
        names = ("model", "configs.train_config", "enums")
        model, configs, enums = (importlib.import_module(f"deepspeech_pytorch.{name}") for name in names)
    return model, configs, enums


@contextmanager
def _with_stand_ins() -> Iterator[None]:
    """Let the checkout be imported with whatever it lacks, and on Python 3.11.

    That Python refuses a dataclass as another's default value unless it can be hashed, so theirs are made so.
    """
    for name, values in _make_stand_ins().items():
        try:
            importlib.import_module(name)
        except ImportError:
            module = ModuleType(name)
            vars(module).update(values)
            sys.modules[name] = module
    original = dataclasses.dataclass
    dataclasses.dataclass = functools.partial(original, unsafe_hash=True)
    try:
        yield
    finally:
        dataclasses.dataclass = original


def _make_stand_ins() -> dict[str, dict[str, Any]]:
    class LightningModule(nn.Module):
        def save_hyperparameters(self) -> None:
            pass

    class OmegaConf:
        get_type = type

    class Metric:
        def __init__(self, **_: object) -> None:
            pass

        def add_state(self, name: str, default: object, **_: object) -> None:
            setattr(self, name, default)

    return {
        "pytorch_lightning": {"LightningModule": LightningModule},
        "omegaconf": {"OmegaConf": OmegaConf, "MISSING": "???"},
        "torchmetrics": {"Metric": Metric},
        "Levenshtein": {},
        "six": {},
        "six.moves": {"xrange": range},
    }
