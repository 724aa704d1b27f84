"""Which process this is, from the variables that each launcher is documented or was seen to set."""

import pytest

from mindaudio_ds2.errors import DeviceError
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
        ({"MS_WORKER_NUM": "8", "RANK_ID": "3", "DEVICE_ID": "3"}, Place(3, 8, 3, 8, "msrun")),
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
