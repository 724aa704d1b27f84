import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.model.arithmetic import (
    count_convolved_frames,
    count_gflop_by_part,
    count_gflop_per_second,
    count_lookahead_frames,
    list_layers,
)

HPARAMS = Path(__file__).resolve().parent.parent.parent / "hparams"


@pytest.fixture
def full() -> Config:
    return read_config(HPARAMS / "deepspeech2.yaml")


def test_the_full_network_costs_what_was_computed_by_hand(full: Config) -> None:
    # 100 frames a second, 50 after the first stride; 161, 81 and 41 bins; 1312 values into the first of five layers
    conv1 = 50 * 81 * 32 * (41 * 11) * 2
    conv2 = 50 * 41 * 32 * 32 * (21 * 11) * 2
    first = 50 * 2 * 4 * 1024 * (1312 + 1024) * 2
    others = 4 * 50 * 2 * 4 * 1024 * (1024 + 1024) * 2
    parts = count_gflop_by_part(full)
    assert parts["convolutions"] == pytest.approx((conv1 + conv2) / 1e9)
    assert parts["recurrent layers"] == pytest.approx((first + others) / 1e9)
    assert parts["output layer"] == pytest.approx(50 * 1024 * 29 * 2 / 1e9)
    assert count_gflop_per_second(full) == pytest.approx(9.7142, abs=1e-4)


def test_a_gru_has_three_gates(full: Config) -> None:
    gru = dataclasses.replace(full, model=dataclasses.replace(full.model, rnn_type="gru"))
    assert count_gflop_by_part(gru)["recurrent layers"] == pytest.approx(
        count_gflop_by_part(full)["recurrent layers"] * 3 / 4
    )


def test_one_direction_costs_half_and_a_lookahead(full: Config) -> None:
    forward = dataclasses.replace(full, model=dataclasses.replace(full.model, bidirectional=False))
    lookahead = 50 * 2 * 1024 * 20 / 1e9
    assert count_gflop_by_part(forward)["recurrent layers"] == pytest.approx(
        count_gflop_by_part(full)["recurrent layers"] / 2 + lookahead
    )


def test_a_time_stride_halves_what_comes_after_it(full: Config) -> None:
    strided = dataclasses.replace(full, model=dataclasses.replace(full.model, conv_stride_time=[2, 2]))
    for part in ("recurrent layers", "output layer"):
        assert count_gflop_by_part(strided)[part] == pytest.approx(count_gflop_by_part(full)[part] / 2)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"bidirectional": False, "rnn_type": "gru", "head_bias": True},
    {"conv_bias": True, "rnn_batch_norm": False, "head_batch_norm": False, "rnn_num_layers": 1},
    {"conv_channels": [4], "conv_kernel_frequency": [3], "conv_kernel_time": [5], "conv_stride_frequency": [2]}
    | {"conv_stride_time": [4], "rnn_hidden_size": 16},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_layers_have_the_parameters_and_statistics_of_the_network(
    full: Config, mindspore_cpu: None, changes: dict[str, Any]
) -> None:
    from mindaudio_ds2.checkpoint import build_network

    small = {"rnn_hidden_size": 32, "rnn_num_layers": 3, **changes}
    config = dataclasses.replace(full, model=dataclasses.replace(full.model, **small))
    network = build_network(config)
    for layer in list_layers(config):
        place, _, number = layer.name.partition(".")
        own = {f"{layer.name}."}
        own |= {f"rnn_batch_norms.{int(number) - 1}."} if place == "rnns" else set()
        own |= {"head_batch_norm."} if place == "head" else set()
        sizes = {True: 0, False: 0}
        for name, parameter in network.weights().items():
            if name.startswith(tuple(own)):
                sizes[parameter.requires_grad] += parameter.size
        assert (layer.num_parameters, layer.num_statistics) == (sizes[True], sizes[False]), layer.name
    stored = sum(layer.num_parameters + layer.num_statistics for layer in list_layers(config))
    assert stored == sum(parameter.size for parameter in network.weights().values())


def test_a_frame_of_output_sees_so_many_frames_and_no_more(full: Config, mindspore_cpu: None) -> None:
    """Features are changed one frame at a time; which frames of output feel it is what the network really sees."""
    import mindspore as ms

    from mindaudio_ds2.checkpoint import build_network

    changes: dict[str, Any] = {"conv_kernel_time": [5, 3], "conv_stride_time": [2, 3], "conv_channels": [2, 2]}
    changes |= {"rnn_hidden_size": 16, "rnn_num_layers": 1, "bidirectional": False, "lookahead_frames": 3}
    config = dataclasses.replace(full, model=dataclasses.replace(full.model, **changes))
    network = build_network(config)
    network.set_train(False)
    assert network.lookahead is not None
    network.lookahead.conv.weight.set_data(ms.ops.ones_like(network.lookahead.conv.weight))  # its ReLU lets all through
    num_frames, frame = 73, 7  # of input, and of output: input frame 42
    features = np.random.default_rng(1).standard_normal((1, num_frames, config.features.num_bins)).astype(np.float32)
    variants = np.repeat(features, num_frames + 1, axis=0)
    for changed in range(num_frames):
        variants[changed, changed] += 10.0
    lengths = np.full(num_frames + 1, num_frames, dtype=np.int32)
    logits = network(ms.Tensor(variants), ms.Tensor(lengths))[0].asnumpy()  # (S, B, V)
    felt = np.flatnonzero(np.abs(logits[frame, :-1] - logits[frame, -1]).max(axis=-1) > 1e-5)  # more than rounding
    assert felt[-1] - frame * config.model.time_stride == count_lookahead_frames(config.model) == 4 + 2 * 6
    assert count_convolved_frames(config.model) == 1 + 4 + 2 * 2
    assert felt[0] == 0, "the past is seen whole"
    both = dataclasses.replace(config.model, bidirectional=True)
    assert count_lookahead_frames(both) is None
