import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2 import console
from mindaudio_ds2.batching.plan import Exclusion
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.errors import ConfigError, OutputError
from mindaudio_ds2.training.runlog import RunLog
from mindaudio_ds2.training.training_set import TrainingSet
from tests.tiny_corpus import read_metrics

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
EVERYTHING = TrainingSet((), (), (), ())


@contextmanager
def opened(config: Config, resume: bool = False) -> Iterator[RunLog]:
    log = RunLog(config, resume)
    try:
        yield log
    finally:
        log.close()


def test_a_new_run_describes_itself(configure: Configure) -> None:
    config = configure()
    with opened(config) as log:
        log.remember(config, EVERYTHING)
        log.say("one thing")
        log.record("step", step=1, epoch=1, loss=2.5)
    assert read_config(log.folder / "config.yaml") == config
    environment = json.loads((log.folder / "environment.json").read_text(encoding="utf-8"))
    assert {"commit", "dirty", "mindspore_version", "cpu", "arguments"} <= environment.keys()
    assert (log.folder / "train.log").read_text(encoding="utf-8").endswith(" one thing\n")
    assert read_metrics(log.folder, "step") == [{"kind": "step", "step": 1, "epoch": 1, "loss": 2.5}]
    assert not (log.folder / "excluded.jsonl").exists(), "nothing was left out"


