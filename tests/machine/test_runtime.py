"""Device, processes and the processor's kernels, in processes of their own, since a device is set once."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mindaudio_ds2.errors import DeviceError
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.ops.library import has_bfloat16
from tests.tiny_corpus import make_settings, write_yaml

ROOT = Path(__file__).resolve().parents[2]


def run_program(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in the repository with changed environment variables; an empty value removes one."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


WAITING = "starting MindSpore\n"
"""Said where that takes longer than five seconds."""


def expect_refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """The one message of a program that ended with status 2."""
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = done.stderr.removeprefix(WAITING)
    assert said.startswith("error: ")
    assert done.stdout == ""
    return said


# Several processes ----------------------------------------------------------------------------------------------------


SEVERAL = {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "0"}


@pytest.mark.parametrize("verb", ["transcribe.py", "export.py"])
def test_verbs_whose_work_is_not_shared_out_refuse_several_processes(verb: str) -> None:
    arguments = ["--pre_trained_model_path", "best.ckpt", *(["a.wav"] if verb == "transcribe.py" else [])]
    message = expect_refusal(run_program(verb, *arguments, **SEVERAL))
    assert f"8 processes were started (Open MPI), but {verb} is done by one" in message


@pytest.mark.parametrize("verb", ["train.py", "eval.py"])
def test_processes_that_cannot_meet_are_refused(verb: str) -> None:
    arguments = ("-c", "hparams/deepspeech2.yaml", "--pre_trained_model_path", "best.ckpt")
    message = expect_refusal(run_program(verb, *arguments, **SEVERAL))
    assert "8 processes" in message or "process 0 of 8" in message


@pytest.mark.parametrize("seconds", [0.1, 0.4])  # the import takes 0.9 s at least
def test_ctrl_c_while_mindspore_is_imported_ends_with_130(seconds: float) -> None:
    code = "from mindaudio_ds2.machine import runtime; print('go', flush=True); runtime.start('CPU', 1)"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


def test_the_commit_is_not_that_of_a_repository_around_an_installed_package(tmp_path: Path) -> None:
    installed = tmp_path / "repository" / "lib" / "site-packages"
    shutil.copytree(ROOT / "mindaudio_ds2", installed / "mindaudio_ds2", ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a", "--allow-empty"],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path / "repository", check=True)
    code = "from mindaudio_ds2.machine import runtime; print(repr(runtime._git('rev-parse', 'HEAD')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=installed, capture_output=True, text=True, check=True)
    assert done.stdout == "''\n"


@pytest.mark.parametrize(("asked", "before", "expected"), [(3, None, "3"), (3, "5", "5"), (None, None, None)])
def test_threads_are_set_where_asked_for_and_not_said_otherwise(
    mindspore_cpu: None, monkeypatch: pytest.MonkeyPatch, asked: int | None, before: str | None, expected: str | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", before or "1")  # so that it is as it was afterwards
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    runtime.start("CPU", 1, "off", asked)
    assert os.environ.get("OMP_NUM_THREADS") == expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [("OMP_PLACES", "cores", "2000"), ("GOMP_SPINCOUNT", "7", "7"), ("OMP_WAIT_POLICY", "active", None)],
)
def test_the_kernels_threads_soon_sleep_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str | None
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, value)
    runtime.let_threads_sleep()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_threads_library_hears_of_it_before_it_is_loaded(kernels: Path, precision: str) -> None:
    if precision == "bf16" and not has_bfloat16(kernels):
        pytest.skip("this processor lacks AVX512-BF16")
    code = f"from mindaudio_ds2.machine import runtime; runtime.start('CPU', 1, 'on', precision='{precision}')"
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = {**quiet, "OMP_DISPLAY_ENV": "verbose"}  # libgomp then says what it has read
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)) == {runtime.SPINS}


@pytest.mark.parametrize("value", ["1", "0", "", "4(x2)"])
def test_one_process_is_welcome_however_it_is_said(
    mindspore_cpu: None, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", value)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert runtime.find_own_place().world_size == 1
    runtime.start("CPU", seed=1)


def test_float16_on_the_cpu_is_refused_with_the_reason() -> None:
    with pytest.raises(DeviceError, match=r"precision.compute is fp16.*CPU.*--precision.compute fp32, or bf16"):
        runtime.start("CPU", seed=1, precision="fp16")


def test_bfloat16_without_the_native_kernels_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"bf16, .*native kernels.*ops.native: off.*--precision.compute fp32"):
        runtime.start("CPU", seed=1, native="off", precision="bf16")


def test_bfloat16_is_refused_by_processors_that_lack_it(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "has_bfloat16", lambda path: path != kernels)
    monkeypatch.setattr(runtime, "find_kernels", lambda native, device_target: kernels)
    with pytest.raises(
        DeviceError, match=r"bf16, .*AVX512-BF16, which this one \(.+\) lacks.*--precision.compute fp32"
    ):
        runtime.start("CPU", seed=1, native="auto", precision="bf16")


def test_bfloat16_is_asked_of_the_kernels_where_the_processor_has_it(
    mindspore_cpu: None, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "has_bfloat16", lambda path: path == kernels)
    monkeypatch.setattr(runtime, "find_kernels", lambda native, device_target: kernels)
    assert runtime.start("CPU", seed=1, native="auto", precision="bf16").is_bfloat16
    assert not runtime.start("CPU", seed=1, native="auto").is_bfloat16


@pytest.mark.parametrize(
    ("device_target", "native", "reason"), [("CPU", "off", "ops.native: off"), ("GPU", "auto", "not GPU")]
)
def test_eight_bits_without_the_native_kernels_are_refused(device_target: str, native: str, reason: str) -> None:
    with pytest.raises(DeviceError, match=rf"--weights int8 .*{reason}.*--weights fp32"):
        runtime.start(device_target, seed=1, native=native, precision="int8")


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_rounded_weights_are_refused_on_other_devices(weights: str) -> None:
    with pytest.raises(DeviceError, match=rf"--weights {weights} .*not Ascend.*--weights fp32"):
        runtime.start_recognizing("Ascend", weights=weights)


@pytest.mark.parametrize("processor_can", [True, False])
def test_beside_eight_bits_stands_bfloat16_where_the_processor_has_it(
    processor_can: bool, mindspore_cpu: None, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "has_bfloat16", lambda path: processor_can)
    monkeypatch.setattr(runtime, "find_kernels", lambda native, device_target: kernels)
    backend = runtime.start_recognizing("CPU", weights="int8")
    assert (backend.is_int8, backend.is_bfloat16) == (True, processor_can)


def test_bfloat16_on_a_gpu_is_refused_before_the_device_is_asked_for() -> None:
    with pytest.raises(DeviceError, match=r"bf16, .* Ascend only.*--precision.compute fp16"):
        runtime.start("GPU", seed=1, precision="bf16")


# Device and settings --------------------------------------------------------------------------------------------------


def is_missing(device_target: str) -> bool:
    return not any(Path("/dev").glob("nvidia[0-9]*" if device_target == "GPU" else "davinci[0-9]*"))


@pytest.mark.parametrize("device_target", ["GPU", "Ascend"])
def test_a_device_that_is_not_there_is_an_error_with_its_remedy(
    device_target: str, corpus: Path, tmp_path: Path
) -> None:
    if not is_missing(device_target):
        pytest.skip(f"this machine has a device of the kind {device_target}")
    yaml = write_yaml(tmp_path / "tiny.yaml", make_settings(corpus, tmp_path / "run", {}))
    message = expect_refusal(run_program("train.py", "-c", str(yaml), "--device_target", device_target))
    assert f"device_target {device_target} is not available" in message
    assert "Use --device_target CPU" in message


def test_a_device_nobody_knows_is_refused_by_the_command_line() -> None:
    message = expect_refusal(run_program("train.py", "--device_target", "TPU"))
    assert "device_target" in message
    assert "TPU" in message


SETTINGS = """
from mindaudio_ds2.machine import runtime
runtime.start("CPU", seed=7)
import mindspore as ms
import numpy as np
print(ms.get_context("mode") == ms.GRAPH_MODE, ms.get_context("device_target"), ms.get_seed(), np.random.rand())
"""


def test_start_sets_graph_mode_device_and_seed_and_is_silent() -> None:
    done, again = run_program("-c", SETTINGS, GLOG_v=""), run_program("-c", SETTINGS, GLOG_v="")
    assert done.stdout.startswith("True CPU 7 0.")
    assert done.stdout == again.stdout
    assert done.stderr.removeprefix(WAITING) == ""


def test_the_environment_is_described_with_what_a_result_depends_on(mindspore_cpu: None) -> None:
    import mindspore as ms
    import numpy as np

    described = runtime.describe_environment()
    assert described["mindspore_version"] == ms.__version__
    assert described["numpy_version"] == np.__version__
    assert described["python_version"] == ".".join(map(str, sys.version_info[:3]))
    assert (described["device_target"], described["num_processes"]) == ("CPU", 1)
    assert re.fullmatch(r"([0-9a-f]{12})?", described["commit"])
    assert isinstance(described["dirty"], bool)
    assert 1 <= described["num_cores"] <= (os.cpu_count() or 1)
    assert described["cpu"]


# The workaround for processors with AVX-512 ---------------------------------------------------------------------------

CONVOLUTION = """
import sys
if sys.argv[1] == "start":
    from mindaudio_ds2.machine import runtime
    runtime.start("CPU", seed=1)
