"""From metrics.jsonl to TensorBoard's event files, once or while a run goes on."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.reporting.metrics import Row, parse_lines

FOLDER = "tensorboard"
SUFFIX = "mindaudio_ds2"
NOT_CURVES = ("step", "epoch", "train_seconds")
SECONDS_BETWEEN_LOOKS = 5.0


def list_scalars(row: Row) -> dict[str, float]:
    """The numbers of a row by their names in TensorBoard, such as "step/loss" and "epoch/dev_wer"."""
    numbers = {key: value for key, value in row.items() if isinstance(value, (int, float)) and key not in NOT_CURVES}
    return {f"{row['kind']}/{key}": float(value) for key, value in numbers.items()}


class EventFile:
    """One event file: a TFRecord of `Event` messages.

    Args:
        folder: what TensorBoard shows; event files that this class wrote there before are removed.
        started: when the run began (seconds since 1970); the time of an event is that and its seconds of training.

    Raises:
        OutputError: tensorboard is not installed, or the file cannot be written.
    """

    def __init__(self, folder: Path, started: float) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ModuleNotFoundError as error:
            raise OutputError(
                f"event files need {error.name}; `pip install -e '.[tensorboard]'` brings tensorboard"
            ) from error
        self._events, self._summaries = event_pb2, summary_pb2
        self._started, self._seconds = started, 0.0
        # A new name each time: a TensorBoard that is looking goes on reading the file that it has opened.
        self.path = folder / f"events.out.tfevents.{time.time_ns()}.{SUFFIX}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"events.out.tfevents.*.{SUFFIX}"):
                old.unlink()
            self._file = self.path.open("wb")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; choose another --output") from error
        self._writer = RecordWriter(self._file)
        self._write(event_pb2.Event(wall_time=started, file_version="brain.Event:2"))

    def add(self, rows: list[Row]) -> None:
        """Append rows of metrics.jsonl and hand them to the operating system.

        Raises:
            OutputError: no space.
        """
        for row in rows:
            self._seconds = row.get("train_seconds", self._seconds)
            values = [self._summaries.Summary.Value(tag=tag, simple_value=v) for tag, v in list_scalars(row).items()]
            wall_time, summary = self._started + self._seconds, self._summaries.Summary(value=values)
            if values:
                self._write(self._events.Event(wall_time=wall_time, step=row["step"], summary=summary))
        try:
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free space and start again") from error

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_growing(path: Path) -> Iterator[tuple[bool, list[Row]]]:
    """The rows of metrics.jsonl that have come since the last look, whole lines only; ends never.

    Yields:
        Whether the file was written anew since then, as by a resumed run, so that all is to be begun again; the rows.

    Raises:
        OutputError: it cannot be read, or a line is damaged.
    """
    identity, position = None, 0
    while True:
        try:
            with path.open("rb") as file:
                inode = path.stat().st_ino
                is_new = inode != identity or path.stat().st_size < position
                identity, position = inode, 0 if is_new else position
                file.seek(position)
                found = file.read()
        except OSError as error:
            raise OutputError(
                f"{path} cannot be read: {error.strerror}; train.py writes it into its run_dir"
            ) from error
        whole = found[: found.rfind(b"\n") + 1]
        position += len(whole)
        yield is_new, parse_lines(whole.decode("utf-8"), path)


def export(run: Path, output: Path, wait: Callable[[], bool]) -> tuple[Path, int]:
    """Write a run's metrics as an event file.

    Args:
        run: its folder.
        output: folder of the event file.
        wait: called when all there is has been written; true to look again for more.

    Returns:
        The event file and the number of rows in it.

    Raises:
        OutputError: see `EventFile` and `read_growing`.
    """
    environment = run / "environment.json"  # written when the run began
    started = environment.stat().st_mtime if environment.exists() else 0.0
    events, num_rows = None, 0
    try:
        for is_new, rows in read_growing(run / "metrics.jsonl"):
            if events is None or is_new:
                if events is not None:
                    events.close()
                events, num_rows = EventFile(output, started), 0
            events.add(rows)
            num_rows += len(rows)
            if not wait():
                return events.path, num_rows
    finally:
        if events is not None:
            events.close()
    raise AssertionError("read_growing never ends")
