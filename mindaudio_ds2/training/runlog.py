"""The run folder: what a run says, measures and remembers about itself.

config.yaml       the configuration, complete
environment.json  versions, commit, processor, command line
train.log         what the console showed, with times
metrics.jsonl     one JSON object a line: kind "step", "bad_step", "overflow", "epoch", "average"
excluded.jsonl    the utterances that are not trained on, with reasons, if there are any
last.ckpt         to resume from; best.ckpt the best dev WER so far; epoch_N.ckpt, average.ckpt if asked for
"""

import contextlib
import datetime
import fcntl
import json
import logging
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import yaml

from mindaudio_ds2 import console
from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.errors import ConfigError, OutputError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.machine.runtime import describe_environment
from mindaudio_ds2.reading import ReadError, parse_json
from mindaudio_ds2.training.training_set import TrainingSet

LAST_CHECKPOINT = "last.ckpt"


def require_new_or_resumable(folder: Path, resume: bool) -> None:
    """Make sure that no earlier run would be lost in a run folder.

    Raises:
        ConfigError: it holds a run and `resume` is false, or one that cannot go on.
    """
    has_run = any(folder.glob("[!.]*.ckpt"))
    if has_run and not resume:
        raise ConfigError(
            f"run_dir {folder} already holds a run; continue it with --resume, choose another with --run_dir, or "
            "delete the folder"
        )
    if has_run and not (folder / LAST_CHECKPOINT).exists():
        raise ConfigError(
            f"run_dir {folder} has checkpoints but no last.ckpt to resume from, and starting over would lose its log; "
            "restore last.ckpt, or start a new run with --run_dir and --pre_trained_model_path "
            f"{folder / 'best.ckpt'}"
        )


class _ConsoleHandler(logging.Handler):
    """Writes above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        console.write_line(self.format(record))


class _FileHandler(logging.FileHandler):
    """Ends the run where the log cannot be written; logging's own way is to print a traceback and go on."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        raise OutputError(f"cannot write {self.baseFilename}: {error}; free space and go on with --resume") from error


