"""The pieces of a step alone, each compiled by itself: where the time of a whole step goes. Ours only.

Shapes: B batch, T input frames, S output frames, F frequency bins, H hidden units, V alphabet with blank, L labels.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import soundfile
from mindspore import ParameterTuple, Tensor, nn, ops
from tqdm import tqdm

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.batching.dataset import BatchLoader
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.checkpoint import build_network
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.decoding.greedy import decode_greedy
from mindaudio_ds2.model.arithmetic import count_gflop_by_part
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
from mindaudio_ds2.model.masked_norm import make_mask
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.training.compiled.loss import CTCLoss
from mindaudio_ds2.training.compiled.optimizer import Optimizer, make_optimizer
from recipes.benchmark.case import Case, ContenderError, TimedBatch
from recipes.benchmark.contender import OURS, Contender
from recipes.benchmark.ours import LEARNING_RATE, Ours

WHOLE = "whole step"
OUTSIDE = ("features", "loading", "decoding")  # not part of a step; loading runs beside it

Work = Callable[[], object]


class Convolutions(nn.Cell):
    """Features to what enters the recurrent layers, as in `DeepSpeech2.construct`."""

    def __init__(self, network: DeepSpeech2) -> None:
        super().__init__()
        self.convs = network.convs
        self.to_lines = network.to_lines

    def construct(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F), (B,) -> (B, C, F', S) or, with native kernels, (B, F', S, C)."""
        if self.to_lines is not None:
            x = self.to_lines(features, lengths)
        else:
            x = ops.transpose(features, (0, 2, 1)).expand_dims(1)
        for conv in self.convs:
            x, lengths = conv(x, lengths)
        return x


