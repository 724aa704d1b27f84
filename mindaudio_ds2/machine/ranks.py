"""Which process of how many this one is, as the program that started it has left it in the environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mindaudio_ds2.errors import DeviceError


@dataclass(frozen=True, slots=True)
class Place:
    """One process among those of a run.

    Attributes:
        rank: its number, from 0.
        world_size: processes of the run.
        local_rank: its number among those on its host, from 0.
        local_size: processes of the run on its host.
        launcher: what started it; empty where it was started alone.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: str = ""

    @property
    def is_mindspores(self) -> bool:
        """Whether the processes talk through MindSpore alone, because nothing has given them MPI."""
        return self.launcher in ("msrun", "a rank table")


# What each launcher sets: world size, rank, local size, local rank. Where one runs inside another (mpirun in a job of
# Slurm), the innermost comes first here. Slurm counts only where srun has started several tasks: a batch script has
# most of its variables too, but is one process.
_LAUNCHERS = (
    (
        "Open MPI",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ),
    ("MPICH", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"),
    ("msrun", "MS_WORKER_NUM", "RANK_ID", "", "DEVICE_ID"),
    ("a rank table", "RANK_SIZE", "RANK_ID", "", "DEVICE_ID"),  # of Ascend devices; with RANK_TABLE_FILE
    ("Slurm", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "", "SLURM_LOCALID"),
)


def find_place(environment: Mapping[str, str]) -> Place:
    """Find out which of how many processes this one is.

    Args:
        environment: variables of this process, see `runtime.environment`.

    Raises:
        DeviceError: a launcher says how many processes there are, but not which of them this one is.
    """
    for launcher, size_name, rank_name, local_size_name, local_rank_name in _LAUNCHERS:
        world_size = _read(environment, size_name)
        if world_size is None or world_size < 2:
            continue
        rank = _read(environment, rank_name)
        if rank is None or rank >= world_size:
            raise DeviceError(
                f"{launcher} has started {world_size} processes ({size_name}), but {rank_name} is "
                f"{environment.get(rank_name, 'not set')}; start all of them with mpirun, msrun or srun"
            )
        # srun has variables of its own for what its --mpi=pmi2 does not tell.
        local_rank = _first(_read(environment, local_rank_name), _read(environment, "SLURM_LOCALID"), rank)
        local_size = _first(_read(environment, local_size_name), _count_tasks_of_node(environment), world_size)
        return Place(rank, world_size, local_rank, max(local_size, local_rank + 1), launcher)
    return Place()


def _read(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "").strip()
    return int(value) if value.isdigit() else None


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _count_tasks_of_node(environment: Mapping[str, str]) -> int | None:
    """Tasks of a Slurm step on this node: `SLURM_STEP_TASKS_PER_NODE` is "4(x2),3" for three nodes."""
    counts: list[int] = []
    for count, repeats in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "")):
        counts += [int(count)] * int(repeats or 1)
    node = _read(environment, "SLURM_NODEID")
    return counts[node] if node is not None and node < len(counts) else None


def share_cores(own_cores: frozenset[int], cores_of_all: list[frozenset[int]]) -> int:
    """How many threads a process should use, so that the processes of a host do not get in each other's way.

    Args:
        own_cores: numbers of the cores that this process may run on.
        cores_of_all: the same for every process of the host, this one included. A launcher may have bound each to
            cores of its own, or let all of them run on all cores.

    Returns:
        Its share of the cores, rounded down; at least 1.
    """
    share = sum(1 / sum(core in cores for cores in cores_of_all) for core in own_cores)
    return max(1, int(share + 1e-9))
