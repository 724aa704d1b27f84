"""The run folder: what a run says, measures and remembers about itself.

config.yaml       the configuration, complete
environment.json  versions, commit, processor, command line
train.log         what the console showed, with times
metrics.jsonl     one JSON object a line: kind "step", "bad_step" or "epoch"
last.ckpt         to resume from; best.ckpt the best dev WER so far; epoch_N.ckpt if asked for
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.errors import ConfigError, OutputError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.runtime import describe_environment


class _ConsoleHandler(logging.Handler):
    """Writes above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class RunLog:
    """The files of one run, but for its checkpoints.

    Args:
        config: of the run; its `run_dir` is made if need be.
        resume: whether an earlier run in that folder is to go on.

    Raises:
        ConfigError: the folder holds a run and `resume` is false.
        OutputError: the folder cannot be written.
    """

    def __init__(self, config: Config, resume: bool) -> None:
        self.folder = Path(config.run_dir)
        self.metrics_path = self.folder / "metrics.jsonl"
        if self.last_checkpoint.exists() and not resume:
            raise ConfigError(
                f"run_dir {self.folder} already holds a run; continue it with --resume, choose another with --run_dir, "
                "or delete the folder"
            )
        write_text(self.folder / "config.yaml", yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True))
        environment = {**describe_environment(), "arguments": sys.argv[1:]}
        write_text(self.folder / "environment.json", json.dumps(environment, indent=2) + "\n")
        try:
            if not resume:
                self.metrics_path.unlink(missing_ok=True)
            self._metrics = open(self.metrics_path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
            self._logger = self._open_logger(append=resume)
        except OSError as error:
            raise OutputError(f"cannot write into run_dir {self.folder}: {error}; choose another --run_dir") from error

    @property
    def last_checkpoint(self) -> Path:
        """Where `--resume` goes on from."""
        return self.folder / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The weights with the lowest dev WER."""
        return self.folder / "best.ckpt"

    def _open_logger(self, append: bool) -> logging.Logger:
        logger = logging.getLogger("mindaudio_ds2")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers.clear()
        console = _ConsoleHandler()
        console.setFormatter(logging.Formatter("%(message)s"))
        file = logging.FileHandler(self.folder / "train.log", mode="a" if append else "w", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(console)
        logger.addHandler(file)
        return logger

    def say(self, message: str) -> None:
        """Show a message on the console and keep it in train.log."""
        self._logger.info(message)

    def record(self, kind: str, **values: Any) -> None:
        """Append one line to metrics.jsonl.

        Raises:
            OutputError: the disk is full, say.
        """
        try:
            self._metrics.write(json.dumps({"kind": kind, **values}) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self.metrics_path}: {error}; free space and go on with --resume"
            ) from error

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run will do again."""
        self._metrics.close()
        kept = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except json.JSONDecodeError:  # half a line, from a killed run
                continue
        write_text(self.metrics_path, "".join(f"{line}\n" for line in kept))
        self._metrics = open(self.metrics_path, "a", encoding="utf-8")  # noqa: SIM115

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        for handler in list(self._logger.handlers):
            handler.close()
            self._logger.removeHandler(handler)
