"""Processes that load batches beside this one, each every n-th, for machines on which one thread is too slow.

A worker is a fresh Python without MindSpore. It reads its work from its standard input, writes each batch to its
standard output, and waits there until the batch is taken, so that it is never more than one ahead. Its input stays open
as long as its parent lives: when that ends, by whatever signal, the worker ends at once.
"""

import logging
import os
import pickle
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.batching.loading import Augment, Source
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.errors import DeepSpeechError, TrainingError

HEADER = struct.Struct("<Q")
START = """
import os, sys
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
sys.path[:] = {path!r}
from mindaudio_ds2.batching.workers import serve
serve()
"""
"""What a worker runs. Each uses one core: there are as many of them as are wanted."""


@dataclass(frozen=True, eq=False)
class _Answer:
    """A batch or why there is none, and what was logged on the way."""

    result: Batch | Exception
    records: list[logging.LogRecord]


class Workers:
    """Running workers; `stop` ends them.

    Args:
        source: where batches are loaded from.
        batches: all of them, in order.
        augment: what is done to each utterance; can be pickled.
        num_workers: processes, at least 1; no more than batches are started.
    """

    def __init__(self, source: Source, batches: Sequence[BatchSpec], augment: Augment | None, num_workers: int) -> None:
        num_workers = min(num_workers, len(batches))
        command = [sys.executable, "-c", START.format(path=sys.path)]
        # In a session of their own, Ctrl-C at the terminal reaches the parent only, which then ends them.
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            for _ in range(num_workers)
        ]
        shared = pickle.dumps((source, augment), protocol=5)
        for number, process in enumerate(self._processes):
            assert process.stdin is not None, "it was opened as a pipe"
            try:
                _send(process.stdin, shared)
                _send(process.stdin, pickle.dumps(batches[number::num_workers], protocol=5))
            except BrokenPipeError:  # said when its first batch is due
                continue

    @property
    def pids(self) -> list[int]:
        """Their process numbers."""
        return [process.pid for process in self._processes]

    def receive(self, position: int) -> Batch:
        """The batch at a position; to be called for each in order.

        Raises:
            TrainingError: the worker has ended.
            Exception: what the worker raised.
        """
        process = self._processes[position % len(self._processes)]
        assert process.stdout is not None, "it was opened as a pipe"
        packed = _read(process.stdout)
        if packed is None:
            status = process.wait()
            raise TrainingError(
                f"a process that loads audio has ended with status {status} (-9: killed, perhaps for lack of memory); "
                "lower batching.num_workers, or batching.max_batch_padded_seconds"
            )
        answer: _Answer = pickle.loads(packed)
        for record in answer.records:
            logging.getLogger(record.name).handle(record)
        if isinstance(answer.result, Exception):
            raise answer.result
        return answer.result

    def stop(self) -> None:
        """End all of them, whatever they are doing."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


def serve() -> None:
    """Load what is asked for on standard input; the whole life of a worker."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what anybody prints is no answer
    packed, own = _read(sys.stdin.buffer), _read(sys.stdin.buffer)
    if packed is None or own is None:
        return
    threading.Thread(target=_end_with_parent, daemon=True).start()
    source, augment = pickle.loads(packed)
    keeper = _Keeper()
    logging.getLogger("mindaudio_ds2").addHandler(keeper)
    logging.getLogger("mindaudio_ds2").propagate = False
    for batch in pickle.loads(own):
        answer = _Answer(_try_to_load(source, batch, augment), keeper.take())
        try:
            _send(answers, pickle.dumps(answer, protocol=5))
        except BrokenPipeError:
            return


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing more is sent
    os._exit(0)


def _try_to_load(source: Source, batch: BatchSpec, augment: Augment | None) -> Batch | Exception:
    try:
        return source.load(batch, augment)
    except DeepSpeechError as error:
        return error
    except Exception as error:  # a defect of ours: whoever reads of it wants to know where, and pickling forgets that
        return RuntimeError("".join(traceback.format_exception(error)))


class _Keeper(logging.Handler):
    """Keeps records until they are sent; their texts only, for their arguments may be anything."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._records.append(record)

    def take(self) -> list[logging.LogRecord]:
        """Those since the last time."""
        taken, self._records = self._records, []
        return taken


def _send(stream: Any, content: bytes) -> None:
    for part in (HEADER.pack(len(content)), content):
        view = memoryview(part)
        while view:
            view = view[stream.write(view) :]
    stream.flush()


def _read(stream: IO[bytes]) -> bytes | None:
    """What was sent; None where the other end has gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    content = stream.read(size)
    return content if len(content) == size else None
