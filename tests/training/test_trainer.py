import dataclasses
import json
import math
import re
import shutil
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.decoding.metrics import ErrorCounts
from mindaudio_ds2.errors import AudioError, CheckpointError, ConfigError, ManifestError, TrainingError
from tests.tiny_corpus import make_config, read_metrics, train_here

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]


# What a run leaves ----------------------------------------------------------------------------------------------------


def test_a_run_learns_until_it_hears_every_character(learned_run: Path) -> None:
    epochs = read_metrics(learned_run, "epoch")
    assert epochs[0]["dev_wer"] > 0.5
    assert epochs[-1]["dev_wer"] == epochs[-1]["dev_cer"] == 0.0
    assert epochs[-1]["loss"] < epochs[0]["loss"] / 50


def test_a_run_leaves_its_files(finished_run: Path) -> None:
    names = {"config.yaml", "environment.json", "train.log", "metrics.jsonl", "last.ckpt", ".lock", "best.ckpt"}
    assert {path.name for path in finished_run.iterdir()} == names


def test_the_loss_of_an_epoch_is_the_mean_over_its_utterances(finished_run: Path, corpus: Path) -> None:
    from mindaudio_ds2.batching.plan import plan_epoch

    config = make_config(corpus, finished_run, {})
    durations = [utterance.duration_seconds for utterance in read_manifest(corpus / "train.jsonl")]
    for epoch, row in enumerate(read_metrics(finished_run, "epoch")):
        plan = plan_epoch(durations, config.batching, epoch=epoch, seed=3, num_frames=config.features.num_frames)
        sizes = [len(batch.indices) for batch in plan.batches]
        losses = [step["loss"] for step in read_metrics(finished_run, "step") if step["epoch"] == epoch + 1]
        assert sum(sizes) == len(durations)
        assert row["loss"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-6)


