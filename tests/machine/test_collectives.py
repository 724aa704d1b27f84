"""What processes do together, in real ones that mpirun starts."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.machine.collectives import Ranks, join
from mindaudio_ds2.machine.ranks import Place
from tests.mpirun import expect_end, run_processes

START = """
import json, os, sys, time
import numpy as np
from mindaudio_ds2.machine import collectives, runtime
from mindaudio_ds2.errors import AudioError, Interrupted

place = runtime.find_own_place()
"""
EVERYTHING = """
def numbers(rank, size):
    return np.random.default_rng(rank).normal(size=size).astype(np.float32)

with collectives.join(place, 60.0) as ranks:
    large = ranks.sum(numbers(place.rank, 1_000_003))
    small = ranks.sum(numbers(place.rank, 3))
    result = {
        "rank": place.rank, "launcher": place.launcher, "local_size": place.local_size, "first": ranks.is_first,
        "digest": large.tobytes().hex()[:4000], "small": small.tolist(), "largest": ranks.largest(10 * place.rank),
        "broadcast": ranks.broadcast({"from": place.rank}), "gathered": ranks.gather(chr(65 + place.rank)),
        "threads": ranks.count_threads(), "times": [ranks.waiting_seconds, ranks.moving_seconds],
    }
    ranks.require_same({"key": "value"})
    ranks.wait()
with open(sys.argv[1] + f"/{place.rank}.json", "w") as file:
    json.dump(result, file)
"""
ACCIDENT = """
with collectives.join(place, float(sys.argv[2])) as ranks:
    ranks.wait()
    if place.rank == 1:
        with open(sys.argv[1] + "/time", "w") as file:
            file.write(str(time.time()))
        {accident}
    ranks.sum(np.ones(5, np.float32))
    ranks.wait()
"""


@pytest.mark.parametrize("end", ["sys.exit(2)", "os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_a_process_that_ends_before_it_has_joined_ends_the_others(end: str) -> None:
    """MPI itself would wait for ever for one that has ended with 0 before another began to join."""
    started = time.time()
    last = f"if place.rank == 1: {end}\ntime.sleep(1)\ncollectives.join(place, 3.0).wait()"
    status, shown = run_processes(2, "-c", START + last, timeout_seconds=60)
    assert status != 0, shown
    expect_end(started)


@pytest.mark.parametrize("num_processes", [2, 3])
def test_every_process_gets_the_same_from_every_collective(num_processes: int, tmp_path: Path) -> None:
    status, shown = run_processes(num_processes, "-c", START + EVERYTHING, tmp_path)
    assert status == 0, shown
    results: list[dict[str, Any]] = [
        json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(num_processes)
    ]
    expected = sum(np.random.default_rng(rank).normal(size=3).astype(np.float32) for rank in range(num_processes))
    for rank, result in enumerate(results):
        assert (result["rank"], result["first"]) == (rank, rank == 0)
        assert (result["launcher"], result["local_size"]) == ("Open MPI", num_processes)
        assert result["digest"] == results[0]["digest"]
        np.testing.assert_allclose(result["small"], expected, rtol=1e-6)
        assert result["largest"] == 10 * (num_processes - 1)
        assert result["broadcast"] == {"from": 0}
        assert result["gathered"] == ["A", "B", "C"][:num_processes]
        assert result["threads"] >= 1
        assert min(result["times"]) > 0


@pytest.mark.parametrize(
    ("accident", "timeout_seconds", "expected_status", "messages"),
    [
        ("raise AudioError('u7 is broken')", 60, 2, ["error: rank 1 of 2 on ", ": u7 is broken"]),
        ("raise ValueError('a defect')", 60, 1, ["Traceback", "rank 1 of 2", "ValueError: a defect"]),
        ("sys.exit(5)", 60, 1, ["rank 1 of 2", "SystemExit: 5"]),
        ("os.kill(os.getpid(), 9)", 60, 137, ["rank 1", "signal 9"]),
        ("os._exit(7)", 60, 7, [",1]", "Exit code:    7"]),
        ("time.sleep(600)", 2, 1, ["rank 0 of 2", "waited 2 s (processes.timeout_seconds)", "a sum"]),
    ],
)
def test_when_one_process_fails_all_end_soon_and_say_which_and_why(
    accident: str, timeout_seconds: int, expected_status: int, messages: list[str], tmp_path: Path
) -> None:
    program = START + ACCIDENT.format(accident=accident)
    status, shown = run_processes(2, "-c", program, tmp_path, timeout_seconds)
    expect_end(float((tmp_path / "time").read_text(encoding="utf-8")))
    assert status == expected_status, shown
    for message in messages:
        assert message in shown


def test_an_interruption_that_all_agreed_on_is_no_failure(tmp_path: Path) -> None:
    accident = "raise Interrupted('saved', 15)"
    program = (
        START
        + f"""
def main():
    with collectives.join(place, 60.0) as ranks:
        {accident}

from mindaudio_ds2.errors import exit_on_error
exit_on_error(main)()
"""
    )
    status, shown = run_processes(2, "-c", program)
    assert status == 143, shown
    assert "stopped: saved" in shown
    assert "Traceback" not in shown
    assert "error:" not in shown


def test_what_differs_between_processes_is_named_with_both_values() -> None:
    program = (
        START
        + """
with collectives.join(place, 60.0) as ranks:
    ranks.require_same({"the same": "1", "schedule.peak_learning_rate": str(place.rank)})
    print("must not come here")
"""
    )
    status, shown = run_processes(2, "-c", program)
    assert status == 2, shown
    assert "schedule.peak_learning_rate is 1 on rank 1 of 2" in shown
    assert "and 0 on rank 0" in shown
    assert "the same" not in shown.split("give all of them the same:")[1]
    assert shown.count("error:") == 1
    assert "must not come here" not in shown


def test_an_error_that_all_processes_find_is_said_once() -> None:
    program = START + "with collectives.join(place, 60.0) as ranks:\n    raise AudioError('all is broken')\n"
    status, shown = run_processes(3, "-c", program)
    assert (status, shown.count("all is broken")) == (2, 1), shown


def test_a_launcher_and_an_mpi_that_disagree_are_an_error() -> None:
    from mindaudio_ds2.errors import DeviceError
    from mindaudio_ds2.machine.collectives import MpiRanks

    pytest.importorskip("mpi4py")
    with pytest.raises(DeviceError, match=r"Slurm says that this is process 1 of 4, but mpi4py's MPI says 0 of 1"):
        MpiRanks(Place(1, 4, 1, 4, "Slurm"), 5.0)


def test_one_process_alone_has_nothing_to_do() -> None:
    started = time.perf_counter()
    with join(Place(), 1.0) as ranks:
        assert type(ranks) is Ranks
        values = np.arange(3, dtype=np.float32)
        assert ranks.sum(values) is values
        assert (ranks.largest(3), ranks.broadcast("x"), ranks.gather("x")) == (3, "x", ["x"])
        ranks.require_same({"a": "b"})
        ranks.wait()
        assert ranks.count_threads() is None
        assert (ranks.is_first, ranks.world_size) == (True, 1)
    assert time.perf_counter() - started < 1
