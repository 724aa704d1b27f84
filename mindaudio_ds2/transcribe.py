"""Recordings to text: any format and rate, files and folders, with the time of every word."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import console, models
from mindaudio_ds2.audio.sound_files import find_sounds, require_named, show_path
from mindaudio_ds2.batching.plan import BatchSpec
from mindaudio_ds2.batching.shapes import BatchShape
from mindaudio_ds2.decoding.choice import DecoderChoice, find_choice
from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.errors import AudioError, ConfigError, DeviceError
from mindaudio_ds2.network_config import FeatureConfig
from mindaudio_ds2.ops.library import find_kernels
from mindaudio_ds2.segmentation.pool import Pool, Row
from mindaudio_ds2.segmentation.sources import Ear, Hearing, Samples, Source, measure, say_silent, show_source
from mindaudio_ds2.segmentation.stitching import part_segments, stitch
from mindaudio_ds2.segmentation.word_times import WordPlacer
from mindaudio_ds2.streaming.events import ENDPOINTING, Endpointing
from mindaudio_ds2.streaming.segments import SegmentStream
from mindaudio_ds2.streaming.stream import LiveStream, Stream, StreamingModel
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.transcription import Span, Transcription, TranscriptionRun

Listed = list[str] | list[Path] | list[Samples] | list[str | Path | Samples] | tuple[str | Path | Samples, ...]


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
    tokenizer: Tokenizer
    seconds_per_output_frame: float
    longest_seconds: float

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
        hearing: how long recordings are cut, and what becomes of several channels.

    Raises:
        ConfigError, LanguageModelError: the decoder or the detector of speech cannot be used.
    """

    def __init__(
        self, network: AcousticModel, choice: DecoderChoice | None = None, hearing: Hearing | None = None
    ) -> None:
        choice, hearing = choice or DecoderChoice(), hearing or Hearing()
        self.ear = Ear(hearing, network.features.sample_rate_hz, network.longest_seconds)
        library = find_kernels("auto", "CPU") if choice.kind == "beam" else None
        self.network = network
        self.placer = WordPlacer(network.tokenizer, network.seconds_per_output_frame, self.ear.rate_hz)
        self.decoder = choice.open(network.tokenizer, network.seconds_per_output_frame, library)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        device_target: str = "CPU",
        choice: DecoderChoice | None = None,
        hearing: Hearing | None = None,
        weights: Literal["fp32", "bf16", "int8"] = "fp32",
        num_threads: int = 0,
    ) -> "Recognizer":
        """Open a trained network.

        Args:
            path: a checkpoint of ours; a file in `.onnx` of `export.py`, for which MindSpore is not needed; or the name
                of a model, see `models.find_file`. None is the model "english".
            device_target: CPU, GPU or Ascend; for other than the CPU a model's checkpoint is taken.
            choice: the decoder; None takes the decoder.json beside the network, or decodes greedily.
            hearing: as above.
            weights: int8 rounds the recurrent layers of a checkpoint to eight bits, bf16 multiplies them and the
                convolutions in bfloat16, both on the CPU; of a model, too, the checkpoint is taken.
            num_threads: of onnxruntime, for an `.onnx`; 0 for one a core.

        Raises:
            CheckpointError: it cannot be used.
            ConfigError: an .onnx file was to be rounded.
            DeviceError: there is no such device, an .onnx file cannot use it, onnxruntime is missing, or there are no
                kernels for such weights, or the processor cannot.
        """
        takes_onnx = device_target == "CPU" and weights == "fp32"
        path = models.find_file(path, "recognition" if takes_onnx else "weights")
        if path.suffix == ".onnx" and device_target != "CPU":
            raise DeviceError(f"{path} runs on the CPU; for device_target {device_target} name a checkpoint (X.ckpt)")
        if path.suffix == ".onnx" and weights != "fp32":
            raise ConfigError(
                f"{path} is computed with the weights that it holds; for --weights {weights} name a checkpoint "
                "(X.ckpt), or for int8 write such a file with export.py --file_format ONNX --weights int8"
            )
        choice = choice or find_choice(path)
        if path.suffix == ".onnx":
            from mindaudio_ds2.portable.stream import open_onnx

            return cls(open_onnx(path, num_threads), choice, hearing)
        models.require_kind(path, "recognition")  # found out before MindSpore's seconds
        from mindaudio_ds2.machine import runtime

        started = runtime.start_recognizing(device_target, weights=weights)
        from mindaudio_ds2.recognition import CheckpointNetwork

        return cls(CheckpointNetwork(path, started), choice, hearing)

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
            AudioError: a single recording cannot be read, a path does not exist, a folder holds no sound, or `source`
                is something else.
        """
        if isinstance(source, np.ndarray):
            if rate_hz is None:
                raise AudioError("samples mean nothing without their rate; give rate_hz, such as 16000")
            return self._transcribe_one(Samples(source, rate_hz))
        if isinstance(source, (str, Path)):
            require_named(source)
            if Path(source).is_dir():
                raise AudioError(f"{show_path(source)} is a folder; give it in a list: transcribe([folder])")
            return self._transcribe_one(Path(source))
        ours = isinstance(source, list | tuple)
        strangers = [one for one in source if not isinstance(one, str | Path | Samples)] if ours else [source]
        if strangers:
            raise AudioError(
                f"a {type(strangers[0]).__name__} cannot be transcribed; give a path, an array of samples with "
                "rate_hz, or a list of paths and Samples"
            )
        sources: list[Source] = []
        for one in source:
            sources += [one] if isinstance(one, Samples) else find_recordings([one])
        return list(self.run(sources).transcriptions)

    def _transcribe_one(self, source: Source) -> Transcription:
        transcriptions = self.run([source]).transcriptions
        if len(transcriptions) > 1:
            raise AudioError(
                f"{show_source(source)} has {len(transcriptions)} channels to hear apart; give it in a list"
            )
        if transcriptions[0].problem:
            raise AudioError(transcriptions[0].problem)
        return transcriptions[0]

    def stream(self, rate_hz: int | None = None, endpointing: Endpointing | None = ENDPOINTING) -> LiveStream:
        """Open a live stream: samples in, events out while they are being said; or, where the network needs whole
        utterances, a moment after each pause.

        Args:
            rate_hz: sample rate of what will come (Hz); that of the network where it is not given.
            endpointing: when utterances end; None for one without end.

        Raises:
            AudioError: the rate is impossible (`audio.samples`), or soxr is missing.
            ConfigError: `endpointing` is something else.
        """
        if not isinstance(endpointing, Endpointing | None):
            raise ConfigError(
                f"endpointing is {endpointing!r}; give an Endpointing(silence_seconds, max_seconds) of "
                "mindaudio_ds2.streaming.events, or None for one utterance without end"
            )
        network_hz = self.network.features.sample_rate_hz
        rate_hz = network_hz if rate_hz is None else rate_hz
        if self.network.streaming is None:
            return SegmentStream(self._recognize_segment, rate_hz, network_hz, endpointing)
        return Stream(self.network.streaming, self.decoder, rate_hz, endpointing)

    def _recognize_segment(self, waveform: NDArray[np.float32]) -> Hypothesis:
        found = self._transcribe_one(Samples(waveform, self.network.features.sample_rate_hz))
        assert found.hypothesis is not None, "it would have had a problem"
        return found.hypothesis

    def run(
        self, sources: Sequence[Source], take: Callable[[int, list[Transcription]], None] | None = None
    ) -> TranscriptionRun:
        """Transcribe recordings. One that cannot be read is reported in its place; the others go on.

        With channels heard apart, a recording has a transcription for each, one behind the other.

        Args:
            sources: the recordings.
            take: is given each that was read as soon as all of it is recognised, with its place in `sources`.
        """
        started = time.monotonic()
        durations, results = _measure_all(sources)
        rows: dict[int, list[Row]] = {}  # of what is read, and not all recognised yet
        audio_seconds = 0.0

        def hand_over() -> None:
            nonlocal audio_seconds
            for index in [index for index, own in rows.items() if all(row.is_recognized for row in own)]:
                results[index] = self._assemble_all(sources[index], durations[index], rows.pop(index))
                audio_seconds += durations[index]
                if take:
                    take(index, results[index])

        with _show_progress(sum(durations.values())) as bar:
            pool = Pool(self.recognize_by_batch, hand_over, bar)
            for index in sorted(durations, key=lambda each: durations[each]):
                try:
                    with console.explain_wait(f"reading {show_source(sources[index])}"):
                        opened = self.ear.open(sources[index], durations[index])
                    own = [Row() for _ in range(opened.num_rows)]
                    for seconds, pieces in opened.parts:
                        for number, piece in pieces:
                            pool.add(own[number], piece, opened.num_rows, self.ear.rate_hz)
                        pool.show(seconds)
                except AudioError as error:
                    results[index] = [Transcription(_name(sources[index]), 0.0, None, str(error))]
                    continue
                own[0].notes = opened.notes
                rows[index] = own
                pool.finish_source(durations[index])
            pool.flush()
        ordered = tuple(each for index in range(len(sources)) for each in results[index])
        return TranscriptionRun(ordered, time.monotonic() - started, audio_seconds)

    def recognize(self, waveforms: Sequence[NDArray[np.float32]]) -> list[list[Hypothesis]]:
        """The hypotheses of each waveform (num_samples,) at the network's rate, best first; none is cut."""
        found: dict[int, list[Hypothesis]] = {}
        for batch in self.recognize_by_batch(waveforms):
            found |= batch
        return [found[index] for index in range(len(waveforms))]

    def recognize_by_batch(self, waveforms: Sequence[NDArray[np.float32]]) -> Iterator[dict[int, list[Hypothesis]]]:
        """As `recognize`, by their places, those that are recognised side by side as soon as they are."""
        rate_hz = self.ear.rate_hz
        for batch in self.network.plan([len(each) / rate_hz for each in waveforms]):
            found: dict[int, list[Hypothesis]] = {}
            chosen = [waveforms[index] for index in batch.indices]
            log_probs, lengths = self.network.recognize(chosen, batch.shape)
            for index, rows, length in zip(batch.indices, log_probs, lengths, strict=True):
                own = rows[:length]
                found[index] = [self.placer.place(h, own, waveforms[index]) for h in self.decoder.decode(own)]
            yield found

    def _number_channel(self, row: int) -> int | None:
        """The number (from 1) of the channel that a waveform is; None for the mean of all."""
        channels = self.ear.hearing.channels
        return channels if isinstance(channels, int) else row + 1 if channels == "split" else None

    def _assemble_all(self, source: Source, duration_seconds: float, own: list[Row]) -> list[Transcription]:
        silent = [self._number_channel(number) for number, row in enumerate(own) if not row.found]
        own[0].notes += say_silent(show_source(source), silent, len(own))
        return [self._assemble(source, duration_seconds, number, row) for number, row in enumerate(own)]

    def _assemble(self, source: Source, duration_seconds: float, number: int, row: Row) -> Transcription:
        rate_hz = self.ear.rate_hz
        spoken = [row.found[place] for place in sorted(row.found)]
        best = stitch(row.stretches, [each[0] for each in spoken], rate_hz)
        rest = spoken[0][1:] if len(spoken) == 1 else []
        others = tuple(stitch(row.stretches, [each], rate_hz) for each in rest)
        parted = part_segments(row.stretches)
        spans = [(each.is_speech, Span(each.start / rate_hz, each.end / rate_hz)) for each in parted]
        return Transcription(
            path=_name(source),
            duration_seconds=duration_seconds,
            hypothesis=best,
            problem="",
            notes=row.notes,
            others=others,
            channel=self._number_channel(number),
            recognized=tuple(span for is_speech, span in spans if is_speech),
            silences=tuple(span for is_speech, span in spans if not is_speech),
        )


def _name(source: Source) -> Path:
    return Path() if isinstance(source, Samples) else source


def _measure_all(sources: Sequence[Source]) -> tuple[dict[int, float], dict[int, list[Transcription]]]:
    """Durations of those that can be read, by their places, and what is to be said of the others."""
    durations: dict[int, float] = {}
    problems: dict[int, list[Transcription]] = {}
    with console.explain_wait(f"measuring {len(sources)} recordings"):
        for index, source in enumerate(sources):
            try:
                durations[index] = measure(source)
            except AudioError as error:
                problems[index] = [Transcription(_name(source), 0.0, None, str(error))]
    return durations, problems


def _show_progress(seconds: float) -> Any:
    """A bar over seconds of audio; without `tqdm`, which recognition alone does not need, there is none."""
    try:
        from tqdm import tqdm
    except ImportError:
        return contextlib.nullcontext()
    return tqdm(total=seconds, desc="transcribing", unit="s of audio", disable=None, delay=2)
