"""Recordings to text: any format and rate, files and folders, with the time of every word."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import console, models
from mindaudio_ds2.audio.io import measure_duration_seconds, read_sound
from mindaudio_ds2.audio.resampling import resample
from mindaudio_ds2.audio.sound_files import find_sounds, show_path
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.config import FeatureConfig
from mindaudio_ds2.decoding.choice import DecoderChoice, find_choice
from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.decoding.segments import Segment, split_at_pauses
from mindaudio_ds2.errors import AudioError, CheckpointError
from mindaudio_ds2.ops.library import find_kernels
from mindaudio_ds2.streaming.events import ENDPOINTING, Endpointing
from mindaudio_ds2.streaming.segments import SegmentStream
from mindaudio_ds2.streaming.stream import LiveStream, Stream, StreamingModel
from mindaudio_ds2.text.alphabet import Alphabet

LOUDEST_SAMPLES = 4.0
"""Samples beyond this were never scaled to [-1, 1]."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Sound in memory.

    Attributes:
        waveform: `(num_samples,)`, one channel; floating-point numbers in [-1, 1], or 16-bit integers.
        rate_hz: its sample rate (Hz).
    """

    waveform: NDArray[Any]
    rate_hz: int


Source = Path | Samples
Listed = list[str] | list[Path] | list[Samples] | list[str | Path | Samples] | tuple[str | Path | Samples, ...]


@dataclass(frozen=True)
class Transcription:
    """A recording and what was recognised in it.

    Attributes:
        path: as it was given, or as it was found in a folder; empty (".") for samples.
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

    @property
    def text(self) -> str:
        """The words, with one space between them; empty where the recording could not be read."""
        return self.hypothesis.text if self.hypothesis else ""

    @property
    def words(self) -> tuple[Word, ...]:
        """The words with their times and confidence."""
        return self.hypothesis.words if self.hypothesis else ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The words in groups between pauses."""
        return split_at_pauses(self.words)

    @property
    def score(self) -> float:
        """Natural log probability, see `Hypothesis`; NaN where the recording could not be read."""
        return self.hypothesis.score if self.hypothesis else math.nan


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
        console.write_line(line)
    return found.paths


class AcousticModel(Protocol):
    """From sound to log-probabilities: `recognition.CheckpointNetwork`, `portable.network.OnnxNetwork`."""

    features: FeatureConfig
    alphabet: Alphabet
    seconds_per_output_frame: float

    @property
    def streaming(self) -> StreamingModel | None:
        """The same network for sound that is still going on; None where it needs whole utterances."""

    def plan(self, durations_seconds: Sequence[float]) -> Sequence[BatchSpec]:
        """Which recordings are recognised side by side."""

    def recognize(
        self, waveforms: Sequence[NDArray[np.float32]], shape: BatchShape | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Log-probabilities (B, S, V) of waveforms, and the valid frames (B,) of each."""


