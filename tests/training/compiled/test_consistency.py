"""A run that shows the network each utterance in two views."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mindaudio_ds2.config import Config
from tests.tiny_corpus import assert_goes_on_alike, read_metrics, train_here, train_with_copies

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
TWICE = {"training.consistency_weight": 0.2, "model.rnn_dropout": 0.3, "model.rnn_num_layers": 2, "training.epochs": 2}


def test_an_interrupted_run_comes_to_the_same_numbers(configure: Configure) -> None:
    config = configure(TWICE)
    train_with_copies(config, 8)
    assert_goes_on_alike(config, 8)


def test_views_that_do_not_differ_train_as_one(configure: Configure) -> None:
    """They are no more utterances, audio or steps; batch norms see everything twice, and the divergence is 0."""
    alike = {**TWICE, "model.rnn_dropout": 0.0, "augmentation.mask_probability": 0.0}
    once, twice = configure({**alike, "training.consistency_weight": 0.0}, "once"), configure(alike, "twice")
    ends = [train_here(config) for config in (once, twice)]
    for name in ("step", "epoch", "train_hours"):
        assert getattr(ends[0], name) == getattr(ends[1], name)
    losses = [[row["loss"] for row in read_metrics(Path(config.run_dir), "step")] for config in (once, twice)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5)
