"""Sound of phones, browsers and video (m4a, mp4, webm, mkv, aac, wma), through the extra `media`."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.sound_files import has_media, show_path
from mindaudio_ds2.errors import AudioError, LongAudioError

MAGIC = re.compile(
    rb"....(?:ftyp|moov|mdat|wide|free|skip)|\x1aE\xdf\xa3|0&\xb2u\x8ef\xcf\x11|\xff[\xf0\xf1\xf8\xf9]|#!AMR|FLV\x01"
    rb"|RIFF....AVI |MAC |wvpk|TTA1|\x0bw|\x00\x00\x01\xba|\.RMF|ADIF",
    re.DOTALL,
)
"""How these files begin: ISO media, Matroska, ASF, ADTS, AMR, Flash, AVI, WavPack, TTA, AC-3, MPEG and others."""

BLOCK_SAMPLES = 1 << 18
"""Of each channel, given at a time."""

LARGEST_LOSS_SECONDS = 0.25
"""A track may be so much shorter than its container says: encoders pad the end to whole frames."""


def is_media(head: bytes) -> bool:
    """Whether a file that begins with `head` is read here."""
    return MAGIC.match(head) is not None


def complain_of_length(path: Path, seconds: float, max_seconds: float) -> LongAudioError:
    """The error for a file that lasts longer than expected."""
    text = f"{show_path(path)} lasts {seconds:.2f} s or more, and at most {max_seconds:.2f} s were expected"
    return LongAudioError(text, seconds)


class Block(NamedTuple):
    """Samples `(n, channels)` float32, their rate (Hz), and notes as in `decoding.Decoded`."""

    samples: NDArray[np.float32]
    rate_hz: int
    notes: list[tuple[str, str]]


def require_single(path: Path, content: bytes | memoryview) -> None:
    """Raises AudioError where a file is several ones, joined end to end."""
    if _count_movies(content) > 1:
        raise AudioError(f"{show_path(path)} is several recordings joined into one file; take them apart")


def decode_blocks(path: Path, file: IO[bytes], max_seconds: float = float("inf")) -> Iterator[Block]:
    """The samples of the first sound track, some at a time.

    Raises:
        AudioError: the extra is not installed, or the file has no sound, is cut off or damaged.
    """
    if not has_media():
        raise AudioError(
            f"{show_path(path)} needs another decoder: `pip install 'mindaudio_ds2[media]'`, or convert it with "
            f"`ffmpeg -i {show_path(path.name)} {show_path(path.stem)}.flac`"
        )
    import av

    notes = []
    num_samples = 0
    try:
        with av.open(file) as container:
            tracks = container.streams.audio
            if not tracks:
                raise AudioError(f"{show_path(path)} has no sound track")
            track = tracks[0]
            if len(tracks) > 1:
                notes.append(("tracks", f"it has {len(tracks)} sound tracks; the first is read"))
            rate_hz = int(track.rate)
            for samples in _read_track(path, container, track, max_seconds):
                num_samples += len(samples)
                yield Block(samples, rate_hz, notes)
            expected = float(track.duration * track.time_base) if track.duration else None
            if expected is None and container.duration and "matroska" in container.format.name:
                expected = container.duration / 1e6 if not container.streams.video else None
            kind = container.format.name
    except av.FFmpegError as error:
        raise AudioError(
            f"{show_path(path)} is damaged or cut off ({error.strerror}); fetch or record it again"
        ) from error
    seconds = num_samples / rate_hz
    if expected is not None and kind != "aac" and seconds < expected - LARGEST_LOSS_SECONDS:
        raise AudioError(
            f"{show_path(path)} is cut off: it announces {expected:.2f} s, only {seconds:.2f} s are there; "
            "fetch or record it again"
        )


def _count_movies(content: bytes | memoryview) -> int:
    """How many files stand one behind another in ISO media (mp4, m4a): each begins with a box `ftyp`."""
    place, num_movies = 0, 0
    while bytes(content[4:8]) == b"ftyp" and place + 8 <= len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        if size == 1:
            size = int.from_bytes(content[place + 8 : place + 16], "big")
        num_movies += bytes(content[place + 4 : place + 8]) == b"ftyp"
        if size < 8:
            break
        place += size
    return num_movies


def _read_track(path: Path, container: Any, track: Any, max_seconds: float) -> Iterator[NDArray[np.float32]]:
    import av

    resampler = av.AudioResampler(format="fltp")  # of the samples only: rate and channels stay
    waiting: list[NDArray[np.float32]] = []
    num_samples = num_waiting = 0
    for frame in chain(container.decode(track), [None]):
        for same in resampler.resample(frame):
            waiting.append(same.to_ndarray())  # (channels, n)
            num_samples += same.samples
            num_waiting += same.samples
        if num_samples > max_seconds * track.rate:
            raise complain_of_length(path, num_samples / track.rate, max_seconds)
        if num_waiting >= BLOCK_SAMPLES or (frame is None and waiting):
            joined = np.concatenate(waiting, axis=1).T
            yield np.ascontiguousarray(joined, dtype=np.float32)
            waiting, num_waiting = [], 0
    if not num_samples:
        raise AudioError(f"{show_path(path)} holds no samples; fetch or record it again")
