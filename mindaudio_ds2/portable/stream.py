"""A forward-only network in an ONNX file, chunk by chunk: the same log-probabilities as from the whole, for any cut."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.portable.network import open_session, require_signature, run_session
from mindaudio_ds2.text.alphabet import Alphabet

STREAM_INPUTS = ("features", "first_frame", "num_frames")
STREAM_OUTPUT = "logprobs"
NEXT = "next_"
UNKNOWN_NUM_FRAMES = 2**40


class OnnxStream:
    """One utterance in chunks of features.

    `audio.feature_stream.FeatureStream` gives them for networks whose features have the normalization `corpus`; others
    need the whole utterance.

    Args:
        path: of a file that `export.py --file_format ONNX --stream` wrote.
        num_threads: of onnxruntime; 0 for one a core.

    Attributes:
        description: features, alphabet and origin.
        alphabet: names the labels.

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
        self._shapes = {state.name: state.shape for state in states}
        if not all(isinstance(size, int) for shape in self._shapes.values() for size in shape):
            raise CheckpointError(f"{path} has states of open shapes; export it again from its checkpoint")
        outputs = [STREAM_OUTPUT, *(NEXT + name for name in self._shapes)]
        require_signature(self._session, str(path), [*STREAM_INPUTS, *self._shapes], outputs)
        self.alphabet = Alphabet(self.description.text)
        self.start()

    def start(self) -> None:
        """Begin another utterance."""
        self._states = {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}
        self._waiting = np.zeros((0, self.description.features.num_bins), np.float32)
        self._num_fed = 0

    def feed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Recognise more.

        Args:
            features: (T, F) float32, any number of frames.

        Returns:
            (S, V) float32 log-probabilities of those output frames that can be known by now, perhaps none.
        """
        self._waiting = np.concatenate([self._waiting, features])
        stride = self.description.time_stride
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
        stride = self.description.time_stride
        least = len(self._waiting) + self._delay_frames() + stride
        chunk = np.zeros((-(-least // stride) * stride, self._waiting.shape[1]), np.float32)
        chunk[: len(self._waiting)] = self._waiting
        last = self._run(chunk, num_frames)
        self.start()
        return last

    def _delay_frames(self) -> int:
        """Frames of features after which the first output frame is sure to be known."""
        contexts = [shape[-1] for name, shape in self._shapes.items() if name.startswith("context_")]
        return int(sum(contexts) + 1) * self.description.time_stride

    def _run(self, chunk: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
        numbers = {"first_frame": np.array([self._num_fed]), "num_frames": np.array([num_frames])}
        outputs = [STREAM_OUTPUT, *(NEXT + name for name in self._states)]
        log_probs, *states = run_session(
            self._session, str(self.path), outputs, {"features": chunk[None], **numbers, **self._states}
        )
        self._states = dict(zip(self._states, states, strict=True))
        self._num_fed += len(chunk)
        found: NDArray[np.float32] = log_probs[0]
        return found

    def _nothing(self) -> NDArray[np.float32]:
        return np.zeros((0, self.alphabet.size), np.float32)
