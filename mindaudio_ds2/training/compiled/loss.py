"""The connectionist temporal classification loss (Graves et al. 2006), with what may be added to it."""

import math

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.model.masked_norm import make_mask
from mindaudio_ds2.ops.native import NativeCTC


class CTCLoss(nn.Cell):
    """Mean over utterances of the negative log-likelihood of their labels, in float32.

    With label smoothing a, an utterance's loss is (1 - a) times that, plus a times the sum over its frames of the
    Kullback-Leibler divergence from the uniform distribution over all labels to the network's: label smoothing as
    Pereyra et al. 2017 (arXiv:1701.06548) write it, for frames that have no label of their own.

    With consistency regularisation (Yao et al. 2024, arXiv:2410.05101) the batch holds every
    utterance twice, in two views that differ in what is masked and dropped but not in time. To each row's loss is added
    a weight times the sum over frames of KL(other || row), the divergence from the other view's probabilities, which
    count as given. The mean over all rows is then the paper's loss.

    With a teacher of weight w, an utterance's loss by its labels, smoothing included, is multiplied by 1 - w, and w
    times the sum over its frames of KL(teacher || network) is added: frame-level knowledge distillation, as Kurata and
    Audhkhasi 2019 (arXiv:1904.08311) do it between CTC networks whose letters stand at the same times. The divergence
    between two views comes on top of both.

    Rows without a frame, which only fill up a batch of fixed shape, are no utterances. An utterance whose labels cannot
    be aligned gives an infinite loss; `batching.plan` leaves such utterances out. Has run on the CPU only.

    Args:
        blank_id: label id of the blank.
        backend: how this process computes.
        smoothing: a, from 0 to 1; 0 costs nothing.
        consistency_weight: of the divergence between two views; above 0, row B / 2 + b is row b's other view.
        teacher_weight: w, above 0 to 1, where a teacher's logits are given; 0 for a loss without.
    """

    def __init__(
        self,
        blank_id: int,
        backend: Backend = STOCK,
        smoothing: float = 0.0,
        consistency_weight: float = 0.0,
        teacher_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.blank_id = blank_id
        self.native = NativeCTC(backend.kernels, blank_id) if backend.kernels else None
        self.smoothing = smoothing
        self.consistency_weight = consistency_weight
        self.teacher_weight = teacher_weight

    def construct(
        self,
        logits: Tensor,
        logit_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        taught: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            logits: (S, B, V); anything may stand beyond the lengths, with additions to the loss anything finite.
            logit_lengths: (B,) int32, in output frames; 0 in an empty row. At least one row is not empty.
            labels: (B, L) int32; anything may stand beyond the lengths.
            label_lengths: (B,) int32.
            taught: the teacher's logits, as `logits`, which count as given; None where there is no teacher.

        Returns:
            () float32, in nats an utterance.
        """
        is_utterance = logit_lengths > 0
        losses = self._find_losses(logits, logit_lengths, labels, label_lengths)
        if self.smoothing > 0:
            distances = _measure_distance_from_uniform(logits, logit_lengths)
            losses = losses * (1 - self.smoothing) + distances * self.smoothing
        if taught is not None:
            distances = _measure_distance_from_teacher(taught, logits, logit_lengths)
            losses = losses * (1 - self.teacher_weight) + distances * self.teacher_weight
        if self.consistency_weight > 0:
            losses = losses + _measure_distance_from_other_view(logits, logit_lengths) * self.consistency_weight
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
    return _sum_over_frames(-log_probs.mean(-1) - math.log(logits.shape[-1]), lengths)


def _measure_distance_from_other_view(logits: Tensor, lengths: Tensor) -> Tensor:
    """Sum over an utterance's frames of KL(softmax(other view's logits) || softmax(logits)), (B,) float32, in nats."""
    log_probs = ops.log_softmax(logits.astype(ms.float32), -1)
    num_utterances = logits.shape[1] // 2
    others = ops.concat((log_probs[:, num_utterances:], log_probs[:, :num_utterances]), 1)
    return _measure_divergence(others, log_probs, lengths)


def _measure_distance_from_teacher(taught: Tensor, logits: Tensor, lengths: Tensor) -> Tensor:
    """Sum over an utterance's frames of KL(softmax(taught) || softmax(logits)), (B,) float32, in nats."""
    given = ops.log_softmax(taught.astype(ms.float32), -1)
    return _measure_divergence(given, ops.log_softmax(logits.astype(ms.float32), -1), lengths)


def _measure_divergence(given: Tensor, log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Sum over frames of KL(given || other), without a gradient by what is given: twice (S, B, V), (B,) -> (B,)."""
    given = ops.stop_gradient(given)
    return _sum_over_frames((ops.exp(given) * (given - log_probs)).sum(-1), lengths)


def _sum_over_frames(distances: Tensor, lengths: Tensor) -> Tensor:
    """Those within the lengths: (S, B), (B,) -> (B,)."""
    mask = ops.transpose(make_mask(lengths, distances.shape[0]), (1, 0))
    return (distances * mask).sum(0)
