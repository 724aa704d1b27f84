"""Every optimiser against NumPy in float64; Adam and AdamW against PyTorch's stored numbers, SGD against PyTorch."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.training_config import OptimizerConfig
from tests import reference

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

TORCH = np.load(Path(__file__).resolve().parents[2] / "data" / "torch_numbers.npz")
ADAMS = pytest.mark.parametrize("name", ["adam", "adamw"])
NAMES = pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lamb"])
CONFIG = OptimizerConfig("adam", betas=(0.9, 0.98), momentum=0.9, epsilon=1e-8, weight_decay=0.3, max_gradient_norm=1.0)
STARTS = [TORCH[f"adam_start_{i}"] for i in range(2)]
RATES = TORCH["adam_rates"].tolist()  # another one at each step, the last is 0
GRADIENTS = [[TORCH[f"adam_gradients_{i}"][step] for i in range(2)] for step in range(len(RATES))]


class Run:
    """A matrix and a bias, and what the optimiser makes of them step by step."""

    def __init__(self, config: OptimizerConfig, factors: tuple[float, float] | None = None) -> None:
        from mindspore import Parameter, Tensor

        from mindaudio_ds2.training.compiled.optimizer import make_optimizer

        self.weights = [Parameter(Tensor(start), name=f"weight{i}") for i, start in enumerate(STARTS)]
        self.optimizer = make_optimizer(self.weights, config, factors)
        self.start = self.state()

    def begin_anew(self) -> None:
        """Back to the first weights and moments, with what is compiled already."""
        from mindspore import Tensor, ops

        for weight, start in zip(self.weights, STARTS, strict=True):
            ops.assign(weight, Tensor(start))
        for name, parameter in self.optimizer.state().items():  # `set_data` is lost once a step is compiled: 2.10
            ops.assign(parameter, Tensor(self.start[name]))

    def step(self, gradients: list[NDArray[np.float32]], rate: float) -> float:
        """One update; the learning rate that was used."""
        from mindspore import Tensor

        return float(self.optimizer(tuple(map(Tensor, gradients)), Tensor(np.float32(rate))).asnumpy())

    def read(self) -> list[NDArray[np.float32]]:
        return [weight.asnumpy().copy() for weight in self.weights]

    def state(self) -> dict[str, Any]:
        return {name: parameter.asnumpy().copy() for name, parameter in self.optimizer.state().items()}


def make_config(name: Any, **changes: Any) -> OptimizerConfig:
    return dataclasses.replace(CONFIG, name=name, **changes)


compile_once = functools.cache(Run)


def begin(name: str, factors: tuple[float, float] | None = None, **changes: Any) -> Run:
    """A run from the first weights. Runs with the same arguments share one compiled optimiser: end one, then begin."""
    run = compile_once(make_config(name, **changes), factors)
    run.begin_anew()
    return run


@ADAMS
def test_five_steps_give_pytorchs_weights(name: str) -> None:
    """The learning rate changes at every step, so it is the one that was handed in; only the matrix is decayed."""
    run = begin(name)
    for step, rate in enumerate(RATES):
        assert run.step(GRADIENTS[step], rate) == pytest.approx(rate)
        for i, weight in enumerate(run.read()):
            np.testing.assert_allclose(weight, TORCH[f"{name}_weights_{i}"][step], rtol=1e-5, atol=1e-6)


@ADAMS
def test_weights_and_moments_are_those_of_the_second_implementation(name: str) -> None:
    """With a large epsilon, so that its place in the formula shows, and in `state` what it takes to go on."""
    run = begin(name, epsilon=0.1)
    starts = [weight.astype(np.float64) for weight in run.read()]
    second = reference.Adam(starts, CONFIG.betas, 0.1, CONFIG.weight_decay, decoupled=name == "adamw")
    for step, rate in enumerate(RATES, start=1):
        run.step(GRADIENTS[step - 1], rate)
        second.step(GRADIENTS[step - 1], rate)
        state = run.state()
        for i, weight in enumerate(run.read()):
            np.testing.assert_allclose(weight, second.weights[i], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(state[f"moment1.{i}"], second.means[i], rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(state[f"moment2.{i}"], second.squares[i], rtol=1e-5, atol=1e-7)
        assert state["beta1_power"] == pytest.approx(0.9**step)
        assert state["beta2_power"] == pytest.approx(0.98**step)


TEN_STEPS = [(rate, scale) for scale in (1.0, -0.7) for rate in (0.1, 0.01, 0.2, 0.05, 0.03)]
"""Learning rates, and what the stored gradients are multiplied by."""


def draw_gradients(step: int) -> list[NDArray[np.float32]]:
    return [gradient * np.float32(TEN_STEPS[step][1]) for gradient in GRADIENTS[step % 5]]


def test_ten_steps_of_sgd_are_those_of_the_second_implementation() -> None:
    run = begin("sgd")
    second = reference.NesterovSGD([start.astype(np.float64) for start in STARTS], 0.9, CONFIG.weight_decay)
    for step, (rate, _) in enumerate(TEN_STEPS):
        run.step(draw_gradients(step), rate)
        second.step([gradient.astype(np.float64) for gradient in draw_gradients(step)], rate)
        for i, weight in enumerate(run.read()):
            np.testing.assert_allclose(weight, second.weights[i], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(run.state()[f"velocity.{i}"], second.velocities[i], rtol=1e-5, atol=1e-6)


def test_ten_steps_of_sgd_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    weights = [torch.tensor(start, dtype=torch.float64, requires_grad=True) for start in STARTS]
    groups = [{"params": [weights[0]], "weight_decay": CONFIG.weight_decay}, {"params": [weights[1]]}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
    run = begin("sgd")
    for step, (rate, _) in enumerate(TEN_STEPS):
        run.step(draw_gradients(step), rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for weight, gradient in zip(weights, draw_gradients(step), strict=True):
            weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        for i, weight in enumerate(run.read()):
            np.testing.assert_allclose(weight, weights[i].detach().numpy(), rtol=1e-5, atol=1e-6)


def test_mindspores_fused_momentum_still_leaves_nesterov_out() -> None:
    """When this fails, `ops.ApplyMomentum(use_nesterov=True)` can replace the four operators of `NesterovSGD`."""
    import mindspore as ms
    from mindspore import Parameter, Tensor, ops

    weight = Parameter(Tensor(1.0, ms.float32), name="weight")
    velocity = Parameter(Tensor(2.0, ms.float32), name="velocity")
    rate, gradient = Tensor(0.1, ms.float32), Tensor(1.0, ms.float32)
    ops.ApplyMomentum(use_nesterov=True)(weight, velocity, rate, gradient, 0.9)
    assert velocity.asnumpy() == pytest.approx(0.9 * 2 + 1)
    assert weight.asnumpy() == pytest.approx(1 - 0.1 * 2.8), "with Nesterov: 1 - 0.1 * (1 + 0.9 * 2.8)"


@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_ten_steps_of_lamb_are_those_of_the_second_implementation(epsilon: float) -> None:
    run = begin("lamb", epsilon=epsilon)
    starts = [start.astype(np.float64) for start in STARTS]
    second = reference.LAMB(starts, CONFIG.betas, epsilon, CONFIG.weight_decay)
    for step, (rate, _) in enumerate(TEN_STEPS):
        run.step(draw_gradients(step), rate)
        second.step([gradient.astype(np.float64) for gradient in draw_gradients(step)], rate)
        for i, weight in enumerate(run.read()):
            np.testing.assert_allclose(weight, second.weights[i], rtol=2e-5, atol=1e-6)
            np.testing.assert_allclose(run.state()[f"moment2.{i}"], second.squares[i], rtol=1e-5, atol=1e-7)


def test_a_step_of_lamb_is_as_long_as_the_rate_times_the_weights() -> None:
    run = begin("lamb")
    before = run.read()
    run.step(draw_gradients(0), 0.1)
    after = run.read()
    assert np.linalg.norm(after[0] - before[0]) == pytest.approx(0.1 * np.linalg.norm(before[0]), rel=1e-5)
    np.testing.assert_allclose(np.abs(after[1] - before[1]), 0.1, rtol=1e-5)  # of a bias, as Adam's first


@NAMES
def test_a_factor_of_the_learning_rate_is_one_weights_alone(name: str) -> None:
    """As if each weight had an optimiser to itself with a rate of its own, weight decay included."""
    factors = (0.5, 2.0)
    both = begin(name, factors)
    weights = []
    for step, (rate, _) in enumerate(TEN_STEPS[:4]):
        both.step(draw_gradients(step), rate)
        weights.append(both.read())
    for i, factor in enumerate(factors):
        alone = begin(name)
        for step, (rate, _) in enumerate(TEN_STEPS[:4]):
            alone.step(draw_gradients(step), factor * rate)
            np.testing.assert_allclose(weights[step][i], alone.read()[i], rtol=1e-5, atol=1e-6)


@NAMES
def test_only_matrices_are_decayed(name: str) -> None:
    decayed, plain = begin(name), begin(name, weight_decay=0.0)
    for run in (decayed, plain):
        for gradients in GRADIENTS[:3]:
            run.step(gradients, 0.1)
    assert not np.isclose(decayed.read()[0], plain.read()[0], rtol=1e-4).any()
    assert np.array_equal(decayed.read()[1], plain.read()[1])


@NAMES
def test_a_learning_rate_of_zero_moves_nothing_but_the_moments(name: str) -> None:
    run = begin(name)
    before, moments = run.read(), run.state()
    run.step(GRADIENTS[0], 0.0)
    assert all(np.array_equal(now, then) for now, then in zip(run.read(), before, strict=True))
    assert not any(np.array_equal(now, moments[name]) for name, now in run.state().items())


@NAMES
def test_an_optimizer_given_the_state_of_another_goes_on_as_it_would_have(name: str) -> None:
    from mindspore import Tensor

    run = begin(name)
    for gradients in GRADIENTS[:3]:
        run.step(gradients, 0.1)
    other = Run(make_config(name))
    for parameter, array in zip(other.weights, run.read(), strict=True):
        parameter.set_data(Tensor(array))
    state = run.state()
    assert len(state) == (2 if name == "sgd" else 2 * 2 + 2)
    for key, parameter in other.optimizer.state().items():
        parameter.set_data(Tensor(state[key]))
    for each in (run, other):
        each.step(GRADIENTS[3], 0.05)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(run.read(), other.read(), strict=True))
