#!/usr/bin/env python3
"""How far the times of recognised words are from a forced alignment by PocketSphinx.

    python recipes/benchmark/benchmark_word_times.py runs/an4/best.ckpt data/an4/test.jsonl

PocketSphinx (`pip install pocketsphinx`) aligns each transcript with its recording, by phones and its own lexicon.
Words that were recognised right are compared; how many, the script says. Recordings are left out that hold a word which
PocketSphinx does not know, or that it cannot align.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.decoding.metrics import align_words
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.transcribe import Recognizer

ALIGNER_RATE_HZ = 16000
ALIGNER_FRAMES_PER_SECOND = 100

Times = tuple[float, float]


class Aligner:
    """PocketSphinx with the English model of its package."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder: Any = Decoder(samprate=ALIGNER_RATE_HZ, lm=None, bestpath=False, loglevel="FATAL")

    def align(self, path: str, transcript: str) -> list[Times] | None:
        """Start and end of each word (seconds); None where it cannot be told."""
        words = transcript.lower().split()
        if any(self._decoder.lookup_word(word) is None for word in words):
            return None
        samples = np.round(32767 * read_audio(path, ALIGNER_RATE_HZ)).astype(np.int16)
        self._decoder.set_align_text(" ".join(words))
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        spoken = [each for each in self._decoder.seg() or () if not each.word.startswith(("<", "["))]
        if [re.sub(r"\(\d+\)$", "", each.word) for each in spoken] != words:
            return None
        rate = ALIGNER_FRAMES_PER_SECOND
        return [(each.start_frame / rate, (each.end_frame + 1) / rate) for each in spoken]


def compare(reference: str, times: Sequence[Times], found: Sequence[Word]) -> list[tuple[float, float]]:
    """Distances of starts and ends (seconds; positive: later than aligned) of the words recognised right."""
    distances, place, number = [], 0, 0
    for aligned in align_words(reference, " ".join(word.text for word in found)):
        if aligned.reference is not None and aligned.reference == aligned.hypothesis:
            word, (start, end) = found[number], times[place]
            distances.append((word.start_seconds - start, word.end_seconds - end))
        place += aligned.reference is not None
        number += aligned.hypothesis is not None
    return distances


def summarize(distances: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Medians and shares of the absolute distances, in milliseconds, starts and ends apart and together."""
    table = 1000 * np.array(distances)
    row: dict[str, Any] = {"words": len(table)}
    for name, column in (("start", table[:, 0]), ("end", table[:, 1]), ("all", table.ravel())):
        row[f"{name}_median_ms"] = round(float(np.median(np.abs(column))), 1)
        row[f"{name}_90_percent_ms"] = round(float(np.percentile(np.abs(column), 90)), 1)
        row[f"{name}_bias_ms"] = round(float(np.median(column)), 1)
    return row


@exit_on_error
def main() -> None:
    """Parse, recognise, align, print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint or .onnx (path)")
    parser.add_argument("manifest", help="of recordings with their transcripts (path)")
    options = parser.parse_args()
    recognizer, aligner = Recognizer.load(options.model), Aligner()
    utterances = read_manifest(options.manifest)
    found = recognizer.run([Path(each.audio_path) for each in utterances]).transcriptions
    distances: list[tuple[float, float]] = []
    num_aligned = 0
    for utterance, transcription in zip(utterances, found, strict=True):
        reference = recognizer.network.tokenizer.normalize(utterance.transcript)
        times = aligner.align(utterance.audio_path, reference)
        if times is not None:
            num_aligned += 1
            distances += compare(reference, times, transcription.words)
    row = {"model": options.model, "manifest": options.manifest, "recordings": num_aligned}
    print(json.dumps({**row, **summarize(distances)}))


if __name__ == "__main__":
    main()
