"""A run whose network learns from another one, too."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import CheckpointError
from tests.tiny_corpus import assert_goes_on_alike, read_metrics, train_here, train_with_copies

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]

FORWARD_ONLY = {"model.bidirectional": False, "model.lookahead_frames": 2, "model.rnn_hidden_size": 8}


@pytest.fixture
def teacher(finished_run: Path, tmp_path: Path) -> Path:
    """A two-sided network, where a test may overwrite it."""
    return Path(shutil.copy(finished_run / "last.ckpt", tmp_path / "teacher.ckpt"))


def save_fresh(config: Config, path: Path) -> str:
    """A checkpoint of random weights."""
    from mindaudio_ds2.checkpoint import build_network, save_checkpoint

    save_checkpoint(path, config, build_network(config).weights(), {}, {})
    return str(path)


def test_a_forward_only_network_learns_from_a_two_sided_one_and_keeps_nothing_of_it(
    teacher: Path, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped and taken up again it comes to the same numbers; with another teacher it is not taken up."""
    from mindaudio_ds2.checkpoint import build_network, load_checkpoint

    before = teacher.read_bytes()
    changes = {"training.teacher": str(teacher), "training.epochs": 2, "training.ema_decay": 0.9}
    config = configure({**changes, **FORWARD_ONLY})
    train_with_copies(config, 7)
    assert f"teacher: {teacher}, " in (said := capsys.readouterr().err)
    assert "two-sided; 0.5 of the loss is" in said
    assert_goes_on_alike(config, 7)

    last = load_checkpoint(Path(config.run_dir) / "last.ckpt")
    assert last.weights.keys() == build_network(config).weights().keys()
    assert not [name for name in last.optimizer if "teacher" in name]
    assert teacher.read_bytes() == before

    save_fresh(configure(), teacher)
    with pytest.raises(CheckpointError, match="was taught by other weights than training.teacher"):
        train_here(config, resume=True)


@pytest.mark.parametrize(
    ("changes", "backend"),
    [
        ({"batching.accumulation_steps": 2}, {}),
        ({"ops.native": "off"}, {"takes_open_shapes": False, "stays_on_device": True}),
    ],
    ids=["accumulating", "fixed shapes"],
)
def test_a_network_that_is_taught_by_itself_has_nothing_to_learn(
    changes: dict[str, Any], backend: dict[str, Any], teacher: Path, configure: Configure
) -> None:
    """So the teacher hears the masked features that the network hears, and normalises as in evaluation."""
    alone = {"training.teacher": str(teacher), "training.teacher_weight": 1.0, "training.frozen_norm_share": 1.0}
    still = {"schedule.peak_learning_rate": 1e-9, "schedule.final_learning_rate": 1e-9, "training.epochs": 1}
    config = configure({**alone, **still, **changes})
    train_here(config, pre_trained_model_path=str(teacher), **backend)
    steps = read_metrics(Path(config.run_dir), "step")
    assert steps
    assert max(abs(step["loss"]) for step in steps) < 1e-4
    assert max(step["gradient_norm"] for step in steps) < 1e-3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features.window": "hamming"}, ("other features: features.window ('hamming', now 'hann')",)),
        ({"text.blank": "last"}, ("other labels", "blank last", "now", "blank first")),
        ({"text.characters": "ABC "}, ("other labels", "'ABC '", "'ABCD '")),
        ({"model.conv_stride_time": [1]}, ("an output frame for 1 frames of features, now 2",)),
        (
            {"model.conv_stride_time": [3], "features.normalization": "speech"},
            ("features.normalization", "conv_stride_time"),
        ),
    ],
)
def test_a_teacher_that_hears_or_says_something_else_is_refused(
    changes: dict[str, Any], words: tuple[str, ...], configure: Configure, tmp_path: Path
) -> None:
    path = save_fresh(configure(changes), tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="cannot teach this network") as raised:
        train_here(configure({"training.teacher": path}))
    assert all(word in str(raised.value) for word in words)


def test_of_long_lists_that_differ_only_the_keys_are_told(configure: Configure) -> None:
    from mindaudio_ds2.training.resuming import describe_difference

    corpus = {"features.kind": "log_mel", "features.normalization": "corpus"}
    long = {"features.num_mel_bands": 40, "features.corpus_deviation": [2.0] * 40}
    one = configure({**corpus, **long, "features.corpus_mean": [0.12345] * 40})
    other = configure({**corpus, **long, "features.corpus_mean": [0.54321] * 40})
    none = configure()
    assert describe_difference(one, other, lambda key: True) == "features.corpus_mean (40 numbers, now others)"
    assert "features.corpus_mean (40 numbers, now [])" in describe_difference(one, none, lambda key: True)


def test_a_missing_teacher_is_found_before_anything_slow(configure: Configure) -> None:
    from mindaudio_ds2.training.corpora import check_start

    with pytest.raises(CheckpointError, match="^training.teacher: .*nowhere.ckpt does not exist"):
        check_start(configure({"training.teacher": "nowhere.ckpt"}), False, None, True)


def test_features_of_a_corpus_are_those_of_the_teacher(configure: Configure, tmp_path: Path) -> None:
    """Else measuring them again in other recordings would give the network features that the teacher does not know."""
    from mindaudio_ds2.machine.collectives import Ranks
    from mindaudio_ds2.training.feature_statistics import settle_statistics

    corpus = {"features.kind": "log_mel", "features.normalization": "corpus"}
    known = {"features.corpus_mean": [0.5] * 8, "features.corpus_deviation": [2.0] * 8}
    taught = configure({**corpus, **known})
    sources = [save_fresh(configure(), tmp_path / "start.ckpt"), save_fresh(taught, tmp_path / "teacher.ckpt")]
    assert settle_statistics(configure(corpus), sources, [], print, Ranks()).features == taught.features


def test_a_teacher_that_wants_fixed_shapes_gets_them(configure: Configure, tmp_path: Path) -> None:
    from mindaudio_ds2.machine.backend import STOCK
    from mindaudio_ds2.machine.collectives import Ranks
    from mindaudio_ds2.training.learner import Learner

    path = save_fresh(configure({"model.rnn_type": "gru"}), tmp_path / "gru.ckpt")
    assert Learner(configure(), STOCK, Ranks()).takes_open_shapes
    assert not Learner(configure({"training.teacher": path}), STOCK, Ranks()).takes_open_shapes
