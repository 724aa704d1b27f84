"""Sound files of any format, rate and channel count, as waveforms of the configured rate."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio import decoding
from mindaudio_ds2.audio.channels import Channels, choose_rows, find_antiphase, name_channels
from mindaudio_ds2.audio.resampling import resample
from mindaudio_ds2.audio.sound_files import show_path
from mindaudio_ds2.errors import AudioError

LOUDEST_SAMPLE = 100.0
"""40 dB above full scale is more than any recorder's room. Samples beyond this were never scaled to [-1, 1]."""

LARGEST_OVERSHOOT = 1.5
"""Lossy codecs overshoot full scale a little, and that is clipped, as players do."""

LARGEST_OFFSET = 0.015
"""Constants of this size are taken away. Those below stay: the largest in AN4 and LibriSpeech is 0.013, and networks
have been trained with them."""

SILENCE_DBFS = -60.0
CHUNK_FILES = 1024
"""Files that are queued at a time: a queue of a whole corpus would take a gigabyte."""


@dataclass(frozen=True)
class Note:
    """What a listener should know about a file: a kind, for counting, and one line."""

    kind: str
    text: str


@dataclass(frozen=True)
class Sound:
    """What was read from a file.

    Attributes:
        waveforms: `(1, num_samples)` float32 in [-1, 1]; with `channels="split"` a row for each channel.
        rate_hz: of the waveforms (Hz).
        file_rate_hz: the file's own (Hz).
        duration_seconds: the file's samples divided by its rate.
        notes: what was done to the sound, or is strange about it.
    """

    waveforms: NDArray[np.float32]
    rate_hz: int
    file_rate_hz: int
    duration_seconds: float
    notes: tuple[Note, ...]

    @property
    def waveform(self) -> NDArray[np.float32]:
        """The first row, `(num_samples,)`."""
        row: NDArray[np.float32] = self.waveforms[0]
        return row


def read_sound(
    path: str | Path,
    sample_rate_hz: int | None = None,
    channels: Channels = "mix",
    max_seconds: float = float("inf"),
    keeps_offset: bool = False,
) -> Sound:
    """Read a sound file at one sample rate, and say what was found.

    Channels are averaged, unless they cancel, when the loudest is taken. Floating-point samples above full scale are
    scaled down together; a constant of more than `LARGEST_OFFSET`, or larger than the sound itself, is taken away;
    another rate is resampled (soxr, high quality); what still is just beyond full scale is clipped.

    Args:
        path: WAV, FLAC, MP3, Ogg Vorbis and Opus, AIFF, NIST SPHERE (PCM) and others; with the extra `media` also m4a,
            mp4, webm and video. `-` is standard input, and pipes are read, too.
        sample_rate_hz: rate of the result (Hz); None keeps the file's.
        channels: what becomes of several channels.
        max_seconds: an error before reading further than this.
        keeps_offset: whether a constant stays, as in the impulse response of a room, where it means something.

    Returns:
        With n samples in the file, num_samples is exactly ceil(n * sample_rate_hz / file's rate).

    Raises:
        AudioError: missing, not audio, empty, cut off, damaged, of an unlikely rate; samples that are not finite or not
            scaled; or no such channel.
    """
    path = Path(path)
    decoded = decoding.decode(path, max_seconds)
    note = Notes(path, decoded.notes)
    peak = find_peak(path, float(np.abs(decoded.samples).max()), decoded.is_float, note)
    samples = decoded.samples if peak is None else decoded.samples / np.float32(peak)
    rate_hz = sample_rate_hz or decoded.rate_hz
    chosen = _choose_channels(path, samples, channels, note)
    offsets = [0.0 if keeps_offset else _measure_offset(row) for row in chosen]
    note_offsets(offsets, note)
    rows = [
        np.clip(_to_rate(row - np.float32(offset) if offset else row, decoded.rate_hz, rate_hz), -1.0, 1.0)
        for row, offset in zip(chosen, offsets, strict=True)
    ]
    waveforms = rows[0][None] if len(rows) == 1 else np.stack(rows)
    judge(float(np.abs(waveforms).max()), decoded.rate_hz, rate_hz, note)
    seconds = len(samples) / decoded.rate_hz
    return Sound(waveforms, rate_hz, decoded.rate_hz, seconds, note.all)


def read_audio(path: str | Path, sample_rate_hz: int, max_seconds: float = float("inf")) -> NDArray[np.float32]:
    """The waveform alone of `read_sound`, `(num_samples,)` float32 in [-1, 1], all channels averaged."""
    return read_sound(path, sample_rate_hz, max_seconds=max_seconds).waveform


class Notes:
    """What is found in a file, a line each that names it."""

    def __init__(self, path: Path, found: Sequence[tuple[str, str]]) -> None:
        self._path = path
        self._notes: list[Note] = []
        for kind, text in found:
            self(kind, text)

    def __call__(self, kind: str, text: str) -> None:
        """Note another thing."""
        self._notes.append(Note(kind, f"{show_path(self._path)}: {text}"))

    @property
    def all(self) -> tuple[Note, ...]:
        """Those so far."""
        return tuple(self._notes)


def find_peak(path: Path, peak: float, is_float: bool, note: Notes) -> float | None:
    """What all samples of a file are divided by, whose largest is `peak`; None where they stay.

    Raises:
        AudioError: they are not finite, or were never scaled.
    """
    if not np.isfinite(peak):
        raise AudioError(f"{show_path(path)} holds samples that are not finite (NaN or infinity); write the file again")
    if peak > LOUDEST_SAMPLE:
        raise AudioError(
            f"{show_path(path)} reaches {peak:g}, but full scale is 1; divide its samples before writing it"
        )
    if peak > (1.0 if is_float else LARGEST_OVERSHOOT):
        note("scaled", f"it reaches {peak:.3g}, and full scale is 1; all of it is scaled down")
        return peak
    return None