class RecurrentLayers(nn.Cell):
    """All recurrent layers with the batch norms between them, and the lookahead where there is one."""

    def __init__(self, network: DeepSpeech2) -> None:
        super().__init__()
        self.rnns = network.rnns
        self.norms = network.rnn_batch_norms
        self.lookahead = network.lookahead

    def construct(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(S, B, I), (B,) -> (S, B, H)."""
        mask = ops.transpose(make_mask(lengths, x.shape[0]), (1, 0)).expand_dims(2)
        num_valid = mask.sum()
        for i, rnn in enumerate(self.rnns):
            if self.norms is not None and i > 0:
                x = self.norms[i - 1](x, lengths, mask, num_valid)
            x = rnn(x, lengths)
        return x if self.lookahead is None else self.lookahead(x, lengths, mask)


class OutputLayer(nn.Cell):
    """The last batch norm and the linear layer."""

    def __init__(self, network: DeepSpeech2) -> None:
        super().__init__()
        self.norm = network.head_batch_norm
        self.head = network.head

    def construct(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(S, B, H), (B,) -> (S, B, V)."""
        if self.norm is not None:
            mask = ops.transpose(make_mask(lengths, x.shape[0]), (1, 0)).expand_dims(2)
            x = self.norm(x, lengths, mask, mask.sum())
        return self.head(x)


class Receiver(nn.Cell):
    """Stands where the rest of the network would: gives a number of `x`, and sends a given gradient back to it."""

    def construct(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Two of the same shape -> ()."""
        return x.reshape((-1,))[0]

    def bprop(self, x: Tensor, gradient: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of x; the second is not used."""
        return gradient, gradient


class Gradients(nn.Cell):
    """Forward and backward through a Cell.

    Args:
        cell: takes (x, ...) and gives one tensor.
        has_input_gradient: whether a gradient by x is wanted beside those of the weights.
    """

    def __init__(self, cell: nn.Cell, has_input_gradient: bool) -> None:
        super().__init__()
        self.cell = cell
        self.receiver = Receiver()
        weights = cell.trainable_params()
        position = 1 if has_input_gradient else None
        self.value_and_grad = ops.value_and_grad(self.forward, position, ParameterTuple(weights) if weights else None)

    def forward(self, gradient: Tensor, *inputs: Tensor) -> Tensor:
        """A number of the Cell's output, ()."""
        return self.receiver(self.cell(*inputs), gradient)

    def construct(self, gradient: Tensor, *inputs: Tensor) -> Any:
        """The gradients that follow from `gradient`, that of the Cell's output."""
        return self.value_and_grad(gradient, *inputs)


class Update(nn.Cell):
    """One step of the optimiser, on gradients as large as the weights."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.gradients = optimizer.weights.clone(prefix="gradients", init="zeros")

    def construct(self, learning_rate: Tensor) -> Tensor:
        """() -> ()."""
        return self.optimizer(self.gradients, learning_rate)


def measure_pieces(contender: Contender, config: Config, batch: TimedBatch, case: Case) -> dict[str, Any]:
    """Seconds of each piece, and its GFLOP/s where its arithmetic is counted.

    Returns:
        "pieces": for each its median "seconds" and, for parts of the network, "gflops".

    Raises:
        ContenderError: the contender is not ours.
    """
    if not isinstance(contender, Ours):
        raise ContenderError(f"its pieces cannot be taken apart; --pieces is for {', '.join(OURS)}")
    is_training = case.task == "train"
    gflop = count_gflop_by_part(config)
    pieces = {}
    with tempfile.TemporaryDirectory() as folder:
        works = {
            **_list_cells(contender, config, batch.arrays, is_training),
            **_list_numpy(config, batch.arrays, Path(folder)),
            WHOLE: lambda: contender.take(batch.arrays),
        }
        for name, work in tqdm(works.items(), desc="pieces", unit="piece", leave=False):
            seconds = time_work(work, case.num_steps)
            pieces[name] = {"seconds": round(seconds, 5)}
            if name in (*gflop, WHOLE):
                operations = gflop.get(name, sum(gflop.values())) * batch.audio_seconds * (3 if is_training else 1)
                pieces[name]["gflops"] = round(operations / seconds, 1)
    return {"pieces": pieces}


def time_work(work: Work, num_times: int) -> float:
    """Do the work once untimed (it may compile), then so many times; the median, in seconds."""
    work()
    seconds = []
    for _ in range(num_times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _list_cells(contender: Ours, config: Config, batch: Batch, is_training: bool) -> dict[str, Work]:
    """What MindSpore computes, on open shapes where training has them."""
    network = build_network(config, contender.backend)  # its own: MindSpore renames the weights of shared Cells
    num, num_frames, num_bins = batch.features.shape
    num_out, hidden = config.model.num_output_frames(num_frames), config.model.rnn_hidden_size
    is_open = not contender.compiles_each_shape
    lengths = np.array([config.model.num_output_frames(int(n)) for n in batch.feature_lengths], dtype=np.int32)
    vocabulary = Tokenizer(config.text).size
    noise = np.random.default_rng(config.seed).standard_normal

    def run(cell: nn.Cell, shape: Sequence[int], lengths: Any, has_input_gradient: bool) -> Work:
        x = noise(shape, dtype=np.float32)
        cell.set_train(is_training)
        inputs = [Tensor(x), Tensor(lengths)]
        signature = [_open(shape, ms.float32), _open([num], ms.int32)]
        if is_training:
            gradient = np.full_like(cell(*inputs).asnumpy(), 1e-3)
            inputs, signature = [Tensor(gradient), *inputs], [_open(gradient.shape, ms.float32), *signature]
            cell = Gradients(cell, has_input_gradient).set_train()
        return _call(cell, inputs, signature if is_open else [])

    works = {
        "convolutions": run(Convolutions(network), (num, num_frames, num_bins), batch.feature_lengths, False),
        "recurrent layers": run(RecurrentLayers(network), (num_out, num, network.rnn_input_size), lengths, True),
        "output layer": run(OutputLayer(network), (num_out, num, hidden), lengths, True),
    }
    if is_training:
        logits = noise((num_out, num, vocabulary), dtype=np.float32)
        labels = [Tensor(lengths), Tensor(batch.labels), Tensor(batch.label_lengths)]
        signature = [_open([num], ms.int32), _open(batch.labels.shape, ms.int32), _open([num], ms.int32)]
        loss = CTCLoss(Tokenizer(config.text).blank_id, contender.backend)
        works["CTC"] = _call(
            Gradients(loss, True).set_train(),
            [Tensor(np.float32(1)), Tensor(logits), *labels],
            [Tensor(shape=[], dtype=ms.float32), _open(logits.shape, ms.float32), *signature] if is_open else [],
        )
        optimizer = make_optimizer(build_network(config).trainable_params(), config.optimizer)
        works["optimiser"] = _call(Update(optimizer), [Tensor(LEARNING_RATE)], [])
    return works


def _open(shape: Sequence[int], dtype: Any) -> Tensor:
    """A symbolic input whose dimensions are open, but for the last of three: that is the layer's own size."""
    return Tensor(shape=[None, None, shape[2]] if len(shape) == 3 else [None] * len(shape), dtype=dtype)


def _call(cell: nn.Cell, inputs: list[Tensor], signature: list[Tensor]) -> Work:
    if signature:
        cell.set_inputs(*signature)

    def work() -> None:
        outputs = cell(*inputs)
        while isinstance(outputs, (tuple, list)):
            outputs = outputs[-1]  # the graph hands all out together; the last one is small
        outputs.asnumpy()

    return work


def _list_numpy(config: Config, batch: Batch, folder: Path) -> dict[str, Work]:
    """What happens before and after the network, in one thread; sound is noise, files are 16-bit FLAC."""
    rate, num = config.features.sample_rate_hz, len(batch.features)
    generator = np.random.default_rng(config.seed)
    num_samples = (batch.feature_lengths - 1) * config.features.hop_samples
    waveforms = [generator.uniform(-0.5, 0.5, int(n)).astype(np.float32) for n in num_samples]
    utterances = []
    for i, waveform in enumerate(waveforms):
        path = folder / f"{i}.flac"
        soundfile.write(path, waveform, rate, subtype="PCM_16")
        utterances.append(Utterance(str(i), str(path), len(waveform) / rate, "noise"))
    tokenizer = Tokenizer(config.text)
    loader = BatchLoader(
        utterances,
        [np.zeros(0, dtype=np.int32)] * num,
        config.features,
        blank_id=tokenizer.blank_id,
        cache_dir=None,
        prefetch_batches=1,
    )
    num_out = config.model.num_output_frames(batch.features.shape[1])
    log_probs = generator.standard_normal((num, num_out, tokenizer.size), dtype=np.float32)
    lengths = np.array([config.model.num_output_frames(int(n)) for n in batch.feature_lengths], dtype=np.int32)
    seconds_per_frame = config.seconds_per_output_frame
    return {
        "features": lambda: [compute_features(waveform, config.features) for waveform in waveforms],
        "loading": lambda: loader.load(BatchSpec(tuple(range(num)), batch.features.shape[1])),
        "decoding": lambda: decode_greedy(log_probs, lengths, tokenizer, seconds_per_frame),
    }
