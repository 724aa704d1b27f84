"""A forward-only network in an ONNX file, chunk by chunk: the same log-probabilities as from the whole, for any cut."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.plan import BatchSpec, plan_evaluation
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.portable.description import read_sizes
from mindaudio_ds2.portable.network import (
    BATCHES,
    OnnxNetwork,
    open_session,
    require_log_probs,
    require_signature,
    run_session,
)
from mindaudio_ds2.text.tokenizer import Tokenizer

STREAM_INPUTS = ("features", "first_frame", "num_frames")
STREAM_OUTPUT = "logprobs"
NEXT = "next_"
BATCH = "B"  # the name of the dimension along which streams stand side by side
UNKNOWN_NUM_FRAMES = 2**40
ONE_BY_ONE = dataclasses.replace(BATCHES, max_batch_utterances=1)
WHOLE_CHUNK_FRAMES = 1024  # of a recording that is there as a whole


class OnnxStreamingNetwork:
    """A forward-only network in an ONNX file, for any number of streams, also at the same time.

    Args:
        path: of a file that `export.py --file_format ONNX --stream` wrote.
        num_threads: of onnxruntime; 0 for one a core.

    Attributes:
        description: features, alphabet and origin.
        features: what the network was trained on.
        tokenizer: names the labels.
        seconds_per_output_frame: distance between frames of output (seconds).
        longest_seconds: of the recordings that it was trained on (seconds).
        num_frames_ahead: of features, that an output frame waits for.

    Raises:
        CheckpointError: it cannot be used.
        DeviceError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, num_threads: int = 1) -> None:
        self.path = Path(path)
        self._session, self.description = open_session(path, num_threads)
        if not self.description.is_stream:
            raise CheckpointError(f"{path} takes whole utterances; export it with --stream")
        states = {each.name: each.shape for each in self._session.get_inputs() if each.name not in STREAM_INPUTS}
        if any([size for size in shape if not isinstance(size, int)] != [BATCH] for shape in states.values()):
            raise CheckpointError(f"{path} has states of other shapes; export it again from its checkpoint")
        self._batch_axes = {name: shape.index(BATCH) for name, shape in states.items()}
        self.state_shapes = {name: [1 if size == BATCH else size for size in shape] for name, shape in states.items()}
        self._outputs = [STREAM_OUTPUT, *(NEXT + name for name in self.state_shapes)]
        require_signature(self._session, str(path), [*STREAM_INPUTS, *self.state_shapes], self._outputs)
        self.tokenizer = Tokenizer(self.description.text)
        self.features = self.description.features
        self.seconds_per_output_frame = self.description.seconds_per_output_frame
        self.longest_seconds = self.description.longest_seconds
        self.num_frames_ahead = read_sizes(self.description.network, str(path)).num_frames_ahead

    @property
    def streaming(self) -> "OnnxStreamingNetwork | None":
        """Itself, if sound can be recognised as it comes: features may still need the whole."""
        return self if self.features.normalization == "corpus" else None

    def start_stream(self) -> "OnnxStream":
        """A new utterance, to be fed in chunks."""
        return OnnxStream(self)

    def feed_together(
        self, streams: Sequence["OnnxStream"], features: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """What `OnnxStream.feed` gives, of several streams side by side: the weights are read once for all of them.

        Args:
            streams: of this network, each once.
            features: (T, F) float32 for each, any numbers of frames.

        Returns:
            (S, V) float32 log-probabilities for each, to rounding those of feeding it alone.
        """
        found: dict[OnnxStream, list[NDArray[np.float32]]] = {stream: [] for stream in streams}
        for stream, frames in zip(streams, features, strict=True):
            stream.wait_for_more(frames)
        while ready := [stream for stream in streams if stream.num_ready]:
            beginning = [stream for stream in ready if not stream.is_under_way]
            group = beginning[:1] or ready
            size = min(stream.num_ready for stream in group)
            chunks = [stream.take(size) for stream in group]
            for stream, log_probs in zip(group, self.run(group, chunks, UNKNOWN_NUM_FRAMES), strict=True):
                found[stream].append(log_probs)
        nothing = np.zeros((0, self.tokenizer.size), np.float32)
        return [np.concatenate([nothing, *found[stream]]) for stream in streams]

    def run(
        self, streams: Sequence["OnnxStream"], chunks: Sequence[NDArray[np.float32]], num_frames: int
    ) -> list[NDArray[np.float32]]:
        """Let streams go on by a chunk (T, F) each; gives their log-probabilities (S, V).

        Args:
            streams: under way, or only one.
            chunks: of equal length, a multiple of the time stride.
            num_frames: that the utterance has in all, as far as is known.
        """
        places = {"first_frame": np.array([streams[0].num_fed]), "num_frames": np.array([num_frames])}
        states = {
            name: np.concatenate([stream.states[name] for stream in streams], axis)
            for name, axis in self._batch_axes.items()
        }
        inputs = {"features": np.stack(chunks), **places, **states}
        log_probs, *ends = run_session(self._session, str(self.path), self._outputs, inputs)
        require_log_probs(log_probs, str(self.path), len(streams), self.tokenizer.size)
        for (name, axis), end in zip(self._batch_axes.items(), ends, strict=True):
            if end.shape != states[name].shape:
                raise CheckpointError(
                    f"{self.path} makes of the state {name} {states[name].shape} one of {end.shape}; export it again "
                    "from its checkpoint"
                )
            for stream, state in zip(streams, np.split(end, len(streams), axis), strict=True):
                stream.states[name] = state
        for stream, chunk in zip(streams, chunks, strict=True):
            stream.num_fed += len(chunk)
        return list(log_probs)

    def plan(self, durations_seconds: Sequence[float]) -> tuple[BatchSpec, ...]:
        """Recordings one by one."""
        return plan_evaluation(durations_seconds, ONE_BY_ONE, num_frames=self.features.num_frames)

    def recognize(
        self, waveforms: Sequence[NDArray[np.float32]], shape: BatchShape | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Recognise whole waveforms; as `OnnxNetwork.recognize`."""
        from mindaudio_ds2.audio.features import compute_features

        found = []
        for waveform in waveforms:
            stream, features = self.start_stream(), compute_features(waveform, self.features)
            chunks = [features[i : i + WHOLE_CHUNK_FRAMES] for i in range(0, len(features), WHOLE_CHUNK_FRAMES)]
            found.append(np.concatenate([*map(stream.feed, chunks), stream.finish()]))
        lengths = np.array([*map(len, found)], np.int32)
        padded = np.zeros((len(found), lengths.max(), self.tokenizer.size), np.float32)
        for row, log_probs in zip(padded, found, strict=True):
            row[: len(log_probs)] = log_probs
        return padded, lengths


class OnnxStream:
    """One utterance in chunks of features; made by `OnnxStreamingNetwork.start_stream`.

    Attributes:
        states: what the network carries from chunk to chunk, by name.
        num_fed: frames of features that the network has had.
    """

    def __init__(self, network: OnnxStreamingNetwork) -> None:
        self._network = network
        self.states = {name: np.zeros(shape, np.float32) for name, shape in network.state_shapes.items()}
        self.num_fed = 0
        self._waiting = np.zeros((0, network.features.num_bins), np.float32)
        self._stride = int(network.description.time_stride)
        contexts = [shape[-1] for name, shape in network.state_shapes.items() if name.startswith("context_")]
        self._delay_frames = (int(sum(contexts)) + 1) * self._stride  # the first output frame is surely known then

    @property
    def is_under_way(self) -> bool:
        """Whether its beginning is so far behind that its place makes no difference any more."""
        return self.num_fed >= self._delay_frames

    @property
    def num_ready(self) -> int:
        """Frames of features that the network can be given now."""
        ready = len(self._waiting) // self._stride * self._stride
        return ready if self.num_fed or ready > self._delay_frames else 0

    def wait_for_more(self, features: NDArray[np.float32]) -> None:
        """Put features (T, F) behind those that wait."""
        self._waiting = np.concatenate([self._waiting, features])

    def take(self, num_frames: int) -> NDArray[np.float32]:
        """The first of the features that wait, which wait no longer."""
        chunk, self._waiting = self._waiting[:num_frames], self._waiting[num_frames:]
        return chunk

    def feed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Recognise more.

        Args:
            features: (T, F) float32, any number of frames.

        Returns:
            (S, V) float32 log-probabilities of those output frames that can be known by now, perhaps none.
        """
        return self._network.feed_together([self], [features])[0]

    def finish(self) -> NDArray[np.float32]:
        """The log-probabilities (S, V) of the last output frames; the utterance ends with the last frame fed."""
        num_frames = self.num_fed + len(self._waiting)
        if num_frames == 0:
            return np.zeros((0, self._network.tokenizer.size), np.float32)
        least = len(self._waiting) + self._delay_frames + self._stride
        chunk = np.zeros((-(-least // self._stride) * self._stride, self._waiting.shape[1]), np.float32)
        chunk[: len(self._waiting)] = self._waiting
        return self._network.run([self], [chunk], num_frames)[0]


def open_onnx(path: str | Path, num_threads: int = 0) -> OnnxNetwork | OnnxStreamingNetwork:
    """The network of an ONNX file of either form.

    Args:
        path: of a file that `export.py --file_format ONNX` wrote, with or without `--stream`.
        num_threads: of onnxruntime; 0 for one a core. A stream, whose products are small, has one.

    Raises:
        CheckpointError: it cannot be used.
        DeviceError: onnxruntime is not installed.
    """
    opened = open_session(path, num_threads)
    if opened[1].is_stream:
        return OnnxStreamingNetwork(path)
    return OnnxNetwork(path, opened=opened)
