"""The shell scripts around the verbs: what they call, checked with programs that only write down how they were called;
and those for the CPU, run for real."""

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes.librispeech.subsets import SIZES
from tests.mpirun import find_mpirun
from tests.tiny_corpus import make_settings, write_yaml

ROOT = Path(__file__).resolve().parents[2]
RECORDER = """#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0")" "$@" >"$RECORD"
"""
TRAIN, EVAL, EXPORT = (str(ROOT / f"{verb}.py") for verb in ("train", "eval", "export"))
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("run_*.sh")) + ["export.sh"]
ARGUMENTS = {
    "run_standalone_train": ["my run.yaml"],
    "run_distribute_train": ["2", "my run.yaml"],
    "run_eval": ["best.ckpt"],
    "run_performance": ["my run.yaml"],
    "run": ["--size", "mini"],
}
MPIRUN = ["mpirun", "-n", "4", "--bind-to", "none", "python", TRAIN]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts python, mpirun and msrun on the PATH that write their arguments to this file, one a line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python", "mpirun", "msrun"):
        (folder / name).write_text(RECORDER, encoding="utf-8")
        (folder / name).chmod(0o755)
    for name in ("HOSTFILE", "RANK_TABLE_FILE", "LOG_DIR", "LOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.chdir(tmp_path)
    for name in ("my run.yaml", "best.ckpt"):
        (tmp_path / name).touch()
    return tmp_path / "record"


def run_script(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["bash", str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def name_log(script: str) -> str:
    """Where a script keeps what it prints."""
    return f"{next(kind for kind in ('train', 'eval', 'performance', 'librispeech', 'export') if kind in script)}.log"


def expect_call(record: Path, name: str, *arguments: str) -> list[str]:
    done = run_script(name, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (record.parent / name_log(name)).exists() or name == "export.sh"
    return record.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("device", ["CPU", "GPU", "Ascend"])
def test_one_process_is_python_with_the_device(recorded: Path, device: str) -> None:
    called = expect_call(recorded, f"run_standalone_train_{device.lower()}.sh", "my run.yaml", "--run_dir", "a b")
    assert called == ["python", TRAIN, "-c", "my run.yaml", "--device_target", device, "--run_dir", "a b"]


@pytest.mark.parametrize("device", ["CPU", "GPU", "Ascend"])
def test_scoring_takes_a_checkpoint_with_or_without_a_configuration(recorded: Path, device: str) -> None:
    script = f"run_eval_{device.lower()}.sh"
    options = ["--device_target", device, "--pre_trained_model_path", "best.ckpt"]
    called = expect_call(recorded, script, "best.ckpt", "my run.yaml", "--manifest", "m")
    assert called == ["python", EVAL, "-c", "my run.yaml", *options, "--manifest", "m"]
    assert expect_call(recorded, script, "best.ckpt") == ["python", EVAL, *options]
    called = expect_call(recorded, script, "best.ckpt", "--manifest", "m")
    assert called == ["python", EVAL, *options, "--manifest", "m"]


@pytest.mark.parametrize("device", ["CPU", "GPU", "Ascend"])
def test_speed_is_measured_on_the_device(recorded: Path, device: str) -> None:
    called = expect_call(recorded, f"run_performance_{device.lower()}.sh", "my run.yaml", "--num_steps", "5")
    script = str(ROOT / "recipes" / "benchmark" / "performance.py")
    assert called == ["python", script, "-c", "my run.yaml", "--device_target", device, "--num_steps", "5"]


@pytest.mark.parametrize(
    ("size", "suffix", "extra"),
    [("mini", "_mini", " --extra test-other"), ("clean100", "_clean100", " --extra test-other"), ("960", "", "")],
)
def test_librispeech_is_prepared_trained_scored_and_exported(
    recorded: Path, size: str, suffix: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that is called has its own test; here it is that the pieces fit together."""
    (recorded.parent / "bin" / "python").write_text('#!/bin/bash\necho "$*" >>"$RECORD"\n', encoding="utf-8")
    monkeypatch.setenv("LOG", str(recorded.parent / "all.log"))
    done = run_script("run_librispeech.sh", "--size", size, "--device_target", "GPU")
    assert done.returncode == 0, done.stderr
    calls = recorded.read_text(encoding="utf-8").splitlines()
    run, data = f"runs/deepspeech2{suffix}", f"data/librispeech{suffix}"
    assert calls == [
        f"recipes/librispeech/prepare.py {size}{extra}",
        f"train.py -c hparams/deepspeech2{suffix}.yaml --run_dir {run} --resume --device_target GPU",
        f"eval.py --pre_trained_model_path {run}/best.ckpt --manifest {data}/test.jsonl {data}/test-other.jsonl",
        f"export.py --pre_trained_model_path {run}/best.ckpt",
    ]
    assert (ROOT / f"hparams/deepspeech2{suffix}.yaml").exists()
    assert str(SIZES[size].output) == data
    assert done.stdout == (recorded.parent / "all.log").read_text(encoding="utf-8")
    assert f"$ python {calls[1]}" in done.stdout


def test_the_first_step_of_librispeech_that_fails_ends_it(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recorded.parent / "bin" / "python").write_text('#!/bin/bash\necho "$*" >>"$RECORD"\nexit 3\n', encoding="utf-8")
    monkeypatch.setenv("LOG", str(recorded.parent / "all.log"))
    assert run_script("run_librispeech.sh", "--size", "mini").returncode == 3
    assert len(recorded.read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "export.sh"])
def test_what_is_printed_is_kept_and_the_status_is_that_of_the_work(recorded: Path, name: str) -> None:
    for program in ("python", "mpirun", "msrun"):
        path = recorded.parent / "bin" / program
        path.write_text("#!/bin/bash\necho to stdout\necho to stderr >&2\nexit 7\n", encoding="utf-8")
    log = recorded.parent / "kept.log"
    log.write_text("earlier\n")
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / name), *ARGUMENTS[name.rpartition("_")[0]]],
        env={**os.environ, "LOG": str(log)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (7, "")
    for stream in ("stdout", "stderr"):
        assert f"to {stream}\n" in done.stdout
    assert log.read_text(encoding="utf-8") == f"earlier\n{done.stdout}"


@pytest.mark.parametrize("name", ["run_standalone_train_cpu.sh", "run_distribute_train_gpu.sh", "run_eval_cpu.sh"])
def test_the_work_goes_on_when_the_console_is_closed(recorded: Path, name: str) -> None:
    for program in ("python", "mpirun"):
        path = recorded.parent / "bin" / program
        path.write_text(
            '#!/bin/bash\necho begun\n: >"$RECORD"\nsleep 1\necho ended\n: >"$RECORD.end"\n', encoding="utf-8"
        )
    pid, console = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", str(ROOT / "scripts" / name), *ARGUMENTS[name.rpartition("_")[0]]])
    wait_for(recorded)
    os.close(console)  # the kernel sends SIGHUP to all that belong to this console
    wait_for(recorded.with_name("record.end"))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    wait_for_text(recorded.parent / name_log(name), "begun\nended\n")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"there is no {path.name}"
        time.sleep(0.02)


def wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while path.read_text(encoding="utf-8") != text:
        assert time.monotonic() < deadline, path.read_text(encoding="utf-8")
        time.sleep(0.02)


def test_export_takes_a_checkpoint(recorded: Path) -> None:
    called = expect_call(recorded, "export.sh", "best.ckpt", "--output_dir", "out")
    options = ["--pre_trained_model_path", "best.ckpt", "--file_format", "MINDIR", "--output_dir", "out"]
    assert called == ["python", EXPORT, *options]


@pytest.mark.parametrize("device", ["CPU", "GPU"])
def test_several_processes_are_mpiruns(recorded: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (f"run_distribute_train_{device.lower()}.sh", "4", "my run.yaml", "--resume")
    rest = ["-c", "my run.yaml", "--device_target", device, "--resume"]
    assert expect_call(recorded, *arguments) == [*MPIRUN, *rest]
    monkeypatch.setenv("HOSTFILE", "my hosts")
    assert expect_call(recorded, *arguments) == [*MPIRUN[:3], "--hostfile", "my hosts", *MPIRUN[3:], *rest]


def test_several_ascend_devices_are_msruns(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("run_distribute_train_ascend.sh", "8", "my run.yaml", "--resume")
    start = ["msrun", "--worker_num", "8", "--local_worker_num", "8", "--join", "True", "--log_dir"]
    rest = [TRAIN, "-c", "my run.yaml", "--device_target", "Ascend", "--resume"]
    assert expect_call(recorded, *arguments) == [*start, "msrun_log", *rest]
    monkeypatch.setenv("LOG_DIR", "logs")
    monkeypatch.setenv("RANK_TABLE_FILE", "table.json")
    assert expect_call(recorded, *arguments) == [*start, "logs", "--rank_table_file", "table.json", *rest]


# mpirun as it is documented: a SIGUSR1 reaches the processes, which then save and end with 143.
MPIRUN_THAT_IS_STOPPED = """#!/usr/bin/env bash
trap 'echo passed on; exit 143' USR1
kill -SIGNAL "$PPID"
while true; do read -r -t 0.05 <> <(:) || true; done
"""


@pytest.mark.parametrize("signal_name", ["TERM", "INT"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_signals_reach_the_processes_in_the_way_that_lets_them_save(
    recorded: Path, device: str, signal_name: str
) -> None:
    stopped = MPIRUN_THAT_IS_STOPPED.replace("SIGNAL", signal_name)
    (recorded.parent / "bin" / "mpirun").write_text(stopped, encoding="utf-8")
    done = run_script(f"run_distribute_train_{device}.sh", "2", "my run.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (143, "passed on\n", "")


@pytest.mark.parametrize("status", [0, 2, 137])
def test_the_exit_status_is_that_of_mpirun(recorded: Path, status: int) -> None:
    (recorded.parent / "bin" / "mpirun").write_text(f"#!/usr/bin/env bash\nexit {status}\n", encoding="utf-8")
    assert run_script("run_distribute_train_cpu.sh", "2", "my run.yaml").returncode == status


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_the_comment_at_the_head_and_nothing_is_started(recorded: Path, name: str, option: str) -> None:
    done = run_script(name, option)
    assert (done.returncode, done.stderr, recorded.exists()) == (0, "", False)
    assert f"bash scripts/{name}" in done.stdout
    assert "set -euo" not in done.stdout
    head = (ROOT / "scripts" / name).read_text(encoding="utf-8").split("\nset -euo")[0].splitlines()[1:]
    assert done.stdout.splitlines() == [line.removeprefix("#").removeprefix(" ") for line in head]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_stops_at_the_first_error_and_can_be_run(name: str) -> None:
    path = ROOT / "scripts" / name
    assert "\nset -euo pipefail\n" in path.read_text(encoding="utf-8")
    assert os.access(path, os.X_OK)
    assert len(path.read_text(encoding="utf-8").splitlines()) < 25


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("run_standalone_train_cpu.sh", (), "CONFIG is missing"),
        ("run_standalone_train_gpu.sh", ("none.yaml",), "CONFIG none.yaml is no file"),
        ("run_distribute_train_cpu.sh", ("my run.yaml",), "NUM_PROCESSES is my run.yaml, but should be a count"),
        ("run_distribute_train_gpu.sh", ("0", "my run.yaml"), "NUM_PROCESSES is 0"),
        ("run_distribute_train_gpu.sh", ("-2", "my run.yaml"), "NUM_PROCESSES is -2"),
        ("run_distribute_train_ascend.sh", ("8",), "CONFIG is missing"),
        ("run_eval_cpu.sh", (), "CHECKPOINT is missing"),
        ("run_performance_cpu.sh", (), "CONFIG is missing"),
        ("run_librispeech.sh", (), "--size is missing"),
        ("run_librispeech.sh", ("--size", "tiny"), "--size is tiny, but should be mini, clean100 or 960"),
        ("run_eval_ascend.sh", ("none.ckpt", "my run.yaml"), "CHECKPOINT none.ckpt is no file"),
        ("export.sh", ("",), "CHECKPOINT is missing"),
    ],
)
def test_wrong_arguments_are_said_and_nothing_is_started(
    recorded: Path, name: str, arguments: tuple[str, ...], message: str
) -> None:
    done = run_script(name, *arguments)
    assert (done.returncode, done.stdout, recorded.exists()) == (2, "", False)
    assert done.stderr.startswith(f"error: {message}")
    assert "--help" in done.stderr


@pytest.mark.parametrize(("device", "launcher"), [("cpu", "mpirun"), ("gpu", "mpirun"), ("ascend", "msrun")])
def test_a_launcher_that_is_missing_is_named(recorded: Path, device: str, launcher: str) -> None:
    (recorded.parent / "bin" / launcher).unlink()
    if shutil.which(launcher):
        pytest.skip(f"{launcher} is part of this system")
    done = run_script(f"run_distribute_train_{device}.sh", "2", "my run.yaml")
    assert done.returncode == 2
    assert f"there is no {launcher} on the PATH" in done.stderr


# For real -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of these tests first on the PATH, as if it were activated."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    monkeypatch.setenv("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")


def test_two_processes_train_and_one_scores_and_exports_on_the_cpu(
    own_python: None, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_mpirun()
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "run"
    config = str(write_yaml(tmp_path / "tiny.yaml", make_settings(corpus, run_dir, {"training.epochs": 1})))
    done = run_script("run_distribute_train_cpu.sh", "2", config, "--training.max_bad_steps", "3")
    assert done.returncode == 0, done.stderr
    assert json.loads((run_dir / "environment.json").read_text(encoding="utf-8"))["num_processes"] == 2
    best = str(run_dir / "best.ckpt")
    done = run_script("run_eval_cpu.sh", best, "--output_dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "eval_test.json").read_text(encoding="utf-8"))["num_utterances"] == 7
    done = run_script("export.sh", best, "--output_dir", str(tmp_path / "exported"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exported" / "model.mindir").stat().st_size > 1000


@pytest.mark.parametrize("arguments", [[], ["--record"]])
def test_instructions_are_not_counted_without_a_python(arguments: list[str]) -> None:
    if not all(map(shutil.which, ("c++", "valgrind", "callgrind_annotate"))):
        pytest.skip("what is looked for first is not there")
    command = ["bash", str(ROOT / "scripts" / "count_instructions.sh"), *arguments]
    done = subprocess.run(command, env=os.environ | {"PYTHON": "/nothing"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no /nothing; make .venv with bash scripts/environment.sh")


def test_an_option_too_many_counts_nothing() -> None:
    command = ["bash", str(ROOT / "scripts" / "count_instructions.sh"), "--record", "twice"]
    done = subprocess.run(command, env=os.environ | {"PYTHON": "/nothing"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("Count the instructions")