import mindspore as ms
import numpy as np
ms.set_device("CPU")
ms.set_context(mode=ms.GRAPH_MODE)
ms.nn.Conv2d(2, 4, 3)(ms.Tensor(np.ones((1, 2, 8, 8), np.float32))).asnumpy()
"""


def find_kernel(start: str, max_isa: str) -> str:
    """oneDNN's name of the kernel that a float32 convolution runs on."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "avx512f" not in cpuinfo.read_text(encoding="utf-8"):
        pytest.skip("this processor has no AVX-512")
    variables = {"DNNL_VERBOSE": "1", "ONEDNN_VERBOSE": "1", "ONEDNN_MAX_CPU_ISA": max_isa, "DNNL_MAX_CPU_ISA": ""}
    done = run_program("-c", CONVOLUTION, start, **variables)
    rows = [line.split(",") for line in done.stdout.splitlines() if ",exec,cpu,convolution," in line]
    assert rows, done.stdout + done.stderr
    return rows[0][rows[0].index("convolution") + 1]


@pytest.mark.parametrize("max_isa", ["", "DEFAULT", "AVX512_CORE"])
def test_the_workaround_for_avx512_is_still_needed(max_isa: str) -> None:
    """Once this fails, a newer MindSpore has a fast kernel: take ONEDNN_MAX_CPU_ISA out of `runtime.start`."""
    assert "ref" in find_kernel("plain", max_isa)


def test_start_keeps_convolutions_off_the_reference_kernel() -> None:
    assert "ref" not in find_kernel("start", "")


def test_start_respects_a_choice_of_kernels_made_outside() -> None:
    assert "ref" in find_kernel("start", "AVX512_CORE")
