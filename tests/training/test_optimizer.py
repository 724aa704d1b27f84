"""Adam and AdamW against PyTorch's stored numbers and against NumPy in float64."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import OptimizerConfig
from tests import reference

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

TORCH = np.load(Path(__file__).resolve().parent.parent / "data" / "torch_numbers.npz")
NAMES = pytest.mark.parametrize("name", ["adam", "adamw"])
CONFIG = OptimizerConfig("adam", betas=(0.9, 0.98), epsilon=1e-8, weight_decay=0.3, max_gradient_norm=1.0)
RATES = TORCH["adam_rates"].tolist()  # another one at each step, the last is 0
GRADIENTS = [[TORCH[f"adam_gradients_{i}"][step] for i in range(2)] for step in range(len(RATES))]


class Run:
    """A matrix and a bias, and what the optimiser makes of them step by step."""

    def __init__(self, config: OptimizerConfig) -> None:
        from mindspore import Parameter, Tensor

        from mindaudio_ds2.training.optimizer import Adam

        self.weights = [Parameter(Tensor(TORCH[f"adam_start_{i}"]), name=f"weight{i}") for i in range(2)]
        self.optimizer = Adam(self.weights, config)

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


@NAMES
def test_five_steps_give_pytorchs_weights(name: str) -> None:
    """The learning rate changes at every step, so it is the one that was handed in; only the matrix is decayed."""
    run = Run(make_config(name))
    for step, rate in enumerate(RATES):
        assert run.step(GRADIENTS[step], rate) == pytest.approx(rate)
        for i, weight in enumerate(run.read()):
            np.testing.assert_allclose(weight, TORCH[f"{name}_weights_{i}"][step], rtol=1e-5, atol=1e-6)


@NAMES
def test_weights_and_moments_are_those_of_the_second_implementation(name: str) -> None:
    """With a large epsilon, so that its place in the formula shows, and in `state` what it takes to go on."""
    run = Run(make_config(name, epsilon=0.1))
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


@NAMES
def test_only_matrices_are_decayed(name: str) -> None:
    decayed, plain = Run(make_config(name)), Run(make_config(name, weight_decay=0.0))
    for run in (decayed, plain):
        for gradients in GRADIENTS[:3]:
            run.step(gradients, 0.1)
    assert not np.isclose(decayed.read()[0], plain.read()[0]).any()
    assert np.array_equal(decayed.read()[1], plain.read()[1])


@NAMES
def test_a_learning_rate_of_zero_moves_nothing_but_the_moments(name: str) -> None:
    run = Run(make_config(name))
    before, moments = run.read(), run.state()
    run.step(GRADIENTS[0], 0.0)
    assert all(np.array_equal(now, then) for now, then in zip(run.read(), before, strict=True))
    assert not any(np.array_equal(now, moments[name]) for name, now in run.state().items())


@NAMES
def test_an_optimizer_given_the_state_of_another_goes_on_as_it_would_have(name: str) -> None:
    from mindspore import Tensor

    run = Run(make_config(name))
    for gradients in GRADIENTS[:3]:
        run.step(gradients, 0.1)
    other = Run(make_config(name))
    for parameter, array in zip(other.weights, run.read(), strict=True):
        parameter.set_data(Tensor(array))
    state = run.state()
    assert len(state) == 2 * 2 + 2
    for key, parameter in other.optimizer.state().items():
        parameter.set_data(Tensor(state[key]))
    for each in (run, other):
        each.step(GRADIENTS[3], 0.05)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(run.read(), other.read(), strict=True))
