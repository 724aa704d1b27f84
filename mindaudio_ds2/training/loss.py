"""The connectionist temporal classification loss (Graves et al. 2006), with label smoothing if it is wanted."""

import math
from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindaudio_ds2.model.masked_norm import make_mask
from mindaudio_ds2.ops.native import NativeCTC


class CTCLoss(nn.Cell):
    """Mean over utterances of the negative log-likelihood of their labels, in float32.

    With label smoothing a, an utterance's loss is (1 - a) times that, plus a times the sum over its frames of the
    Kullback-Leibler divergence from the uniform distribution over all labels to the network's: label smoothing as
    Pereyra et al. 2017 (arXiv:1701.06548) write it, for frames that have no label of their own.

    Rows without a frame, which only fill up a batch of fixed shape, are no utterances. An utterance whose labels cannot
    be aligned gives an infinite loss; `batching.plan` leaves such utterances out. Has run on the CPU only.

    Args:
        blank_id: label id of the blank.
        kernels: the library of native kernels, or None.
        smoothing: a, from 0 to 1; 0 costs nothing.
    """

    def __init__(self, blank_id: int, kernels: Path | None = None, smoothing: float = 0.0) -> None:
        super().__init__()
        self.blank_id = blank_id
        self.native = NativeCTC(kernels, blank_id) if kernels else None
        self.smoothing = smoothing

    def construct(self, logits: Tensor, logit_lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: (S, B, V); anything may stand beyond the lengths, with label smoothing anything finite.
            logit_lengths: (B,) int32, in output frames; 0 in an empty row. At least one row is not empty.
            labels: (B, L) int32; anything may stand beyond the lengths.
            label_lengths: (B,) int32.

        Returns:
            () float32, in nats an utterance.
        """
        is_utterance = logit_lengths > 0
        losses = self._find_losses(logits, logit_lengths, labels, label_lengths)
        if self.smoothing > 0:
            distances = _measure_distance_from_uniform(logits, logit_lengths)
            losses = losses * (1 - self.smoothing) + distances * self.smoothing
        return ops.select(is_utterance, losses, ops.zeros_like(losses)).sum() / is_utterance.astype(ms.float32).sum()

    def _find_losses(self, logits: Tensor, logit_lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
        """(B,) float32; some finite value in an empty row."""
        logit_lengths = ops.maximum(logit_lengths, 1)  # what devices make of a row without frames is written nowhere
        if self.native is not None:
            return self.native(logits, logit_lengths, labels, label_lengths)[0]
        log_probs = ops.log_softmax(logits.astype(ms.float32), -1)
        # MindSpore 2.10's CPU kernel stops the program on more labels than frames; here that is an infinite loss.
        is_possible = label_lengths <= logit_lengths
        label_lengths = ops.select(is_possible, label_lengths, ops.zeros_like(label_lengths))
        losses, _ = ops.ctc_loss(log_probs, labels, logit_lengths, label_lengths, self.blank_id, "none", False)
        return ops.select(is_possible, losses, ops.full_like(losses, float("inf")))


def _measure_distance_from_uniform(logits: Tensor, lengths: Tensor) -> Tensor:
    """Sum over an utterance's frames of KL(uniform || softmax(logits)): (S, B, V), (B,) -> (B,) float32, in nats."""
    log_probs = ops.log_softmax(logits.astype(ms.float32), -1)
    distances = -log_probs.mean(-1) - math.log(logits.shape[-1])  # (S, B)
    mask = ops.transpose(make_mask(lengths, logits.shape[0]), (1, 0))
    return (distances * mask).sum(0)
