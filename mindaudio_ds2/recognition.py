"""A checkpoint's network, ready for sound: the same interface as `portable.network.OnnxNetwork`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.batching.collate import collate
from mindaudio_ds2.batching.plan import BatchSpec, plan_evaluation
from mindaudio_ds2.batching.shapes import BatchShape, FixedShapes
from mindaudio_ds2.checkpoint import find_longest_seconds, load_checkpoint, restore_network
from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.model.deepspeech2 import Recognizer
from mindaudio_ds2.model.streaming import NetworkStream, StreamingNetwork
from mindaudio_ds2.text.tokenizer import Tokenizer


class CheckpointNetwork:
    """A checkpoint's network, features and alphabet.

    Args:
        checkpoint_path: a checkpoint of ours.
        backend: how this process computes, from `runtime.start`.

    Attributes:
        features: what the network was trained on.
        tokenizer: names its labels.
        seconds_per_output_frame: distance between frames of output (seconds).
        longest_seconds: of the recordings that it was trained on (seconds), see `find_longest_seconds`.
        num_frames_ahead: of features, that an output frame of a forward-only network waits for.

    Raises:
        CheckpointError: it cannot be used.
    """

    def __init__(self, checkpoint_path: str | Path, backend: Backend = STOCK) -> None:
        checkpoint = load_checkpoint(checkpoint_path)
        self.config = checkpoint.config
        self.features = self.config.features
        self.tokenizer = Tokenizer(self.config.text)
        self.seconds_per_output_frame = self.config.seconds_per_output_frame
        self.longest_seconds = find_longest_seconds(checkpoint)
        network = restore_network(checkpoint, str(checkpoint_path), backend)
        self.num_frames_ahead = self.config.model.num_frames_ahead
        self._network = network
        self._streaming: StreamingNetwork | None = None
        self.recognizer = Recognizer(network).prepare(self.features.num_bins)
        self.takes_open_shapes = network.takes_open_shapes

    @property
    def streaming(self) -> "CheckpointNetwork | None":
        """Itself, if sound can be recognised as it comes."""
        return self if self.config.can_stream else None

    def start_stream(self) -> NetworkStream:
        """A new utterance, to be fed in chunks. The first one compiles, some seconds."""
        if self._streaming is None:
            streaming = StreamingNetwork(self._network, self.config.model, self.features.num_bins)
            warm = streaming.start()
            warm.feed(np.zeros((4 * self.num_frames_ahead, self.features.num_bins), np.float32))
            self._streaming = streaming
        return self._streaming.start()

    def feed_together(
        self, streams: Sequence[NetworkStream], features: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """What `NetworkStream.feed` gives, of one stream after the other: what is compiled takes one."""
        return [stream.feed(frames) for stream, frames in zip(streams, features, strict=True)]

    def plan(self, durations_seconds: Sequence[float]) -> tuple[BatchSpec, ...]:
        """Which recordings are recognised side by side, within the limits of the checkpoint's own batches."""
        no_labels = [0] * len(durations_seconds)
        shapes = None
        if not self.takes_open_shapes:
            shapes = FixedShapes(durations_seconds, no_labels, self.config, is_augmented=False)
        num_frames = self.features.num_frames
        return plan_evaluation(durations_seconds, self.config.batching, num_frames=num_frames, shapes=shapes)

    def recognize(
        self, waveforms: Sequence[NDArray[np.float32]], shape: BatchShape | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Recognise waveforms side by side.

        Args:
            waveforms: at least one, each (num_samples,) float32 in [-1, 1] at `features.sample_rate_hz`.
            shape: what to pad to, from the plan.

        Returns:
            Log-probabilities (B, S, V) float32, of which only the frames within the lengths mean something; and those
            lengths (B,) int32.
        """
        no_labels = self.tokenizer.encode("")
        examples = [(i, compute_features(w, self.features), no_labels) for i, w in enumerate(waveforms)]
        if shape and max(len(features) for _, features, _ in examples) > shape.num_frames:
            shape = None  # a file lasts longer than it says
        batch = collate(examples, self.tokenizer.blank_id, shape)
        return self.recognizer.hear(Tensor(batch.features), Tensor(batch.feature_lengths), len(examples))
