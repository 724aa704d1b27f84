"""The network on native kernels against the network on MindSpore's own operators, and in bfloat16 against float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.ops.library import has_bfloat16

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

# Each value of each key. MindSpore's own GRU is unrolled into the graph, one part
# for each output frame, so large strides leave it few.
VARIANTS = [
    {},
    {"bidirectional": False, "rnn_batch_norm": False, "head_batch_norm": False},
    {"rnn_type": "gru", "conv_stride_time": [3, 3], "activation": "tanh", "conv_bias": True},
]


def make_batch(num_frames: int) -> list[NDArray[Any]]:
    """Features, lengths, labels, label lengths of four utterances."""
    generator = np.random.default_rng(num_frames)
    features = generator.standard_normal((4, num_frames, 9)).astype(np.float32)
    lengths = np.array([num_frames, num_frames - 11, 18, num_frames - 3], np.int32)
    labels = generator.integers(1, 5, (4, 3)).astype(np.int32)
    return [features, lengths, labels, np.array([2, 1, 0, 1], np.int32)]


def open_shapes() -> list[Any]:
    """Symbols for `make_batch`: one graph for every number of utterances and frames."""
    from tests import cells

    lengths = cells.integers(None)
    return [*cells.floats((None, None, 9)), lengths, cells.integers(None, None), lengths]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_loss_and_gradients_are_those_of_the_stock_operators(changes: dict[str, Any], kernels: Path) -> None:
    from tests import cells

    networks = [cells.make_network(which, **changes) for which in (Backend(kernels), Backend())]
    steps = [
        cells.LossAndGradients(network, which)
        for network, which in zip(networks, (Backend(kernels), Backend()), strict=True)
    ]
    names = ["loss", *(name for name, p in networks[0].parameters_and_names() if p.requires_grad)]
    is_unrolled = changes.get("rnn_type") == "gru"
    for step in steps[:1] if is_unrolled else steps:
        step.set_inputs(*open_shapes())
    for num_frames in (31,) if is_unrolled else (31, 44):
        results = []
        for network, step in zip(networks, steps, strict=True):
            network.set_train(True)
            results.append(cells.run(step, *make_batch(num_frames)))
        for name, native, stock in zip(names, *results, strict=True):
            if name.endswith("conv.bias"):
                continue  # batch norm takes it away again: its gradient is rounding, in both
            assert np.abs(native - stock).max() <= 1e-4 * np.abs(stock).max() + 1e-7, name
    statistics = [{n: a for n, a in cells.read(network).items() if "next_" in n} for network in networks]
    for name, native in statistics[0].items():
        np.testing.assert_allclose(native, statistics[1][name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_gradients_through_frozen_norms_are_those_of_the_stock_operators(kernels: Path) -> None:
    """All norms but one, so that gradients pass through frozen and others; those of gamma and beta are there too.

    One recurrent layer, because no norm stands between it and the head's.
    """
    from tests import cells

    results = []
    for which in (Backend(kernels), Backend()):
        network = cells.make_network(which, rnn_num_layers=1)
        for norm in network.batch_norms():
            norm.is_frozen = norm is not network.convs[1].batch_norm
        network.set_train(True)
        step = cells.LossAndGradients(network, which)
        step.set_inputs(*open_shapes())
        before = cells.read(network)
        results.append(cells.run(step, *make_batch(31)))
        changed = {name for name, array in cells.read(network).items() if not np.array_equal(array, before[name])}
        assert changed == {"convs.1.batch_norm.next_mean", "convs.1.batch_norm.next_variance"}
    names = ["loss", *(name for name, p in network.parameters_and_names() if p.requires_grad)]
    for name, native, stock in zip(names, *results, strict=True):
        assert np.abs(stock).max() > 0, name
        assert np.abs(native - stock).max() <= 1e-4 * np.abs(stock).max() + 1e-7, name


def test_evaluation_gives_the_log_probabilities_of_the_stock_operators(kernels: Path) -> None:
    from mindaudio_ds2.model.deepspeech2 import Recognizer
    from tests import cells

    features, lengths, _, _ = make_batch(31)
    results = []
    for which in (Backend(kernels), Backend()):
        recognizer = Recognizer(cells.make_network(which))
        recognizer.set_train(False)
        results.append(cells.run(recognizer, features, lengths))
    (native, native_lengths), (stock, stock_lengths) = results
    np.testing.assert_array_equal(native_lengths, stock_lengths)
    for row, length in enumerate(native_lengths):
        np.testing.assert_allclose(native[row, :length], stock[row, :length], atol=1e-5)


def test_weights_have_the_same_names_with_either(kernels: Path) -> None:
    from tests import cells

    native, stock = (cells.make_network(which).weights() for which in (Backend(kernels), Backend()))
    assert {n: p.shape for n, p in native.items()} == {n: p.shape for n, p in stock.items()}


@pytest.mark.parametrize("changes", [{}, {"rnn_type": "gru", "bidirectional": False}], ids=["lstm", "forward-only gru"])
def test_in_bfloat16_loss_and_gradients_are_near_those_of_float32(changes: dict[str, Any], kernels: Path) -> None:
    from tests import cells

    if not has_bfloat16(kernels):
        pytest.skip("this processor lacks AVX512-BF16")
    results = []
    for backend in (Backend(kernels), Backend(kernels, is_bfloat16=True)):
        network = cells.make_network(backend, **changes)
        step = cells.LossAndGradients(network, backend).set_train()
        results.append(cells.run(step, *make_batch(44)))
        assert {parameter.dtype for parameter in network.get_parameters()} == {network.head.weight.dtype}
    names = ["loss", *(name for name, p in network.parameters_and_names() if p.requires_grad)]
    for name, single, half in zip(names, *results, strict=True):
        assert half.dtype == np.float32
        difference = np.linalg.norm(half - single) / np.linalg.norm(single)
        assert difference < 0.2, name  # rounding lets some outputs of the clipped ReLU cross its ends
        assert name == "loss" or difference > 1e-4, f"{name} was not computed in bfloat16"
