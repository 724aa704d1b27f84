"""MindSpore's devices and the communicators between them: what is called, in which order, by MindSpore's version.

CPU: MindSpore 2.10, in the tests, alone and under msrun. GPU and Ascend: by MindSpore's documentation, never run.
Version 2.5 brought `set_device`; before, `set_context` chose the device. Releases after 2.3 list no GPU any more, so
both ways are kept.
"""

from typing import Any, NoReturn

from mindaudio_ds2.errors import DeviceError

BACKENDS = {"CPU": "mccl", "GPU": "nccl", "Ascend": "hccl"}


def choose_device(device_target: str, device_id: int | None, local_size: int) -> None:
    """Let this process compute on one device. Call it before anything else that concerns MindSpore.

    Args:
        device_target: "CPU", "GPU" or "Ascend".
        device_id: number of the device on its host, among those that are visible; None for a CPU.
        local_size: processes on this host, each of which needs a device of its own.

    Raises:
        DeviceError: there is no such device, or there are too few.
    """
    import mindspore as ms

    numbered = {} if device_id is None else {"device_id": device_id}
    try:
        num_devices = None if device_id is None else _count_devices(ms, device_target)
        if num_devices is None or device_id is None or device_id < num_devices:
            if hasattr(ms, "set_device"):
                ms.set_device(device_target, **numbered)
            else:
                ms.set_context(device_target=device_target, **numbered)
            return
    except Exception as error:  # MindSpore raises ValueError, RuntimeError or its own, by platform
        reason = str(error).strip().split("\n")[0]
        raise DeviceError(
            f"device_target {device_target} is not available on this machine ({reason}). Use --device_target CPU, "
            f"or install a MindSpore build and driver for {device_target}."
        ) from None
    raise DeviceError(
        f"device {device_id} is wanted for one of {local_size} processes on this host, but {device_target} has "
        f"{num_devices} there (what CUDA_VISIBLE_DEVICES or ASCEND_RT_VISIBLE_DEVICES leaves). Start as many processes "
        "a host as it has devices"
    )


def _count_devices(ms: Any, device_target: str) -> int | None:
    """Devices of this host; None where this version of MindSpore does not tell (before 2.3)."""
    if hasattr(ms, "device_context"):  # since 2.5, in place of hal
        return int(getattr(ms.device_context, device_target.lower()).device_count())
    return int(ms.hal.device_count(device_target)) if hasattr(ms, "hal") else None


def connect(device_target: str) -> None:
    """Join the processes that mpirun or msrun has started, for sums inside a graph. Call it after `choose_device`.

    On Ascend it must come before the first tensor. A rank table is found by MindSpore itself (RANK_TABLE_FILE).

    Raises:
        DeviceError: MindSpore cannot connect them.
    """
    from mindspore import communication

    try:
        communication.init(BACKENDS[device_target])
    except Exception as error:  # RuntimeError, or whatever the platform's library raises
        reason = str(error).strip().split("\n")[0]
        raise DeviceError(
            f"the processes cannot be connected through {BACKENDS[device_target]} ({reason}). MindSpore needs mpirun "
            "for GPU, msrun for all devices, or a rank table for Ascend; see recipes/librispeech/README.md"
        ) from None


def serve_workers() -> NoReturn:
    """Be msrun's scheduler, the additional process that brings the others together, until they have ended."""
    choose_device("CPU", None, 1)
    connect("CPU")
    raise SystemExit(0)
