"""Which process this is, from the variables that each launcher is documented or was seen to set."""

import pytest

from mindaudio_ds2.errors import DeviceError
from mindaudio_ds2.machine.msrun import count_local
from mindaudio_ds2.machine.ranks import Place, find_place, share_cores

OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
SRUN = {
    "SLURM_NTASKS": "7",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4,3",
}
MSRUN = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "8", "RANK_SIZE": "8", "RANK_ID": "3", "DEVICE_ID": "3"}
SECOND_HOST = {**MSRUN, "MS_NODE_ID": "5", "RANK_ID": "5", "DEVICE_ID": "1"}  # of two with four processes each
MSRUN_ON_TWO_HOSTS = (
    "python",
    "/bin/msrun",
    "--worker_num",
    "8",
    "--local_worker_num=4",
    "--node_rank",
    "1",
    "train.py",
)
ONE_TASK_A_HOST = {  # srun -N 2 --ntasks-per-node 1 --mpi=pmi2 msrun ...
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "PMI_SIZE": "2",
    "PMI_RANK": "1",
}
BATCH_SCRIPT = {"SLURM_NTASKS": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "4,3"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Place(0, 1, 0, 1, "")),
        (OPEN_MPI, Place(5, 8, 1, 4, "Open MPI")),
        (
            {"PMI_SIZE": "4", "PMI_RANK": "3", "MPI_LOCALNRANKS": "2", "MPI_LOCALRANKID": "1"},
            Place(3, 4, 1, 2, "MPICH"),
        ),
        (MSRUN, Place(3, 8, 3, 8, "msrun")),
        ({**MSRUN, "MS_WORKER_NUM": "1", "RANK_SIZE": "1", "RANK_ID": "0"}, Place()),
        (SRUN, Place(6, 7, 2, 3, "Slurm")),
        ({**SRUN, "PMI_SIZE": "7", "PMI_RANK": "6"}, Place(6, 7, 2, 3, "MPICH")),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "4(x2),2", "SLURM_NODEID": "2"}, Place(6, 7, 2, 3, "Slurm")),
        (BATCH_SCRIPT, Place()),
        ({**BATCH_SCRIPT, **OPEN_MPI}, Place(5, 8, 1, 4, "Open MPI")),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, Place()),
        ({"OMPI_COMM_WORLD_SIZE": "4(x2)"}, Place()),
    ],
)
def test_the_place_is_what_the_launcher_says(environment: dict[str, str], expected: Place) -> None:
    assert find_place(environment) == expected


@pytest.mark.parametrize("outside", [{}, ONE_TASK_A_HOST, {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "2"}])
def test_msrun_on_two_hosts_is_known_by_its_own_words_whatever_has_started_it(outside: dict[str, str]) -> None:
    environment = {**outside, **SECOND_HOST}
    assert find_place(environment, MSRUN_ON_TWO_HOSTS) == Place(5, 8, 1, 4, "msrun")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (MSRUN_ON_TWO_HOSTS, 4),
        (("msrun", "--local_worker_num", "2", "--worker_num", "8"), 2),
        (("msrun", "--worker_num", "16"), 8),  # its default
        ((), 16),
    ],
)
def test_the_processes_of_a_host_are_those_that_msrun_was_asked_for(command: tuple[str, ...], expected: int) -> None:
    assert count_local(command, 16) == expected


def test_msrun_on_two_hosts_without_the_number_of_the_host_is_refused() -> None:
    """It sets no MS_NODE_ID then, and on the first host leaves the scheduler's RANK_ID to all."""
    environment = {name: value for name, value in SECOND_HOST.items() if name != "MS_NODE_ID"} | {"RANK_ID": "0"}
    with pytest.raises(DeviceError, match="4 of 8 processes here.*--node_rank"):
        find_place(environment, MSRUN_ON_TWO_HOSTS)


@pytest.mark.parametrize("rank", ["", "8", "-1", "none"])
def test_a_launcher_that_contradicts_itself_is_an_error_with_its_variables(rank: str) -> None:
    with pytest.raises(DeviceError, match=r"Open MPI has started 8 .*OMPI_COMM_WORLD_RANK is"):
        find_place({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": rank})


@pytest.mark.parametrize(
    ("own", "everyone", "expected"),
    [
        ({0, 1}, [{0, 1}], 2),  # alone
        ({0}, [{0}, {1}], 1),  # each bound to a core of its own
        ({0, 1, 2, 3}, [{0, 1, 2, 3}] * 2, 2),  # all on all
        (set(range(8)), [set(range(8))] * 3, 2),  # 8 / 3, rounded down
        ({0, 1, 2}, [{0, 1, 2}, {2, 3}], 2),  # overlapping: 1 + 1 + 1/2
        ({0}, [{0}] * 4, 1),  # more processes than cores
    ],
)
def test_threads_are_the_share_of_the_cores(own: set[int], everyone: list[set[int]], expected: int) -> None:
    assert share_cores(frozenset(own), [frozenset(cores) for cores in everyone]) == expected
