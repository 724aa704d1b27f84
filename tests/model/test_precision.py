"""What computes in 16 bits, and what must not.

MindSpore's CPU kernels take float16 by converting it, so that a float16 network can be tried here; bfloat16 cannot.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.machine.backend import STOCK

pytestmark = pytest.mark.usefixtures("mindspore_cpu")


def run_network(precision: str, features: NDArray[np.float32], in_training: bool, **changes: Any) -> Any:
    """Logits of a small network, and the network."""
    from mindaudio_ds2.model.precision import compute_in
    from tests import cells

    network = cells.make_network(**changes)
    compute_in(network, precision, STOCK)
    network.set_train(in_training)
    lengths = np.array([features.shape[1], features.shape[1] - 7], np.int32)
    return cells.run(network, features, lengths)[0], network


def make_features(scale: float = 1.0) -> NDArray[np.float32]:
    generator = np.random.default_rng(3)
    return (scale * generator.normal(size=(2, 30, 9))).astype(np.float32)


@pytest.mark.parametrize("changes", [{}, {"bidirectional": False, "conv_bias": True}], ids=["both ways", "forward"])
def test_float16_is_near_float32_and_not_the_same(changes: dict[str, Any]) -> None:
    expected, _ = run_network("fp32", make_features(), False, **changes)
    logits, _ = run_network("fp16", make_features(), False, **changes)
    assert logits.dtype == np.float32
    assert 1e-6 < np.abs(logits - expected).max() < 2e-2


def test_batch_norm_takes_its_statistics_in_float32() -> None:
    """A variance above 65504 would be infinite in float16."""
    logits, network = run_network("fp16", make_features(scale=2000.0), True)
    assert network.convs[0].batch_norm.next_variance.asnumpy().max() > 65504
    assert np.isfinite(logits).all()


def test_weights_and_gradients_stay_float32() -> None:
    from mindaudio_ds2.model.precision import compute_in
    from tests import cells

    labels, label_lengths = np.array([[1, 2], [3, 1]], np.int32), np.array([2, 1], np.int32)
    batch = (make_features(), np.array([30, 23], np.int32), labels, label_lengths)
    numbers = []
    for precision in ("fp32", "fp16"):
        network = cells.make_network()
        compute_in(network, precision, STOCK)
        numbers.append(cells.run(cells.LossAndGradients(network).set_train(), *batch))
        assert {parameter.dtype for parameter in network.get_parameters()} == {network.head.weight.dtype}
    for expected, actual in zip(*numbers, strict=True):
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected, atol=0.05 * np.abs(expected).max() + 1e-3)


def list_flags(precision: str, **changes: Any) -> dict[str, bool]:
    """Which of a network's layers with weights compute in 16 bits."""
    from mindspore import nn

    from mindaudio_ds2.model.precision import compute_in
    from tests import cells

    network = cells.make_network(**changes)
    compute_in(network, precision, STOCK)
    flag = {"fp16": "fp16", "bf16": "bf16", "fp32": "fp16"}[precision]
    kinds = (nn.Conv2d, nn.Dense, nn.LSTM, nn.GRU)
    layers = {name: cell for name, cell in network.cells_and_names() if isinstance(cell, kinds)}
    norms = [norm.get_flags().get(flag, False) for norm in network.batch_norms()]
    assert not any(norms), "batch norm is never in 16 bits"
    return {name: bool(cell.get_flags().get(flag, False)) for name, cell in layers.items()}


@pytest.mark.parametrize("rnn_type", ["lstm", "gru"])
def test_in_bfloat16_the_recurrent_layers_keep_float32_and_in_float16_nothing_does(rnn_type: str) -> None:
    flags = list_flags("bf16", rnn_type=rnn_type)
    assert {name: is_set for name, is_set in flags.items() if "rnn" in name}
    assert all(is_set == ("rnn" not in name) for name, is_set in flags.items())
    assert all(list_flags("fp16", rnn_type=rnn_type).values())
    assert not any(list_flags("fp32", rnn_type=rnn_type).values())
