import dataclasses
from pathlib import Path

import pytest

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.model.arithmetic import count_gflop_by_part, count_gflop_per_second

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
