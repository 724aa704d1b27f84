"""What a network is built on: one value from `runtime.start` in place of questions to the environment."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Backend:
    """How networks, losses and steps of this process are computed.

    Attributes:
        kernels: the library of native CPU kernels, or None for MindSpore's own operators.
        takes_open_shapes: whether one graph may serve batches of every shape; else each shape is compiled, and there
            should be few.
        stays_on_device: whether gradients are summed inside the graph, and not by the host.
        joint_sum: sums an array over all processes, for batch norms over all of them (`ops.joint`); None takes the
            statistics of each process's own batch.
        is_bfloat16: whether the kernels multiply in bfloat16; with `is_int8`, what they do not multiply in eight bits.
        is_int8: whether the recurrent layers of checkpoints are rounded to eight bits, which only recognising asks for.
    """

    kernels: Path | None = None
    takes_open_shapes: bool = True
    stays_on_device: bool = False
    joint_sum: Callable[[Any], Any] | None = None
    is_bfloat16: bool = False
    is_int8: bool = False


STOCK = Backend()
"""One process on a CPU with MindSpore's own operators."""
