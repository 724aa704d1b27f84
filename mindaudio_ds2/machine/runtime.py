"""Device, graph mode, threads, seeds, and what this machine is. The only file that reads the environment, and with
`devices.py` the only one that names a device.

`start` must run before anything imports MindSpore, because MindSpore reads its log level when it is loaded.
"""

import contextlib
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mindaudio_ds2 import console
from mindaudio_ds2.errors import DeviceError, leave_at_once
from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.machine.devices import choose_device, connect, serve_workers
from mindaudio_ds2.machine.msrun import end_with_workers, find_command
from mindaudio_ds2.machine.ranks import Place, find_place
from mindaudio_ds2.ops.library import find_kernels, has_bfloat16, load_early

QUIET = "4"  # of MindSpore's log levels
# How often a thread of the kernels looks for work before it sleeps. libgomp's own 300,000 times are milliseconds, in
# which it keeps a core from MindSpore's threads, whose operators follow; these are less than 0.1 ms.
SPINS = "2000"


def find_own_place() -> Place:
    """Which process of how many this one is, by the launcher's variables: mpirun's, msrun's or srun's.

    msrun starts one process more to bring the others together; that one stays in here until they have ended.

    Raises:
        DeviceError: they contradict each other.
    """
    if os.environ.get("MS_ROLE") == "MS_SCHED":
        os.environ.setdefault("GLOG_v", QUIET)
        end_with_workers()
        serve_workers()
    return find_place(os.environ, find_command() if "MS_ROLE" in os.environ else ())


def require_one_process(verb: str) -> None:
    """Make sure that a verb whose work is not shared out was not started several times.

    Raises:
        DeviceError: it was.
    """
    place = find_own_place()
    if place.world_size > 1:
        raise DeviceError(
            f"{place.world_size} processes were started ({place.launcher}), but {verb} is done by one: each would do "
            "all of it. Start it alone"
        )