class RunLog:
    """The files of one run, but for its checkpoints.

    Args:
        config: of the run; its `run_dir` is made if need be.
        resume: whether an earlier run in that folder may go on.

    Attributes:
        is_resumed: whether there is one that got as far as a checkpoint.

    Raises:
        ConfigError: the folder holds a run and `resume` is false, or one that cannot go on; or another process trains
            in it.
        OutputError: the folder cannot be written.
    """

    def __init__(self, config: Config, resume: bool) -> None:
        self.folder = Path(config.run_dir)
        self.metrics_path = self.folder / "metrics.jsonl"
        self._told: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(self.folder)
            self.is_resumed = self.last_checkpoint.exists()
            try:
                require_new_or_resumable(self.folder, resume)
            except ConfigError:
                self._lock.close()
                raise
            for partial in self.folder.glob(".partial-*"):  # of a run that was killed while it saved
                partial.unlink()
            mode = "a" if self.is_resumed else "w"  # a run that died before its first checkpoint is begun anew
            self._metrics = open(self.metrics_path, mode, encoding="utf-8")  # noqa: SIM115 (closed by close)
            self._logger = self._open_logger(mode)
        except OSError as error:
            raise OutputError(f"cannot write into run_dir {self.folder}: {error}; choose another --run_dir") from error

    def remember(self, config: Config, training_set: TrainingSet) -> None:
        """Write config.yaml; say what is not trained on, and list it; for a new run, also write environment.json.

        Args:
            config: of the run.
            training_set: of the run.

        Raises:
            OutputError: no space, no permission.
        """
        write_text(self.folder / "config.yaml", yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True))
        if not self.is_resumed:
            environment = {**describe_environment(), "arguments": sys.argv[1:]}
            write_text(self.folder / "environment.json", json.dumps(environment, indent=2) + "\n")
        for note in training_set.notes:
            self.say(note)
        if training_set.excluded:
            rows = [json.dumps(asdict(exclusion), ensure_ascii=False) for exclusion in training_set.excluded]
            write_text(self.folder / "excluded.jsonl", "\n".join(rows) + "\n")

    @property
    def last_checkpoint(self) -> Path:
        """Where `--resume` goes on from."""
        return self.folder / LAST_CHECKPOINT

    @property
    def best_checkpoint(self) -> Path:
        """The weights with the lowest dev WER."""
        return self.folder / "best.ckpt"

    @property
    def average_checkpoint(self) -> Path:
        """The mean of the best epochs' weights."""
        return self.folder / "average.ckpt"

    def epoch_checkpoint(self, epoch: int) -> Path:
        """The weights after an epoch, which counts from 1."""
        return self.folder / f"epoch_{epoch}.ckpt"

    def _open_logger(self, mode: str) -> logging.Logger:
        logger = logging.getLogger("mindaudio_ds2")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers.clear()
        console = _ConsoleHandler()
        console.setFormatter(logging.Formatter("%(message)s"))
        file = _FileHandler(self.folder / "train.log", mode=mode, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(console)
        logger.addHandler(file)
        return logger

    def say(self, message: str) -> None:
        """Show a message on the console and keep it in train.log.

        Raises:
            OutputError: the disk is full, say.
        """
        self._logger.info(message)
        for reason in console.trouble():
            if reason not in self._told:
                self._told.add(reason)
                self._logger.info(reason)

    def record(self, kind: str, **values: Any) -> None:
        """Append one line to metrics.jsonl.

        Raises:
            OutputError: the disk is full, say.
        """
        try:
            self._metrics.write(json.dumps({"kind": kind, **values}, allow_nan=False) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self.metrics_path}: {error}; free space and go on with --resume"
            ) from error

    def forget_after(self, step: int, epoch: int, is_average_due: bool) -> None:
        """Drop the metrics of what a resumed run will do again, and the half line that a killed run may leave.

        Args:
            step: the last step that is done.
            epoch: the last epoch that is done, its validation included; counts from 1.
            is_average_due: whether the best epochs will be averaged (again).
        """
        self._metrics.close()
        kept = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                row = parse_json(line)
            except ReadError:
                continue
            is_done = row["epoch"] <= epoch if row["kind"] == "epoch" else row["step"] <= step
            if is_done and not (row["kind"] == "average" and is_average_due):
                kept.append(line)
        write_text(self.metrics_path, "".join(f"{line}\n" for line in kept))
        self._metrics = open(self.metrics_path, "a", encoding="utf-8")  # noqa: SIM115

    def close(self) -> None:
        """Close the files. That a full disk takes no more has been said before."""
        with contextlib.suppress(OSError):
            self._metrics.close()
        with contextlib.suppress(OSError):
            self._lock.close()
        for handler in list(self._logger.handlers):
            with contextlib.suppress(OSError):
                handler.close()
            self._logger.removeHandler(handler)


def lock_folder(folder: Path) -> TextIO:
    """Keep every other training out of a run folder until the file that is returned is closed, or this process ends.

    On file systems that have no locks (some network ones) nothing is kept out.

    Raises:
        ConfigError: another process has it; says which.
        OSError: the folder cannot be written.
    """
    lock = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 (open as long as the run)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise ConfigError(
            f"run_dir {folder} is being trained in by {owner}; wait for it, or choose another folder with --run_dir"
        ) from None
    except OSError:  # no locks on this file system
        return lock
    lock.truncate(0)
    started = datetime.datetime.now().isoformat(" ", "seconds")
    lock.write(f"process {os.getpid()} on {socket.gethostname()}, since {started}\n")
    lock.flush()
    return lock


class SilentLog(RunLog):
    """The log of every process but the first: it knows the run folder, and writes and says nothing.

    Args:
        config: of the run.
    """

    def __init__(self, config: Config) -> None:
        self.folder = Path(config.run_dir)
        self.is_resumed = False

    def remember(self, config: Config, training_set: TrainingSet) -> None:
        """The first process does it."""

    def say(self, message: str) -> None:
        """The first process says it."""

    def record(self, kind: str, **values: Any) -> None:
        """The first process records it."""

    def forget_after(self, step: int, epoch: int, is_average_due: bool) -> None:
        """The first process does it."""

    def close(self) -> None:
        """Nothing is open."""
