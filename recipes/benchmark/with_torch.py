"""The same network in PyTorch, as fast as its CPU kernels allow. Import it only where PyTorch is installed.

Shapes: B batch, T input frames, S output frames, F frequency bins, C channels, H hidden units, V alphabet with blank.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.config import Config
from mindaudio_ds2.text.tokenizer import Tokenizer
from recipes.benchmark.case import ContenderError, Task


class TorchNetwork(nn.Module):
    """DeepSpeech2 with the layers, the masks and the number of weights that `mindaudio_ds2.model` has.

    Each direction of a recurrent layer is a layer of its own, and the backward one reads every utterance reversed
    within its length. Packed sequences would be shorter to write; but in PyTorch 2.13 they miss the fused CPU kernel as
    soon as lengths differ, and are several times slower.

    Args:
        config: the network, the features and the alphabet.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        model = config.model
        hidden = model.rnn_hidden_size
        self.time_strides = model.conv_stride_time
        self.is_tanh = model.activation == "tanh"
        channels = [1, *model.conv_channels]
        kernels = list(zip(model.conv_kernel_frequency, model.conv_kernel_time, strict=True))
        strides = list(zip(model.conv_stride_frequency, model.conv_stride_time, strict=True))
        self.convs = nn.ModuleList(
            nn.Conv2d(
                channels[i],
                channels[i + 1],
                kernel,
                strides[i],
                padding=(kernel[0] // 2, kernel[1] // 2),
                bias=model.conv_bias,
            )
            for i, kernel in enumerate(kernels)
        )

        def norms(sizes: Iterable[int]) -> nn.ModuleList:
            epsilon, momentum = model.batch_norm_epsilon, 1 - model.batch_norm_momentum
            return nn.ModuleList(nn.BatchNorm1d(size, epsilon, momentum) for size in sizes)

        layer = nn.LSTM if model.rnn_type == "lstm" else nn.GRU
        first = model.conv_channels[-1] * model.num_output_bins(config.features.num_bins)
        inputs = [first] + [hidden] * (model.rnn_num_layers - 1)
        self.conv_norms = norms(model.conv_channels)
        self.forward_rnns = nn.ModuleList(layer(size, hidden) for size in inputs)
        self.backward_rnns = nn.ModuleList(layer(size, hidden) for size in inputs if model.bidirectional)
        self.rnn_norms = norms([hidden] * (model.rnn_num_layers - 1 if model.rnn_batch_norm else 0))
        self.lookahead = (
            None
            if model.bidirectional
            else nn.Conv1d(hidden, hidden, model.lookahead_frames, groups=hidden, bias=False)
        )
        self.head_norm = norms([hidden] if model.head_batch_norm else [])
        self.head = nn.Linear(hidden, Tokenizer(config.text).size, bias=model.head_bias)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) -> logits (S, B, V) and their lengths (B,)."""
        x = features.transpose(1, 2).unsqueeze(1)  # (B, T, F) -> (B, 1, F, T)
        for conv, norm, stride in zip(self.convs, self.conv_norms, self.time_strides, strict=True):
            x = conv(x)
            lengths = torch.div(lengths - 1, stride, rounding_mode="floor") + 1
            x = self._normalize_image(norm, x, lengths)
            x = torch.tanh(x) if self.is_tanh else functional.hardtanh(x, 0.0, 20.0)
        x = x.permute(3, 0, 1, 2).flatten(2)  # (B, C, F, S) -> (S, B, C * F)
        is_real = torch.arange(len(x))[:, None] < lengths  # (S, B)
        for i, rnn in enumerate(self.forward_rnns):
            if i > 0 and self.rnn_norms:
                x = self._normalize_sequence(self.rnn_norms[i - 1], x, is_real)
            y = rnn(x)[0]
            if self.backward_rnns:
                y = y + _reverse(self.backward_rnns[i](_reverse(x, lengths))[0], lengths)
            x = y
        if self.lookahead is not None:
            x = functional.pad((x * is_real[:, :, None]).permute(1, 2, 0), (0, self.lookahead.kernel_size[0] - 1))
            x = functional.hardtanh(self.lookahead(x), 0.0, 20.0).permute(2, 0, 1)
        for norm in self.head_norm:
            x = self._normalize_sequence(norm, x, is_real)
        return self.head(x), lengths

    def _normalize_image(self, norm: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
        """Batch norm over real frames of (B, C, F, S), zero at the others; without copies where all frames are real."""
        if bool((lengths == x.shape[3]).all()):
            whole: Tensor = norm(x.flatten(2))
            return whole.view(x.shape)
        is_real = torch.arange(x.shape[3]) < lengths[:, None]  # (B, S)
        columns = x.permute(0, 3, 1, 2)  # (B, S, C, F)
        normalized = torch.zeros_like(columns)
        normalized[is_real] = norm(columns[is_real])
        return normalized.permute(0, 2, 3, 1)

    def _normalize_sequence(self, norm: nn.Module, x: Tensor, is_real: Tensor) -> Tensor:
        """The same for (S, B, H)."""
        if bool(is_real.all()):
            whole: Tensor = norm(x.flatten(0, 1))
            return whole.view(x.shape)
        normalized = torch.zeros_like(x)
        normalized[is_real] = norm(x[is_real])
        return normalized


def _reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each utterance of (S, B, N) within its length; cheaply where all are of one length."""
    if bool((lengths == len(x)).all()):
        return x.flip(0)
    frames = torch.arange(len(x))[:, None]
    source = torch.where(frames < lengths, lengths - 1 - frames, frames)  # (S, B)
    return x.gather(0, source[:, :, None].expand_as(x))


