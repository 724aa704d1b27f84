"""MindSpore's official DeepSpeech2, from a checkout of mindspore-ai/models. Import it after `runtime.start`.

Network, loss and step are those of its train.py and eval.py. It pads every batch to one length and does not know how
long an utterance is, so that it can do no less than work on the padding too.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.config import Config
from mindaudio_ds2.model.deepspeech2 import count_parameters
from mindaudio_ds2.text.tokenizer import Tokenizer
from recipes.benchmark.case import ContenderError, Task, TimedBatch, explain_mismatch
from recipes.benchmark.ours import Multiplication

NETWORK = "official/audio/DeepSpeech2/src/deepspeech2.py"


class MindSporeOfficial(Multiplication):
    """Their network. It has run on the CPU.

    Args:
        config: sizes of the recurrent layers, features, and the alphabet's size; the rest is theirs.
        task: "train" or "inference".
        checkout: of mindspore-ai/models.
        batches: all are padded to the longest of them.

    Raises:
        ContenderError: no such file, or a network that theirs cannot be.
    """

    def __init__(self, config: Config, task: Task, checkout: Path, batches: list[TimedBatch]) -> None:
        super().__init__()
        reason = explain_mismatch(config)
        if config.model.rnn_type != "lstm" or not config.model.bidirectional:
            reason = "it has bidirectional LSTM layers only"
        if reason:
            raise ContenderError(f"it cannot build this network: {reason}")
        module = _load(checkout / NETWORK)
        self.num_labels = max(batch.arrays.labels.shape[1] for batch in batches)
        self.num_frames = max(batch.arrays.features.shape[1] for batch in batches)
        self.blank_id = Tokenizer(config.text).blank_id
        self.alphabet_size = Tokenizer(config.text).size
        network = module.DeepSpeechModel(
            batch_size=batches[0].arrays.features.shape[0],
            labels=["?"] * self.alphabet_size,
            rnn_hidden_size=config.model.rnn_hidden_size,
            nb_layers=config.model.rnn_num_layers,
            audio_conf=SimpleNamespace(
                sample_rate=config.features.sample_rate_hz, window_size=config.features.window_seconds
            ),
            device_target="CPU",
        )
        self.num_parameters = count_parameters(network)
        self.num_threads = len(os.sched_getaffinity(0))
        self.compiles_each_shape = True
        self.is_training = task == "train"
        self.cell: Any
        if self.is_training:
            optimizer = nn.Adam(network.trainable_params(), learning_rate=1e-5, eps=1e-5, loss_scale=1024.0)
            self.cell = nn.TrainOneStepCell(module.NetWithLossClass(network), optimizer)
        else:
            self.cell = module.PredictWithSoftmax(network)
        self.cell.set_train(self.is_training)

    def take(self, batch: Batch) -> float:
        """See `Contender`."""
        num, num_frames, num_bins = batch.features.shape
        features = np.zeros((num, 1, num_bins, self.num_frames), dtype=np.float32)
        features[:, 0, :, :num_frames] = batch.features.transpose(0, 2, 1)
        lengths = Tensor(batch.feature_lengths.astype(np.float32))
        if not self.is_training:
            return float(self.cell(Tensor(features), lengths)[0].asnumpy().sum())
        labels = np.full((num, self.num_labels), self.alphabet_size - 1, dtype=np.int32)  # theirs: blank last, and pads
        inside = np.arange(batch.labels.shape[1]) < batch.label_lengths[:, None]
        moved = batch.labels - (batch.labels > self.blank_id)
        labels[:, : batch.labels.shape[1]] = np.where(inside, moved, self.alphabet_size - 1)
        places = np.argwhere(np.ones_like(labels)).astype(np.int64)  # all of them, row by row
        loss = self.cell(Tensor(features), lengths, Tensor(places), Tensor(labels.reshape(-1)))
        return float(loss.asnumpy())


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mindspore_official_network", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ContenderError(f"{path} does not exist; give the checkout of mindspore-ai/models with --mindspore_models")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # graph mode looks the source's module up by its name
    spec.loader.exec_module(module)
    return module
