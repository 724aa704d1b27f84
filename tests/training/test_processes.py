"""Training and evaluation in several processes that mpirun starts, against one process with the joint batch."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import read_manifest, write_manifest
from tests.mpirun import expect_end, find_mpirun, run_processes
from tests.tiny_corpus import evaluate_one, make_config, make_settings, read_metrics, train_here, write_yaml

JOINT_BATCH = 6
NUM_UTTERANCES = 11  # two updates an epoch: six utterances, and five, which two processes share unevenly
NUM_EPOCHS = 5
CHANGES = {
    "augmentation.mask_probability": 0.5,
    "batching.max_batch_padded_seconds": 100.0,
    "training.epochs": NUM_EPOCHS,
    "model.rnn_num_layers": 2,
    "model.rnn_dropout": 0.1,
}
QUICK = {"model.rnn_num_layers": 1, "model.rnn_dropout": 0.0}
"""For runs that are not compared with the joint one: they compile sooner."""

# train.py with an accident on some process at a known update, after which each process leaves its weights.
DRIVER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
import train
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.batching import loading
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.training import training_set
from mindaudio_ds2.training.trainer import Trainer

folder, accident, rank, poisoned = Path(sys.argv[1]), sys.argv[2], runtime.find_own_place().rank, []
sys.argv = ["train.py", *sys.argv[3:]]
take_step, run, load_features = Trainer._take_step, Trainer.run, loading.load_features

def take_step_and_have_an_accident(self, *arguments):
    if self.progress.step == 3 and accident in ("SIGTERM", "SIGUSR1 to mpirun", "SIGTERM to mpirun"):
        if rank == 1 and accident == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        if rank == 0 and accident != "SIGTERM":
            (folder / "time").write_text(str(time.time()))
            os.kill(os.getppid(), getattr(signal, accident.split()[0]))
    return take_step(self, *arguments)

def load_features_or_fail(utterance, *arguments):
    if rank == 1 and accident == "broken audio" and utterance.id == "train_3":
        (folder / "time").write_text(str(time.time()))
        raise AudioError(f"utterance {utterance.id}: its disk is gone")
    features = load_features(utterance, *arguments)
    if rank == 1 and accident == "SIGUSR1 to mpirun" and not poisoned:
        poisoned.append(utterance.id)
        features = features * np.float32("nan")
    return features

def run_and_leave_weights(self):
    progress = run(self)
    weights = {name: parameter.asnumpy() for name, parameter in self.learner.network.weights().items()}
    np.savez(folder / f"weights_{rank}.npz", **weights)
    return progress

Trainer._take_step, Trainer.run, loading.load_features = (
    take_step_and_have_an_accident, run_and_leave_weights, load_features_or_fail
)
if accident == "another rate and manifest" and rank == 1:
    open_manifest = training_set.open_manifest
    training_set.open_manifest = lambda *arguments: open_manifest(*arguments)[:-1]
    sys.argv += ["--schedule.peak_learning_rate", "0.02"]
train.main()
"""