class TorchMultiplication:
    """What both PyTorch contenders measure the machine with."""

    def __init__(self) -> None:
        self.num_threads = torch.get_num_threads()
        self.compiles_each_shape = False
        self._matrices: dict[int, Tensor] = {}

    def multiply(self, size: int) -> None:
        """See `Contender`."""
        if size not in self._matrices:
            self._matrices[size] = torch.randn(size, size)
        self._matrices[size] @ self._matrices[size]


class TorchContender(TorchMultiplication):
    """`TorchNetwork` with CTC, clipping and PyTorch's fused Adam. It has run on the CPU.

    Args:
        config: the network, and how it is trained.
        task: "train" or "inference".
        is_bfloat16: compute the network under autocast to bfloat16. What that leaves in float32 stays so, as does CTC.

    Raises:
        ContenderError: another optimiser is configured.
    """

    def __init__(self, config: Config, task: Task, is_bfloat16: bool = False) -> None:
        super().__init__()
        torch.manual_seed(config.seed)
        self.is_bfloat16 = is_bfloat16
        self.network = TorchNetwork(config)
        self.num_parameters = count_weights(self.network)
        self.is_training = task == "train"
        self.network.train(self.is_training)
        self.blank_id = Tokenizer(config.text).blank_id
        self.max_gradient_norm = config.optimizer.max_gradient_norm
        weights = list(self.network.parameters())
        groups = [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": config.optimizer.weight_decay},
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        kind = kinds.get(config.optimizer.name)
        if kind is None:
            raise ContenderError(f"it has {' and '.join(kinds)}, not optimizer.name {config.optimizer.name}")
        epsilon = config.optimizer.epsilon
        self.optimizer = kind(groups, lr=1e-5, betas=config.optimizer.betas, eps=epsilon, fused=True)

    def take(self, batch: Batch) -> float:
        """See `Contender`."""
        features, lengths = torch.from_numpy(batch.features), torch.from_numpy(batch.feature_lengths).long()
        if not self.is_training:
            with torch.inference_mode():
                return float(self._hear(features, lengths)[0].sum())
        log_probs, lengths = self._hear(features, lengths)
        labels, label_lengths = torch.from_numpy(batch.labels).long(), torch.from_numpy(batch.label_lengths).long()
        losses = functional.ctc_loss(log_probs, labels, lengths, label_lengths, self.blank_id, reduction="none")
        loss = losses.mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_gradient_norm)
        self.optimizer.step()
        return float(loss.detach())

    def _hear(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) -> log-probabilities (S, B, V) float32 and their lengths (B,).

        Autocast ends with each step, because until then it keeps the weights that it has rounded, whatever an update
        does to them.
        """
        with torch.autocast("cpu", torch.bfloat16, enabled=self.is_bfloat16):
            logits, lengths = self.network(features, lengths)
        return functional.log_softmax(logits.float(), -1), lengths


def count_weights(network: nn.Module) -> int:
    """Trainable weights of a network."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
