"""Sound that is still going on, to events: any rate, any chunks."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.feature_stream import FeatureStream
from mindaudio_ds2.audio.features import num_samples_before
from mindaudio_ds2.audio.normalization import LOOKAHEAD_SECONDS
from mindaudio_ds2.audio.resampling import StreamResampler
from mindaudio_ds2.audio.samples import require_rate, to_waveform
from mindaudio_ds2.decoding.choice import Decoder
from mindaudio_ds2.errors import AudioError, DeepSpeechError
from mindaudio_ds2.network_config import FeatureConfig
from mindaudio_ds2.streaming.events import Endpointing, Event
from mindaudio_ds2.streaming.utterances import UtteranceStream
from mindaudio_ds2.text.tokenizer import Tokenizer


class NetworkStream(Protocol):
    """One utterance on its way through a network. Any cut gives the same log-probabilities."""

    def feed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (T, F) to the log-probabilities (S, V) that can be known by now, perhaps none."""

    def finish(self) -> NDArray[np.float32]:
        """The last log-probabilities (S, V)."""


class StreamingModel(Protocol):
    """From features to log-probabilities, while they come."""

    features: FeatureConfig
    tokenizer: Tokenizer
    seconds_per_output_frame: float
    num_frames_ahead: int

    def start_stream(self) -> NetworkStream:
        """A new utterance, to be fed in chunks."""

    def feed_together(
        self, streams: Sequence[Any], features: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """What `NetworkStream.feed` gives, of several streams of this model, side by side where it can."""


class LiveStream(Protocol):
    """What `Recognizer.stream` opens: `Stream`, or `SegmentStream` where a network needs whole utterances."""

    rate_hz: int
    num_samples: int
    latency_seconds: float
    is_incremental: bool

    def feed(self, samples: NDArray[Any]) -> list[Event]:
        """Hear more: `(n,)` of one channel, floating-point numbers in [-1, 1] or 16-bit integers; any n."""

    def finish(self) -> list[Event]:
        """The end of the sound: its last words."""


class Stream:
    """One live stream; `Recognizer.stream` opens it.

    However the samples are cut, final texts and endpoints are the same, and the log-probabilities are those of the
    whole, to rounding. Memory and time of a chunk do not grow with the stream.

    Args:
        model: a forward-only network whose features a stream can have.
        decoder: greedy or beam.
        rate_hz: sample rate of what will come (Hz).
        endpointing: when utterances end; None for one without end.

    Attributes:
        model: as given.
        latency_seconds: how much sound behind its own time an output frame waits for; what computing takes comes on
            top (s).
        is_incremental: whether words come while an utterance is being said.
        num_samples: fed so far.

    Raises:
        AudioError: the rate is impossible, or soxr is missing.
        ConfigError: features that a stream cannot have.
    """

    is_incremental = True

    def __init__(self, model: StreamingModel, decoder: Decoder, rate_hz: int, endpointing: Endpointing | None) -> None:
        self.model, self.num_samples = model, 0
        self.latency_seconds = find_latency_seconds(model)
        self._waveforms = WaveformStream(rate_hz, model.features.sample_rate_hz)
        self.rate_hz = self._waveforms.from_hz
        self._features = FeatureStream(model.features)
        self._network = model.start_stream()
        self._utterances = UtteranceStream(decoder, model.tokenizer, model.seconds_per_output_frame, endpointing)
        self._is_finished = False

    def feed(self, samples: NDArray[Any]) -> list[Event]:
        """Hear more.

        Args:
            samples: `(n,)` of one channel, floating-point numbers in [-1, 1] or 16-bit integers; any n.

        Returns:
            What is new; a partial comes last, and at most one.

        Raises:
            AudioError: samples that cannot be, or the stream is finished.
        """
        features = self._hear(samples)
        return self._utterances.feed(self._network.feed(features))

    def _hear(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Samples to the features (T, F) that are known by now."""
        if self._is_finished:
            raise AudioError("this stream is finished; open another with Recognizer.stream()")
        waveform = self._waveforms.feed(samples)
        self.num_samples += len(samples)
        return self._features.feed(waveform)

    @staticmethod
    def feed_together(
        streams: "Sequence[Stream]", chunks: Sequence[NDArray[Any]]
    ) -> list[list[Event] | DeepSpeechError]:
        """What `feed` gives, of several streams of one model, which computes them side by side where it can.

        Args:
            streams: each once.
            chunks: samples for each.

        Returns:
            For each its events, or the error of its samples, which keeps no other from being heard.
        """
        features: list[NDArray[np.float32]] = []
        found: dict[Stream, list[Event] | DeepSpeechError] = {}
        for stream, samples in zip(streams, chunks, strict=True):
            try:
                features.append(stream._hear(samples))
            except DeepSpeechError as error:
                found[stream] = error
        heard = [stream for stream in streams if stream not in found]
        if heard:
            networks = [stream._network for stream in heard]
            for stream, log_probs in zip(heard, heard[0].model.feed_together(networks, features), strict=True):
                found[stream] = stream._utterances.feed(log_probs)
        return [found[stream] for stream in streams]

    def finish(self) -> list[Event]:
        """The end of the sound: its last words."""
        if self._is_finished:
            raise AudioError("this stream is finished; open another with Recognizer.stream()")
        self._is_finished = True
        last = self._features.feed(self._waveforms.finish())
        log_probs = [self._network.feed(last), self._network.feed(self._features.finish()), self._network.finish()]
        events = self._utterances.feed(np.concatenate(log_probs))
        ended = self._utterances.finish(self.num_samples / self.rate_hz)
        return [event for event in events if event.kind != "partial"] + ended


class WaveformStream:
    """Samples of any kind and rate to a waveform at the network's rate.

    Args:
        from_hz: rate of the samples (Hz); `to_hz`, or one that `samples.require_rate` lets pass.
        to_hz: rate of the waveform (Hz).

    Attributes:
        from_hz: as a whole number.

    Raises:
        AudioError: the rate is impossible, or soxr is missing.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self.from_hz = to_hz if from_hz == to_hz else require_rate(from_hz)
        self._resampler = StreamResampler(self.from_hz, to_hz) if self.from_hz != to_hz else None

    def feed(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """`(n,)` samples to what is certain of the waveform, float32 in [-1, 1].

        Raises:
            AudioError: as `samples.require_samples`.
        """
        waveform = to_waveform(samples)
        return np.clip(self._resampler.feed(waveform) if self._resampler else waveform, -1, 1)

    def finish(self) -> NDArray[np.float32]:
        """The rest of the waveform."""
        return np.clip(self._resampler.finish() if self._resampler else np.zeros(0, np.float32), -1, 1)


def find_latency_seconds(model: StreamingModel) -> float:
    """How much sound behind its own time an output frame waits for: the rest of the window, the level's lookahead, the
    convolutions and the lookahead of the network, and as many frames as make the next output frame (s)."""
    features = model.features
    stride = round(model.seconds_per_output_frame / features.hop_seconds)
    window = (features.window_samples - num_samples_before(features)) / features.sample_rate_hz
    return window + LOOKAHEAD_SECONDS + (model.num_frames_ahead + stride - 1) * features.hop_seconds