def find_offset(mean: float, deviation: float, num_samples: int) -> float:
    """The constant that is taken away from a waveform; 0 where it stays."""
    return mean if abs(mean) > LARGEST_OFFSET or (abs(mean) > deviation and num_samples > 1) else 0.0


def note_offsets(offsets: Sequence[float], note: Callable[[str, str], None]) -> None:
    """Note the constants that are taken away from one waveform or from several channels, in one line."""
    numbers = [number for number, offset in enumerate(offsets, start=1) if offset]
    if numbers:
        what = f"a constant of {'up to ' if len(numbers) > 1 else ''}{max(offsets, key=abs):.3g}"
        note("offset", f"{what} is taken away from {'it' if len(offsets) == 1 else name_channels(numbers)}")


def judge(peak: float, file_rate_hz: int, rate_hz: int, note: Notes) -> None:
    """Note silence and a rate that is too low."""
    if peak <= 10 ** (SILENCE_DBFS / 20):
        found = f"peaks at {20 * np.log10(peak):.0f} dB" if peak > 0 else "holds only zeros"
        note("silence", f"it {found}; speech peaks above {SILENCE_DBFS:g} dB")
    if file_rate_hz < rate_hz:
        text = f"its sample rate is {file_rate_hz} Hz; above {file_rate_hz // 2} Hz there is nothing to hear, but the "
        note("low rate", f"{text}network listens up to {rate_hz // 2} Hz")


def _choose_channels(
    path: Path, samples: NDArray[np.float32], channels: Channels, note: Notes
) -> list[NDArray[np.float32]]:
    rows = choose_rows(path, samples.shape[1], channels)
    if rows is not None:
        return [samples[:, number] for number in rows]
    mixed = samples.mean(axis=1)
    powers = np.array([np.square(each, dtype=np.float64).mean() for each in samples.T])
    loudest = find_antiphase(float(np.square(mixed, dtype=np.float64).mean()), powers, note)
    return [mixed if loudest is None else samples[:, loudest]]


def _measure_offset(waveform: NDArray[np.float32]) -> float:
    mean, deviation = float(waveform.mean(dtype=np.float64)), float(waveform.std(dtype=np.float64))
    return find_offset(mean, deviation, len(waveform))


def _to_rate(waveform: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """(n,) at one rate to (ceil(n * to / from),) at another."""
    if from_hz == to_hz:
        return waveform
    return resample(waveform, from_hz, to_hz, -(-len(waveform) * to_hz // from_hz))


def measure_duration_seconds(path: str | Path) -> float:
    """Length of a sound file: its samples divided by its rate, at full precision.

    Headers say it where they can be trusted, so that a large corpus is measured in moments; of these the last sample
    is decoded as well. The rest is decoded and counted: MP3, Ogg, what was joined or never finished.

    Args:
        path: any format that `read_sound` reads.

    Returns:
        Duration (seconds).

    Raises:
        AudioError: as `read_sound`, as far as the header and the end of the file tell.
    """
    path = Path(path)
    try:
        return decoding.measure(path)
    except AudioError:
        raise
    except Exception as error:  # as in decoding.decode
        raise AudioError(
            f"{show_path(path)} is damaged or cut off ({decoding.say_reason(error)}); {decoding.FETCH}"
        ) from error


def read_rate_hz(path: str | Path) -> int:
    """A file's own sample rate (Hz), from its header.

    Raises:
        AudioError: as `measure_duration_seconds`.
    """
    return decoding.read_rate_hz(Path(path))


def measure_durations(paths: Sequence[Path], num_workers: int) -> list[float | AudioError]:
    """Measure many files, several at a time, with a bar that shows the time left.

    Args:
        paths: of sound files.
        num_workers: threads (count).

    Returns:
        For each path, in the same order, its duration (seconds), or the error that `measure_duration_seconds` raised.
    """
    from tqdm import tqdm  # here, because recognition alone does without

    durations: list[float | AudioError] = []
    with (
        tqdm(total=len(paths), desc="measuring audio", unit="file", disable=None) as bar,
        ThreadPoolExecutor(num_workers) as pool,
    ):
        for start in range(0, len(paths), CHUNK_FILES):
            for duration in pool.map(_try_to_measure, paths[start : start + CHUNK_FILES]):
                durations.append(duration)
                bar.update()
    return durations


def _try_to_measure(path: Path) -> float | AudioError:
    try:
        return measure_duration_seconds(path)
    except AudioError as error:
        return error


@dataclass(frozen=True)
class Heard:
    """A file that was read to its end: its length (seconds), its own rate (Hz), and what is strange about it."""

    duration_seconds: float
    file_rate_hz: int
    notes: tuple[Note, ...]


def listen(paths: Sequence[Path], num_workers: int) -> list[Heard | AudioError]:
    """Read many files to their end, several at a time, with a bar; in the same order, what was heard, or the error."""
    from tqdm import tqdm

    heard: list[Heard | AudioError] = []
    with (
        tqdm(total=len(paths), desc="reading audio", unit="file", disable=None) as bar,
        ThreadPoolExecutor(num_workers) as pool,
    ):
        for start in range(0, len(paths), CHUNK_FILES):
            for each in pool.map(_try_to_listen, paths[start : start + CHUNK_FILES]):
                heard.append(each)
                bar.update()
    return heard


def _try_to_listen(path: Path) -> Heard | AudioError:
    try:
        sound = read_sound(path)
    except AudioError as error:
        return error
    return Heard(sound.duration_seconds, sound.file_rate_hz, sound.notes)
