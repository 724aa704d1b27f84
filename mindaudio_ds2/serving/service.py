"""What all requests share: the network, its workers, the limits, and who is inside."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.decoding.hotwords import parse_hotwords
from mindaudio_ds2.errors import ConfigError, LanguageModelError
from mindaudio_ds2.serving.dispatcher import Dispatcher
from mindaudio_ds2.serving.limits import Limits, Refusal
from mindaudio_ds2.serving.metrics import Metrics
from mindaudio_ds2.transcribe import Recognizer

MOST_HOTWORDS = 200


@dataclass(eq=False)
class Service:
    """A server's belongings.

    Attributes:
        name: of the model, as clients name it.
        created: when the model's file was written (seconds since 1970).
        recognizer: the network with the server's decoder.
        choice: that decoder.
        dispatcher: its workers.
        metrics: what is counted.
        limits: what clients may ask for.
        num_files: files being uploaded, waiting or being recognised.
        is_stopping: whether nothing new is taken.
        when_stopping: called when the server begins to stop; each live stream has one.
    """

    name: str
    created: int
    recognizer: Recognizer
    choice: DecoderChoice
    dispatcher: Dispatcher
    metrics: Metrics
    limits: Limits
    num_files: int = 0
    is_stopping: bool = False
    when_stopping: set[Callable[[], None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.metrics.watch("files", "Files being uploaded, waiting or being recognised.", lambda: self.num_files)
        self.metrics.watch("streams", "Live streams.", lambda: self.dispatcher.num_streams)
        measure = self.dispatcher.measure_waiting_seconds
        self.metrics.watch("waiting_audio_seconds", "Audio of files that waits for a worker.", measure)

    def check_model(self, name: str) -> None:
        """Refuse another model's name: 404."""
        if name != self.name:
            message = f"the model {name[:100]!r} does not exist; this server has {self.name!r}"
            raise Refusal(404, "model_not_found", message, "model")

    def check_open(self) -> None:
        """Refuse anything new while the server stops: 503."""
        if self.is_stopping:
            raise Refusal(503, "stopping", "the server stops; try again when it is back", retry_after_seconds=5)

    @asynccontextmanager
    async def admit_file(self) -> AsyncIterator[None]:
        """Count a file from its upload to its answer; 429 where there are too many."""
        self.check_open()
        if self.num_files >= self.limits.max_files:
            wait = min(60.0, self.metrics.estimate_seconds(self.dispatcher.measure_waiting_seconds()))
            message = f"{self.num_files} files are being recognised or wait, and more are not taken; try again later"
            raise Refusal(429, "too_many_files", message, retry_after_seconds=wait)
        self.num_files += 1
        try:
            yield
        finally:
            self.num_files -= 1

    @asynccontextmanager
    async def admit_stream(self, stop: Callable[[], None]) -> AsyncIterator[None]:
        """Count a live stream, and tell it when the server stops; 429 where there are too many."""
        self.check_open()
        if self.dispatcher.num_streams >= self.limits.max_streams:
            message = f"{self.dispatcher.num_streams} streams are open, and more are not taken; try again later"
            raise Refusal(429, "too_many_streams", message, retry_after_seconds=10)
        self.dispatcher.num_streams += 1
        self.when_stopping.add(stop)
        try:
            yield
        finally:
            self.when_stopping.discard(stop)
            self.dispatcher.num_streams -= 1

    def find_recognizer(self, hotwords: tuple[str, ...]) -> Recognizer:
        """The recogniser; or one that expects some words as well, which takes a beam search.

        Raises:
            Refusal: 400, the words cannot be used.
        """
        if not hotwords:
            return self.recognizer
        network = self.recognizer.network
        try:
            words = tuple(parse_hotwords(hotwords, "hotwords"))
            spellings = sum(1 + len(word.sounds_like) for word in words)
            if spellings > MOST_HOTWORDS:
                message = f"at most {MOST_HOTWORDS} hotwords and what they sound like, found {spellings}"
                raise Refusal(400, "too_many_hotwords", message, "hotwords")
            choice = dataclasses.replace(self.choice, kind="beam", hotwords=words)
            return type(self.recognizer)(network, choice)
        except (LanguageModelError, ConfigError) as error:
            raise Refusal(400, "invalid_hotwords", str(error), "hotwords") from None

    async def stop(self, grace_seconds: float) -> int:
        """Take nothing new, let streams end, wait for files; returns how many requests were not finished."""
        self.is_stopping = True
        for tell in list(self.when_stopping):
            tell()
        left = grace_seconds
        while left > 0 and (self.num_files or self.dispatcher.num_streams):
            await asyncio.sleep(0.05)
            left -= 0.05
        return self.num_files + self.dispatcher.num_streams
