"""Adam, AdamW, SGD with Nesterov momentum and LAMB, with the learning rate given at each step.

MindSpore's own optimisers keep a learning rate of their own, and its AdamWeightDecay has no bias correction. Here the
schedule hands the rate in, so that there is one owner. All have run on the CPU only.
"""

from collections.abc import Sequence
from typing import Any

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindaudio_ds2.training_config import OptimizerConfig

# Mapped over weights, and of primitives, because that compiles sooner than a loop; see step.py.
_map = ops.HyperMap()
_multiply, _assign = ops.Mul(), ops.Assign()


class Optimizer(nn.Cell):
    """What all optimisers share: the weights, which of them are decayed, and how their states are named.

    Only matrices and kernels are decayed, never norms and biases.

    Args:
        parameters: what is optimised; the state is numbered in their order.
        config: the optimiser's numbers.
        factors: of the learning rate, one for each parameter; None for 1.
    """

    def __init__(
        self, parameters: Sequence[Parameter], config: OptimizerConfig, factors: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.weights = ParameterTuple(parameters)
        self.is_matrix = tuple(parameter.ndim > 1 for parameter in parameters)
        self.factors = tuple(factors or [1.0] * len(parameters))
        assert len(self.factors) == len(parameters)
        self.weight_decay = config.weight_decay
        self.averages: dict[str, ParameterTuple] = {}
        self.powers: dict[str, Parameter] = {}

    def _add_average(self, name: str) -> ParameterTuple:
        """A running average for each weight, which begins at 0."""
        self.averages[name] = self.weights.clone(prefix=name, init="zeros")
        return self.averages[name]

    def _add_power(self, name: str) -> Parameter:
        """A power of a decay, which begins at 1."""
        self.powers[name] = Parameter(Tensor(1.0, ms.float32), name=name, requires_grad=False)
        return self.powers[name]

    def rate_of(self, i: int, learning_rate: Tensor) -> Tensor:
        """The learning rate of weight i, () float32."""
        return learning_rate if self.factors[i] == 1 else learning_rate * self.factors[i]

    def is_decayed(self, i: int) -> bool:
        """Whether weight i is decayed."""
        return self.is_matrix[i] and self.weight_decay > 0

    def state(self) -> dict[str, Parameter]:
        """What must be saved beside the weights for an exact resume, by name."""
        named = {f"{name}.{i}": each for name, many in self.averages.items() for i, each in enumerate(many)}
        return {**named, **self.powers}


class Adam(Optimizer):
    """Adam (arXiv:1412.6980), or AdamW, whose weight decay is decoupled from the gradient (arXiv:1711.05101).

    Epsilon is added before the bias correction, as at the end of section 2 of the paper; PyTorch adds it after, which
    is the same for an epsilon as small as 1e-8.

    Args:
        parameters, config, factors: as in `Optimizer`.
    """

    def __init__(
        self, parameters: Sequence[Parameter], config: OptimizerConfig, factors: Sequence[float] | None = None
    ) -> None:
        super().__init__(parameters, config, factors)
        self.moment1, self.moment2 = self._add_average("moment1"), self._add_average("moment2")
        self.beta1_power, self.beta2_power = self._add_power("beta1_power"), self._add_power("beta2_power")
        self.beta1, self.beta2 = config.betas
        self.epsilon = config.epsilon
        self.decoupled = config.name == "adamw"
        self.decays = tuple(self.is_decayed(i) for i in range(len(self.weights)))
        self.update = ops.Adam()

    def construct(self, gradients: tuple[Tensor, ...], learning_rate: Tensor) -> Tensor:
        """Update every weight once.

        Args:
            gradients: one for each parameter, in their order.
            learning_rate: () float32.

        Returns:
            The learning rate used, () float32.
        """
        beta1_power = ops.assign(self.beta1_power, self.beta1_power * self.beta1)
        beta2_power = ops.assign(self.beta2_power, self.beta2_power * self.beta2)
        move = ops.partial(self._move, beta1_power, beta2_power, learning_rate)
        moved = _map(move, self.weights, self.moment1, self.moment2, self.factors, self.decays, gradients)
        return ops.depend(learning_rate, moved)

    def _move(
        self,
        beta1_power: Tensor,
        beta2_power: Tensor,
        learning_rate: Tensor,
        weight: Parameter,
        moment1: Parameter,
        moment2: Parameter,
        factor: float,
        is_decayed: bool,
        gradient: Tensor,
    ) -> Any:
        """Update one weight."""
        rate = learning_rate if factor == 1 else _multiply(learning_rate, factor)
        if is_decayed:
            if self.decoupled:
                decayed = _multiply(weight, 1 - rate * self.weight_decay)
                gradient = ops.depend(gradient, _assign(weight, decayed))
            else:
                gradient = gradient + self.weight_decay * weight
        numbers = (self.beta1, self.beta2, self.epsilon)
        return self.update(weight, moment1, moment2, beta1_power, beta2_power, rate, *numbers, gradient)


class NesterovSGD(Optimizer):
    """Stochastic gradient descent with Nesterov momentum, as the DeepSpeech2 paper trains (section 6).

    Weight decay is added to the gradient, as in PyTorch, whose formula of the momentum this is. MindSpore 2.10's fused
    ApplyMomentum leaves Nesterov out on the CPU; tests/training/compiled/test_optimizer.py tells when this has gone.

    Args:
        parameters, config, factors: as in `Optimizer`.
    """

    def __init__(
        self, parameters: Sequence[Parameter], config: OptimizerConfig, factors: Sequence[float] | None = None
    ) -> None:
        super().__init__(parameters, config, factors)
        self.velocity = self._add_average("velocity")
        self.momentum = config.momentum

    def construct(self, gradients: tuple[Tensor, ...], learning_rate: Tensor) -> Tensor:
        """Update every weight once; arguments and result as in `Adam`."""
        for i, gradient in enumerate(gradients):
            weight = self.weights[i]
            if self.is_decayed(i):
                gradient = gradient + self.weight_decay * weight
            velocity = ops.assign(self.velocity[i], self.momentum * self.velocity[i] + gradient)
            ops.assign(weight, weight - self.rate_of(i, learning_rate) * (gradient + self.momentum * velocity))
        return learning_rate


class LAMB(Optimizer):
    """LAMB (arXiv:1904.00962, algorithm 2): Adam's direction, as long as the weights of the layer, for large batches.

    As in its authors' program, norms and biases are neither decayed nor given that length: a bias that begins at 0
    could hardly leave it.

    Args:
        parameters, config, factors: as in `Optimizer`.
    """

    def __init__(
        self, parameters: Sequence[Parameter], config: OptimizerConfig, factors: Sequence[float] | None = None
    ) -> None:
        super().__init__(parameters, config, factors)
        self.moment1, self.moment2 = self._add_average("moment1"), self._add_average("moment2")
        self.beta1_power, self.beta2_power = self._add_power("beta1_power"), self._add_power("beta2_power")
        self.beta1, self.beta2 = config.betas
        self.epsilon = config.epsilon

    def construct(self, gradients: tuple[Tensor, ...], learning_rate: Tensor) -> Tensor:
        """Update every weight once; arguments and result as in `Adam`."""
        beta1_power = ops.assign(self.beta1_power, self.beta1_power * self.beta1)
        beta2_power = ops.assign(self.beta2_power, self.beta2_power * self.beta2)
        for i, gradient in enumerate(gradients):
            weight, rate = self.weights[i], self.rate_of(i, learning_rate)
            mean = ops.assign(self.moment1[i], self.beta1 * self.moment1[i] + (1 - self.beta1) * gradient)
            square = ops.assign(self.moment2[i], self.beta2 * self.moment2[i] + (1 - self.beta2) * ops.square(gradient))
            direction = mean / (1 - beta1_power) / (ops.sqrt(square / (1 - beta2_power)) + self.epsilon)
            if self.is_decayed(i):
                direction = direction + self.weight_decay * weight
            if self.is_matrix[i]:
                rate = rate * self._trust(weight, direction)
            ops.assign(weight, weight - rate * direction)
        return learning_rate

    def _trust(self, weight: Tensor, direction: Tensor) -> Tensor:
        """Length of the weights over that of the direction; 1 where either is 0."""
        length = ops.sqrt(ops.square(weight).sum())
        step = ops.sqrt(ops.square(direction).sum())
        return ops.select(ops.logical_and(length > 0, step > 0), length / step, ops.ones_like(step))


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": Adam, "sgd": NesterovSGD, "lamb": LAMB}
"""By `OptimizerConfig.name`."""


def make_optimizer(
    parameters: Sequence[Parameter], config: OptimizerConfig, factors: Sequence[float] | None = None
) -> Optimizer:
    """The optimiser that `config.name` says.

    Args:
        parameters, config, factors: as in `Optimizer`.
    """
    return OPTIMIZERS[config.name](parameters, config, factors)
