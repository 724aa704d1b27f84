"""An update whose sum is part of the graph: against one whose sum is the host's; and in processes that msrun starts."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import PrecisionConfig
from mindaudio_ds2.corpus.manifest import read_manifest, write_manifest
from mindaudio_ds2.machine.collectives import DeviceRanks, Ranks, join
from mindaudio_ds2.machine.ranks import Place
from tests.mpirun import ROOT
from tests.tiny_corpus import make_config, make_settings, read_metrics, train_here, write_yaml
from tests.training.compiled.test_step import OPTIMIZER, Batch, Training, make_batch, spoil_features

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

DYNAMIC = PrecisionConfig("fp32", loss_scale=1024.0, loss_scale_window=100)


class Updates:
    """Updates from two batches, by a step whose sum stays on the device and by one whose sum is the host's."""

    def __init__(self) -> None:
        from mindaudio_ds2.training.compiled.joint_step import DeviceStep, JointStep
        from tests import cells

        self.trainings = {"device": Training(OPTIMIZER.max_gradient_norm, DYNAMIC)}
        self.trainings["host"] = Training(OPTIMIZER.max_gradient_norm, DYNAMIC)
        shapes = (cells.NUM_BINS, None)
        self.steps: dict[str, Any] = {
            "device": DeviceStep(self.trainings["device"].step, 2, None, shapes),
            "host": JointStep(self.trainings["host"].step, Ranks(), shapes),
        }

    def take(self, *batches: Batch) -> dict[str, Any]:
        from mindspore import Tensor

        num_utterances = sum(len(batch[1]) for batch in batches)
        shares = [len(batch[1]) / num_utterances for batch in batches]
        tensors = [tuple(map(Tensor, batch)) for batch in batches]
        return {name: step.take(tensors, shares, 1e-3, lambda: True) for name, step in self.steps.items()}


@pytest.fixture(scope="module")
def updates(mindspore_cpu: None) -> Updates:
    return Updates()


def test_gradients_that_stay_on_the_device_give_the_same_update(updates: Updates) -> None:
    for batches in ((make_batch([0, 3, 5]), make_batch([1, 2])), (make_batch([4]), make_batch([6, 7, 1]))):
        outcomes = updates.take(*batches)
        assert outcomes["device"].is_finite
        assert outcomes["device"].is_stop_wished
        for name in ("loss", "gradient_norm"):
            expected = getattr(outcomes["host"], name)
            assert getattr(outcomes["device"], name) == pytest.approx(expected, rel=1e-6)
    states = {name: training.read() for name, training in updates.trainings.items()}
    for name, array in states["device"].items():
        np.testing.assert_allclose(array, states["host"][name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("bad", [0, 1])
def test_one_batch_that_is_not_finite_spoils_the_update_on_either_way(updates: Updates, bad: int) -> None:
    batches = [make_batch([0, 3, 5]), make_batch([1, 2])]
    batches[bad] = spoil_features(batches[bad], np.nan)
    before = {name: training.read() for name, training in updates.trainings.items()}
    outcomes = updates.take(*batches)
    for name, training in updates.trainings.items():
        assert (outcomes[name].is_finite, outcomes[name].has_overflowed) == (False, False)
        assert all(np.array_equal(array, before[name][key]) for key, array in training.read().items())


# What processes tell each other through sums -------------------------------------------------------------------------


class SummingInThreads(DeviceRanks):
    """Several ranks in threads of one process, whose sums are NumPy's."""

    parts: list[NDArray[np.float32]]
    meeting: threading.Barrier

    def sum(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        assert values.dtype == np.float32
        self.parts[self.place.rank] = values.copy()
        self.meeting.wait(60)
        values[...] = sum(self.parts)
        self.meeting.wait(60)
        return values


def run_ranks(num_ranks: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` gives on each rank."""
    SummingInThreads.parts = [np.zeros(0, np.float32)] * num_ranks
    SummingInThreads.meeting = threading.Barrier(num_ranks)
    results: list[Any] = [None] * num_ranks

    def run(rank: int) -> None:
        results[rank] = work(SummingInThreads(Place(rank, num_ranks, rank, num_ranks, "msrun"), 60.0))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_any_value_gets_through_a_sum(num_ranks: int) -> None:
    weights = {"w": np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32), "nan": np.array([np.nan, -0.0])}

    def work(ranks: Ranks) -> Any:
        rank = ranks.place.rank
        texts = ranks.gather("x" * (3 * rank))  # of odd and even length, and nothing
        received = ranks.broadcast(weights if rank == 0 else {})
        bits = {name: array.tobytes() for name, array in received.items()}
        return texts, bits, ranks.largest(10 - rank), ranks.broadcast(None)

    expected = ["x" * (3 * rank) for rank in range(num_ranks)]
    for texts, bits, largest, nothing in run_ranks(num_ranks, work):
        assert texts == expected
        assert bits == {name: array.tobytes() for name, array in weights.items()}
        assert (largest, nothing) == (10, None)


def test_what_started_the_processes_decides_how_they_talk() -> None:
    assert type(join(Place(), 1.0)) is Ranks
    for launcher in ("msrun", "a rank table"):
        assert type(join(Place(1, 2, 1, 2, launcher), 1.0)) is DeviceRanks


# Under msrun ----------------------------------------------------------------------------------------------------------


def run_msrun(num_processes: int, log_dir: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    msrun = Path(sys.executable).parent / "msrun"
    if not msrun.exists():
        pytest.skip("no msrun beside this Python")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    counts = ["--worker_num", str(num_processes), "--local_worker_num", str(num_processes)]
    options = ["--master_port", str(port), "--join", "True", "--log_dir", str(log_dir)]
    command = [str(msrun), *counts, *options, *map(str, arguments)]
    environment = {"PATH": f"{msrun.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(Path.home())}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=570)


def test_two_processes_of_msrun_do_what_one_does_with_the_joint_batch(corpus: Path, tmp_path: Path) -> None:
    """Eleven utterances: an update of six, and one of five, which two processes share unevenly."""
    manifest = tmp_path / "train.jsonl"
    write_manifest(manifest, read_manifest(corpus / "train.jsonl")[:11])
    changes = {
        "data.train_manifest": str(manifest),
        "batching.max_batch_padded_seconds": 100.0,
        "processes.sync_batch_norm": True,
        "training.epochs": 3,
    }
    train_here(make_config(corpus, tmp_path / "one", {**changes, "batching.max_batch_utterances": 6}))
    settings = make_settings(corpus, tmp_path / "two", {**changes, "batching.max_batch_utterances": 3})
    yaml = write_yaml(tmp_path / "two.yaml", settings)
    done = run_msrun(2, tmp_path / "log", ROOT / "train.py", "-c", yaml)
    logs = "\n".join(path.read_text(encoding="utf-8") for path in (tmp_path / "log").glob("worker_*.log"))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    rows = {run: read_metrics(tmp_path / run, "step") for run in ("one", "two")}
    assert len(rows["one"]) == len(rows["two"]) == 6
    for expected, actual in zip(rows["one"], rows["two"], strict=True):
        assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert actual["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)
    expected, actual = (read_metrics(tmp_path / run, "epoch")[-1] for run in ("one", "two"))
    assert [actual[key] for key in ("dev_wer", "dev_cer")] == [expected[key] for key in ("dev_wer", "dev_cer")]