class Recognizer:
    """A trained network with its features and alphabet: sound in, text out.

    Args:
        network: from sound to log-probabilities; `load` opens one.
        choice: the decoder; greedy unless another is given.

    Raises:
        ConfigError, LanguageModelError: the decoder cannot be used.
    """

    def __init__(self, network: AcousticModel, choice: DecoderChoice | None = None) -> None:
        choice = choice or DecoderChoice()
        library = find_kernels("auto", "CPU") if choice.kind == "beam" else None
        self.network = network
        self.decoder = choice.open(network.alphabet, network.seconds_per_output_frame, library)

    @classmethod
    def load(
        cls, path: str | Path | None = None, device_target: str = "CPU", choice: DecoderChoice | None = None
    ) -> "Recognizer":
        """Open a trained network.

        Args:
            path: a checkpoint of ours; a file in `.onnx` of `export.py`, for which MindSpore is not needed; or the name
                of a model, see `models.find_file`. None is the model "english".
            device_target: CPU, GPU or Ascend; for checkpoints.
            choice: the decoder; None takes the decoder.json beside the network, or decodes greedily.

        Raises:
            CheckpointError: it cannot be used.
            DeviceError: there is no such device, or onnxruntime is missing.
        """
        path = models.find_file(path, "recognition")
        choice = choice or find_choice(path)
        if path.suffix == ".onnx":
            from mindaudio_ds2.portable.stream import open_onnx

            return cls(open_onnx(path), choice)
        if not path.is_file():  # found out before MindSpore's seconds
            raise CheckpointError(f"checkpoint {path} does not exist; name a .ckpt file of a run folder")
        from mindaudio_ds2.machine import runtime

        started = runtime.start(device_target, 0, "auto")
        from mindaudio_ds2.recognition import CheckpointNetwork

        return cls(CheckpointNetwork(path, started), choice)

    @overload
    def transcribe(self, source: str | Path | NDArray[Any], rate_hz: int | None = None) -> Transcription: ...

    @overload
    def transcribe(self, source: Listed) -> list[Transcription]: ...

    def transcribe(
        self, source: str | Path | NDArray[Any] | Listed, rate_hz: int | None = None
    ) -> Transcription | list[Transcription]:
        """Recognise speech.

        Args:
            source: a sound file; or the samples of one channel, which want `rate_hz`; or a list of files, folders and
                `Samples`, which are recognised side by side.
            rate_hz: sample rate of an array (Hz).

        Returns:
            What was said in the file or the samples. For a list, that of every recording in order, files of a folder
            by name; one that cannot be read says why in `problem`, and the others go on.

        Raises:
            AudioError: a single recording cannot be read, a path does not exist, or a folder holds no sound.
        """
        if isinstance(source, np.ndarray):
            if rate_hz is None:
                raise AudioError("samples mean nothing without their rate; give rate_hz, such as 16000")
            return self._transcribe_one(Samples(source, rate_hz))
        if isinstance(source, (str, Path)):
            if Path(source).is_dir():
                raise AudioError(f"{show_path(source)} is a folder; give it in a list: transcribe([folder])")
            return self._transcribe_one(Path(source))
        sources: list[Source] = []
        for one in source:
            sources += [one] if isinstance(one, Samples) else find_recordings([one])
        return list(self.run(sources).transcriptions)

    def _transcribe_one(self, source: Source) -> Transcription:
        (transcription,) = self.run([source]).transcriptions
        if transcription.problem:
            raise AudioError(transcription.problem)
        return transcription

    def stream(self, rate_hz: int | None = None, endpointing: Endpointing | None = ENDPOINTING) -> LiveStream:
        """Open a live stream: samples in, events out while they are being said; or, where the network needs whole
        utterances, a moment after each pause.

        Args:
            rate_hz: sample rate of what will come (Hz); that of the network where it is not given.
            endpointing: when utterances end; None for one without end.

        Raises:
            AudioError: the rate is impossible, or soxr is missing.
        """
        network_hz = self.network.features.sample_rate_hz
        if self.network.streaming is None:
            return SegmentStream(self._recognize_segment, rate_hz or network_hz, network_hz, endpointing)
        return Stream(self.network.streaming, self.decoder, rate_hz or network_hz, endpointing)

    def _recognize_segment(self, waveform: NDArray[np.float32]) -> Hypothesis:
        found = self._transcribe_one(Samples(waveform, self.network.features.sample_rate_hz))
        assert found.hypothesis is not None, "it would have had a problem"
        return found.hypothesis

    def run(self, sources: Sequence[Source]) -> TranscriptionRun:
        """Transcribe recordings. One that cannot be read is reported in its place; the others go on."""
        started = time.monotonic()
        results: dict[int, Transcription] = {}
        readable, durations = [], []
        for index, source in enumerate(sources):
            try:
                durations.append(_measure(source))
                readable.append(index)
            except AudioError as error:
                results[index] = Transcription(_name(source), 0.0, None, str(error))
        with _show_progress(sum(durations)) as bar:
            for batch in self.network.plan(durations):
                chosen = {readable[i]: sources[readable[i]] for i in batch.indices}
                seconds = {readable[i]: durations[i] for i in batch.indices}
                results.update(self._transcribe_batch(chosen, seconds, batch.shape))
                if bar is not None:
                    bar.update(round(sum(seconds.values()), 1))
        ordered = tuple(results[index] for index in range(len(sources)))
        return TranscriptionRun(ordered, time.monotonic() - started)

    def _transcribe_batch(
        self, sources: dict[int, Source], seconds: dict[int, float], shape: BatchShape | None
    ) -> dict[int, Transcription]:
        results: dict[int, Transcription] = {}
        waveforms: dict[int, NDArray[np.float32]] = {}
        notes: dict[int, tuple[str, ...]] = {}
        for index, source in sources.items():
            try:
                waveforms[index], notes[index] = _read(source, self.network.features.sample_rate_hz)
            except AudioError as error:
                results[index] = Transcription(_name(source), 0.0, None, str(error))
        if waveforms:
            log_probs, lengths = self.network.recognize(list(waveforms.values()), shape)
            for index, rows, length in zip(waveforms, log_probs, lengths, strict=True):
                spoken, *others = (_end_with(found, seconds[index]) for found in self.decoder.decode(rows[:length]))
                path = _name(sources[index])
                results[index] = Transcription(path, seconds[index], spoken, "", notes[index], tuple(others))
        return results


def _name(source: Source) -> Path:
    return Path() if isinstance(source, Samples) else source


def _measure(source: Source) -> float:
    if not isinstance(source, Samples):
        return measure_duration_seconds(source)
    if source.waveform.ndim != 1 or source.waveform.size == 0:
        raise AudioError(f"samples must be one channel, (num_samples,), found {source.waveform.shape}")
    if source.rate_hz <= 0:
        raise AudioError(f"a sample rate of {source.rate_hz} Hz is impossible; give the one of the recording")
    return len(source.waveform) / source.rate_hz


def _read(source: Source, rate_hz: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The waveform at the network's rate, and what is strange about it."""
    if not isinstance(source, Samples):
        sound = read_sound(source, rate_hz)
        return sound.waveform, tuple(note.text for note in sound.notes)
    samples = source.waveform
    if samples.dtype == np.int16:
        samples = samples / np.float32(32768)
    if samples.dtype.kind != "f":
        raise AudioError(f"samples must be floating-point in [-1, 1] or int16, found {samples.dtype}")
    if not np.isfinite(samples).all() or np.abs(samples).max() > LOUDEST_SAMPLES:
        raise AudioError("samples are not finite or not scaled; divide them so that full scale is 1")
    return np.clip(_to_rate(samples.astype(np.float32), source.rate_hz, rate_hz), -1, 1), ()


def _to_rate(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    if from_hz == to_hz:
        return samples
    return resample(samples, from_hz, to_hz, -(-len(samples) * to_hz // from_hz))


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
