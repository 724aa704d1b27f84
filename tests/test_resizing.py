"""Narrower and wider recurrent layers: what stays, and that nobody misses what mattered to nobody."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import CheckpointError, ConfigError, OutputError
from tests.tiny_corpus import train_first_epoch, train_here

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
Arrays = dict[str, NDArray[np.float32]]

TWO_SIDED = {"model.rnn_num_layers": 2, "model.rnn_hidden_size": 9}
FORWARD_ONLY = {**TWO_SIDED, "model.bidirectional": False, "model.lookahead_frames": 3}
BARE = {"model.rnn_batch_norm": False, "model.head_batch_norm": False, "model.head_bias": True}
GONE = ([0, 3, 4, 8], [1, 2, 5, 7])
"""Units of each layer that send nothing on."""


def write(config: Config, path: Path, dead: tuple[list[int], ...] = ()) -> Arrays:
    """A checkpoint with random weights and statistics, in which these units of each layer reach nothing."""
    from mindspore import Parameter, Tensor

    from mindaudio_ds2.checkpoint import build_network, save_checkpoint

    draws = np.random.default_rng(1)
    shapes = {name: p.shape for name, p in build_network(config).weights().items()}
    weights = {name: draws.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {name: np.abs(array) + 0.5 for name, array in weights.items() if name.endswith(("gamma", "variance"))}
    for layer, units in enumerate(dead):
        for name, array in weights.items():
            is_own = name.startswith(f"rnns.{layer}.") and name.endswith("weight_hh_l0")
            is_next = name.startswith(f"rnns.{layer + 1}.") and name.endswith("weight_ih_l0")
            if is_own or is_next or (name == "head.weight" and layer == len(dead) - 1):
                array[:, units] = 0
    save_checkpoint(path, config, {n: Parameter(Tensor(a), name=n) for n, a in weights.items()}, {}, {"step": 7})
    return weights


def hear(path: Path, **backend: Any) -> NDArray[np.float32]:
    """Logits of two utterances, one of them padded."""
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
    from mindaudio_ds2.machine.backend import Backend
    from tests import cells

    checkpoint = load_checkpoint(path)
    network = restore_network(checkpoint, str(path), Backend(**backend))
    features = np.random.default_rng(2).normal(size=(2, 21, checkpoint.config.features.num_bins)).astype(np.float32)
    logits, lengths = cells.run(network, features, np.array([21, 14], np.int32))
    return np.concatenate([logits[: lengths[row], row] for row in (0, 1)])


@pytest.mark.parametrize(
    ("changes", "is_native"),
    [(TWO_SIDED, False), (FORWARD_ONLY, False), ({**FORWARD_ONLY, **BARE}, True), ({"model.rnn_type": "gru"}, True)],
    ids=["two-sided", "forward-only", "without norms", "GRU"],
)
def test_units_that_reach_nothing_are_not_missed(
    changes: dict[str, Any], is_native: bool, configure: Configure, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.shrinking import shrink_checkpoint

    backend = {"kernels": request.getfixturevalue("kernels")} if is_native else {}
    config = configure({**TWO_SIDED, **changes})
    write(config, tmp_path / "wide.ckpt", GONE)
    shrunk = shrink_checkpoint(tmp_path / "wide.ckpt", tmp_path / "narrow.ckpt", 5)
    assert shrunk.kept_shares == pytest.approx([1.0, 1.0], rel=1e-12)
    narrow = load_checkpoint(tmp_path / "narrow.ckpt")
    assert narrow.config.model == dataclasses.replace(config.model, rnn_hidden_size=5)
    assert narrow.state == {"longest_seconds": config.data.max_duration_seconds}
    assert shrunk.num_after == sum(array.size for array in narrow.weights.values()) < shrunk.num_before
    before, after = (hear(tmp_path / name, **backend) for name in ("wide.ckpt", "narrow.ckpt"))
    assert np.abs(before).max() > 0.5
    np.testing.assert_allclose(after, before, atol=1e-6 * np.abs(before).max())


def test_of_both_directions_the_same_units_stay_and_those_that_send_on_most(
    configure: Configure, tmp_path: Path
) -> None:
    """The scores by loops over units and columns; what stays keeps its order."""
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.shrinking import score_units, shrink_checkpoint

    config = configure({**TWO_SIDED, "model.head_batch_norm": False})
    weights = write(config, tmp_path / "wide.ckpt")
    expected = np.zeros((2, 9))
    norm = [weights[f"rnn_batch_norms.0.{name}"] for name in ("gamma", "moving_variance")]
    sides = ("forward", "backward")
    for unit in range(9):
        gamma, variance = (float(array[unit]) for array in norm)
        scale = gamma**2 * variance / (variance + config.model.batch_norm_epsilon)
        for layer, factor, next_factor, next_names in (
            (0, variance, scale, [f"rnns.1.{side}_rnn.weight_ih_l0" for side in sides]),
            (1, 1.0, 1.0, ["head.weight"]),
        ):
            for name in [f"rnns.{layer}.{side}_rnn.weight_hh_l0" for side in sides]:
                expected[layer, unit] += factor * sum(float(each) ** 2 for each in weights[name][:, unit])
            for name in next_names:
                expected[layer, unit] += next_factor * sum(float(each) ** 2 for each in weights[name][:, unit])
    for layer in (0, 1):
        np.testing.assert_allclose(score_units(weights, config.model, layer), expected[layer], rtol=1e-6)

    shrunk = shrink_checkpoint(tmp_path / "wide.ckpt", tmp_path / "narrow.ckpt", 4)
    narrow = load_checkpoint(tmp_path / "narrow.ckpt").weights
    first, second = (sorted(np.argsort(-row)[:4]) for row in expected)
    kept = [expected[layer][units].sum() for layer, units in enumerate((first, second))]
    assert shrunk.kept_shares == pytest.approx(kept / expected.sum(axis=1))
    rows = np.concatenate([gate * 9 + np.array(second) for gate in range(4)])
    for side in ("forward", "backward"):
        name = f"rnns.1.{side}_rnn."
        assert np.array_equal(narrow[f"{name}weight_ih_l0"], weights[f"{name}weight_ih_l0"][np.ix_(rows, first)])
        assert np.array_equal(narrow[f"{name}weight_hh_l0"], weights[f"{name}weight_hh_l0"][np.ix_(rows, second)])
        assert np.array_equal(narrow[f"{name}bias_hh_l0"], weights[f"{name}bias_hh_l0"][rows])
    assert np.array_equal(narrow["rnn_batch_norms.0.moving_mean"], weights["rnn_batch_norms.0.moving_mean"][first])
    assert np.array_equal(narrow["head.weight"], weights["head.weight"][:, second])
    assert np.array_equal(narrow["convs.0.conv.weight"], weights["convs.0.conv.weight"])


def test_what_cannot_be_made_narrower_is_refused(configure: Configure, tmp_path: Path) -> None:
    from mindaudio_ds2.shrinking import shrink_checkpoint

    source = tmp_path / "wide.ckpt"
    write(configure(TWO_SIDED), source)
    for hidden_size in (0, 9, 20):
        with pytest.raises(ConfigError, match="have 9 units; choose fewer"):
            shrink_checkpoint(source, tmp_path / "out.ckpt", hidden_size)
    for output in (source, tmp_path / "out.onnx"):
        with pytest.raises(OutputError, match="ends with .ckpt|one of the inputs"):
            shrink_checkpoint(source, output, 5)
    with pytest.raises(CheckpointError, match="does not exist"):
        shrink_checkpoint(tmp_path / "none.ckpt", tmp_path / "out.ckpt", 5)
    assert not (tmp_path / "out.ckpt").exists()


def test_what_is_left_can_be_trained(configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mindaudio_ds2.commands import shrink
    from mindaudio_ds2.commands._command import Command

    assert isinstance(shrink.main, Command)
    write(configure(TWO_SIDED), tmp_path / "wide.ckpt")
    output = tmp_path / "narrow.ckpt"
    arguments = [str(tmp_path / "wide.ckpt"), "--hidden_size", "6", "--output", str(output)]
    shrink.run(shrink.main.make_parser().parse_args(arguments))
    assert "rnns.1: the 6 units that stay sent on" in capsys.readouterr().out
    train_first_epoch(configure({**TWO_SIDED, "model.rnn_hidden_size": 6}), str(output))


@pytest.mark.parametrize(
    ("changes", "is_native"),
    [(TWO_SIDED, False), (FORWARD_ONLY, False), ({**FORWARD_ONLY, **BARE}, True), ({"model.rnn_type": "gru"}, True)],
    ids=["two-sided", "forward-only", "without norms", "GRU"],
)
def test_a_wider_network_hears_the_same_and_new_units_can_learn(
    changes: dict[str, Any], is_native: bool, configure: Configure, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.widening import widen_checkpoint

    backend = {"kernels": request.getfixturevalue("kernels")} if is_native else {}
    config = configure({**TWO_SIDED, **changes})
    write(config, tmp_path / "narrow.ckpt")
    widen_checkpoint(tmp_path / "narrow.ckpt", tmp_path / "wide.ckpt", 14)
    wide = load_checkpoint(tmp_path / "wide.ckpt")
    assert wide.config.model == dataclasses.replace(config.model, rnn_hidden_size=14)
    before, after = (hear(tmp_path / name, **backend) for name in ("narrow.ckpt", "wide.ckpt"))
    np.testing.assert_allclose(after, before, atol=1e-6 * np.abs(before).max())
    # The new units sound like something, and are not all alike.
    new = wide.weights["rnns.0.forward_rnn.weight_hh_l0"].reshape(-1, 14, 14)[:, 9:, 9:]
    assert np.abs(new).min() > 0
    assert len(np.unique(new)) == new.size


def test_a_network_that_is_as_wide_is_refused_and_a_wider_one_can_be_trained(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.commands import widen
    from mindaudio_ds2.commands._command import Command

    assert isinstance(widen.main, Command)
    write(configure(TWO_SIDED), tmp_path / "narrow.ckpt")
    output = tmp_path / "wide.ckpt"

    def run(hidden_size: int) -> None:
        arguments = [str(tmp_path / "narrow.ckpt"), "--hidden_size", str(hidden_size), "--output", str(output)]
        widen.run(widen.main.make_parser().parse_args(arguments))

    with pytest.raises(ConfigError, match="have 9 units; choose more"):
        run(9)
    assert not output.exists()
    run(12)
    assert "parameters" in capsys.readouterr().out
    head = load_checkpoint(output).weights["head.weight"]
    assert not head[:, 9:].any()
    trained = configure({**TWO_SIDED, "model.rnn_hidden_size": 12, "training.epochs": 1})
    train_here(trained, pre_trained_model_path=str(output))
    after = load_checkpoint(Path(trained.run_dir) / "last.ckpt").weights["head.weight"]
    assert np.abs(after[:, 9:]).min() > 0
