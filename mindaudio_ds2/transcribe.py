"""Recordings to text: any format and rate, files and folders, with the time of every word."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.io import measure_duration_seconds, read_sound
from mindaudio_ds2.audio.sound_files import find_sounds, show_path
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.decoding.greedy import decode_greedy
from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.machine.backend import STOCK, Backend


@dataclass(frozen=True)
class Transcription:
    """A recording and what was recognised in it.

    Attributes:
        path: as it was given, or as it was found in a folder.
        duration_seconds: of the recording; 0 where it could not be read.
        hypothesis: None where the recording could not be read.
        problem: why it could not; empty otherwise.
        notes: what is strange about the sound, a line each.
    """

    path: Path
    duration_seconds: float
    hypothesis: Hypothesis | None
    problem: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TranscriptionRun:
    """All recordings of one call, in the order given, and what they took."""

    transcriptions: tuple[Transcription, ...]
    wall_seconds: float

    @property
    def problems(self) -> list[str]:
        """One line for each recording that could not be read."""
        return [t.problem for t in self.transcriptions if t.problem]

    @property
    def notes(self) -> list[str]:
        """What is strange about the recordings that were read, a line each."""
        return [note for t in self.transcriptions for note in t.notes]

    @property
    def audio_seconds(self) -> float:
        """Duration of all recordings that were read."""
        return sum(t.duration_seconds for t in self.transcriptions)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are, and every sound file below a folder; what is passed over is named on stderr.

    Raises:
        AudioError: a path does not exist, or a folder holds no sound file.
    """
    found = find_sounds(paths)
    for line in found.skipped:
        print(line, file=sys.stderr)
    return found.paths


class Transcriber:
    """A network with its features and alphabet, ready for recordings.

    Args:
        path: a checkpoint of ours; or a file in `.onnx` of `export.py`, for which MindSpore is not needed.
        backend: how this process computes, from `runtime.start`.

    Raises:
        CheckpointError: it cannot be used.
    """

    def __init__(self, path: str | Path, backend: Backend = STOCK) -> None:
        self.network = _open_network(Path(path), backend)

    def run(self, paths: Sequence[Path]) -> TranscriptionRun:
        """Transcribe recordings. One that cannot be read is reported in its place; the others go on."""
        started = time.monotonic()
        results: dict[int, Transcription] = {}
        readable, durations = [], []
        for index, path in enumerate(paths):
            try:
                durations.append(measure_duration_seconds(path))
                readable.append(index)
            except AudioError as error:
                results[index] = Transcription(path, 0.0, None, str(error))
        with _show_progress(sum(durations)) as bar:
            for batch in self.network.plan(durations):
                files = {readable[i]: paths[readable[i]] for i in batch.indices}
                seconds = {readable[i]: durations[i] for i in batch.indices}
                results.update(self._transcribe_batch(files, seconds, batch.shape))
                if bar is not None:
                    bar.update(round(sum(seconds.values()), 1))
        ordered = tuple(results[index] for index in range(len(paths)))
        return TranscriptionRun(ordered, time.monotonic() - started)

    def _transcribe_batch(
        self, files: dict[int, Path], seconds: dict[int, float], shape: BatchShape | None
    ) -> dict[int, Transcription]:
        results: dict[int, Transcription] = {}
        waveforms: dict[int, NDArray[np.float32]] = {}
        notes: dict[int, tuple[str, ...]] = {}
        for index, path in files.items():
            try:
                sound = read_sound(path, self.network.features.sample_rate_hz)
                waveforms[index], notes[index] = sound.waveform, tuple(note.text for note in sound.notes)
            except AudioError as error:
                results[index] = Transcription(path, 0.0, None, str(error))
        if waveforms:
            log_probs, lengths = self.network.recognize(list(waveforms.values()), shape)
            seconds_per_frame = self.network.seconds_per_output_frame
            hypotheses = decode_greedy(log_probs, lengths, self.network.alphabet, seconds_per_frame)
            for index, hypothesis in zip(waveforms, hypotheses, strict=True):
                spoken = _end_with(hypothesis, seconds[index])
                results[index] = Transcription(files[index], seconds[index], spoken, "", notes[index])
        return results


def _open_network(path: Path, backend: Backend) -> Any:
    """A `CheckpointNetwork` or `OnnxNetwork`. MindSpore is imported for the first alone."""
    if path.suffix == ".onnx":
        from mindaudio_ds2.portable.network import OnnxNetwork

        return OnnxNetwork(path)
    from mindaudio_ds2.recognition import CheckpointNetwork

    return CheckpointNetwork(path, backend)


def _show_progress(seconds: float) -> Any:
    """A bar over seconds of audio; without `tqdm`, which recognition alone does not need, there is none."""
    try:
        from tqdm import tqdm
    except ImportError:
        return contextlib.nullcontext()
    return tqdm(total=seconds, desc="transcribing", unit="s of audio", disable=None, delay=2)


def _end_with(hypothesis: Hypothesis, duration_seconds: float) -> Hypothesis:
    """Let no word outlast the recording: its last output frame may stand for a little more than is there."""
    words = tuple(
        dataclasses.replace(word, end_seconds=min(word.end_seconds, duration_seconds)) for word in hypothesis.words
    )
    return dataclasses.replace(hypothesis, words=words)


def as_text(run: TranscriptionRun) -> str:
    """One line a recording: path, tab, text."""
    return "\n".join(
        f"{show_path(t.path)}\t{t.hypothesis.text}" for t in run.transcriptions if t.hypothesis is not None
    )


def as_json(run: TranscriptionRun) -> str:
    """A JSON list: path, duration in seconds, text, score, words with times; or path and problem."""
    rows: list[dict[str, Any]] = []
    for t in run.transcriptions:
        if t.hypothesis is None:
            rows.append({"path": show_path(t.path), "problem": t.problem})
        else:
            spoken = dataclasses.asdict(t.hypothesis)
            rows.append({"path": show_path(t.path), "duration_seconds": t.duration_seconds, **spoken})
    return json.dumps(rows, indent=2, ensure_ascii=False)
