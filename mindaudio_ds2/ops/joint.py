"""Sums over processes in the middle of a compiled graph."""

from collections.abc import Callable

import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray


class JointSum(nn.Cell):
    """Calls out of the graph to sum an array of known shape over all processes. It has no gradient of its own.

    A graph may hold several only if each needs the result of the one before: the processes must come to them in the
    same order, and MindSpore runs what is independent in any order.

    Has run on the CPU, the only device that MindSpore lets call Python from a graph.

    Args:
        sum_over_processes: from a contiguous float32 array to its sum, in place or not.
    """

    def __init__(self, sum_over_processes: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        super().__init__()

        def call(values: NDArray[np.float32]) -> NDArray[np.float32]:
            return sum_over_processes(np.array(values, np.float32))  # a copy: the graph may use its own again

        self.call = ops.Custom(call, lambda shape: shape, lambda dtype: dtype, "pyfunc")

    def construct(self, values: Tensor) -> Tensor:
        """(N,) float32 -> (N,) float32."""
        return self.call(values)


class DeviceSum(nn.Cell):
    """Sums an array of known shape over all processes through MindSpore's own AllReduce, on any device.

    What `JointSum` says of several in a graph holds here, too; it has no gradient of its own either. Has run on the
    CPU, under msrun.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sum = ops.AllReduce()

    def construct(self, values: Tensor) -> Tensor:
        """(N,) float32 -> (N,) float32."""
        return self.sum(values)
