"""Which process of how many this one is, as the program that started it has left it in the environment."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mindaudio_ds2.errors import DeviceError
from mindaudio_ds2.machine.msrun import count_local


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
    ("a rank table", "RANK_SIZE", "RANK_ID", "", "DEVICE_ID"),  # of Ascend devices; with RANK_TABLE_FILE
    ("Slurm", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "", "SLURM_LOCALID"),
)


def find_place(environment: Mapping[str, str], msrun_command: Sequence[str] = ()) -> Place:
    """Find out which of how many processes this one is.

    Args:
        environment: variables of this process, see `runtime.environment`.
        msrun_command: the command line of the msrun that has started this process, see `msrun.find_command`.

    Raises:
        DeviceError: a launcher says how many processes there are, but not which of them this one is.
    """
    if environment.get("MS_ROLE") == "MS_WORKER" and (_read(environment, "MS_WORKER_NUM") or 1) > 1:
        return _find_place_under_msrun(environment, msrun_command)
    for launcher, size_name, rank_name, local_size_name, local_rank_name in _LAUNCHERS:
        world_size = _read(environment, size_name)
        if world_size is None or world_size < 2:
            continue
        rank = _read_rank(environment, launcher, world_size, size_name, rank_name)
        # srun has variables of its own for what its --mpi=pmi2 does not tell.
        local_rank = _first(_read(environment, local_rank_name), _read(environment, "SLURM_LOCALID"), rank)
        local_size = _first(_read(environment, local_size_name), _count_tasks_of_node(environment), world_size)
        return Place(rank, world_size, local_rank, max(local_size, local_rank + 1), launcher)
    return Place()


def _find_place_under_msrun(environment: Mapping[str, str], command: Sequence[str]) -> Place:
    """msrun may itself be started by srun or mpirun, once a host; their variables then count hosts."""
    world_size = _first(_read(environment, "MS_WORKER_NUM"))
    local_size = count_local(command, world_size)
    if local_size < world_size and "MS_NODE_ID" not in environment:  # RANK_ID is then the scheduler's
        raise DeviceError(
            f"msrun has started {local_size} of {world_size} processes here, and not said which; give it --node_rank: "
            "0 on the first host (which is --master_addr), 1 on the second, and so on"
        )
    rank = _read_rank(environment, "msrun", world_size, "MS_WORKER_NUM", "RANK_ID")
    local_rank = _first(_read(environment, "DEVICE_ID"), rank)
    return Place(rank, world_size, local_rank, max(local_size, local_rank + 1), "msrun")


def _read_rank(environment: Mapping[str, str], launcher: str, world_size: int, size_name: str, rank_name: str) -> int:
    rank = _read(environment, rank_name)
    if rank is None or rank >= world_size:
        raise DeviceError(
            f"{launcher} has started {world_size} processes ({size_name}), but {rank_name} is "
            f"{environment.get(rank_name, 'not set')}; start all of them with mpirun, msrun or srun"
        )
    return rank


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
