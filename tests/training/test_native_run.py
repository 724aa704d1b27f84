"""Training on native kernels against training on MindSpore's own operators."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.config import Config
from tests.tiny_corpus import read_metrics, train_here

pytestmark = pytest.mark.usefixtures("mindspore_cpu")


def test_a_run_on_native_kernels_takes_the_steps_of_one_without(
    finished_run: Path, kernels: Path, configure: Callable[..., Config]
) -> None:
    """They differ by 1e-5 after 17 steps, by rounding alone."""
    stock = configure({"ops.native": "off"})
    train_here(stock)
    native_steps, stock_steps = read_metrics(finished_run, "step"), read_metrics(Path(stock.run_dir), "step")
    assert len(native_steps) == 17
    for key in ("loss", "gradient_norm"):
        native, expected = ([row[key] for row in steps] for steps in (native_steps, stock_steps))
        np.testing.assert_allclose(native, expected, rtol=1e-4, err_msg=key)
        assert native != expected, "both ran on the same operators"
