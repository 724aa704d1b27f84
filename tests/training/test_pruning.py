"""A run that sets weights to zero."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.training.schedule import count_pruning_epochs, pruned_share
from tests.tiny_corpus import assert_goes_on_alike, read_metrics, train_with_copies

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
Arrays = dict[str, NDArray[np.float32]]

SHARE = 0.7
PRUNED = {"training.prune_share": SHARE, "training.prune_end_share": 0.5, "training.epochs": 4}
MATRICES = [f"rnns.0.{side}_rnn.weight_{kind}_l0" for side in ("forward", "backward") for kind in ("ih", "hh")]
MATRICES += ["head.weight"]


def read(path: str | Path, name: str) -> Any:
    from mindaudio_ds2.checkpoint import load_checkpoint

    return load_checkpoint(Path(path) / name)


def assert_pruned(weights: Arrays, share: float) -> None:
    """Each matrix has that share of zeros, to rounding, and nothing else has any."""
    for name, array in weights.items():
        expected = round(share * array.size) if name in MATRICES else 0
        if "beta" not in name and "moving" not in name:
            assert np.count_nonzero(array == 0) == expected, name


def test_zeros_come_as_planned_and_stay_and_a_run_taken_up_comes_to_the_same(configure: Configure) -> None:
    """With a moving average, which is scored, and so has the zeros, too."""
    from mindaudio_ds2.training.pruning import measure_zeros

    config = configure({**PRUNED, "training.ema_decay": 0.9})
    train_with_copies(config, 9, 16)  # in the second and in the third epoch

    early, late, last = (read(f"{config.run_dir}{end}", "last.ckpt") for end in ("_after_9", "_after_16", ""))
    assert (early.state["epoch"], late.state["epoch"]) == (1, 2)
    assert_pruned(early.weights, pruned_share(config.training, 1.5))
    for weights in (late.weights, last.weights, read(config.run_dir, "best.ckpt").weights):
        assert_pruned(weights, SHARE)
    assert measure_zeros(last.weights) == pytest.approx(SHARE, abs=1e-3)
    for name in MATRICES:
        assert np.array_equal(late.weights[name] == 0, last.weights[name] == 0)
        assert not np.array_equal(late.weights[name], last.weights[name])
    for step in (9, 16):
        assert_goes_on_alike(config, step)

    rows = read_metrics(Path(config.run_dir), "epoch")
    assert [row["zero_share"] for row in rows] == [pytest.approx(SHARE * (1 - 0.5**3)), *[SHARE] * 3]
    assert last.state["best_epoch"] >= 2


def test_a_pruned_run_cannot_become_longer(configure: Configure) -> None:
    from mindaudio_ds2.training.progress import Progress
    from mindaudio_ds2.training.resuming import find_obstacle

    config = configure({**PRUNED, "schedule.name": "constant"})
    assert find_obstacle(config, 9, Progress()) == ""
    assert "training.prune_share is 0.7" in find_obstacle(config, 9, Progress(epoch=2))


@pytest.mark.parametrize("name", ["adam", "sgd", "lamb"])
def test_no_optimizer_moves_a_zero_though_it_has_moved_the_weight_before(name: str, configure: Configure) -> None:
    """Momentum and decay would."""
    import mindspore as ms
    from mindspore import Tensor

    from mindaudio_ds2.training.compiled.loss_scale import LossScale
    from mindaudio_ds2.training.compiled.optimizer import make_optimizer
    from mindaudio_ds2.training.compiled.step import Update
    from mindaudio_ds2.training.pruning import Pruner
    from tests import cells

    config = configure({"optimizer.name": name, "optimizer.weight_decay": 0.1})
    network = cells.make_network(rnn_num_layers=1)
    optimizer = make_optimizer(network.trainable_params(), config.optimizer)
    pruner = Pruner(network.weights(), optimizer, {}, SHARE)
    update = Update(network, optimizer, 1.0, LossScale(config.precision), is_pruned=pruner.is_pruned)
    draws = np.random.default_rng(0)

    def take_step() -> Arrays:
        gradients = tuple(Tensor(draws.normal(size=each.shape).astype(np.float32)) for each in optimizer.weights)
        update(Tensor(1.0, ms.float32), ms.mutable(gradients), Tensor(0.01, ms.float32))
        return {name: parameter.asnumpy().copy() for name, parameter in network.weights().items()}

    for share in (0.0, 0.4, SHARE):
        pruner.prune(share)
        before = take_step()
        after = take_step()
        assert_pruned({name: after[name] for name in MATRICES}, share)
        for name in MATRICES:
            assert np.array_equal(before[name] == 0, after[name] == 0)
            assert (before[name] != after[name]).mean() == pytest.approx(1 - share, abs=0.02)


def test_the_best_epoch_is_one_with_all_zeros_and_the_wait_for_a_better_one_begins_there(configure: Configure) -> None:
    from mindaudio_ds2.decoding.metrics import ErrorCounts
    from mindaudio_ds2.training.progress import Progress

    training = configure({**PRUNED, "training.epochs": 10, "training.early_stopping_epochs": 2}).training
    progress, best, stalled = Progress(), [], []
    for errors in (1, 2, 3, 4, 5, 4, 6, 6, 6):
        best.append(progress.finish_epoch(ErrorCounts(1, 10, errors, 0, 0, 10, errors), training))
        stalled.append(progress.is_stalled(training))
    assert best == [False] * 4 + [True, True] + [False] * 3
    assert stalled == [False] * 7 + [True, True]
    assert progress.best_epoch == 6


def test_the_share_rises_by_the_paper_s_curve_in_quarters_of_an_epoch(configure: Configure) -> None:
    training = configure({**PRUNED, "training.epochs": 20}).training
    assert count_pruning_epochs(training) == 10
    for quarter in range(40):
        expected = SHARE * (1 - (1 - quarter / 40) ** 3)
        assert pruned_share(training, quarter / 4) == pytest.approx(expected, rel=1e-12)
        assert pruned_share(training, quarter / 4 + 0.24) == pruned_share(training, quarter / 4)
    assert pruned_share(training, 10 - 1e-12) == pruned_share(training, 20) == SHARE
    never = configure().training
    assert count_pruning_epochs(never) == pruned_share(never, 0.0) == pruned_share(never, 3.0) == 0


def test_the_smallest_weights_go_and_again_changes_nothing() -> None:
    from mindaudio_ds2.training.pruning import find_kept

    weight = np.random.default_rng(0).normal(size=(40, 25)).astype(np.float32)
    for share in (0.0, 0.004, 0.5, 0.999):
        is_kept = find_kept(weight, share)
        assert (~is_kept).sum() == round(share * 1000)
        assert not share or np.abs(weight[~is_kept]).max() < np.abs(weight[is_kept]).min()
        assert np.array_equal(weight * is_kept * find_kept(weight * is_kept, share), weight * is_kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.freeze": ["rnns", "head"]}, "training.freeze keeps all that could be pruned, the recurrent and"),
        ({"training.prune_share": 1e-9}, "prune_share is 1e-09, which makes no weight zero; choose more, or 0"),
        ({"training.prune_share": 0.9999}, "prune_share is 0.9999, which leaves none of the [0-9]+ weights of"),
    ],
    ids=["all frozen", "no zeros", "nothing left"],
)
def test_a_share_that_sets_nothing_to_zero_or_everything_is_an_error(
    configure: Configure, changes: dict[str, Any], message: str
) -> None:
    from mindaudio_ds2.machine.backend import STOCK
    from mindaudio_ds2.machine.collectives import Ranks
    from mindaudio_ds2.training.learner import Learner

    with pytest.raises(ConfigError, match=message):
        Learner(configure({**PRUNED, **changes}), STOCK, Ranks())


def test_what_is_not_trained_is_not_pruned(configure: Configure) -> None:
    from mindaudio_ds2.machine.backend import STOCK
    from mindaudio_ds2.machine.collectives import Ranks
    from mindaudio_ds2.training.learner import Learner

    learner = Learner(configure({**PRUNED, "training.freeze": ["head"]}), STOCK, Ranks())
    learner.prune(SHARE)
    weights = {name: parameter.asnumpy() for name, parameter in learner.network.weights().items()}
    assert np.count_nonzero(weights["head.weight"]) == weights["head.weight"].size
    assert_pruned({name: weights[name] for name in MATRICES[:-1]}, SHARE)
    assert (
        f"70.0% of {sum(weights[name].size for name in MATRICES[:-1]):,} weights in 4 matrices"
        in (learner.describe()[0])
    )


def test_zeros_of_an_earlier_pruning_stay_and_are_told(configure: Configure) -> None:
    from mindaudio_ds2.machine.backend import STOCK
    from mindaudio_ds2.machine.collectives import Ranks
    from mindaudio_ds2.training.learner import Learner

    learner = Learner(configure({**PRUNED, "training.prune_share": 0.3}), STOCK, Ranks())
    assert "already" not in learner.describe()[0]
    learner.prune(SHARE)
    assert "30.0% of" in learner.describe()[0]
    assert "; 70.0% are already, and stay so; no epoch before that" in learner.describe()[0]
