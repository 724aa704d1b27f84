"""Runs that are stopped, killed or out of space end like a run that nothing interrupted, to the bit."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import Interrupted
from mindaudio_ds2.training.interruption import Interruption
from mindaudio_ds2.training.runlog import RunLog
from tests.tiny_corpus import make_settings, read_metrics, train_here, write_yaml
from tests.training.test_trainer import stub_step

ROOT = Path(__file__).resolve().parents[2]
AFTER_EVERY_STEP = {"training.checkpoint_every_minutes": 1e-9}
STEPS_IN_EPOCHS = (5, 6, 6)

# train.py in a process of its own, with an accident at a known moment.
DRIVER = """
import os, resource, signal, sys
sys.path.insert(0, {root!r})
import train
from mindaudio_ds2 import files
from mindaudio_ds2.training.runlog import RunLog

record, replace, last = RunLog.record, os.replace, [0]

def record_and_have_an_accident(self, kind, **values):
    record(self, kind, **values)
    last[0] = values["step"]
    {accident}

RunLog.record = record_and_have_an_accident
{preparation}
sys.argv = ["train.py", "-c", {yaml!r}, *{options!r}]
train.main()
"""
SIGTERM_AT_STEP_7 = 'if kind == "step" and last[0] == 7: os.kill(os.getpid(), signal.SIGTERM)'
DISK_FULL_AFTER_EPOCH_2 = 'if kind == "epoch": resource.setrlimit(resource.RLIMIT_FSIZE, (20000, -1))'
HALF_A_LINE_AT_STEP_14 = 'if last[0] == 14: self._metrics.write(\'{"kind": "step", "step": 1\'); self._metrics.flush()'
KILL_WHILE_SAVING_STEP_14 = """
def replace_or_die(source, target):
    if last[0] == 14 and str(target).endswith("last.ckpt"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

files.os.replace = replace_or_die
"""


class PowerCut(BaseException):
    """Ends a run on the spot; nothing in the package catches it."""


@dataclass
class BatteredRun:
    """A run that was stopped by SIGTERM, then ran out of space, then was killed with -9, and was resumed each time."""

    folder: Path
    outcomes: dict[str, subprocess.CompletedProcess[str]]
    listings: dict[str, set[str]]
    states: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def battered_run(corpus: Path, mindspore_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> BatteredRun:
    from mindaudio_ds2.checkpoint import load_checkpoint

    folder = tmp_path_factory.mktemp("battered")
    settings = make_settings(corpus, folder / "run", AFTER_EVERY_STEP)
    yaml = str(write_yaml(folder / "tiny.yaml", settings))
    run = BatteredRun(folder / "run", {}, {}, {})
    accidents = {
        "sigterm": (SIGTERM_AT_STEP_7, "", []),
        "full disk": (DISK_FULL_AFTER_EPOCH_2, "", ["--resume"]),
        "kill -9": (HALF_A_LINE_AT_STEP_14, KILL_WHILE_SAVING_STEP_14, ["--resume"]),
    }
    for name, (accident, preparation, options) in accidents.items():
        script = DRIVER.format(root=str(ROOT), accident=accident, preparation=preparation, yaml=yaml, options=options)
        run.outcomes[name] = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=300
        )
        run.listings[name] = {path.name for path in run.folder.iterdir()}
        run.states[name] = load_checkpoint(run.folder / "last.ckpt").state
    return run


def test_sigterm_saves_ends_with_143_and_says_how_to_go_on(battered_run: BatteredRun) -> None:
    outcome = battered_run.outcomes["sigterm"]
    assert outcome.returncode == 128 + signal.SIGTERM
    last_line = outcome.stderr.splitlines()[-1]
    assert last_line == f"stopped: saved {battered_run.folder / 'last.ckpt'}; go on with --resume"
    assert "Traceback" not in outcome.stderr
    state = battered_run.states["sigterm"]
    assert (state["step"], state["epoch"], state["batch"]) == (7, 1, 2)


def test_a_full_disk_ends_the_run_with_a_message_and_leaves_the_old_checkpoints_whole(
    battered_run: BatteredRun,
) -> None:
    outcome = battered_run.outcomes["full disk"]
    assert outcome.returncode == 2
    assert f"cannot write {battered_run.folder}" in outcome.stderr.splitlines()[-1]
    assert "unchanged" in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr
    assert not [name for name in battered_run.listings["full disk"] if "partial" in name]
    state = battered_run.states["full disk"]
    assert (state["step"], state["epoch"], state["batch"]) == (11, 1, 6), "the last save before the disk was full"


def test_kill_9_while_saving_leaves_the_checkpoint_before(battered_run: BatteredRun) -> None:
    assert battered_run.outcomes["kill -9"].returncode == -signal.SIGKILL
    assert [name for name in battered_run.listings["kill -9"] if "partial" in name], "it was killed while it saved"
    assert battered_run.states["kill -9"]["step"] == 13


def test_a_battered_run_ends_like_one_never_interrupted(
    battered_run: BatteredRun, finished_run: Path, corpus: Path
) -> None:
    from mindaudio_ds2.config_reader import from_mapping

    config: Config = from_mapping(make_settings(corpus, battered_run.folder, AFTER_EVERY_STEP), "tiny")
    train_here(config, resume=True)
    assert_same_run(battered_run.folder, finished_run)
    names = {path.name for path in battered_run.folder.iterdir()}
    assert names == {path.name for path in finished_run.iterdir()}, "nothing half-done is left"


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    configure: Callable[..., Config], finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure()
    stub_step(monkeypatch)  # nothing that these steps learn is used
    cut_power(monkeypatch, lambda kind, values: values["step"] == 4, half_a_line=True)
    with pytest.raises(PowerCut):
        train_here(config)
    assert len(read_lines(config)) == 5, "four steps and half a line"
    monkeypatch.undo()
    train_here(config, resume=True)
    assert_same_run(Path(config.run_dir), finished_run)
    log = (Path(config.run_dir) / "train.log").read_text(encoding="utf-8")
    assert f"nothing to resume: {Path(config.run_dir) / 'last.ckpt'} does not exist" in log


def test_an_epoch_killed_after_its_validation_and_interrupted_in_the_next_is_recorded_once(
    configure: Callable[..., Config], finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.decoding.greedy import GreedyDecoder

    config = configure(AFTER_EVERY_STEP)
    cut_power(monkeypatch, lambda kind, values: kind == "epoch" and values["epoch"] == 2)
    with pytest.raises(PowerCut):
        train_here(config)
    monkeypatch.undo()
    decode = GreedyDecoder.decode

    def decode_and_be_interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(GreedyDecoder, "decode", decode)
        os.kill(os.getpid(), signal.SIGINT)
        return decode(*arguments)

    monkeypatch.setattr(GreedyDecoder, "decode", decode_and_be_interrupted)
    with pytest.raises(Interrupted, match="saved .*last.ckpt; go on with --resume") as raised:
        train_here(config, resume=True)
    # MindSpore 2.10's graphs turn SIGINT into SIGTERM. When this is 130, the note in `Interruption` can go.
    assert raised.value.exit_status == 128 + signal.SIGTERM
    epochs = [row["epoch"] for row in read_metrics(Path(config.run_dir), "epoch")]
    assert epochs == [1], "the second is not done without its validation"
    train_here(config, resume=True)
    assert_same_run(Path(config.run_dir), finished_run)


def test_ctrl_c_saves_ends_with_130_and_says_how_to_go_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import train
    from mindaudio_ds2.training.trainer import Trainer

    def interrupt(self: Trainer, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        self.progress.batch += 1

    monkeypatch.setattr(Trainer, "_take_step", interrupt)
    yaml = write_yaml(tmp_path / "tiny.yaml", make_settings(corpus, tmp_path / "run", {}))
    monkeypatch.setattr(sys, "argv", ["train.py", "-c", str(yaml)])
    with pytest.raises(SystemExit) as raised:
        train.main()
    assert raised.value.code == 130
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line == f"stopped: saved {tmp_path / 'run' / 'last.ckpt'}; go on with --resume"


def test_a_signal_is_remembered_and_the_next_one_ends_at_once(request: pytest.FixtureRequest) -> None:
    # a shell's background jobs ignore SIGINT, and so would Python
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with Interruption() as interruption:
        assert interruption.signal_number == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal_number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted) as raised:
        interruption.end("saved it")
    assert (raised.value.exit_status, str(raised.value)) == (130, "saved it")


def test_signals_are_handled_as_before_once_the_work_is_done() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def cut_power(
    monkeypatch: pytest.MonkeyPatch, is_time: Callable[[str, dict[str, Any]], bool], half_a_line: bool = False
) -> None:
    """End the run right after a line of metrics.jsonl."""
    original = RunLog.record

    def record(self: RunLog, kind: str, **values: Any) -> None:
        original(self, kind, **values)
        if is_time(kind, values):
            if half_a_line:
                self._metrics.write('{"kind": "step", "st')
            raise PowerCut

    monkeypatch.setattr(RunLog, "record", record)


def read_lines(config: Config) -> list[str]:
    return (Path(config.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()


def without_times(rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    times = {"train_seconds", "epoch_seconds", "waiting_seconds", "waiting_share"}
    times |= {"audio_seconds_per_second", "utterances_per_second"}
    return [{key: value for key, value in row.items() if key not in times} for row in rows]


def assert_same_run(run_dir: Path, expected: Path) -> None:
    """All that was measured and learned is equal to the bit; only wall times may differ."""
    from mindaudio_ds2.checkpoint import load_checkpoint

    rows, expected_rows = (
        without_times(json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines())
        for folder in (run_dir, expected)
    )
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, sum(STEPS_IN_EPOCHS) + 1))
    assert rows == expected_rows
    for name in ("last.ckpt", "best.ckpt"):
        actual, wanted = load_checkpoint(run_dir / name), load_checkpoint(expected / name)
        for arrays, wanted_arrays in ((actual.weights, wanted.weights), (actual.optimizer, wanted.optimizer)):
            assert arrays.keys() == wanted_arrays.keys()
            differing = [key for key in arrays if not np.array_equal(arrays[key], wanted_arrays[key])]
            assert not differing, f"{name} differs"
        assert without_times([actual.state]) == without_times([wanted.state])
