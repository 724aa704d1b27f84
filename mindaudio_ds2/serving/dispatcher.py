"""Who computes what next: live streams first, then the segments of files in batches, each file in its turn.

A file is read and cut by a reader, which waits for no network; its segments then wait for a worker. A worker takes
a few at a time, one of each file, so that a short file does not wait for the end of a long one. Streams have workers
of their own, and threads that serve files stand behind them for the processor; while a stream is open, one file worker
rests, and batches are small. Where one thread alone may use the network, it serves both.

Chunks of streams that wait are computed side by side (Amodei et al. 2015, arXiv:1512.02595, section 7): a worker takes
its share of those that wait at that moment, and never waits for more.
"""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from numpy.typing import NDArray

from mindaudio_ds2.audio.sound_files import show_path
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.segmentation.sources import Samples
from mindaudio_ds2.serving.jobs import FileJob, LiveJob, run_live_jobs
from mindaudio_ds2.serving.metrics import Metrics
from mindaudio_ds2.streaming.events import Event
from mindaudio_ds2.streaming.stream import LiveStream, Stream

NUM_READERS = 2
BATCH_SECONDS, LIVE_BATCH_SECONDS, BATCH_SEGMENTS = 60.0, 20.0, 16
"""A batch of segments, with its padding; beside streams `LIVE_BATCH_SECONDS`."""

MOST_STREAMS = 16
"""Whose chunks a worker takes at a time."""

FILE_NICENESS = 5
"""How far threads that serve files stand behind others for the processor."""

Result = TypeVar("Result")


