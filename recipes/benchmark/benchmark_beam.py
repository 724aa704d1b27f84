#!/usr/bin/env python3
"""How long the beam search takes for a quarter of a minute of speech, and for noise.

python recipes/benchmark/benchmark_beam.py runs/deepspeech2_mini/best.ckpt data/librispeech_mini/dev.jsonl --lm en.lm

The log-probabilities are computed first and count for nothing. Times are of one core (processor time), the least of
three. The poorer the network, the more prefixes are likely, and the longer it takes; noise is the worst there is.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.decoding.choice import Decoder, add_decoding_options, read_choice
from mindaudio_ds2.errors import ConfigError, exit_on_error
from mindaudio_ds2.transcribe import Recognizer

LogProbs = NDArray[np.float32]
SECONDS = 15.0


def measure_seconds(decoder: Decoder, log_probs: LogProbs) -> float:
    """Processor time of decoding (S, V) log-probabilities (s)."""
    times = []
    for _ in range(3):
        started = time.thread_time()
        decoder.decode(log_probs)
        times.append(time.thread_time() - started)
    return min(times)


def hear(recognizer: Recognizer, manifest: Path, num_utterances: int) -> list[LogProbs]:
    """Log-probabilities of the utterances whose durations are closest to `SECONDS`.

    Raises:
        ConfigError: there are none between 10 and 20 s.
    """
    utterances = [each for each in read_manifest(manifest) if 10 <= each.duration_seconds <= 20]
    if not utterances:
        raise ConfigError(f"{manifest} has no utterance between 10 and 20 s; name another manifest")
    utterances.sort(key=lambda each: abs(each.duration_seconds - SECONDS))
    rate_hz = recognizer.network.features.sample_rate_hz
    found = []
    for utterance in utterances[:num_utterances]:
        log_probs, lengths = recognizer.network.recognize([read_audio(utterance.audio_path, rate_hz)])
        found.append(log_probs[0, : lengths[0]])
    return found


def make_noise(num_frames: int, num_labels: int) -> LogProbs:
    """Log-probabilities (S, V) that mean nothing."""
    logits = np.random.default_rng(0).standard_normal((num_frames, num_labels))
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), np.float32)


@exit_on_error
def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="checkpoint or .onnx (path)")
    parser.add_argument("manifest", metavar="M.jsonl", type=Path, help="of speech, some of it about 15 s long (path)")
    parser.add_argument("--num_utterances", type=int, default=20, help="default: 20")
    add_decoding_options(parser)
    options = parser.parse_args()
    choice = read_choice(options, options.model)
    if choice is None or choice.kind != "beam":
        raise ConfigError("there is no beam to measure: give --decoder beam, --lm or a decoder.json")
    recognizer = Recognizer.load(options.model, choice=choice)
    log_probs = hear(recognizer, options.manifest, options.num_utterances)
    times = [measure_seconds(recognizer.decoder, rows) for rows in log_probs]
    num_frames = round(np.mean([*map(len, log_probs)]))
    print(f"{choice.describe()['decoder']}, {len(times)} utterances of about {num_frames} frames")
    print(f"speech  {np.median(times):.3f} s in the middle, {max(times):.3f} s at most")
    noise = make_noise(num_frames, log_probs[0].shape[1])
    print(f"noise   {measure_seconds(recognizer.decoder, noise):.3f} s")


if __name__ == "__main__":
    main()
