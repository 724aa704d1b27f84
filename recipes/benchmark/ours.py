"""Our own network as `train.py` and `eval.py` run it. Import it after `runtime.start`."""

import os
from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.checkpoint import build_network
from mindaudio_ds2.config import Config
from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.model.deepspeech2 import Recognizer, count_parameters, feature_signature
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.training.compiled.loss import CTCLoss
from mindaudio_ds2.training.compiled.loss_scale import LossScale
from mindaudio_ds2.training.compiled.optimizer import make_optimizer
from mindaudio_ds2.training.compiled.step import TrainStep
from recipes.benchmark.case import Task

LEARNING_RATE = np.float32(1e-5)  # so low that the loss stays finite on noise


class MatrixProduct(nn.Cell):
    """One large matrix product, of which only a corner is handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.product = ops.MatMul()

    def construct(self, x: Tensor) -> Tensor:
        """(N, N) -> (1, 1)."""
        return self.product(x, x)[:1, :1]


class Multiplication:
    """What both MindSpore contenders measure the machine with."""

    def __init__(self) -> None:
        self._products: dict[int, tuple[MatrixProduct, Tensor]] = {}

    def multiply(self, size: int) -> None:
        """See `Contender`."""
        if size not in self._products:
            matrix = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
            self._products[size] = (MatrixProduct(), Tensor(matrix))
        product, matrix = self._products[size]
        product(matrix).asnumpy()


class Ours(Multiplication):
    """Our network. It has run on the CPU.

    Args:
        config: the network, and how it is trained.
        task: "train" or "inference".
        backend: how this process computes.
        is_static: compile for each shape, also where open shapes would do.
    """

    def __init__(self, config: Config, task: Task, backend: Backend, is_static: bool = False) -> None:
        super().__init__()
        self.backend = backend
        network = build_network(config, backend)
        self.num_parameters = count_parameters(network)
        self.num_threads = len(os.sched_getaffinity(0))  # both MindSpore and OpenMP take all there are
        self.compiles_each_shape = is_static or not network.takes_open_shapes
        self.is_training = task == "train"
        self.cell: Any
        if self.is_training:
            loss = CTCLoss(Tokenizer(config.text).blank_id, backend)
            optimizer = make_optimizer(network.trainable_params(), config.optimizer)
            scale = LossScale(config.precision)
            self.cell = TrainStep(network, loss, optimizer, config.optimizer.max_gradient_norm, scale)
            if not self.compiles_each_shape:
                self.cell.open_shapes(config.features.num_bins)
        else:
            self.cell = Recognizer(network)
            if not self.compiles_each_shape:
                self.cell.set_inputs(*feature_signature(config.features.num_bins))
        self.cell.set_train(self.is_training)

    def take(self, batch: Batch) -> float:
        """See `Contender`."""
        inputs = [Tensor(batch.features), Tensor(batch.feature_lengths)]
        if self.is_training:
            inputs += [Tensor(batch.labels), Tensor(batch.label_lengths), Tensor(LEARNING_RATE)]
        return float(self.cell(*inputs)[0].asnumpy().sum())
