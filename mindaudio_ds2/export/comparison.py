"""Whether a file says what its checkpoint says: log-probabilities of trial sounds, word errors on a manifest."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray
from tqdm import tqdm

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.decoding.greedy import decode_greedy
from mindaudio_ds2.decoding.metrics import ErrorCounts, count_errors
from mindaudio_ds2.model.deepspeech2 import Recognizer
from mindaudio_ds2.network_config import FeatureConfig
from mindaudio_ds2.portable.description import Description
from mindaudio_ds2.portable.network import OnnxNetwork
from mindaudio_ds2.portable.stream import OnnxStreamingNetwork
from mindaudio_ds2.text.tokenizer import Tokenizer

Waveform = NDArray[np.float32]
LogProbs = NDArray[np.float32]
Recognise = Callable[[Sequence[Waveform]], list[LogProbs]]
"""From waveforms, recognised side by side, to the log-probabilities (S, V) of each."""

TRIAL_SECONDS = (2.0, 0.7, 0.05, 1.3)
CHUNK_FRAMES = 32  # of a stream
BATCH_UTTERANCES = 8


def make_trial_waveforms(config: FeatureConfig) -> list[Waveform]:
    """Sounds of several lengths that swell and fade like syllables over a little noise; the same at each call."""
    generator, waveforms = np.random.default_rng(0), []
    for seconds in TRIAL_SECONDS:
        times = np.arange(max(1, round(seconds * config.sample_rate_hz))) / config.sample_rate_hz
        voice = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 20))
        noise = generator.standard_normal(len(times))
        swell = np.abs(np.sin(2 * np.pi * 2 * times)) ** 3
        waveforms.append((0.05 * swell * (voice + noise) + 0.003 * noise).astype(np.float32))
    return waveforms


def recognise_with_mindspore(recognizer: Recognizer, config: FeatureConfig) -> Recognise:
    """The checkpoint's own network, with features computed by NumPy."""

    def recognise(waveforms: Sequence[Waveform]) -> list[LogProbs]:
        features = [compute_features(waveform, config) for waveform in waveforms]
        lengths = np.array([*map(len, features)], np.int32)
        padded = np.zeros((len(features), lengths.max(), config.num_bins), np.float32)
        for row, frames in zip(padded, features, strict=True):
            row[: len(frames)] = frames
        log_probs, lengths = recognizer.hear(Tensor(padded), Tensor(lengths), len(features))
        return [row[:length] for row, length in zip(log_probs, lengths, strict=True)]

    return recognise


def recognise_with_onnx(path: Path, is_stream: bool) -> tuple[Recognise, Description]:
    """A file, loaded as a program without MindSpore loads it; and what stands in it."""
    if not is_stream:
        network = OnnxNetwork(path)

        def recognise(waveforms: Sequence[Waveform]) -> list[LogProbs]:
            log_probs, lengths = network.recognize(waveforms)
            return [row[:length] for row, length in zip(log_probs, lengths, strict=True)]

        return recognise, network.description
    streaming = OnnxStreamingNetwork(path)

    def recognise_in_chunks(waveforms: Sequence[Waveform]) -> list[LogProbs]:
        found = []
        for waveform in waveforms:
            stream, features = streaming.start_stream(), compute_features(waveform, streaming.features)
            chunks = [features[i : i + CHUNK_FRAMES] for i in range(0, len(features), CHUNK_FRAMES)]
            found.append(np.concatenate([*map(stream.feed, chunks), stream.finish()]))
        return found

    return recognise_in_chunks, streaming.description


def find_largest_difference(expected: Recognise, actual: Recognise, waveforms: Sequence[Waveform]) -> float:
    """Between log-probabilities, with all waveforms in one batch and with each alone; infinite if lengths differ.

    Below -10 it counts as a share of a tenth of the value: float32 has no more digits there, and whether a label has
    one chance in e^20 or a little more decides nothing.
    """
    largest = 0.0
    for batch in (list(waveforms), *([waveform] for waveform in waveforms)):
        for ours, theirs in zip(expected(batch), actual(batch), strict=True):
            if ours.shape != theirs.shape:
                return np.inf
            difference = np.abs(ours - theirs) / np.maximum(1.0, np.abs(ours) / 10)
            largest = float(np.maximum(largest, difference.max(initial=0.0)))  # NaN stays, where max would lose it
    return largest


def count_manifest_errors(
    recognise: Recognise, utterances: Sequence[Utterance], description: Description, what: str
) -> ErrorCounts:
    """Greedy word errors over a manifest.

    Args:
        recognise: the network.
        utterances: all are scored.
        description: features and labels.
        what: names the bar.

    Raises:
        AudioError: an utterance cannot be read.
    """
    tokenizer, counts = Tokenizer(description.text), ErrorCounts()
    ordered = sorted(utterances, key=lambda utterance: utterance.duration_seconds)
    with tqdm(total=len(ordered), desc=f"scoring {what}", unit="utterance", disable=None, delay=2) as bar:
        for start in range(0, len(ordered), BATCH_UTTERANCES):
            batch = ordered[start : start + BATCH_UTTERANCES]
            rate_hz = description.features.sample_rate_hz
            found = recognise([read_audio(utterance.audio_path, rate_hz) for utterance in batch])
            for utterance, log_probs in zip(batch, found, strict=True):
                length = np.array([len(log_probs)], np.int32)
                (hypothesis,) = decode_greedy(log_probs[None], length, tokenizer, description.seconds_per_output_frame)
                counts += count_errors(tokenizer.normalize(utterance.transcript), hypothesis.text)
            bar.update(len(batch))
    return counts
