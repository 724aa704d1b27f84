"""What can be transcribed, files and samples in memory, as pieces that are short enough for the network."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.channels import Channels, name_channels
from mindaudio_ds2.audio.io import measure_duration_seconds, read_sound
from mindaudio_ds2.audio.resampling import resample
from mindaudio_ds2.audio.samples import require_rate, require_samples, to_waveform
from mindaudio_ds2.audio.sound_blocks import SoundBlocks
from mindaudio_ds2.audio.sound_files import show_path
from mindaudio_ds2.errors import AudioError, ConfigError
from mindaudio_ds2.segmentation.cutting import Cutter, Piece, holds_nothing, keep_whole
from mindaudio_ds2.segmentation.detectors import DETECTORS
from mindaudio_ds2.segmentation.segmenter import Segmenter, SegmentLimits

WHOLE, SEARCHING = "none", "silero"
VADS = (*DETECTORS, WHOLE)
"""What `--vad` takes."""

HIGHEST_RATE_HZ = 2**31 - 1
"""Of sound in memory, which may have any rate that a file can have."""

BLOCK_SECONDS = 30.0
"""Of sound in memory, which is cut like that of a file."""


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


@dataclass(frozen=True)
class Hearing:
    """How recordings are listened to.

    Attributes:
        vad: what tells speech from silence: energy, in whose pauses recordings are cut that are longer than what the
            network has learnt; silero, which knows speech from other sounds, and looks for it in all recordings; or
            none to leave them whole.
        channels: what becomes of several channels: mix, split, or the number of one (from 1).

    Raises:
        ConfigError: no such detector.
    """

    vad: str = "energy"
    channels: Channels = "mix"

    def __post_init__(self) -> None:
        if self.vad not in VADS:
            raise ConfigError(f"vad must be one of {', '.join(VADS)}, found {self.vad!r}")


@dataclass(frozen=True, eq=False)
class OpenSource:
    """A recording on its way.

    Attributes:
        num_rows: waveforms: one, or one for each channel.
        notes: what is strange about the sound, a line each.
        parts: in order: the second up to which was read, and (row, piece) of what is certain by then. Reading them may
            raise AudioError.
    """

    num_rows: int
    notes: tuple[str, ...]
    parts: Iterator[tuple[float, list[tuple[int, Piece]]]]


class Ear:
    """Opens recordings for one network.

    Args:
        hearing: what the user wishes.
        rate_hz: that the network hears (Hz).
        longest_seconds: of what it has learnt from; what is longer is cut (s).

    Raises:
        ConfigError: the detector cannot work.
    """

    def __init__(self, hearing: Hearing, rate_hz: int, longest_seconds: float) -> None:
        self.hearing, self.rate_hz = hearing, rate_hz
        self.limits = SegmentLimits(max(1.0, longest_seconds))
        if hearing.vad != WHOLE:
            DETECTORS[hearing.vad](rate_hz)  # fails now rather than at the first long recording

    def open(self, source: Source, duration_seconds: float) -> OpenSource:
        """Begin with a recording of so many seconds, as `measure` gives them.

        Raises:
            AudioError: it cannot be read.
        """
        is_long = duration_seconds > self.limits.max_seconds
        is_cut = self.hearing.vad == SEARCHING or (is_long and self.hearing.vad != WHOLE)
        if is_long and is_cut and not isinstance(source, Samples):
            sound = SoundBlocks(source, self.rate_hz, self.hearing.channels)
            notes = tuple(note.text for note in sound.notes)
            return OpenSource(sound.num_rows, notes, self._cut(sound, sound.num_rows))
        waveforms, notes = self._read(source)
        if is_cut:
            size = round(BLOCK_SECONDS * self.rate_hz)
            blocks = (waveforms[:, start : start + size] for start in range(0, waveforms.shape[1], size))
            return OpenSource(len(waveforms), notes, self._cut(blocks, len(waveforms)))
        if is_long:
            notes += (
                f"{show_source(source)} lasts {duration_seconds:.0f} s, and the network has learnt from up to "
                f"{self.limits.max_seconds:.0f} s at a time: expect errors, or let --vad energy cut it in its pauses",
            )
        pieces = [(row, keep_whole(waveform, self.rate_hz)) for row, waveform in enumerate(waveforms)]
        return OpenSource(len(waveforms), notes, iter([(duration_seconds, pieces)]))

    def _cut(
        self, blocks: Iterable[NDArray[np.float32]], num_rows: int
    ) -> Iterator[tuple[float, list[tuple[int, Piece]]]]:
        make = DETECTORS[self.hearing.vad]
        cutters = [Cutter(Segmenter(make(self.rate_hz), self.limits, self.rate_hz)) for _ in range(num_rows)]
        num_samples = 0
        for block in blocks:
            num_samples += block.shape[1]
            pieces = [(row, piece) for row, cutter in enumerate(cutters) for piece in cutter.feed(block[row])]
            yield num_samples / self.rate_hz, pieces
        yield num_samples / self.rate_hz, [(row, piece) for row, each in enumerate(cutters) for piece in each.finish()]

    def _read(self, source: Source) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Whole waveforms (rows, n), and what is strange about them."""
        if not isinstance(source, Samples):
            sound = read_sound(source, self.rate_hz, self.hearing.channels)
            return sound.waveforms, tuple(note.text for note in sound.notes)
        samples, from_hz = to_waveform(source.waveform), _require_rate(source)
        if holds_nothing(samples):
            samples = np.zeros_like(samples)  # resampled, a constant would begin and end with a click
        if from_hz != self.rate_hz:
            num_samples = -(-len(samples) * self.rate_hz // from_hz)
            samples = resample(samples, from_hz, self.rate_hz, num_samples)
        return np.clip(samples, -1, 1)[None], ()


def measure(source: Source) -> float:
    """Duration (seconds).

    Raises:
        AudioError: as `measure_duration_seconds`, or samples that mean nothing.
    """
    if not isinstance(source, Samples):
        return measure_duration_seconds(source)
    if len(require_samples(source.waveform)) == 0:
        raise AudioError("there are no samples; give those of a recording, (num_samples,)")
    return len(source.waveform) / _require_rate(source)


def _require_rate(source: Samples) -> int:
    return require_rate(source.rate_hz, 1, HIGHEST_RATE_HZ)


def say_silent(name: str, silent: Sequence[int | None], num_rows: int) -> tuple[str, ...]:
    """One line on a recording where nothing is to be heard in it or in some of its channels; none else.

    Args:
        name: what a message calls the recording.
        silent: the channels (from 1; None for their mean) of which nothing is given to the network.
        num_rows: how many are heard.
    """
    if not silent:
        return ()
    numbers = [each for each in silent if each is not None]
    is_all = len(silent) == num_rows > 1
    return (f"{name}: no speech was found in {'it' if is_all or not numbers else name_channels(numbers)}",)


def show_source(source: Source) -> str:
    """What a message calls it."""
    return "the sound" if isinstance(source, Samples) else show_path(source)
