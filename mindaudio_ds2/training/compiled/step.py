"""One optimiser update as one graph: forward, loss, backward, clip, update.

Owns clipping, the loss scale and the check for NaN.
"""

from collections.abc import Sequence

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn, ops

from mindaudio_ds2.model.deepspeech2 import DeepSpeech2, feature_signature
from mindaudio_ds2.training.compiled.loss import CTCLoss
from mindaudio_ds2.training.compiled.loss_scale import LossScale
from mindaudio_ds2.training.compiled.optimizer import Optimizer
from mindaudio_ds2.training.compiled.weight_average import MovingAverage

# MindSpore 2.10 compiles a function mapped over weights sooner than a loop over them, and primitives sooner than
# methods of tensors: a step of the tests' network in 2.0 s instead of 3.0 s. The numbers are the same to the bit.
_map = ops.HyperMap()
_add_up = ops.ReduceSum()
_reshape, _square, _multiply = ops.Reshape(), ops.Square(), ops.Mul()
_is_finite, _assign = ops.IsFinite(), ops.Assign()


def _sum_squares(gradient: Tensor) -> Tensor:
    """() float32, row by row."""
    return _add_up(_add_up(_square(_reshape(gradient, (gradient.shape[0], -1))), 1))


def _scale(scale: Tensor, gradient: Tensor) -> Tensor:
    return _multiply(gradient, scale)


def _has_finite_sum(statistic: Tensor) -> Tensor:
    return _is_finite(_add_up(statistic))