def test_a_run_with_fixed_shapes_has_the_same_numbers(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """As on a device that compiles every shape. Limited by number only, so that the batches have the same members."""
    one_epoch = {"training.epochs": 1, "batching.max_batch_utterances": 5, "batching.max_batch_padded_seconds": 100.0}
    rows = {}
    for kind in ("open", "fixed"):
        config = configure(one_epoch, kind)
        train_here(config, takes_open_shapes=kind == "open")
        rows[kind] = [*read_metrics(Path(config.run_dir), "step"), *read_metrics(Path(config.run_dir), "epoch")]
        assert ("shapes (utterances x frames)" in capsys.readouterr().err) == (kind == "fixed")
    assert len(rows["open"]) == len(rows["fixed"]) == 4, "batches of 5, 5 and 2, and an epoch"
    for row, expected in zip(rows["fixed"], rows["open"], strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert rows["fixed"][-1]["dev_cer"] == rows["open"][-1]["dev_cer"]


# Speed ----------------------------------------------------------------------------------------------------------------


def test_the_speed_of_an_epoch_is_its_audio_over_the_time_of_its_steps(finished_run: Path, corpus: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    audio_seconds = sum(utterance.duration_seconds for utterance in read_manifest(corpus / "train.jsonl"))
    rows = read_metrics(finished_run, "epoch")
    step_seconds = [audio_seconds / row["audio_seconds_per_second"] for row in rows]
    assert all(seconds > 0 for seconds in step_seconds)
    assert sum(step_seconds) < rows[-1]["train_seconds"], "validation comes on top"
    assert all(0 <= row["waiting_share"] < 1 for row in rows)
    state = load_checkpoint(finished_run / "last.ckpt").state
    assert state["audio_seconds"] == pytest.approx(audio_seconds), "of the last epoch alone"
    log = (finished_run / "train.log").read_text(encoding="utf-8")
    assert (
        len(
            re.findall(
                r"epoch \d/3: .* hours of audio an hour, \d+\.\d utterances a second, \d+\.\d% of the time waiting", log
            )
        )
        == 3
    )


def test_time_spent_waiting_for_a_batch_is_told(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that a batch takes 3 s to load, a step 1 s to make, and that stands still in between."""
    from mindaudio_ds2.batching.dataset import BatchLoader
    from mindaudio_ds2.training import display, trainer

    now = [0.0]
    iterate, count = BatchLoader.iterate, display.Pace.count

    def load_slowly(*arguments: Any) -> Iterator[Any]:
        for batch in iterate(*arguments):
            now[0] += 3.0
            yield batch

    def count_a_slow_step(*arguments: Any) -> None:
        now[0] += 1.0
        count(*arguments)

    monkeypatch.setattr(BatchLoader, "iterate", load_slowly)
    monkeypatch.setattr(display.Pace, "count", count_a_slow_step)
    for module in (display, trainer):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5])
    config = configure({"training.epochs": 1})
    train_here(config)
    (row,) = read_metrics(Path(config.run_dir), "epoch")
    audio_seconds = sum(utterance.duration_seconds for utterance in read_manifest(config.data.train_manifest))
    steps = read_metrics(Path(config.run_dir), "step")
    num_steps = len(steps)
    assert [step["train_seconds"] for step in steps] == pytest.approx([4.0 * n for n in range(1, num_steps + 1)])
    assert row["waiting_share"] == pytest.approx(0.75)
    assert row["audio_seconds_per_second"] == pytest.approx(audio_seconds / (4 * num_steps))
    assert row["utterances_per_second"] == pytest.approx(12 / (4 * num_steps))
    assert row["train_seconds"] == pytest.approx(4 * num_steps)


@pytest.mark.parametrize(
    ("finished", "is_within"),
    [([], True), ([(1, 2)], True), ([], False)],
    ids=["within an epoch", "within one after a change of processes", "between two"],
)
def test_a_run_goes_on_with_other_batches_only_after_a_whole_epoch(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, finished: list[tuple[int, int]], is_within: bool
) -> None:
    from mindaudio_ds2.training.trainer import Trainer

    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [1.0, 1.0])
    config = configure({"training.epochs": 2})
    finish = Trainer._finish_epoch

    def save_and_fail(self: Trainer, *arguments: Any) -> None:
        if is_within:
            if finished:  # the first processes made two updates, and those that went on none so far
                self.progress.batch, self.progress.finished = 0, finished
            self.checkpoints.save_last(self.progress)
        else:
            finish(self, *arguments)
        raise KeyError("an accident")

    monkeypatch.setattr(Trainer, "_finish_epoch", save_and_fail)
    with pytest.raises(KeyError):
        train_here(config)
    monkeypatch.setattr(Trainer, "_finish_epoch", finish)
    if is_within:
        with pytest.raises(
            CheckpointError, match="in the middle of epoch 1, whose batches were put together for another"
        ):
            train_here(config, resume=True, takes_open_shapes=False)
    else:
        progress = train_here(config, resume=True, takes_open_shapes=False)
        assert (progress.epoch, progress.has_fixed_shapes) == (2, True)


# The learning rate ----------------------------------------------------------------------------------------------------


def test_the_recorded_learning_rate_is_the_schedules_at_every_step(finished_run: Path) -> None:
    peak, final, warmup, num_epochs, num_steps = 0.03, 0.001, 0.5, 3, (5, 6, 6)  # of the tiny corpus
    ends = [epoch + (k + 1) / num for epoch, num in enumerate(num_steps) for k in range(num)]
    expected = [
        peak * end / warmup
        if end < warmup
        else final + (peak - final) * (1 + math.cos(math.pi * (end - warmup) / (num_epochs - warmup))) / 2
        for end in ends
    ]
    recorded = [row["learning_rate"] for row in read_metrics(finished_run, "step")]
    np.testing.assert_allclose(recorded, expected, rtol=1e-9)


def test_the_recorded_learning_rate_is_what_moves_the_weights(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both betas 0, Adam moves every weight by the learning rate, up or down.

    Not quite every one: where a gradient is thousands of times smaller than the one before, float32 loses its square.
    """
    from mindaudio_ds2.training.trainer import Trainer

    config = configure({"optimizer.betas": [0.0, 0.0], "optimizer.weight_decay": 0.0, "training.epochs": 2})
    typical_moves = []
    original = Trainer._take_step

    def take_step(self: Trainer, *arguments: Any) -> None:
        before = np.concatenate([weight.asnumpy().ravel() for weight in self.learner.network.trainable_params()])
        original(self, *arguments)
        after = np.concatenate([weight.asnumpy().ravel() for weight in self.learner.network.trainable_params()])
        typical_moves.append(np.median(np.abs(after - before)))

    monkeypatch.setattr(Trainer, "_take_step", take_step)
    stub_evaluation(monkeypatch, [0.5, 0.5])
    train_here(config)
    recorded = [row["learning_rate"] for row in read_metrics(Path(config.run_dir), "step")]
    assert len(recorded) == 11
    assert max(recorded) > 5 * min(recorded), "the schedule has its ups and downs"
    np.testing.assert_allclose(typical_moves, recorded, rtol=1e-3)


def test_the_plateau_schedule_knows_the_dev_wer_before_an_interruption(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.training.trainer import Trainer

    class Stop(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5, 0.5, 0.4, 0.4, 0.3])
    changes = {"schedule.name": "plateau", "schedule.warmup_epochs": 0.0, "training.epochs": 5}
    config = configure(changes)  # patience 1, factor 0.5
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_goes_on", lambda self: stop() if self.progress.epoch == 3 else True)
        with pytest.raises(Stop):
            train_here(config)
    train_here(config, resume=True)
    rates = {row["epoch"]: row["learning_rate"] for row in read_metrics(Path(config.run_dir), "step")}
    assert rates == pytest.approx({1: 0.03, 2: 0.03, 3: 0.015, 4: 0.015, 5: 0.0075})


# Best, early stopping, kept epochs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "best_epoch"),
    [
        ([0.5, 0.3, 0.4], 2),
        ([0.5, 0.4, 0.3], 3),
        ([0.3, 0.4, 0.3], 1),
        ([1.0, 1.0, 1.0], 1),
        ([0.3, (0.3, 0.1), (0.3, 0.2)], 2),  # the same WER, another CER
    ],
)
def test_best_ckpt_is_of_the_epoch_with_the_lowest_dev_wer(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, rates: list[Any], best_epoch: int
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, rates)
    config = configure()
    progress = train_here(config)
    best, last = (load_checkpoint(Path(config.run_dir) / name) for name in ("best.ckpt", "last.ckpt"))
    assert (best.state["epoch"], last.state["epoch"]) == (best_epoch, 3)
    assert progress.best_epoch == last.state["best_epoch"] == best_epoch
    num_steps = {1: 5, 2: 11, 3: 17}[best_epoch]
    assert best.weights["head.weight"][0, 0] == num_steps, "the stub writes the number of steps into a weight"
    assert best.optimizer == {}
    assert [row["dev_wer"] for row in read_metrics(Path(config.run_dir), "epoch")] == [split(r)[0] for r in rates]


def test_training_stops_early_when_the_dev_wer_does_not_fall(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub_step(monkeypatch)
    evaluated = stub_evaluation(monkeypatch, [0.5, 0.3, 0.4, 0.35, 0.2, 0.1])
    config = configure({"training.epochs": 6, "training.early_stopping_epochs": 2})
    progress = train_here(config)
    assert (progress.epoch, progress.best_epoch, len(evaluated)) == (4, 2, 4)
    assert "stopping early: the dev WER has not fallen for 2 epochs" in capsys.readouterr().err
    train_here(config, resume=True)
    assert len(evaluated) == 4, "a run that stopped early has nothing more to do"


def test_early_stopping_still_leads_to_the_epochs_with_frozen_norms(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub_step(monkeypatch)
    evaluated = stub_evaluation(monkeypatch, [0.5, 0.3, 0.4, 0.35, 0.34, 0.33, 0.2])
    changes = {"training.epochs": 20, "training.early_stopping_epochs": 2, "training.frozen_norm_share": 0.1}
    config = configure(changes)
    progress = train_here(config)
    assert (progress.epoch, progress.frozen_from, len(evaluated)) == (6, 4, 6)
    shown = capsys.readouterr().err
    assert "has not fallen for 2 epochs; what is left is the last part, 2 epochs with frozen batch norms" in shown
    assert shown.index("what is left") < shown.index("batch norms keep their running") < shown.index("epoch 5: ")
    train_here(config, resume=True)
    assert len(evaluated) == 6, "there is nothing more to do"


# Going on to more epochs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["constant", "exponential"])
def test_a_finished_run_goes_on_like_one_that_was_longer_from_the_start(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of a constant rate, which is a decay of 1, the rates alone are compared."""
    if name == "constant":
        stub_step(monkeypatch)
        stub_evaluation(monkeypatch, [0.5] * 6)
    changes = {"schedule.name": name, "schedule.decay_per_epoch": 0.7}
    whole, parts = configure({**changes, "training.epochs": 3}, "whole"), configure({**changes, "training.epochs": 2})
    train_here(whole)
    train_here(parts)
    longer = configure({**changes, "training.epochs": 3})
    assert train_here(longer, resume=True).epoch == 3
    of_whole, of_longer = (
        [(row["loss"], row["learning_rate"]) for row in read_metrics(Path(each.run_dir), "step")]
        for each in (whole, longer)
    )
    assert len(of_whole) == 17
    assert of_whole == of_longer
    with pytest.raises(
        CheckpointError, match="of a run of 3 epochs and cannot go on to 2: it has come to epoch 3 already"
    ):
        train_here(parts, resume=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"schedule.name": "cosine"},
            "schedule.name is cosine, .* end of epoch 2; runs with constant, exponential or ",
        ),
        (
            {"training.frozen_norm_share": 0.5},
            "training.frozen_norm_share is 0.5, and batch norms are .* from epoch 2 on",
        ),
        (
            {"training.average_best": 2},
            "training.average_best is 2, and the checkpoints of the best epochs are averaged",
        ),
    ],
)
def test_a_run_that_depends_on_its_length_keeps_it_and_says_why(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
) -> None:
    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5, 0.4, 0.45])
    changes = {"schedule.name": "constant", **changes}
    train_here(configure({**changes, "training.epochs": 2}))
    before = read_bytes(Path(configure({}).run_dir))
    with pytest.raises(CheckpointError, match=f"cannot go on to 40: {reason}.*--training.epochs 2, or start a new run"):
        train_here(configure({**changes, "training.epochs": 40}), resume=True)
    after = read_bytes(Path(configure({}).run_dir))
    assert {name: after[name] for name in ("last.ckpt", "metrics.jsonl")} == {
        name: before[name] for name in ("last.ckpt", "metrics.jsonl")
    }


def test_every_nth_epoch_is_kept(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5, 0.4, 0.3, 0.2, 0.1])
    config = configure({"training.epochs": 5, "training.keep_every_epochs": 2})
    train_here(config)
    kept = sorted(Path(config.run_dir).glob("epoch_*.ckpt"))
    assert [path.name for path in kept] == ["epoch_2.ckpt", "epoch_4.ckpt"]
    assert [load_checkpoint(path).state["epoch"] for path in kept] == [2, 4]


# Steps that are not finite --------------------------------------------------------------------------------------------


def test_a_batch_that_gives_no_finite_loss_is_skipped_counted_and_stops_the_run_past_the_limit(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mindaudio_ds2.batching import loading
    from mindaudio_ds2.batching.feature_cache import load_features

    def load_or_spoil(utterance: Utterance, *arguments: Any) -> NDArray[np.float32]:
        features = load_features(utterance, *arguments)
        return features * np.float32("nan") if utterance.id == "train_4" else features

    monkeypatch.setattr(loading, "load_features", load_or_spoil)
    stub_evaluation(monkeypatch, [0.5])
    config = configure({"training.max_bad_steps": 1})
    with pytest.raises(TrainingError) as raised:
        train_here(config)
    bad_steps = read_metrics(Path(config.run_dir), "bad_step")
    assert [row["epoch"] for row in bad_steps] == [1, 2]
    assert all("train_4" in row["utterances"] for row in bad_steps)
    message = str(raised.value)
    assert "2 steps" in message
    assert "training.max_bad_steps" in message
    assert all(utterance_id in message for utterance_id in bad_steps[-1]["utterances"])
    assert "schedule.peak_learning_rate" in message
    (epoch,) = read_metrics(Path(config.run_dir), "epoch")
    assert epoch["num_bad_steps"] == 1
    steps = read_metrics(Path(config.run_dir), "step")
    assert len([row for row in steps if row["epoch"] == 1]) == 4, "the four other batches were trained on"
    assert all(math.isfinite(row["loss"]) for row in steps), "what was skipped left nothing behind"
    shown = capsys.readouterr().err
    assert f"step {bad_steps[0]['step']} skipped: loss or gradient not finite; utterances " in shown


@pytest.mark.parametrize(("loss", "num_steps"), [(1e22, 5), (1e7, 11)])
def test_a_loss_that_stays_absurd_ends_the_run(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, loss: float, num_steps: int
) -> None:
    stub_step(monkeypatch, loss=loss)
    stub_evaluation(monkeypatch, [1.0, 1.0])
    config = configure({"training.epochs": 2})
    if loss > 1e8:
        with pytest.raises(TrainingError, match=r"diverged: 5 steps .* the last 1e\+22.*schedule\.peak_learning_rate"):
            train_here(config)
    else:
        train_here(config)
    assert len(read_metrics(Path(config.run_dir), "step")) == num_steps


def test_the_wait_for_the_compiler_is_announced(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for each step that is compiled: the first, and that with frozen norms."""
    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5, 0.4, 0.3])
    train_here(configure({"training.epochs": 3, "training.frozen_norm_share": 0.3}))
    shown = capsys.readouterr().err
    assert shown.count("compiling the training step, which takes ") == 2
    assert shown.index("compiling the training step") < shown.index("epoch 1/3")
    assert shown.count("the network is compiled for that first") == 3, "the stub of validation compiles nothing"


def test_an_epoch_without_one_finite_step_has_no_loss(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_step(monkeypatch, is_finite=False)
    stub_evaluation(monkeypatch, [1.0])
    config = configure({"training.epochs": 1, "training.max_bad_steps": 100})
    progress = train_here(config)
    assert progress.num_bad_steps == 5
    (epoch,) = read_metrics(Path(config.run_dir), "epoch")
    assert epoch["loss"] is None


SCALED = {"training.epochs": 1, "precision.loss_scale": 64.0, "precision.loss_scale_window": 10}


def test_an_overflow_is_counted_apart_from_bad_steps(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub_step(monkeypatch, is_finite=False, has_overflowed=True)
    stub_evaluation(monkeypatch, [1.0])
    config = configure({"training.max_bad_steps": 0, **SCALED})
    progress = train_here(config)
    assert (progress.step, progress.num_bad_steps, progress.num_overflows) == (5, 0, 5)
    (epoch,) = read_metrics(Path(config.run_dir), "epoch")
    assert (epoch["num_bad_steps"], epoch["num_overflows"], epoch["loss"]) == (0, 5, None)
    overflows = read_metrics(Path(config.run_dir), "overflow")
    assert [(row["step"], row["next_loss_scale"]) for row in overflows] == [(step, 64.0) for step in range(1, 6)]
    assert "step 3 skipped: gradient overflowed; loss scale is now 64" in capsys.readouterr().err


def test_a_dynamic_loss_scale_goes_on_from_the_checkpoint(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindspore import Tensor

    from mindaudio_ds2.training.compiled.step import TrainStep
    from mindaudio_ds2.training.trainer import Trainer

    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [1.0])
    take = TrainStep.__call__

    def take_and_halve(self: TrainStep, *inputs: Any) -> Any:
        scale = self.update.loss_scale.scale
        scale.set_data(Tensor(scale.asnumpy() / 2))
        return take(self, *inputs)

    monkeypatch.setattr(TrainStep, "__call__", take_and_halve)
    config = configure(SCALED)
    train_here(config)
    scales = []
    monkeypatch.setattr(Trainer, "run", lambda self: scales.append(self.learner.loss_scale.scale.asnumpy().item()))
    train_here(config, resume=True)
    assert scales == [64 / 2**5]


# Going on -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be changed."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def test_a_folder_with_a_run_needs_resume(configure: Configure, copied_run: Path) -> None:
    before = read_bytes(copied_run)
    with pytest.raises(ConfigError, match="already holds a run; continue it with --resume"):
        train_here(configure())
    assert read_bytes(copied_run) == before


def test_resuming_a_finished_run_ends_at_once(
    configure: Configure, copied_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = stub_evaluation(monkeypatch, [])
    before = read_bytes(copied_run)
    progress = train_here(configure(), resume=True)
    assert (progress.epoch, progress.step, evaluated) == (3, 17, [])
    after = read_bytes(copied_run)
    assert {name for name in before if after[name] != before[name]} <= {"train.log", "config.yaml"}
    assert "done: best dev WER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("model.rnn_hidden_size", 13, "model.rnn_hidden_size (12, now 13)"),
        ("schedule.peak_learning_rate", 0.02, "schedule.peak_learning_rate (0.03, now 0.02)"),
        ("batching.max_batch_utterances", 2, "batching.max_batch_utterances (3, now 2)"),
        ("features.window", "hamming", "features.window ('hann', now 'hamming')"),
        ("training.ema_decay", 0.5, "training.ema_decay (0.0, now 0.5)"),
        ("seed", 4, "seed (3, now 4)"),
    ],
)
def test_resuming_with_a_key_that_changes_the_numbers_is_an_error_that_names_it(
    configure: Configure, copied_run: Path, key: str, value: Any, shown: str
) -> None:
    before = read_bytes(copied_run)
    with pytest.raises(CheckpointError) as raised:
        train_here(configure({key: value}), resume=True)
    assert shown in str(raised.value)
    assert "config.yaml" in str(raised.value)
    assert read_bytes(copied_run) == before, "config.yaml above all"


def test_what_does_not_change_the_numbers_may_change(configure: Configure, copied_run: Path, tmp_path: Path) -> None:
    changes = {
        "training.checkpoint_every_minutes": 1.0,
        "training.max_bad_steps": 7,
        "batching.prefetch_batches": 3,
        "data.feature_cache_dir": str(tmp_path / "cache"),
    }
    assert train_here(configure(changes), resume=True).step == 17


def test_resuming_with_another_dev_manifest_is_an_error_that_names_it(
    configure: Configure, corpus: Path, copied_run: Path, tmp_path: Path
) -> None:
    write_manifest(tmp_path / "other.jsonl", read_manifest(corpus / "dev.jsonl")[:-1])
    before = read_bytes(copied_run)
    with pytest.raises(CheckpointError, match=r"scored on other utterances than .*other\.jsonl holds now.*restore"):
        train_here(configure({"data.dev_manifest": str(tmp_path / "other.jsonl")}), resume=True)
    assert read_bytes(copied_run) == before


@pytest.mark.parametrize("change", ["transcript", "order", "fewer"])
def test_resuming_with_other_utterances_is_an_error_that_names_the_manifest(
    configure: Configure, corpus: Path, copied_run: Path, tmp_path: Path, change: str
) -> None:
    utterances = read_manifest(corpus / "train.jsonl")
    if change == "transcript":
        utterances[3] = dataclasses.replace(utterances[3], transcript="DAD")
    changed = {"transcript": utterances, "order": utterances[::-1], "fewer": utterances[1:]}[change]
    write_manifest(tmp_path / "other.jsonl", changed)
    before = read_bytes(copied_run)
    with pytest.raises(CheckpointError, match="other utterances than .*other.jsonl holds now, or .*; restore"):
        train_here(configure({"data.train_manifest": str(tmp_path / "other.jsonl")}), resume=True)
    assert read_bytes(copied_run) == before


def test_a_damaged_last_ckpt_is_named(configure: Configure, copied_run: Path) -> None:
    path = copied_run / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged"):
        train_here(configure(), resume=True)


def test_an_interrupted_epoch_goes_on_with_the_batch_after_the_last(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every utterance is trained on once an epoch, however often the run stops."""
    from mindaudio_ds2.training.trainer import Trainer

    class Stop(BaseException):
        pass

    config = configure({"training.epochs": 2, "training.checkpoint_every_minutes": 1e-9})
    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5, 0.4])
    save = Trainer._save_if_due
    seen: list[tuple[int, str]] = []

    def save_then_stop(self: Trainer, *arguments: Any) -> None:
        save(self, *arguments)
        if self.progress.step % 2:
            raise Stop

    take_step = Trainer._take_step

    def look_on(self: Trainer, group: Any, *arguments: Any) -> bool:
        seen.extend((self.progress.epoch, self.utterances[index].id) for batch in group for index in batch.indices)
        return take_step(self, group, *arguments)

    monkeypatch.setattr(Trainer, "_save_if_due", save_then_stop)
    monkeypatch.setattr(Trainer, "_take_step", look_on)
    for _ in range(6):
        with pytest.raises(Stop):
            train_here(config, resume=True)
    assert train_here(config, resume=True).epoch == 2
    everybody = [f"train_{number}" for number in range(12)]
    assert sorted(seen) == sorted((epoch, utterance_id) for epoch in (0, 1) for utterance_id in everybody)


# Starting from other weights ------------------------------------------------------------------------------------------


def test_weights_of_another_run_are_the_start_and_nothing_else_is_taken(
    configure: Configure, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.training.trainer import Trainer

    class Looked(BaseException):
        pass

    found: dict[str, Any] = {}

    def look(self: Trainer, *_: Any) -> None:
        arrays = {name: weight.asnumpy().copy() for name, weight in self.learner.network.parameters_and_names()}
        moments = [parameter.asnumpy().copy() for parameter in self.learner.optimizer.get_parameters()]
        found.update(weights=arrays, progress=dataclasses.replace(self.progress), moments=moments)
        raise Looked

    monkeypatch.setattr(Trainer, "_take_step", look)
    changes = {"schedule.name": "constant", "optimizer.name": "adam", "seed": 8}
    with pytest.raises(Looked):
        train_here(configure(changes), pre_trained_model_path=str(finished_run / "last.ckpt"))
    start = load_checkpoint(finished_run / "last.ckpt").weights
    assert start.keys() <= found["weights"].keys()
    assert all(np.array_equal(start[name], found["weights"][name]) for name in start)
    assert (found["progress"].step, found["progress"].best_wer) == (0, math.inf)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("features.window", "hamming"),
        ("features.fft_size", 256),
        ("model.rnn_hidden_size", 16),
        ("model.activation", "tanh"),
        ("model.conv_stride_frequency", [2]),
    ],
)
def test_weights_that_would_mean_something_else_are_refused(
    configure: Configure, finished_run: Path, key: str, value: Any
) -> None:
    with pytest.raises(CheckpointError) as raised:
        train_here(configure({key: value}), pre_trained_model_path=str(finished_run / "best.ckpt"))
    assert f"{finished_run / 'best.ckpt'} was trained with another {key} (" in str(raised.value)


# What is trained on ---------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted_shown_and_listed(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5])
    changes = {
        "data.min_duration_seconds": 0.35,
        "data.max_excluded_share": 0.2,
        "training.epochs": 1,
        "text.characters": "ABC ",
        "text.unknown_character": "drop",
    }
    config = configure(changes)
    train_here(config)
    shown = capsys.readouterr().err
    assert "1 of 12: 1 shorter than data.min_duration_seconds" in shown
    assert "train_10" in shown
    assert "10 characters outside the alphabet were dropped from 10 training transcripts" in shown
    (row,) = [json.loads(line) for line in (Path(config.run_dir) / "excluded.jsonl").read_text().splitlines()]
    assert row["utterance_id"] == "train_10"
    assert "11 utterances" in shown


def test_what_dev_asks_for_and_the_network_cannot_write_is_told(
    configure: Configure,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub_step(monkeypatch)
    stub_evaluation(monkeypatch, [0.5])
    first, *others = read_manifest(corpus / "dev.jsonl")
    odd = dataclasses.replace(first, transcript="A 7\u2019 7")
    write_manifest(tmp_path / "odd.jsonl", [odd, *others[:1]])
    train_here(configure({"data.dev_manifest": str(tmp_path / "odd.jsonl"), "training.epochs": 1}))
    told = "dev's references hold characters that this network cannot write, each an error: '7' 2 x, '\u2019' 1 x"
    assert told in capsys.readouterr().err


def test_too_much_left_out_is_an_error(configure: Configure) -> None:
    config = configure({"data.min_duration_seconds": 0.35, "data.max_excluded_share": 0.05})
    with pytest.raises(ManifestError, match=r"data\.max_excluded_share = 0\.05(.|\n)*train_10"):
        train_here(config)
    assert not Path(config.run_dir).exists()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_missing_audio_is_named_before_training_begins(
    configure: Configure, corpus: Path, tmp_path: Path, split: str
) -> None:
    utterances = read_manifest(corpus / f"{split}.jsonl")
    for number in (1, 3):
        utterances[number] = dataclasses.replace(utterances[number], audio_path=str(tmp_path / f"gone{number}.wav"))
    write_manifest(tmp_path / "gaps.jsonl", utterances)
    config = configure({f"data.{split}_manifest": str(tmp_path / "gaps.jsonl")})
    with pytest.raises(AudioError) as raised:
        train_here(config)
    assert f"2 of {len(utterances)} audio files do not exist" in str(raised.value)
    assert f"{split}_1: {tmp_path / 'gone1.wav'}" in str(raised.value)
    assert not Path(config.run_dir).exists()


# Stand-ins ------------------------------------------------------------------------------------------------------------


def stub_step(
    monkeypatch: pytest.MonkeyPatch, is_finite: bool = True, has_overflowed: bool = False, loss: float = 1.5
) -> None:
    """Nothing is compiled or learned; each step adds 1 to one weight that begins at 0."""
    import mindspore as ms
    from mindspore import Tensor

    from mindaudio_ds2.training.compiled.step import TrainStep

    counts: dict[int, int] = {}

    def step(self: TrainStep, *_: Any) -> tuple[Tensor, ...]:
        counts[id(self)] = counts.get(id(self), 0) + 1
        weight = self.gradients.network.head.weight
        array = weight.asnumpy().copy()
        array[0, 0] = counts[id(self)]
        weight.set_data(Tensor(array))
        return Tensor(loss, ms.float32), Tensor(1.0, ms.float32), Tensor(is_finite), Tensor(has_overflowed)

    monkeypatch.setattr(TrainStep, "__call__", step)


def stub_evaluation(monkeypatch: pytest.MonkeyPatch, rates: Sequence[Any]) -> list[Any]:
    """Validation that finds these rates, WER or (WER, CER), one after another; returns a list of those used."""
    from mindaudio_ds2.evaluate import Evaluation, Evaluator, ScoredUtterance

    used: list[Any] = []

    def run(self: Evaluator, watch: Any = None) -> Evaluation:
        wer, cer = split(rates[len(used)])
        used.append(rates[len(used)])
        counts = ErrorCounts(1, 100, round(100 * wer), 0, 0, 1000, round(1000 * cer))
        return Evaluation((ScoredUtterance(self.utterances[0], "A", "B", counts),), 1.0, 1.0, 0.0, {})

    monkeypatch.setattr(Evaluator, "run", run)
    return used


def split(rate: Any) -> tuple[float, float]:
    return rate if isinstance(rate, tuple) else (rate, rate)


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