def start(
    device_target: str, seed: int, native: str = "off", num_threads: int | None = None, precision: str = "fp32"
) -> Backend:
    """Prepare MindSpore: quiet log, graph mode, the device, the seed. Call once, before importing the network.

    Args:
        device_target: "CPU", "GPU" or "Ascend".
        seed: of weight initialisation; everything else draws from generators of its own.
        native: `ops.native` of the configuration.
        num_threads: for the kernels, where several processes share the host; None leaves it to the libraries.
        precision: `precision.compute` of the configuration, or what --weights names. With int8, what is multiplied in
            something else than eight bits is multiplied in bfloat16 where the processor has that.

    Returns:
        What networks, losses and steps are built on.

    Raises:
        DeviceError: the device or, where they are insisted on, the kernels are not there; or the device cannot compute
            in that precision.
    """
    if device_target == "CPU" and precision == "fp16":
        raise DeviceError(
            "precision.compute is fp16, but on the CPU MindSpore has no kernels for it: it converts to float32 and "
            "back around every operator, which is slower and less exact than fp32. Use --precision.compute fp32, or "
            "bf16 where the processor has AVX512-BF16."
        )
    if device_target == "GPU" and precision == "bf16":
        raise DeviceError(
            "precision.compute is bf16, for which MindSpore has operators on Ascend only, by its documentation. Use "
            "--precision.compute fp16 --precision.loss_scale 65536 --precision.loss_scale_window 1000, or fp32."
        )
    if num_threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(num_threads))
    kernels = find_kernels(native, device_target)
    if kernels is not None:
        let_threads_sleep()
        load_early(kernels)
    is_bfloat16 = device_target == "CPU" and precision == "bf16"
    if is_bfloat16:
        _require_bfloat16(kernels, native)
    if precision == "int8":
        is_bfloat16 = has_bfloat16(_require_int8(kernels, native, device_target))
    os.environ.setdefault("GLOG_v", QUIET)  # MindSpore's exceptions say it all; its log repeats them, and more
    # MindSpore 2.10's oneDNN 3.10 runs float32 convolutions on a scalar reference kernel where the processor has
    # AVX-512: 1 GFLOP/s instead of 100. The AVX2 kernels are there. tests/test_runtime.py tells when this has gone.
    # With native kernels there are no such convolutions, and MatMul may have AVX-512: it is nearly twice as fast.
    if kernels is None:
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    with _leaving_at_once(), console.explain_wait("starting MindSpore"):
        import mindspore as ms

    place = find_own_place()
    choose_device(device_target, _find_device_id(device_target, place), place.local_size)
    if place.world_size > 1 and stays_on_device(device_target):
        connect(device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(seed)
    return Backend(
        kernels,
        device_target == "CPU",
        stays_on_device(device_target),
        is_bfloat16=is_bfloat16,
        is_int8=precision == "int8",
    )


def start_recognizing(
    device_target: str, native: str = "auto", num_threads: int | None = None, weights: str = "fp32"
) -> Backend:
    """`start` for networks that only recognise.

    Args:
        device_target, native, num_threads: as there.
        weights: "fp32", or on the CPU how --weights wants a checkpoint to be computed: "bf16" or "int8".

    Raises:
        DeviceError: as there, or only the CPU has such weights.
    """
    if weights != "fp32" and device_target != "CPU":
        raise DeviceError(
            f"--weights {weights} is computed by the native kernels alone, and they are for the CPU, not "
            f"{device_target}. Use --weights fp32."
        )
    return start(device_target, 0, native, num_threads, weights)


def _require_bfloat16(kernels: Path | None, native: str) -> None:
    reason = None
    if kernels is None:
        reason = f"only the native kernels have it, and they are off or not there (ops.native: {native})"
    elif not has_bfloat16(kernels):
        reason = f"it needs the instructions AVX512-BF16, which this one ({_name_processor()}) lacks"
    if reason:
        raise DeviceError(
            f"it was to be computed in bf16, but on the CPU {reason}. Use --precision.compute fp32, with a checkpoint "
            "--weights fp32."
        )


def _require_int8(kernels: Path | None, native: str, device_target: str) -> Path:
    if kernels is None:
        reason = f"they are off or not there (ops.native: {native})"
        if device_target != "CPU":
            reason = f"they are for the CPU, not {device_target}"
        raise DeviceError(f"--weights int8 is computed by the native kernels alone, and {reason}. Use --weights fp32.")
    return kernels


def let_threads_sleep() -> None:
    """Keep the kernels' threads from waiting at full speed for long, unless the environment says how they should wait.

    Call before anything loads libgomp, which reads this then.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


@contextlib.contextmanager
def _leaving_at_once() -> Iterator[None]:
    """Ctrl-C while MindSpore is imported: 2.10 aborts, with a core, where an exception meets its C++ parts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _find_device_id(device_target: str, place: Place) -> int | None:
    """Each process of a host takes the device of its number; one alone that which DEVICE_ID names, or the first."""
    if device_target == "CPU":
        return None
    alone = os.environ.get("DEVICE_ID", "0")
    return place.local_rank if place.world_size > 1 else int(alone) if alone.isdigit() else 0


def stays_on_device(device_target: str) -> bool:
    """Whether gradients are summed inside the graph, and not by the host: on GPU and Ascend, and all under msrun."""
    return device_target != "CPU" or find_own_place().is_mindspores


def describe_environment() -> dict[str, Any]:
    """What a result depends on besides data and configuration, for logs and result files.

    Returns:
        Commit and whether the tree had changes (empty and false outside a git checkout), versions, processor, cores.
    """
    import mindspore as ms
    import numpy as np

    from mindaudio_ds2 import __version__

    return {
        "commit": _git("rev-parse", "HEAD")[:12],
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "package_version": __version__,
        "python_version": platform.python_version(),
        "mindspore_version": ms.__version__,
        "numpy_version": np.__version__,
        "device_target": ms.get_context("device_target"),
        "num_processes": find_own_place().world_size,
        "cpu": _name_processor(),
        "num_cores": len(os.sched_getaffinity(0)),
    }


def _git(*arguments: str) -> str:
    """What git says of the checkout that this file belongs to; empty for an installed package in somebody else's."""
    folder = Path(__file__).resolve().parent
    if not (folder.parents[1] / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _name_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
