"""A forward-only network in an ONNX file, chunk by chunk: the same log-probabilities as from the whole, for any cut."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.plan import BatchSpec, plan_evaluation
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.config import ModelConfig
from mindaudio_ds2.errors import CheckpointError, ConfigError
from mindaudio_ds2.portable.network import BATCHES, OnnxNetwork, open_session, require_signature, run_session
from mindaudio_ds2.text.tokenizer import Tokenizer

STREAM_INPUTS = ("features", "first_frame", "num_frames")
STREAM_OUTPUT = "logprobs"
NEXT = "next_"
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
        states = [value for value in self._session.get_inputs() if value.name not in STREAM_INPUTS]
        self.state_shapes = {state.name: state.shape for state in states}
        if not all(isinstance(size, int) for shape in self.state_shapes.values() for size in shape):
            raise CheckpointError(f"{path} has states of open shapes; export it again from its checkpoint")
        self._outputs = [STREAM_OUTPUT, *(NEXT + name for name in self.state_shapes)]
        require_signature(self._session, str(path), [*STREAM_INPUTS, *self.state_shapes], self._outputs)
        self.tokenizer = Tokenizer(self.description.text)
        self.features = self.description.features
        self.seconds_per_output_frame = self.description.seconds_per_output_frame
        self.longest_seconds = self.description.longest_seconds
        self.num_frames_ahead = _read_sizes(self.description.network, str(path)).num_frames_ahead

    @property
    def streaming(self) -> "OnnxStreamingNetwork | None":
        """Itself, if sound can be recognised as it comes: features may still need the whole."""
        return self if self.features.normalization == "corpus" else None

    def start_stream(self) -> "OnnxStream":
        """A new utterance, to be fed in chunks."""
        return OnnxStream(self)

    def run(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """The log-probabilities of a chunk, and the states after it."""
        found: list[NDArray[np.float32]] = run_session(self._session, str(self.path), self._outputs, inputs)
        return found

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
    """One utterance in chunks of features; made by `OnnxStreamingNetwork.start_stream`."""

    def __init__(self, network: OnnxStreamingNetwork) -> None:
        self._network = network
        self._states = {name: np.zeros(shape, np.float32) for name, shape in network.state_shapes.items()}
        self._waiting = np.zeros((0, network.features.num_bins), np.float32)
        self._num_fed = 0

    def feed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Recognise more.

        Args:
            features: (T, F) float32, any number of frames.

        Returns:
            (S, V) float32 log-probabilities of those output frames that can be known by now, perhaps none.
        """
        self._waiting = np.concatenate([self._waiting, features])
        stride = self._network.description.time_stride
        ready = len(self._waiting) // stride * stride
        if ready == 0 or (self._num_fed == 0 and ready <= self._delay_frames()):
            return self._nothing()
        chunk, self._waiting = self._waiting[:ready], self._waiting[ready:]
        return self._run(chunk, UNKNOWN_NUM_FRAMES)

    def finish(self) -> NDArray[np.float32]:
        """The log-probabilities (S, V) of the last output frames; the utterance ends with the last frame fed."""
        num_frames = self._num_fed + len(self._waiting)
        if num_frames == 0:
            return self._nothing()
        stride = self._network.description.time_stride
        least = len(self._waiting) + self._delay_frames() + stride
        chunk = np.zeros((-(-least // stride) * stride, self._waiting.shape[1]), np.float32)
        chunk[: len(self._waiting)] = self._waiting
        return self._run(chunk, num_frames)

    def _delay_frames(self) -> int:
        """Frames of features after which the first output frame is sure to be known."""
        contexts = [shape[-1] for name, shape in self._network.state_shapes.items() if name.startswith("context_")]
        return (int(sum(contexts)) + 1) * int(self._network.description.time_stride)

    def _run(self, chunk: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
        numbers = {"first_frame": np.array([self._num_fed]), "num_frames": np.array([num_frames])}
        log_probs, *states = self._network.run({"features": chunk[None], **numbers, **self._states})
        self._states = dict(zip(self._states, states, strict=True))
        self._num_fed += len(chunk)
        found: NDArray[np.float32] = log_probs[0]
        return found

    def _nothing(self) -> NDArray[np.float32]:
        return np.zeros((0, self._network.tokenizer.size), np.float32)


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


def _read_sizes(network: dict[str, Any], source: str) -> ModelConfig:
    try:
        return ModelConfig(**network)
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} does not tell its network's sizes ({error}); export it again") from None
