"""Averages of weights against NumPy: the moving one, and that of the best epochs; and what a run makes of them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.decoding.metrics import ErrorCounts
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.training.progress import Progress
from tests.tiny_corpus import assert_goes_on_alike, read_metrics, train_here, train_with_copies
from tests.training.compiled.test_step import OPTIMIZER, UNSCALED, make_batch, spoil_features
from tests.training.test_trainer import stub_evaluation, stub_step

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
DECAY = 0.5  # the warm-up has (1 + t) / (10 + t) below it until t = 8


def read_weights(checkpoint_path: Path) -> dict[str, NDArray[np.float32]]:
    from mindaudio_ds2.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint_path).weights


# The moving average ---------------------------------------------------------------------------------------------------


def test_the_moving_average_is_numpys_over_weights_and_running_statistics() -> None:
    """Steps that are not finite do not count; the last of the others are past the warm-up."""
    from mindaudio_ds2.training.compiled.loss import CTCLoss
    from mindaudio_ds2.training.compiled.loss_scale import LossScale
    from mindaudio_ds2.training.compiled.optimizer import Adam
    from mindaudio_ds2.training.compiled.step import TrainStep
    from mindaudio_ds2.training.compiled.weight_average import MovingAverage
    from tests import cells

    network, averaged = cells.make_network(), cells.make_network(rnn_hidden_size=8)
    average = MovingAverage(network, averaged, DECAY)
    optimizer, scale = Adam(network.trainable_params(), OPTIMIZER), LossScale(UNSCALED)
    step = TrainStep(network, CTCLoss(0), optimizer, 1e6, scale, average)
    step.open_shapes(cells.NUM_BINS)
    step.set_train(True)

    def read(of: Any) -> dict[str, NDArray[np.float32]]:
        return {name: parameter.asnumpy().copy() for name, parameter in of.weights().items()}

    expected = {name: array.astype(np.float64) for name, array in read(network).items()}
    assert any("moving_variance" in name for name in expected)
    batches = [make_batch([0, 3, 5]), make_batch([1, 2], noise=0.5)]
    num_updates = 0
    for turn in range(12):
        batch = batches[turn % 2]
        if turn in (0, 4):
            before = read(averaged)
            assert not cells.run(step, *spoil_features(batch, np.nan), np.float32(0.05))[2]
            assert all(np.array_equal(array, before[name]) for name, array in read(averaged).items())
            continue
        assert cells.run(step, *batch, np.float32(0.05))[2]
        decay = min(DECAY, (1 + num_updates) / (10 + num_updates))
        num_updates += 1
        weights, averages = read(network), read(averaged)
        for name, array in expected.items():
            array += (1 - decay) * (weights[name] - array)
            np.testing.assert_allclose(averages[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
            assert not np.array_equal(averages[name], weights[name]), name
    assert num_updates == 10
    assert average.state()["num_averaged"].asnumpy() == 10


AVERAGED = {"training.ema_decay": 0.9, "training.epochs": 2}


def test_a_run_scores_and_keeps_the_average_and_goes_on_with_both(configure: Configure) -> None:
    """Interrupted or not: the same losses, weights and averages, to the bit."""
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
    from mindaudio_ds2.evaluate import Evaluator
    from mindaudio_ds2.model.deepspeech2 import Recognizer

    whole = configure(AVERAGED)
    train_with_copies(whole, 8)
    assert_goes_on_alike(whole, 8)
    last = load_checkpoint(Path(whole.run_dir) / "last.ckpt")
    best = load_checkpoint(Path(whole.run_dir) / "best.ckpt")
    if best.state["epoch"] == 2:
        assert all(np.array_equal(last.optimizer[f"average.{name}"], array) for name, array in best.weights.items())
    assert not any(np.array_equal(last.weights[name], array) for name, array in best.weights.items())
    recognizer = Recognizer(restore_network(best, "best.ckpt"))
    counts = Evaluator(recognizer, read_manifest(whole.data.dev_manifest), whole).run().counts
    assert (counts.wer, counts.cer) == (best.state["best_wer"], best.state["best_cer"])


def test_weights_of_another_run_are_where_the_average_begins(
    configure: Configure, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.training.trainer import Trainer

    class Looked(BaseException):
        pass

    def look(self: Trainer, *_: Any) -> None:
        assert self.learner.average is not None
        found.update({name: average.asnumpy().copy() for name, average in self.learner.average.state().items()})
        raise Looked

    found: dict[str, NDArray[np.float32]] = {}
    monkeypatch.setattr(Trainer, "_take_step", look)
    with pytest.raises(Looked):
        train_here(configure(AVERAGED), pre_trained_model_path=str(finished_run / "best.ckpt"))
    assert found.pop("num_averaged") == 0
    start = read_weights(finished_run / "best.ckpt")
    assert found.keys() == {f"average.{name}" for name in start}
    assert all(np.array_equal(found[f"average.{name}"], array) for name, array in start.items())


# The average of the best epochs ---------------------------------------------------------------------------------------


def test_the_best_epochs_are_remembered_and_those_overtaken_named() -> None:
    from mindaudio_ds2.training.run_checkpoints import rank_epoch

    progress = Progress()
    overtaken = []
    for epoch, (word_errors, character_errors) in enumerate([(5, 5), (3, 9), (3, 2), (8, 1), (3, 9), (1, 1)], start=1):
        progress.epoch = epoch
        overtaken.append(rank_epoch(progress, ErrorCounts(1, 10, word_errors, 0, 0, 10, character_errors), 3))
    assert progress.best_epochs == [(0.1, 0.1, 6), (0.3, 0.2, 3), (0.3, 0.9, 2)]
    assert overtaken == [set(), set(), set(), set(), {1}, {5}]


def test_the_average_of_checkpoints_is_numpys(tmp_path: Path) -> None:
    from mindspore import Tensor

    from mindaudio_ds2.checkpoint import build_network, save_checkpoint
    from mindaudio_ds2.training.compiled.weight_average import average_checkpoints
    from tests.test_checkpoint import make_config

    generator = np.random.default_rng(0)
    network = build_network(make_config())
    arrays = []
    for number in range(3):
        arrays.append({name: generator.normal(size=p.shape) for name, p in network.weights().items()})
        for name, parameter in network.weights().items():
            parameter.set_data(Tensor(arrays[-1][name].astype(np.float32)))
        save_checkpoint(tmp_path / f"{number}.ckpt", make_config(), network.weights(), {}, {})
    mean = average_checkpoints([tmp_path / f"{number}.ckpt" for number in range(3)])
    assert mean.keys() == arrays[0].keys()
    for name, array in mean.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, np.mean([each[name] for each in arrays], 0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("rate", "is_best"), [(0.2, True), (0.3, False), (0.35, False)])
def test_the_average_is_scored_and_becomes_best_only_where_it_is_better(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rate: float,
    is_best: bool,
) -> None:
    """The stub has written the number of steps into a weight: 5, 11, 17, 22, 28 after epochs 1 to 5."""
    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5, 0.4, 0.3, 0.6, 0.4, rate])
    config = configure({"training.epochs": 5, "training.average_best": 3, "training.keep_every_epochs": 4})
    progress = train_here(config)
    folder = Path(config.run_dir)
    checkpoints = {path.name for path in folder.glob("*.ckpt")}
    assert checkpoints == {"last.ckpt", "best.ckpt", "average.ckpt", "epoch_4.ckpt"}, "the rest has served"
    mean = (11 + 17 + 28) / 3  # of epochs 2, 3 and 5
    average, best = (read_weights(folder / name)["head.weight"][0, 0] for name in ("average.ckpt", "best.ckpt"))
    assert average == pytest.approx(mean)
    assert best == (average if is_best else 17)
    (row,) = read_metrics(folder, "average")
    assert (row["epochs"], row["dev_wer"], row["epoch"], row["step"]) == ([2, 3, 5], rate, 5, 28)
    assert (progress.best_wer, progress.best_epoch) == (min(rate, 0.3), 3)
    shown = capsys.readouterr().err
    assert "average of epochs 2, 3, 5: dev WER" in shown
    assert ("30.00 % in epoch 3" in shown) is not is_best
    assert ("20.00 % of the average of epochs 2, 3, 5" in shown) is is_best

    evaluated = stub_evaluation(monkeypatch, [])
    assert train_here(config, resume=True).step == 28
    assert evaluated == [], "a finished run has nothing more to do"


def test_a_run_stopped_while_its_average_is_scored_averages_again(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.training.trainer import Trainer

    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5, 0.4, 0.3])
    config = configure({"training.epochs": 3, "training.average_best": 2})
    folder = Path(config.run_dir)

    class Stop(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_average_best", stop)
        with pytest.raises(Stop):
            train_here(config)
    assert {path.name for path in folder.glob("epoch_*.ckpt")} == {"epoch_2.ckpt", "epoch_3.ckpt"}
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    stub_evaluation(monkeypatch, [0.1])
    assert train_here(config, resume=True).averaged_epochs == [2, 3]
    assert not list(folder.glob("epoch_*.ckpt"))

    (copy / "epoch_2.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"epoch_2\.ckpt does not exist"):
        train_here(configure({"training.epochs": 3, "training.average_best": 2}, "copy"), resume=True)


@pytest.mark.parametrize("is_written", [False, True], ids=["before its line", "after its line"])
def test_a_run_killed_while_its_average_is_recorded_has_its_line_once(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    from mindaudio_ds2.training.runlog import RunLog

    class Kill(BaseException):
        pass

    record = RunLog.record

    def record_or_die(self: RunLog, kind: str, **values: Any) -> None:
        if kind != "average" or is_written:
            record(self, kind, **values)
        if kind == "average":
            raise Kill

    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5, 0.4, 0.3])
    config = configure({"training.epochs": 2, "training.average_best": 2})
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "record", record_or_die)
        with pytest.raises(Kill):
            train_here(config)
    stub_evaluation(monkeypatch, [0.3])
    train_here(config, resume=True)
    (row,) = read_metrics(Path(config.run_dir), "average")
    assert (row["epochs"], row["dev_wer"]) == ([1, 2], 0.3)


def test_one_epoch_has_no_average(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_step(monkeypatch)
    evaluated = stub_evaluation(monkeypatch, [0.5])
    config = configure({"training.epochs": 1, "training.average_best": 2})
    train_here(config)
    assert len(evaluated) == 1
    assert not (Path(config.run_dir) / "average.ckpt").exists()
