"""Adam and AdamW, with the learning rate given at each step."""

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindaudio_ds2.config import OptimizerConfig


class Adam(nn.Cell):
    """Adam (arXiv:1412.6980), or AdamW, whose weight decay is decoupled from the gradient (arXiv:1711.05101).

    MindSpore's own optimisers keep a learning rate of their own, and its AdamWeightDecay has no bias correction. Here
    the schedule hands the rate in, so that there is one owner. Only matrices and kernels are decayed, never norms and
    biases. Epsilon is added before the bias correction, as at the end of section 2 of the paper; PyTorch adds it after,
    which is the same for an epsilon as small as 1e-8. Has run on the CPU only.

    Args:
        parameters: what is optimised; the state is numbered in their order.
        config: betas, epsilon, weight decay, and which of the two.
    """

    def __init__(self, parameters: list[Parameter], config: OptimizerConfig) -> None:
        super().__init__()
        self.weights = ParameterTuple(parameters)
        self.moment1 = self.weights.clone(prefix="moment1", init="zeros")
        self.moment2 = self.weights.clone(prefix="moment2", init="zeros")
        self.beta1_power = Parameter(Tensor(1.0, ms.float32), name="beta1_power", requires_grad=False)
        self.beta2_power = Parameter(Tensor(1.0, ms.float32), name="beta2_power", requires_grad=False)
        self.beta1, self.beta2 = config.betas
        self.epsilon = config.epsilon
        self.weight_decay = config.weight_decay
        self.decoupled = config.name == "adamw"
        self.decayed = tuple(parameter.ndim > 1 and config.weight_decay > 0 for parameter in parameters)
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
        for i, gradient in enumerate(gradients):
            weight = self.weights[i]
            if self.decayed[i] and self.decoupled:
                gradient = ops.depend(gradient, ops.assign(weight, weight * (1 - learning_rate * self.weight_decay)))
            elif self.decayed[i]:
                gradient = gradient + self.weight_decay * weight
            self.update(
                weight,
                self.moment1[i],
                self.moment2[i],
                beta1_power,
                beta2_power,
                learning_rate,
                self.beta1,
                self.beta2,
                self.epsilon,
                gradient,
            )
        return learning_rate

    def state(self) -> dict[str, Parameter]:
        """What must be saved beside the weights for an exact resume, by name."""
        moments = {f"moment1.{i}": moment for i, moment in enumerate(self.moment1)}
        moments |= {f"moment2.{i}": moment for i, moment in enumerate(self.moment2)}
        return {**moments, "beta1_power": self.beta1_power, "beta2_power": self.beta2_power}
