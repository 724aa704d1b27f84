"""The last epochs of a run, in which batch norms use and keep their running statistics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import ConfigError
from tests.tiny_corpus import assert_goes_on_alike, make_config, read_metrics, train_here, train_with_copies

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
FROZEN = {"training.epochs": 3, "training.frozen_norm_share": 0.4, "training.keep_every_epochs": 1}


def read_weights(config: Config, name: str) -> dict[str, NDArray[np.float32]]:
    from mindaudio_ds2.checkpoint import load_checkpoint

    return load_checkpoint(Path(config.run_dir) / name).weights


def list_changed(config: Config, before: str, after: str) -> set[str]:
    """The last parts of the names of the weights that differ between two checkpoints of a run."""
    old, new = read_weights(config, before), read_weights(config, after)
    return {name.rsplit(".", 1)[1] for name in old if not np.array_equal(old[name], new[name])}


class FrozenRun:
    """A run whose last epoch has frozen norms, copied at that epoch's beginning and in its middle.

    Attributes:
        computed: by epoch, the running means that the last step computed for each norm.
    """

    def __init__(self, config: Config) -> None:
        from mindaudio_ds2.training.trainer import Trainer

        self.config = config
        self.computed: list[list[bytes]] = []
        finish_epoch = Trainer._finish_epoch

        def look_and_finish(trainer: Trainer, *arguments: Any) -> None:
            norms = trainer.learner.network.batch_norms()
            self.computed.append([norm.next_mean.asnumpy().tobytes() for norm in norms])
            finish_epoch(trainer, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_finish_epoch", look_and_finish)
            train_with_copies(config, 12, 14)


@pytest.fixture(scope="module")
def frozen_run(corpus: Path, mindspore_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> FrozenRun:
    return FrozenRun(make_config(corpus, tmp_path_factory.mktemp("frozen") / "run", FROZEN))


def test_statistics_stay_in_the_last_epochs_and_all_else_goes_on(frozen_run: FrozenRun) -> None:
    config = frozen_run.config
    everything = list_changed(config, "epoch_1.ckpt", "epoch_2.ckpt")
    assert {"gamma", "beta", "moving_mean", "moving_variance", "weight"} <= everything
    assert list_changed(config, "epoch_2.ckpt", "last.ckpt") == everything - {"moving_mean", "moving_variance"}
    first, second, third = frozen_run.computed
    assert all(old != new for old, new in zip(first, second, strict=True))
    assert third == second, "the step that is compiled for the last epoch computes none"
    log = (Path(config.run_dir) / "train.log").read_text(encoding="utf-8")
    assert log.count("batch norms keep their running statistics from here on") == 1


def test_the_first_epochs_are_those_of_a_run_without(frozen_run: FrozenRun, finished_run: Path) -> None:
    frozen, plain = (
        [[row["loss"] for row in read_metrics(folder, "step") if row["epoch"] == epoch] for epoch in (1, 2, 3)]
        for folder in (Path(frozen_run.config.run_dir), finished_run)
    )
    assert frozen[:2] == plain[:2]
    assert frozen[2][0] != plain[2][0], "another loss from the first step on"


def test_an_interrupted_run_comes_to_the_same_numbers(frozen_run: FrozenRun) -> None:
    assert_goes_on_alike(frozen_run.config, 14)


def test_weights_of_another_run_can_be_trained_on_with_norms_frozen_throughout(
    configure: Configure, finished_run: Path
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    config = configure({"training.epochs": 1, "training.frozen_norm_share": 1.0})
    train_here(config, pre_trained_model_path=str(finished_run / "best.ckpt"))
    old, new = load_checkpoint(finished_run / "best.ckpt").weights, read_weights(config, "last.ckpt")
    stayed = {name.rsplit(".", 1)[1] for name in old if np.array_equal(old[name], new[name])}
    assert stayed == {"moving_mean", "moving_variance"}


def test_norms_of_random_weights_have_no_statistics_to_keep(configure: Configure) -> None:
    with pytest.raises(ConfigError, match=r"no statistics to keep yet; .* --pre_trained_model_path"):
        train_here(configure({"training.frozen_norm_share": 1.0}))


@pytest.mark.parametrize(
    ("num_epochs", "share", "expected"),
    [(40, 0.2, 8), (20, 0.1, 2), (3, 0.4, 1), (10, 0.04, 1), (3, 0.9, 2), (1, 0.4, 0)],
)
def test_the_share_is_one_of_all_epochs_at_least_one_and_never_the_first(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, num_epochs: int, share: float, expected: int
) -> None:
    from mindaudio_ds2.training.trainer import Trainer

    frozen: list[bool] = []

    def look(self: Trainer, *_: Any) -> None:
        frozen.append(all(norm.is_frozen for norm in self.learner.network.batch_norms()))
        self.progress.epoch += 1

    monkeypatch.setattr(Trainer, "_train_epoch", look)
    monkeypatch.setattr(Trainer, "_validate", lambda *_: None)
    monkeypatch.setattr(Trainer, "_finish_epoch", lambda *_: None)
    train_here(configure({"training.epochs": num_epochs, "training.frozen_norm_share": share}))
    assert frozen == [False] * (num_epochs - expected) + [True] * expected