class Gradients(nn.Cell):
    """Forward, loss, backward. Changes nothing but the `next_` statistics of batch norms.

    Args:
        network: the network that is trained.
        loss: the loss.
        weights: what the gradient is taken of.
        loss_scale: the gradients are those of the loss times this.
        teacher: hears the same features, and the loss is given what it says; None for a loss of the labels alone.
    """

    def __init__(
        self,
        network: DeepSpeech2,
        loss: CTCLoss,
        weights: ParameterTuple,
        loss_scale: LossScale,
        teacher: DeepSpeech2 | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.loss_scale = loss_scale
        self.teacher = teacher
        self.value_and_grad = ops.value_and_grad(self.forward, None, weights)

    def forward(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        share: Tensor | float,
        dropout: Tensor | None,
        taught: Tensor | None,
    ) -> Tensor:
        """What a batch adds to the loss of its update, scaled, () float32."""
        logits, logit_lengths = self.network(features, feature_lengths, dropout)
        return self.loss_scale.multiply(self.loss(logits, logit_lengths, labels, label_lengths, taught) * share)

    def construct(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        share: Tensor | float,
        dropout: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute what one batch adds to the loss and gradients of an update; the sum over its batches is the whole.

        Args:
            features, feature_lengths, labels, label_lengths, dropout: as in `TrainStep`.
            share: of the update's utterances that are in this batch, () float32; 1 for a batch alone.

        Returns:
            The share of the loss in nats an utterance, () float32, and that of each weight's gradient, scaled.
        """
        taught = None if self.teacher is None else self.teacher(features, feature_lengths)[0]
        loss, gradients = self.value_and_grad(features, feature_lengths, labels, label_lengths, share, dropout, taught)
        return self.loss_scale.divide(loss), gradients


class Update(nn.Cell):
    """Norm, check, clip, update. Where anything is not finite, nothing changes but a dynamic loss scale.

    Args:
        network: whose running statistics take over the `next_` ones.
        optimizer: holds the network's trainable parameters.
        max_gradient_norm: gradients are scaled down to this L2 norm where theirs is larger.
        loss_scale: what `Gradients` has scaled them by.
        average: follows the weights; None where no average is wanted.
        is_pruned: whether the zeros in each of the optimiser's parameters are to stay; empty where none are. They do
            where the optimiser's averages are zero, too.
    """

    def __init__(
        self,
        network: DeepSpeech2,
        optimizer: Optimizer,
        max_gradient_norm: float,
        loss_scale: LossScale,
        average: MovingAverage | None = None,
        is_pruned: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.is_pruned = tuple(is_pruned)
        self.weights = optimizer.weights
        self.optimizer = optimizer
        self.max_gradient_norm = max_gradient_norm
        self.loss_scale = loss_scale
        self.average = average
        norms = [norm for norm in network.batch_norms() if not norm.is_frozen]
        self.running = ParameterTuple([p for norm in norms for p in (norm.moving_mean, norm.moving_variance)])
        self.next_running = ParameterTuple([p for norm in norms for p in (norm.next_mean, norm.next_variance)])
        self.has_running = bool(norms)

    def construct(
        self, loss: Tensor, gradients: tuple[Tensor, ...], learning_rate: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take the step.

        Args:
            loss: () float32.
            gradients: one for each of the optimiser's parameters, scaled.
            learning_rate: () float32.

        Returns:
            The gradient's L2 norm before clipping and without the scale, () float32; whether all was finite and the
            step made, () bool; and whether a smaller loss scale answers that it was not, () bool.
        """
        if self.is_pruned:
            gradients = self._keep_zeros(gradients)
        norm = self.loss_scale.divide(ops.sqrt(ops.addn(_map(_sum_squares, gradients))))
        is_forward_finite = ops.isfinite(loss)
        if self.has_running:  # a variance may overflow while loss and gradient stay finite
            for is_statistic_finite in _map(_has_finite_sum, self.next_running):
                is_forward_finite = ops.logical_and(is_forward_finite, is_statistic_finite)
        is_finite = ops.logical_and(is_forward_finite, ops.isfinite(norm))
        if is_finite:
            # one factor for clipping and loss scale, so that a scale costs nothing
            scale = self.loss_scale.divide(self.max_gradient_norm / ops.maximum(norm, self.max_gradient_norm))
            clipped = _map(ops.partial(_scale, scale), gradients)
            norm = ops.depend(norm, self.optimizer(clipped, learning_rate))
            if self.has_running:
                norm = ops.depend(norm, _map(_assign, self.running, self.next_running))
            if self.average is not None:
                norm = ops.depend(norm, self.average())
        return norm, is_finite, self.loss_scale(is_forward_finite, is_finite)

    def _keep_zeros(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The gradients, of pruned parameters those of weights that are not zero."""
        kept: tuple[Tensor, ...] = ()
        for i, gradient in enumerate(gradients):
            if self.is_pruned[i]:
                zeros = ops.zeros_like(gradient)
                gradient = ops.select(ops.Equal()(self.weights[i], zeros), zeros, gradient)
            kept = kept + (gradient,)
        return kept


class TrainStep(nn.Cell):
    """A training step as one graph, compiled once for all batch shapes.

    A step whose loss, gradient or batch statistics are not finite changes no weight, no running statistic and no
    optimiser state, and no average. It has overflowed where only the scaled gradient was not finite, and a smaller
    scale is tried next.

    Args:
        network: the network that is trained.
        loss: the loss.
        optimizer: holds the network's trainable parameters.
        max_gradient_norm: gradients are scaled down to this L2 norm where theirs is larger.
        loss_scale: of the gradients.
        average: follows the weights; None where no average is wanted.
        teacher: as in `Gradients`.
        is_pruned: as in `Update`.
    """

    def __init__(
        self,
        network: DeepSpeech2,
        loss: CTCLoss,
        optimizer: Optimizer,
        max_gradient_norm: float,
        loss_scale: LossScale,
        average: MovingAverage | None = None,
        teacher: DeepSpeech2 | None = None,
        is_pruned: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.gradients = Gradients(network, loss, optimizer.weights, loss_scale, teacher)
        self.update = Update(network, optimizer, max_gradient_norm, loss_scale, average, is_pruned)

    def construct(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        learning_rate: Tensor,
        dropout: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Train on one batch.

        Args:
            features: (B, T, F) float32.
            feature_lengths: (B,) int32.
            labels: (B, L) int32.
            label_lengths: (B,) int32.
            learning_rate: () float32.
            dropout: (N, B, H) float32 for N recurrent layers, see `draw_dropout`; None for a step without.

        Returns:
            The loss in nats an utterance, the L2 norm of the gradient before clipping, both () float32; whether the
            step was finite and was made, and whether it was not because it has overflowed, both () bool.
        """
        loss, gradients = self.gradients(features, feature_lengths, labels, label_lengths, 1.0, dropout)
        norm, is_finite, has_overflowed = self.update(loss, gradients, learning_rate)
        return loss, norm, is_finite, has_overflowed

    def open_shapes(self, num_bins: int, dropout_sizes: tuple[int, int] | None = None) -> None:
        """Compile for any batch size, time and label length (else each new shape is compiled anew).

        Args:
            num_bins, dropout_sizes: as in `step_signature`.
        """
        self.set_inputs(*step_signature(num_bins, dropout_sizes))


def step_signature(num_bins: int, dropout_sizes: tuple[int, int] | None = None) -> list[Tensor]:
    """Symbolic inputs of a step with open batch, time and label length, for `set_inputs`.

    Args:
        num_bins: F.
        dropout_sizes: N and H of the dropout; None for steps without.

    Returns:
        Features, feature lengths, labels, label lengths, one number, and the dropout if there is any.
    """
    signature = [
        *feature_signature(num_bins),
        Tensor(shape=[None, None], dtype=ms.int32),
        Tensor(shape=[None], dtype=ms.int32),
        Tensor(shape=[], dtype=ms.float32),
    ]
    if dropout_sizes:
        num_layers, hidden_size = dropout_sizes
        signature.append(Tensor(shape=[num_layers, None, hidden_size], dtype=ms.float32))
    return signature