def test_every_excluded_utterance_is_listed_and_the_log_says_how_many(configure: Configure) -> None:
    excluded = tuple(Exclusion(f"é{number}", "longer than allowed", f"{number} s") for number in range(30))
    config = configure()
    with opened(config) as log:
        log.remember(config, TrainingSet((), (), excluded, ("left out of training: 30 of 40",)))
    rows = [json.loads(line) for line in (log.folder / "excluded.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["utterance_id"] for row in rows] == [exclusion.utterance_id for exclusion in excluded]
    assert rows[7] == {"utterance_id": "é7", "reason": "longer than allowed", "detail": "7 s"}
    assert "left out of training: 30 of 40" in (log.folder / "train.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "epoch_4.ckpt"])
def test_a_folder_with_a_run_is_not_overwritten(configure: Configure, name: str) -> None:
    config = configure()
    folder = Path(config.run_dir)
    folder.mkdir()
    (folder / name).touch()
    with pytest.raises(ConfigError, match="already holds a run; continue it with --resume, choose another with"):
        RunLog(config, resume=False)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", name]


@pytest.mark.parametrize("name", ["best.ckpt", "epoch_4.ckpt"])
def test_a_run_without_its_last_checkpoint_is_not_begun_over(configure: Configure, name: str) -> None:
    config = configure()
    folder = Path(config.run_dir)
    folder.mkdir()
    (folder / name).touch()
    (folder / "train.log").write_text("hours of work\n")
    with pytest.raises(ConfigError, match=r"no last\.ckpt to resume from.*restore last\.ckpt, or start a new run"):
        RunLog(config, resume=True)
    assert (folder / "train.log").read_text() == "hours of work\n"


def test_a_second_training_in_one_folder_is_refused_and_told_of_the_first(configure: Configure) -> None:
    config = configure()
    with opened(config) as log:
        log.record("step", step=1, epoch=1)
        with pytest.raises(ConfigError, match=rf"trained in by process {os.getpid()} on .*, since .*--run_dir"):
            RunLog(config, resume=True)
        assert read_metrics(log.folder, "step") == [{"kind": "step", "step": 1, "epoch": 1}]
    with opened(config, resume=True):
        pass


def test_a_console_that_takes_no_more_is_told_in_the_log(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(configure()) as log, open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        monkeypatch.setattr(console, "_trouble", {})
        for number in range(3):
            log.say(f"line {number}")
    text = (log.folder / "train.log").read_text(encoding="utf-8")
    assert text.count("stderr takes no more (No space left on device); the work goes on without it") == 1
    assert "line 2" in text


def test_a_process_that_was_killed_leaves_no_lock(configure: Configure) -> None:
    config = configure()
    Path(config.run_dir).mkdir()
    code = (
        f"import os; from pathlib import Path; from mindaudio_ds2.training.runlog import lock_folder; "
        f"lock = lock_folder(Path({config.run_dir!r})); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    with opened(config):
        pass


def test_what_a_killed_save_left_is_no_run_and_is_removed(configure: Configure) -> None:
    config = configure()
    folder = Path(config.run_dir)
    folder.mkdir()
    for name in (".partial-17-last.ckpt", ".partial-17-last.tmp", ".partial-17-metrics.jsonl"):
        (folder / name).touch()
    with opened(config):
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "metrics.jsonl", "train.log"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_folder_below_a_file_is_an_error_that_names_it(
    tmp_path: Path, configure: Configure, resume: bool
) -> None:
    (tmp_path / "file").touch()
    config = configure({"run_dir": str(tmp_path / "file" / "run")})
    with pytest.raises(OutputError, match="cannot write into run_dir .*file/run: .*; choose another --run_dir"):
        RunLog(config, resume)


def test_metrics_of_what_is_done_again_are_dropped(configure: Configure) -> None:
    config = configure()
    folder = Path(config.run_dir)
    folder.mkdir()
    (folder / "last.ckpt").touch()
    rows = [
        {"kind": "step", "step": 4, "epoch": 1},
        {"kind": "epoch", "step": 4, "epoch": 1},
        {"kind": "step", "step": 5, "epoch": 2},
        {"kind": "bad_step", "step": 6, "epoch": 2},
        {"kind": "epoch", "step": 6, "epoch": 2},  # its validation came after the checkpoint
        {"kind": "bad_step", "step": 7, "epoch": 3},
    ]
    half_a_line = '{"kind": "step", "step": 2'
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + half_a_line)
    with opened(config, resume=True) as log:
        assert log.is_resumed
        log.forget_after(step=6, epoch=1, is_average_due=False)
        log.record("step", step=7, epoch=2)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [*rows[:4], {"kind": "step", "step": 7, "epoch": 2}]


def test_a_run_without_a_checkpoint_is_begun_anew(configure: Configure) -> None:
    config = configure()
    with opened(config) as log:
        log.record("step", step=1, epoch=1)
    with opened(config, resume=True) as log:
        assert not log.is_resumed
        log.record("step", step=1, epoch=1)
    assert len(read_metrics(log.folder, "step")) == 1


def test_metrics_are_strict_json(configure: Configure) -> None:
    with opened(configure()) as log, pytest.raises(ValueError, match="not JSON compliant"):
        log.record("step", step=1, loss=float("nan"))


def test_a_full_disk_is_an_error_when_metrics_are_written(configure: Configure) -> None:
    write_into_full_device(configure(), "metrics.jsonl")
    with opened(configure()) as log, pytest.raises(OutputError, match="metrics.jsonl.*No space.*--resume"):
        log.record("step", step=1)


def test_a_full_disk_is_an_error_when_the_log_is_written(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    write_into_full_device(configure(), "train.log")
    with opened(configure()) as log, pytest.raises(OutputError, match="train.log.*No space.*--resume"):
        log.say("one thing")
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_log_lets_go_of_the_logger(configure: Configure) -> None:
    with opened(configure()):
        assert len(logging.getLogger("mindaudio_ds2").handlers) == 2
    assert logging.getLogger("mindaudio_ds2").handlers == []


def test_a_damaged_cache_entry_is_reported_in_the_log(configure: Configure, corpus: Path, tmp_path: Path) -> None:
    from mindaudio_ds2.batching.feature_cache import load_features
    from mindaudio_ds2.corpus.manifest import read_manifest

    config, cache = configure(), tmp_path / "cache"
    utterance = read_manifest(corpus / "train.jsonl")[0]
    features = load_features(utterance, config.features, cache)
    (entry,) = cache.rglob("*.npz")
    entry.write_bytes(b"not an archive")
    with opened(config) as log:
        np.testing.assert_array_equal(load_features(utterance, config.features, cache), features)
    assert f"cached features {entry} are unusable" in (log.folder / "train.log").read_text(encoding="utf-8")


def write_into_full_device(config: Config, name: str) -> None:
    """Let a file of the run folder lead to a device that has no space, whatever is written."""
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("this machine has no /dev/full")
    folder = Path(config.run_dir)
    folder.mkdir()
    (folder / name).symlink_to(device)
