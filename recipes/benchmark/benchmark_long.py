#!/usr/bin/env python3
"""What becomes of recordings when they are joined to a long one: errors, every second, speed and memory.

    python recipes/benchmark/benchmark_long.py runs/synthetic/best.ckpt data/synthetic/test.jsonl
    python recipes/benchmark/benchmark_long.py runs/an4/best.ckpt data/an4/test.jsonl --vad silero --hours 0

The manifest's recordings are recognised one by one; joined, as they are, to one of `--minutes`; and joined again and
again to one of `--hours`, in which the memory of this process is watched.
"""

import argparse
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.decoding.metrics import ErrorCounts, count_errors
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.segmentation.sources import VADS, Hearing
from mindaudio_ds2.transcribe import Recognizer
from mindaudio_ds2.transcription import Transcription, TranscriptionRun


class MemoryWatch:
    """Notes this process's memory while it works: what it holds of its own (MB), twice a second."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        started, page = time.monotonic(), os.sysconf("SC_PAGE_SIZE")
        while not self._is_over.wait(0.5):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page / 1e6
            self.rows.append((time.monotonic() - started, resident))

    def summarize(self, audio_hours: float) -> dict[str, float]:
        """Peak, and the slope over the second half of the work, by the hour of audio."""
        times, sizes = np.array(self.rows).T
        later = times > times[-1] / 2
        slope = np.polyfit(times[later], sizes[later], 1)[0] * times[-1] / audio_hours
        return {"peak_mb": round(float(sizes.max())), "slope_mb_per_hour_of_audio": round(float(slope), 1)}


def join(utterances: Sequence[Utterance], seconds: float, rate_hz: int, path: Path) -> list[Utterance]:
    """Write recordings to one file, from the first again when they are at an end; returns which ones, in order."""
    chosen: list[Utterance] = []
    with soundfile.SoundFile(path, "w", rate_hz, 1, "PCM_16") as file:
        for each in itertools.cycle(utterances):
            if file.tell() >= seconds * rate_hz:
                return chosen
            file.write(read_audio(each.audio_path, rate_hz))
            chosen.append(each)
    raise AssertionError("a cycle has no end")


def find_uncovered_seconds(transcription: Transcription) -> float:
    """How many seconds are neither in what was recognised nor in a listed silence."""
    reached = lost = 0.0
    for start, end in sorted([*transcription.recognized, *transcription.silences]):
        lost += max(0.0, start - reached)
        reached = max(reached, end)
    return lost + max(0.0, transcription.duration_seconds - reached)


def count_run_errors(recognizer: Recognizer, utterances: Sequence[Utterance], run: TranscriptionRun) -> ErrorCounts:
    """Errors of a run over the recordings of utterances; whatever could not be read is wrong as a whole."""
    normalize = recognizer.network.tokenizer.normalize
    pairs = zip(utterances, run.transcriptions, strict=True)
    return sum((count_errors(normalize(each.transcript), found.text) for each, found in pairs), ErrorCounts())


def measure(recognizer: Recognizer, manifest: str, minutes: float, hours: float) -> Iterator[dict[str, Any]]:
    """A row for the recordings one by one, one for them joined, one for the longest."""
    utterances = list(read_manifest(manifest))
    tokenizer, rate_hz = recognizer.network.tokenizer, recognizer.network.features.sample_rate_hz
    recognizer.run([Path(each.audio_path) for each in utterances[:2]])  # compiles
    single = recognizer.run([Path(each.audio_path) for each in utterances])
    yield {"case": "one by one", **_describe(single, count_run_errors(recognizer, utterances, single))}
    with tempfile.TemporaryDirectory() as folder:
        for case, seconds in (("joined", 60 * minutes), ("watched", 3600 * hours)):
            if not seconds:
                continue
            path = Path(folder) / "long.wav"
            chosen = join(utterances, seconds, rate_hz, path)
            with MemoryWatch() as watch:
                run = recognizer.run([path])
            (found,) = run.transcriptions
            reference = " ".join(tokenizer.normalize(each.transcript) for each in chosen)
            row = {"case": case, "segments": len(found.recognized), "silences": len(found.silences)}
            row |= {"uncovered_seconds": round(find_uncovered_seconds(found), 3)}
            if case == "joined":
                yield {**row, **_describe(run, count_errors(reference, found.text))}
            else:
                yield {**row, **_describe(run, None), **watch.summarize(run.audio_seconds / 3600)}


def _describe(run: TranscriptionRun, counts: ErrorCounts | None) -> dict[str, Any]:
    errors = {"words": counts.num_words, "wer": round(counts.wer, 4), "cer": round(counts.cer, 4)} if counts else {}
    speed = run.audio_seconds / run.wall_seconds
    return {**errors, "audio_seconds": round(run.audio_seconds, 1), "times_real_time": round(speed, 1)}


@exit_on_error
def main() -> None:
    """Parse, measure, print a JSON line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint or .onnx (path)")
    parser.add_argument("manifest", help="of recordings with their transcripts (path)")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the recording whose errors are counted")
    parser.add_argument("--hours", type=float, default=3.0, help="of the recording in which memory is watched")
    parser.add_argument("--vad", default="energy", choices=VADS, help="as in transcribe.py")
    options = parser.parse_args()
    recognizer = Recognizer.load(options.model, hearing=Hearing(options.vad))
    for row in measure(recognizer, options.manifest, options.minutes, options.hours):
        print(json.dumps({"model": options.model, "vad": options.vad, **row}), flush=True)


if __name__ == "__main__":
    main()
