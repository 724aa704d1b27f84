"""Recordings to text: any format and rate, files and folders, with the time of every word."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindspore import Tensor
from tqdm import tqdm

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import measure_duration_seconds, read_sound
from mindaudio_ds2.audio.sound_files import find_sounds, show_path
from mindaudio_ds2.batching.collate import collate
from mindaudio_ds2.batching.plan import plan_evaluation
from mindaudio_ds2.batching.shapes import BatchShape, FixedShapes
from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.model.deepspeech2 import Recognizer, feature_signature
from mindaudio_ds2.ops.library import find_kernels
from mindaudio_ds2.text.alphabet import Alphabet


@dataclass(frozen=True)
class Transcription:
    """A recording and what was recognised in it.

    Attributes:
        path: as it was given, or as it was found in a folder.
        duration_seconds: of the recording; 0 where it could not be read.
        hypothesis: None where the recording could not be read.
        problem: why it could not; empty otherwise.
        notes: what is strange about the sound, a line each.
        others: the next best hypotheses, where the decoder keeps some.
    """

    path: Path
    duration_seconds: float
    hypothesis: Hypothesis | None
    problem: str
    notes: tuple[str, ...] = ()
    others: tuple[Hypothesis, ...] = ()


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
    """A checkpoint's network, features and alphabet, ready for recordings.

    Args:
        checkpoint_path: a checkpoint of ours.
        kernels: the library of native kernels, from `runtime.start`, or None.
        choice: the decoder; None decodes greedily.

    Raises:
        CheckpointError, LanguageModelError: it, or the decoder, cannot be used.
    """

    def __init__(
        self, checkpoint_path: str | Path, kernels: Path | None = None, choice: DecoderChoice | None = None
    ) -> None:
        checkpoint = load_checkpoint(checkpoint_path)
        self.config = checkpoint.config
        self.alphabet = Alphabet(self.config.text)
        choice = choice or DecoderChoice()
        library = find_kernels("auto", "CPU") if choice.kind == "beam" else None
        self.decoder = choice.open(self.alphabet, self.config.seconds_per_output_frame, library)
        network = restore_network(checkpoint, str(checkpoint_path), kernels)
        self.recognizer = Recognizer(network)
        self.recognizer.set_train(False)
        self.takes_open_shapes = network.takes_open_shapes
        if network.takes_open_shapes:
            self.recognizer.set_inputs(*feature_signature(self.config.features.num_bins))

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
        no_labels, num_frames = [0] * len(durations), self.config.features.num_frames
        shapes = None if self.takes_open_shapes else FixedShapes(durations, no_labels, self.config, is_augmented=False)
        plan = plan_evaluation(durations, self.config.batching, num_frames=num_frames, shapes=shapes)
        with tqdm(total=sum(durations), desc="transcribing", unit="s of audio", disable=None, delay=2) as bar:
            for batch in plan:
                files = {readable[i]: paths[readable[i]] for i in batch.indices}
                seconds = {readable[i]: durations[i] for i in batch.indices}
                results.update(self._transcribe_batch(files, seconds, batch.shape))
                bar.update(round(sum(seconds.values()), 1))
        ordered = tuple(results[index] for index in range(len(paths)))
        return TranscriptionRun(ordered, time.monotonic() - started)

    def _transcribe_batch(
        self, files: dict[int, Path], seconds: dict[int, float], shape: BatchShape | None
    ) -> dict[int, Transcription]:
        results: dict[int, Transcription] = {}
        examples, notes = [], dict[int, tuple[str, ...]]()
        for index, path in files.items():
            try:
                sound = read_sound(path, self.config.features.sample_rate_hz)
                notes[index] = tuple(note.text for note in sound.notes)
                examples.append(
                    (index, compute_features(sound.waveform, self.config.features), self.alphabet.encode(""))
                )
            except AudioError as error:
                results[index] = Transcription(path, 0.0, None, str(error))
        if examples:
            if shape and max(len(features) for _, features, _ in examples) > shape.num_frames:
                shape = None  # a file lasts longer than it says
            batch = collate(examples, self.alphabet.blank_id, shape)
            outputs = self.recognizer(Tensor(batch.features), Tensor(batch.feature_lengths))
            log_probs, lengths = (output.asnumpy()[: len(examples)] for output in outputs)
            for index, rows, length in zip(batch.indices.tolist(), log_probs, lengths, strict=True):
                spoken, *others = (_end_with(found, seconds[index]) for found in self.decoder.decode(rows[:length]))
                results[index] = Transcription(files[index], seconds[index], spoken, "", notes[index], tuple(others))
        return results


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
    """A JSON list: path, duration in seconds, text, score, words with times and confidence; or path and problem."""
    rows: list[dict[str, Any]] = []
    for t in run.transcriptions:
        if t.hypothesis is None:
            rows.append({"path": show_path(t.path), "problem": t.problem})
        else:
            spoken = dataclasses.asdict(t.hypothesis)
            others = [dataclasses.asdict(other) for other in t.others]
            row = {"path": show_path(t.path), "duration_seconds": t.duration_seconds, **spoken}
            rows.append(row | ({"nbest": [spoken, *others]} if others else {}))
    return json.dumps(rows, indent=2, ensure_ascii=False)
