"""GPU and Ascend by the calls that MindSpore gets, since there are none here: which, in which order, with what."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mindaudio_ds2.errors import DeviceError
from mindaudio_ds2.machine import devices, runtime
from mindaudio_ds2.machine.backend import Backend

Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


class RecordedMindSpore:
    """A stand-in for the module `mindspore` of some version that writes down what is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: str, num_devices: int = 8) -> None:
        self.calls: Calls = []
        module, communication = ModuleType("mindspore"), ModuleType("mindspore.communication")
        new = tuple(map(int, version.split("."))) >= (2, 5)
        module.set_context = self.record("set_context")
        if new:
            module.set_device = self.record("set_device")
            counts = SimpleNamespace(device_count=lambda: num_devices)
            module.device_context = SimpleNamespace(gpu=counts, ascend=counts)
        elif version == "2.3":
            module.hal = SimpleNamespace(device_count=lambda target: num_devices)
        communication.init = self.record("init")
        module.communication = communication
        monkeypatch.setitem(sys.modules, "mindspore", module)
        monkeypatch.setitem(sys.modules, "mindspore.communication", communication)
        self.module, self.communication = module, communication

    def record(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> None:
            self.calls.append((name, arguments, options))

        return call


@pytest.mark.parametrize("version", ["2.2", "2.3"])
@pytest.mark.parametrize("target", ["GPU", "Ascend"])
def test_older_versions_choose_the_device_by_context(
    monkeypatch: pytest.MonkeyPatch, version: str, target: str
) -> None:
    recorded = RecordedMindSpore(monkeypatch, version)
    devices.choose_device(target, 3, 8)
    assert recorded.calls == [("set_context", (), {"device_target": target, "device_id": 3})]


@pytest.mark.parametrize("target", ["GPU", "Ascend"])
def test_newer_versions_choose_the_device_by_set_device(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    recorded = RecordedMindSpore(monkeypatch, "2.5")
    devices.choose_device(target, 3, 8)
    assert recorded.calls == [("set_device", (target,), {"device_id": 3})]


@pytest.mark.parametrize("version", ["2.2", "2.10"])
def test_a_cpu_has_no_number(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    recorded = RecordedMindSpore(monkeypatch, version)
    devices.choose_device("CPU", None, 2)
    old = ("set_context", (), {"device_target": "CPU"})
    assert recorded.calls == [old if version == "2.2" else ("set_device", ("CPU",), {})]


@pytest.mark.parametrize(("target", "backend"), [("GPU", "nccl"), ("Ascend", "hccl"), ("CPU", "mccl")])
def test_processes_are_connected_by_the_library_of_their_device(
    monkeypatch: pytest.MonkeyPatch, target: str, backend: str
) -> None:
    recorded = RecordedMindSpore(monkeypatch, "2.3")
    devices.connect(target)
    assert recorded.calls == [("init", (backend,), {})]


@pytest.mark.parametrize("version", ["2.3", "2.10"])
def test_more_processes_than_devices_are_an_error_before_anything_is_called(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    recorded = RecordedMindSpore(monkeypatch, version, num_devices=4)
    with pytest.raises(DeviceError, match=r"device 4 is wanted for one of 8 processes.*GPU has 4 there"):
        devices.choose_device("GPU", 4, 8)
    assert recorded.calls == []
    devices.choose_device("GPU", 3, 8)
    assert len(recorded.calls) == 1


@pytest.mark.parametrize("version", ["2.2", "2.10"])
def test_what_mindspore_says_against_a_device_is_said_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    recorded = RecordedMindSpore(monkeypatch, version)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Unsupported device target GPU.\n--- a page of C++")

    setattr(recorded.module, "set_context" if version == "2.2" else "set_device", refuse)
    with pytest.raises(DeviceError) as raised:
        devices.choose_device("GPU", 0, 1)
    assert "device_target GPU is not available on this machine (Unsupported device target GPU.)" in str(raised.value)
    assert "Use --device_target CPU" in str(raised.value)


def test_what_mindspore_says_against_a_connection_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = RecordedMindSpore(monkeypatch, "2.10")

    def refuse(_: str) -> None:
        raise RuntimeError("Get hccl rank_table_file failed, please export RANK_TABLE_FILE.\nmore")

    recorded.communication.init = refuse
    with pytest.raises(DeviceError, match=r"through hccl \(Get hccl rank_table_file failed.*\).*rank table for Ascend"):
        devices.connect("Ascend")


def test_the_scheduler_of_msrun_only_brings_the_others_together(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = RecordedMindSpore(monkeypatch, "2.10")
    with pytest.raises(SystemExit) as ended:
        devices.serve_workers()
    assert ended.value.code == 0
    assert recorded.calls == [("set_device", ("CPU",), {}), ("init", ("mccl",), {})]


# From `runtime.start` to these calls ----------------------------------------------------------------------------------

ENVIRONMENTS = {
    "alone": {},
    "alone, a device chosen": {"DEVICE_ID": "2"},
    "mpirun": {
        "OMPI_COMM_WORLD_SIZE": "4",
        "OMPI_COMM_WORLD_RANK": "3",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    },
    "msrun": {"MS_WORKER_NUM": "4", "RANK_ID": "3", "DEVICE_ID": "1", "MS_ROLE": "MS_WORKER"},
    "a rank table": {"RANK_SIZE": "4", "RANK_ID": "3", "DEVICE_ID": "1", "RANK_TABLE_FILE": "table.json"},
}


@pytest.mark.parametrize(
    ("place", "target", "device_id", "backend"),
    [
        ("alone", "GPU", 0, None),
        ("alone, a device chosen", "Ascend", 2, None),
        ("alone, a device chosen", "CPU", None, None),
        ("mpirun", "CPU", None, None),  # the host sums, over MPI
        ("mpirun", "GPU", 1, "nccl"),
        ("mpirun", "Ascend", 1, "hccl"),
        ("msrun", "CPU", None, "mccl"),
        ("msrun", "GPU", 1, "nccl"),
        ("msrun", "Ascend", 1, "hccl"),
        ("a rank table", "Ascend", 1, "hccl"),
    ],
)
@pytest.mark.parametrize("version", ["2.3", "2.10"])
def test_start_chooses_connects_and_sets_the_mode_in_this_order(
    monkeypatch: pytest.MonkeyPatch, version: str, place: str, target: str, device_id: int | None, backend: str | None
) -> None:
    for name in {name for variables in ENVIRONMENTS.values() for name in variables}:
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENTS[place].items():
        monkeypatch.setenv(name, value)
    recorded = RecordedMindSpore(monkeypatch, version)
    recorded.module.set_seed = recorded.record("set_seed")
    recorded.module.GRAPH_MODE = 0
    started = runtime.start(target, 5)
    stays_on_device = target != "CPU" or place in ("msrun", "a rank table")
    assert started == Backend(None, target == "CPU", stays_on_device)
    numbered = {} if device_id is None else {"device_id": device_id}
    old = version == "2.3"
    chosen = ("set_context", (), {"device_target": target, **numbered}) if old else ("set_device", (target,), numbered)
    connected: Calls = [("init", (backend,), {})] if backend else []
    assert recorded.calls == [chosen, *connected, ("set_context", (), {"mode": 0}), ("set_seed", (5,), {})]
    is_alone = "alone" in place
    assert runtime.find_own_place().world_size == (1 if is_alone else 4)
