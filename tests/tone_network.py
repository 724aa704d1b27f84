"""A network without weights: it hears the tones of `tests.tiny_corpus` by their Fourier transform."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.batching.plan import plan_evaluation
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.portable.network import BATCHES
from mindaudio_ds2.text.tokenizer import Tokenizer
from tests.tiny_corpus import RATE_HZ, TONES_HZ, YAML

FRAME = RATE_HZ // 50
SPACE_FRAMES = 4
"""Silence of 80 ms is a space; letters fade for less."""


class ToneNetwork:
    """Log-probabilities from the strongest frequency of each 20 ms. `gate` lets it compute; where it `is_unsure`, a B
    may be a D."""

    def __init__(self, longest_seconds: float = 20.0) -> None:
        config = from_mapping(YAML, "tones")
        self.features = config.features
        self.tokenizer = Tokenizer(config.text)
        self.seconds_per_output_frame = FRAME / RATE_HZ
        self.longest_seconds = longest_seconds
        self.streaming = None
        self.gate = threading.Event()
        self.gate.set()
        self.is_unsure = False
        self.num_batches = 0
        self.batch_sizes: list[int] = []

    def plan(self, durations_seconds: Sequence[float]) -> Any:
        return plan_evaluation(durations_seconds, BATCHES, num_frames=self.features.num_frames)

    def recognize(
        self, waveforms: Sequence[NDArray[np.float32]], shape: Any = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        self.num_batches += 1
        self.batch_sizes.append(len(waveforms))
        assert self.gate.wait(90)
        rows = [self._hear(waveform) for waveform in waveforms]
        log_probs = np.full((len(rows), max(map(len, rows)), self.tokenizer.size), np.log(1e-6), np.float32)
        for each, row in zip(log_probs, rows, strict=True):
            each[np.arange(len(row)), row] = np.log(0.9)
        if self.is_unsure:
            b, d = self.tokenizer.encode("BD")
            log_probs[log_probs[..., b] > -1, d] = np.log(0.1)
        return log_probs, np.array([len(row) for row in rows], np.int32)

    def _hear(self, waveform: NDArray[np.float32]) -> NDArray[np.intp]:
        padded = np.pad(waveform, (0, -len(waveform) % FRAME)).reshape(-1, FRAME)
        spectrum = np.abs(np.fft.rfft(padded * np.hanning(FRAME)))
        hertz = spectrum.argmax(axis=1) * RATE_HZ / FRAME
        letters = list(TONES_HZ)
        labels = self.tokenizer.encode("".join(letters))
        nearest = np.abs(hertz[:, None] - np.array([TONES_HZ[c] for c in letters])).argmin(axis=1)
        heard: NDArray[np.intp] = labels[nearest].astype(np.intp)
        quiet = np.sqrt((padded**2).mean(axis=1)) < 0.05
        heard[quiet] = self.tokenizer.blank_id
        for start, end in np.flatnonzero(np.diff(quiet.astype(int), prepend=0, append=0)).reshape(-1, 2):
            if end - start >= SPACE_FRAMES:
                heard[start:end] = self.tokenizer.encode("A A")[1]
        return heard
