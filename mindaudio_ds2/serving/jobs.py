"""What the dispatcher has done: a moment of a live stream, or a file on its way to text."""

import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.io import Note, read_sound
from mindaudio_ds2.audio.sound_blocks import SoundBlocks
from mindaudio_ds2.audio.sound_files import show_path
from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.errors import AudioError, LongAudioError
from mindaudio_ds2.segmentation.cutting import Cutter, Piece, keep_whole
from mindaudio_ds2.segmentation.detectors import EnergyDetector
from mindaudio_ds2.segmentation.segmenter import Segmenter, Stretch
from mindaudio_ds2.segmentation.sources import say_silent
from mindaudio_ds2.segmentation.stitching import stitch
from mindaudio_ds2.streaming.stream import Stream
from mindaudio_ds2.transcribe import Recognizer
from mindaudio_ds2.transcription import Transcription


@dataclass(eq=False)
class LiveJob:
    """What is done before all files.

    Attributes:
        work: does it.
        stream: that is fed, where it can be with others; None for any other work.
        samples: that it is fed.
        result: of the work, or the events of the stream.
    """

    work: Callable[[], Any]
    stream: Stream | None = None
    samples: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        self.result: Future[Any] = Future()

    def goes_with(self, other: "LiveJob") -> bool:
        """Whether both can be computed side by side."""
        if self.stream is None or other.stream is None or self.stream is other.stream:
            return False
        return self.stream.model is other.stream.model


def run_live_jobs(jobs: list[LiveJob]) -> None:
    """Do one thing, or feed several streams side by side."""
    jobs = [job for job in jobs if job.result.set_running_or_notify_cancel()]
    try:
        if len(jobs) > 1:
            streams = [job.stream for job in jobs if job.stream]
            found: list[Any] = list(
                Stream.feed_together(streams, [job.samples for job in jobs if job.samples is not None])
            )
        else:
            found = [job.work() for job in jobs]
    except BaseException as error:
        found = [error] * len(jobs)
    for job, result in zip(jobs, found, strict=True):
        if isinstance(result, BaseException):
            job.result.set_exception(result)
        else:
            job.result.set_result(result)


@dataclass(eq=False)
class FileJob:
    """A file on its way to text.

    Attributes:
        upload: the open file, which the reader closes.
        name: the client's name of it.
        recognizer: the network and the decoder.
        max_seconds: the longest recording that is taken (s).
        result: the transcription, or what went wrong.
    """

    upload: IO[bytes]
    name: str
    recognizer: Recognizer
    max_seconds: float

    def __post_init__(self) -> None:
        self.result: Future[Transcription] = Future()
        self.duration_seconds = 0.0
        self.stretches: list[Stretch] = []  # of speech
        self.waveforms: dict[int, NDArray[np.float32]] = {}  # of those that are yet to be recognised
        self.waiting: deque[int] = deque()  # segments by their number
        self.hypotheses: dict[int, Hypothesis] = {}
        self.notes: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for more of it."""
        return self.result.done()

    def cancel(self) -> None:
        """Do no more than what is being done this moment."""
        if self.result.cancel():
            self._forget()

    def fail(self, error: BaseException) -> None:
        """End with an error, unless it is over."""
        with contextlib.suppress(Exception):  # cancelled meanwhile
            self.result.set_exception(error)
        self._forget()

    def _forget(self) -> None:
        self.waiting.clear()
        self.waveforms.clear()

    def read(self) -> None:
        """From the file to segments."""
        path = Path(f"/dev/fd/{self.upload.fileno()}")  # asking for it brings small files to the disk
        self.upload.flush()
        try:
            notes = self._cut(path)
        except LongAudioError:
            raise LongAudioError(
                f"{show_path(self.name)} lasts longer than {self.max_seconds:g} s; send it in parts", self.max_seconds
            ) from None
        except AudioError as error:
            raise AudioError(str(error).replace(show_path(path), show_path(self.name))) from None
        self.notes = tuple(note.text.replace(show_path(path), show_path(self.name)) for note in notes)
        self.waiting = deque(range(len(self.stretches)))

    def _cut(self, path: Path) -> tuple[Note, ...]:
        """Read the file, in blocks where the network has learnt nothing so long; gives what is strange about it."""
        limits, rate_hz = self.recognizer.ear.limits, self.recognizer.network.features.sample_rate_hz
        try:
            whole = read_sound(path, rate_hz, max_seconds=min(limits.max_seconds, self.max_seconds))
        except LongAudioError:
            sound = SoundBlocks(path, rate_hz, max_seconds=self.max_seconds)
            cutter = Cutter(Segmenter(EnergyDetector(rate_hz), limits, rate_hz))
            for block in sound:
                self._keep(cutter.feed(block[0]))
                if self.is_over:
                    break
            self._keep(cutter.finish())
            self.duration_seconds = sound.duration_seconds
            return sound.notes
        self._keep([keep_whole(whole.waveform, rate_hz)])
        self.duration_seconds = whole.duration_seconds
        return whole.notes

    def _keep(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if piece.waveform is not None:
                self.waveforms[len(self.stretches)] = piece.waveform
                self.stretches.append(piece.stretch)

    def finish(self) -> None:
        """Put the words of all segments together."""
        rate_hz = self.recognizer.network.features.sample_rate_hz
        notes = self.notes if self.stretches else self.notes + say_silent(show_path(self.name), [None], 1)
        found = stitch(self.stretches, [self.hypotheses[i] for i in range(len(self.stretches))], rate_hz)
        with contextlib.suppress(Exception):  # cancelled meanwhile
            self.result.set_result(Transcription(Path(self.name), self.duration_seconds, found, "", notes))