class Dispatcher:
    """Threads that read files and threads that compute.

    Args:
        num_workers: that compute at a time; 1 for networks that one thread only may use.
        metrics: is told what was done.
    """

    def __init__(self, num_workers: int, metrics: Metrics) -> None:
        self.num_workers, self._metrics = num_workers, metrics
        self.num_streams = 0
        self._condition = threading.Condition()
        self._live: deque[LiveJob] = deque()
        self._jobs: set[FileJob] = set()  # all that are not over
        self._files: deque[FileJob] = deque()  # those with segments that wait
        self._num_busy_with_files = 0
        self._is_closing = False
        self._readers = ThreadPoolExecutor(NUM_READERS, "reader", initializer=_stand_behind)
        serves = [(True, False), (False, True)] * num_workers if num_workers > 1 else [(True, True)]
        self._workers = [threading.Thread(target=self._work, args=each, daemon=True) for each in serves]
        for worker in self._workers:
            worker.start()

    def run_live(self, work: Callable[[], Result]) -> "Future[Result]":
        """Do something before all files; it shall take moments."""
        return self._submit_live(LiveJob(work))

    def feed_live(self, stream: LiveStream, samples: NDArray[Any]) -> "Future[list[Event]]":
        """Feed a stream before all files, side by side with others that wait."""
        together = stream if isinstance(stream, Stream) else None
        return self._submit_live(LiveJob(lambda: stream.feed(samples), together, samples))

    def _submit_live(self, job: LiveJob) -> "Future[Any]":
        with self._condition:
            if self._is_closing:
                raise CancelledError
            self._live.append(job)
            self._condition.notify_all()
        return job.result

    def submit(self, job: FileJob) -> None:
        """Take a file; its text will be in `job.result`."""
        with self._condition:
            self._jobs.add(job)
        job.result.add_done_callback(lambda _: self._forget(job))
        self._readers.submit(self._read, job)

    def measure_waiting_seconds(self) -> float:
        """How much audio of files waits for workers (s); what is still to be read is not known."""
        with self._condition:
            jobs = list(self._files)
        return sum(_sum_seconds(job) for job in jobs)

    def close(self, wait_seconds: float) -> None:
        """Cancel every file, and let workers end what they are at."""
        with self._condition:
            self._is_closing = True
            jobs = list(self._jobs)
            self._files.clear()
            self._condition.notify_all()
        for job in jobs:
            job.cancel()
        self._readers.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + wait_seconds
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))

    def _forget(self, job: FileJob) -> None:
        with self._condition:
            self._jobs.discard(job)

    def _read(self, job: FileJob) -> None:
        try:
            with job.upload:
                if job.is_over:
                    return
                job.read()
        except BaseException as error:
            job.fail(error)
            return
        if not job.stretches:
            job.finish()
            return
        with self._condition:
            if self._is_closing:
                job.cancel()
            if job.is_over:  # its client left while it was read
                return
            self._files.append(job)
            self._condition.notify_all()

    def _work(self, serves_live: bool, serves_files: bool) -> None:
        if not serves_live:
            _stand_behind()
        while True:
            with self._condition:
                while not ((serves_live and self._live) or (serves_files and self._may_take_file())):
                    if self._is_closing:
                        return
                    self._condition.wait()
                live = self._take_live() if serves_live and self._live else []
                batch = [] if live else self._take_batch()
                self._num_busy_with_files += bool(batch)
            if live:
                run_live_jobs(live)
            elif batch:
                try:
                    self._recognize(batch)
                finally:
                    with self._condition:
                        self._num_busy_with_files -= 1
                        self._condition.notify_all()

    def _take_live(self) -> list[LiveJob]:
        """What has waited longest, and a worker's share of what can be done with it."""
        first = self._live.popleft()
        fitting = {job.stream: job for job in reversed(self._live) if job.goes_with(first)}  # of each stream its next
        jobs = sorted(fitting.values(), key=self._live.index)
        others = jobs[: min(MOST_STREAMS, -(-(len(jobs) + 1) // self.num_workers)) - 1]
        for job in others:
            self._live.remove(job)
        return [first, *others]

    def _may_take_file(self) -> bool:
        most = self.num_workers - (self.num_streams > 0 and self.num_workers > 1)
        return bool(self._files) and not self._live and self._num_busy_with_files < most

    def _take_batch(self) -> list[tuple[FileJob, int]]:
        """Segments of one recogniser, of each file in turn."""
        batch: list[tuple[FileJob, int]] = []
        longest = 0
        seconds = LIVE_BATCH_SECONDS if self.num_streams else BATCH_SECONDS
        others: list[FileJob] = []
        while self._files and len(batch) < BATCH_SEGMENTS:
            job = self._files.popleft()
            try:
                number = job.waiting.popleft()
            except IndexError:
                continue  # cancelled
            samples = job.stretches[number].end - job.stretches[number].start
            rate_hz = job.recognizer.network.features.sample_rate_hz
            fits = max(longest, samples) * (len(batch) + 1) <= seconds * rate_hz
            if batch and (job.recognizer is not batch[0][0].recognizer or not fits):
                job.waiting.appendleft(number)
                others.append(job)
                if not fits:
                    break
                continue
            longest = max(longest, samples)
            batch.append((job, number))
            if job.waiting:
                self._files.append(job)
        self._files.extendleft(reversed(others))
        return batch

    def _recognize(self, batch: list[tuple[FileJob, int]]) -> None:
        recognizer = batch[0][0].recognizer
        rate_hz = recognizer.network.features.sample_rate_hz
        taken = [(job, number, job.waveforms.pop(number, None)) for job, number in batch]
        batch = [(job, number) for job, number, waveform in taken if waveform is not None]  # the others were cancelled
        waveforms = [waveform for _, _, waveform in taken if waveform is not None]
        if not batch:
            return
        started = time.monotonic()
        try:
            run = recognizer.run([Samples(waveform, rate_hz) for waveform in waveforms])
        except BaseException as error:
            for job, _ in batch:
                job.fail(error)
            return
        self._metrics.count_batch(len(batch), run.audio_seconds, time.monotonic() - started)
        for (job, number), found in zip(batch, run.transcriptions, strict=True):
            if found.hypothesis is None:
                job.fail(AudioError(f"{show_path(job.name)}: {found.problem}"))
                continue
            job.hypotheses[number] = found.hypothesis
            if len(job.hypotheses) == len(job.stretches):
                job.finish()


def _sum_seconds(job: FileJob) -> float:
    numbers = list(job.waiting)
    samples = sum(job.stretches[number].end - job.stretches[number].start for number in numbers)
    return float(samples / job.recognizer.network.features.sample_rate_hz)


def _stand_behind() -> None:
    """Let this thread have the processor when threads of streams do not want it; Linux alone can do that by thread."""
    if sys.platform == "linux":
        os.setpriority(
            os.PRIO_PROCESS, threading.get_native_id(), min(19, os.getpriority(os.PRIO_PROCESS, 0) + FILE_NICENESS)
        )


def count_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