@pytest.fixture(scope="module")
def manifest(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eleven") / "train.jsonl"
    write_manifest(path, read_manifest(corpus / "train.jsonl")[:NUM_UTTERANCES])
    return path


class Starter:
    """Trains on the eleven utterances, each run in a folder of its own."""

    def __init__(self, corpus: Path, manifest: Path, folder: Path) -> None:
        self.corpus = corpus
        self.manifest = manifest
        self.folder = folder

    def change(self, num_parts: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        """`num_parts` batches make a joint batch of always the same size."""
        size = {"batching.max_batch_utterances": JOINT_BATCH // num_parts}
        return {**CHANGES, **size, "data.train_manifest": str(self.manifest), **changes}

    def make_config(self, num_parts: int, run: str, changes: Mapping[str, Any]) -> Config:
        return make_config(self.corpus, self.folder / run, self.change(num_parts, changes))

    def start(
        self, num_processes: int, run: str, changes: Mapping[str, Any], *options: str, accident: str = "none"
    ) -> tuple[int, str]:
        settings = make_settings(self.corpus, self.folder / run, self.change(num_processes, changes))
        yaml = write_yaml(self.folder / f"{run}.yaml", settings)
        self.outputs(run).mkdir(exist_ok=True)
        return run_processes(num_processes, "-c", DRIVER, self.outputs(run), accident, "-c", yaml, *options)

    def outputs(self, run: str) -> Path:
        """Where the processes of a run leave their weights, and the time of an accident."""
        return self.folder / f"outputs_{run}"

    def losses(self, run: str) -> list[float]:
        return [row["loss"] for row in read_metrics(self.folder / run, "step")]


SYNC = {"processes.sync_batch_norm": True}


@pytest.fixture(scope="module")
def starter(corpus: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Starter:
    find_mpirun()
    return Starter(corpus, manifest, tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def joint(starter: Starter, mindspore_cpu: None) -> str:
    """A run of one process with the joint batch."""
    train_here(starter.make_config(1, "joint", {}))
    return "joint"


@pytest.fixture(scope="module")
def two(starter: Starter) -> str:
    """A run of two processes with batch norm over both."""
    status, shown = starter.start(2, "two", SYNC)
    assert status == 0, shown
    return "two"


@pytest.fixture(scope="module")
def stopped(starter: Starter) -> Path:
    """The folder of such a run that ended when one of its processes, not the first, was sent SIGTERM."""
    status, shown = starter.start(2, "stopped", SYNC, accident="SIGTERM")
    assert status == 143, shown
    assert "go on with --resume" in shown
    return starter.folder / "stopped"


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(path) as arrays:
        return dict(arrays)


def expect_equal(some: Mapping[str, NDArray[Any]], others: Mapping[str, NDArray[Any]]) -> None:
    assert some.keys() == others.keys()
    for name in some:
        np.testing.assert_array_equal(some[name], others[name], err_msg=name)


# The same mathematics -------------------------------------------------------------------------------------------------


def test_two_processes_do_what_one_does_with_the_joint_batch(starter: Starter, joint: str, two: str) -> None:
    assert len(starter.losses(two)) == 2 * NUM_EPOCHS
    np.testing.assert_allclose(starter.losses(two), starter.losses(joint), rtol=1e-5)
    for of_two, of_one in zip(*(read_metrics(starter.folder / run, "epoch") for run in (two, joint)), strict=True):
        assert (of_two["dev_wer"], of_two["dev_cer"]) == (of_one["dev_wer"], of_one["dev_cer"])
        assert of_two["loss"] == pytest.approx(of_one["loss"], rel=1e-5)


def test_all_processes_and_the_checkpoint_end_with_the_same_weights(
    starter: Starter, two: str, mindspore_cpu: None
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    first, second = (read_weights(starter.outputs(two) / f"weights_{rank}.npz") for rank in range(2))
    expect_equal(first, second)
    expect_equal(first, load_checkpoint(starter.folder / two / "last.ckpt").weights)


def test_accumulation_is_what_two_processes_do_without_joint_batch_norm(starter: Starter, mindspore_cpu: None) -> None:
    status, shown = starter.start(2, "apart", QUICK)
    assert status == 0, shown
    train_here(starter.make_config(2, "accumulated", {**QUICK, "batching.accumulation_steps": 2}))
    for kind, keys in (("step", ("loss", "gradient_norm", "learning_rate")), ("epoch", ("loss", "dev_wer", "dev_cer"))):
        rows = [read_metrics(starter.folder / run, kind) for run in ("apart", "accumulated")]
        for apart, accumulated in zip(*rows, strict=True):
            for key in keys:
                assert accumulated[key] == pytest.approx(apart[key], rel=1e-5), key


def test_only_the_first_process_writes_and_talks(starter: Starter, two: str) -> None:
    names = {"config.yaml", "environment.json", "train.log", "metrics.jsonl", "last.ckpt", "best.ckpt", ".lock"}
    assert {path.name for path in (starter.folder / two).iterdir()} == names
    log = (starter.folder / two / "train.log").read_text(encoding="utf-8")
    assert log.count("processes: 2; batches of each in an update: 1; batch norm over all processes") == 1
    assert log.count(" epoch 1/") == 1
    environment = json.loads((starter.folder / two / "environment.json").read_text(encoding="utf-8"))
    assert environment["num_processes"] == 2


# Evaluation -----------------------------------------------------------------------------------------------------------


def test_the_score_does_not_depend_on_the_number_of_processes(
    finished_run: Path, tmp_path: Path, mindspore_cpu: None
) -> None:
    find_mpirun()
    checkpoint = finished_run / "best.ckpt"
    evaluate_one(checkpoint, None, None, str(tmp_path / "one"))
    options = ("--pre_trained_model_path", checkpoint, "--output_dir", tmp_path / "two")
    status, shown = run_processes(2, "eval.py", *options)
    assert status == 0, shown
    assert shown.count("details in") == 1
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "eval_test_utterances.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    for alone, shared in zip(one, two, strict=True):  # batches differ, so confidences do, in their last digits
        for mine, theirs in zip(alone.pop("words"), shared.pop("words"), strict=True):
            assert mine.pop("confidence") == pytest.approx(theirs.pop("confidence"), abs=1e-4)
            assert mine == theirs
        assert alone == shared
    summaries = [json.loads((tmp_path / name / "eval_test.json").read_text()) for name in ("one", "two")]
    assert [summary["num_processes"] for summary in summaries] == [1, 2]
    for key in ("wer", "cer", "word_errors", "num_words", "num_utterances", "audio_seconds"):
        assert summaries[0][key] == summaries[1][key], key


# Stopping and going on ------------------------------------------------------------------------------------------------


def test_a_signal_to_one_process_stops_all_after_the_same_update(
    starter: Starter, stopped: Path, two: str, mindspore_cpu: None
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    state = load_checkpoint(stopped / "last.ckpt").state
    assert (state["step"], state["epoch"], state["batch"], state["num_parts"]) == (4, 1, 2, 2)
    assert starter.losses("stopped") == starter.losses(two)[:4]


def test_two_processes_go_on_as_if_nothing_had_happened(starter: Starter, stopped: Path, two: str) -> None:
    shutil.copytree(stopped, starter.folder / "resumed")
    status, shown = starter.start(2, "resumed", SYNC, "--resume")
    assert status == 0, shown
    assert starter.losses("resumed") == starter.losses(two)
    weights = [read_weights(starter.outputs(run) / "weights_1.npz") for run in ("resumed", two)]
    expect_equal(*weights)


def test_one_process_goes_on_with_what_two_began(starter: Starter, stopped: Path, mindspore_cpu: None) -> None:
    shutil.copytree(stopped, starter.folder / "fewer")
    changes = {**SYNC, "batching.max_batch_utterances": JOINT_BATCH // 2}
    train_here(starter.make_config(1, "fewer", changes), resume=True)
    log = (starter.folder / "fewer" / "train.log").read_text(encoding="utf-8")
    assert "an update now has up to 1 batches, and had up to 2" in log
    epochs = read_metrics(starter.folder / "fewer", "epoch")
    assert [row["epoch"] for row in epochs] == list(range(1, NUM_EPOCHS + 1))
    steps = [row for row in read_metrics(starter.folder / "fewer", "step") if row["epoch"] > 2]
    assert len(steps) == (NUM_EPOCHS - 2) * 4  # batches of 3, 3, 3 and 2


@pytest.fixture(scope="module")
def passed_on(starter: Starter) -> Path:
    """The folder of a run whose first update meets NaN on the second process, and whose mpirun is sent SIGUSR1."""
    changes = {**QUICK, "training.epochs": 100000}
    status, shown = starter.start(2, "passed_on", changes, accident="SIGUSR1 to mpirun")
    assert status == 143, shown
    assert "stopped: saved" in shown
    return starter.folder / "passed_on"


def test_the_signal_that_mpirun_passes_on_saves_and_ends(passed_on: Path, mindspore_cpu: None) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    state = load_checkpoint(passed_on / "last.ckpt").state
    last_steps = [row["step"] for kind in ("step", "bad_step") for row in read_metrics(passed_on, kind)]
    assert state["step"] == max(last_steps) == len(last_steps)


def test_what_is_not_finite_on_one_process_is_skipped_by_all_and_all_utterances_are_named(passed_on: Path) -> None:
    (bad,) = read_metrics(passed_on, "bad_step")
    assert bad["step"] == 1
    assert len(set(bad["utterances"])) == JOINT_BATCH
    assert all(np.isfinite(row["loss"]) for row in read_metrics(passed_on, "step"))


def test_a_sigterm_that_mpirun_answers_by_killing_leaves_the_last_checkpoint_whole(
    starter: Starter, mindspore_cpu: None
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    changes = {**QUICK, "training.epochs": 100000, "training.checkpoint_every_minutes": 1e-9}
    status, shown = starter.start(2, "killed", changes, accident="SIGTERM to mpirun")
    expect_end(float((starter.outputs("killed") / "time").read_text()))
    assert status != 0, shown
    assert load_checkpoint(starter.folder / "killed" / "last.ckpt").state["step"] >= 3


# Failure --------------------------------------------------------------------------------------------------------------


def test_an_utterance_that_one_process_cannot_load_ends_all(starter: Starter) -> None:
    status, shown = starter.start(2, "broken", QUICK, accident="broken audio")
    expect_end(float((starter.outputs("broken") / "time").read_text()))
    assert status == 2, shown
    assert "rank 1 of 2" in shown
    assert "utterance train_3: its disk is gone" in shown


def test_processes_with_different_settings_or_utterances_do_not_begin(starter: Starter) -> None:
    status, shown = starter.start(2, "different", {}, accident="another rate and manifest")
    assert status == 2, shown
    assert "schedule.peak_learning_rate is 0.02 on rank 1 of 2" in shown
    assert f"the content of {starter.manifest} is" in shown
    assert not (starter.folder / "different").exists()
