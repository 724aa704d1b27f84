"""A network of a few lines of NumPy that hears letters in anything, as a stream and whole; and something to hear."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.batching.plan import BatchSpec, plan_evaluation
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.network_config import FeatureConfig, TextConfig
from mindaudio_ds2.portable.network import BATCHES
from mindaudio_ds2.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
RATE_HZ = 16000
SEED = 10
STRIDE, WIDTH = 4, 10  # frames of features from one output frame to the next, and that each sees


def make_sound(seconds: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """Swelling harmonics and noise with a pause of two seconds in the middle."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    voice = sum(np.sin(2 * np.pi * (120 + 40 * np.sin(3 * times)) * k * times) / k for k in range(1, 15))
    noise = np.random.default_rng(0).standard_normal(len(times))
    swell = np.abs(np.sin(2 * np.pi * 1.7 * times)) ** 3 * (np.abs(times - seconds / 2) > 1)
    return np.asarray(0.05 * swell * (voice + noise) + 1e-4 * noise, np.float32)


def make_features() -> FeatureConfig:
    """AN4's, with the normalisation of a stream."""
    features = read_config(ROOT / "hparams" / "an4.yaml").features
    return dataclasses.replace(features, normalization="corpus", corpus_mean=[-5.0] * 80, corpus_deviation=[3.0] * 80)


class Babbler:
    """Labels by a random projection of some frames; silence is the blank."""

    def __init__(self) -> None:
        self.features = make_features()
        self.tokenizer = Tokenizer(TextConfig("ABCD ", "first", "upper", "error"))
        self.seconds_per_output_frame = STRIDE * self.features.hop_seconds
        self.num_frames_ahead = WIDTH - 1
        self.longest_seconds = 1000.0
        self.batch_sizes: list[int] = []  # of what was fed together
        self._weights = np.random.default_rng(SEED).standard_normal((80, self.tokenizer.size))

    @property
    def streaming(self) -> "Babbler":
        return self

    def start_stream(self) -> "BabblerStream":
        return BabblerStream(self)

    def feed_together(
        self, streams: "Sequence[BabblerStream]", features: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        self.batch_sizes.append(len(streams))
        return [stream.feed(frames) for stream, frames in zip(streams, features, strict=True)]

    def plan(self, durations_seconds: Sequence[float]) -> tuple[BatchSpec, ...]:
        return plan_evaluation(durations_seconds, BATCHES, num_frames=self.features.num_frames)

    def recognize(
        self, waveforms: Sequence[NDArray[np.float32]], shape: BatchShape | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        found = []
        for waveform in waveforms:
            features = compute_features(waveform, self.features)
            found.append(self.say(np.pad(features, ((0, WIDTH), (0, 0))), -(-len(features) // STRIDE)))
        lengths = np.array([*map(len, found)], np.int32)
        padded = [np.pad(row, ((0, lengths.max() - len(row)), (0, 0))) for row in found]
        return np.stack(padded), lengths

    def say(self, frames: NDArray[np.float32], num_outputs: int) -> NDArray[np.float32]:
        """The first output frames (S, V)."""
        seen = [frames[i * STRIDE : i * STRIDE + WIDTH].mean(axis=0) for i in range(num_outputs)]
        logits = np.array(seen).reshape(-1, 80) @ self._weights * 2
        logits += (2.0, 0.0, 0.0, 0.0, 0.0, 2.0)  # blank, letters, space
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), np.float32)


class BabblerStream:
    def __init__(self, babbler: Babbler) -> None:
        self._babbler = babbler
        self._frames = np.zeros((0, 80), np.float32)

    def feed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        self._frames = np.concatenate([self._frames, features])
        return self._say(max(0, (len(self._frames) - WIDTH) // STRIDE + 1))

    def finish(self) -> NDArray[np.float32]:
        num_outputs = -(-len(self._frames) // STRIDE)
        self._frames = np.pad(self._frames, ((0, WIDTH), (0, 0)))
        return self._say(num_outputs)

    def _say(self, num_outputs: int) -> NDArray[np.float32]:
        found = self._babbler.say(self._frames, num_outputs)
        self._frames = self._frames[num_outputs * STRIDE :]
        return found
