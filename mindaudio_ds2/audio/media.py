"""Sound of phones, browsers and video (m4a, mp4, webm, mkv, aac, wma), through the extra `media`."""

import io
import re
from pathlib import Path
from typing import Any

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

LARGEST_LOSS_SECONDS = 0.25
"""A track may be so much shorter than its container says: encoders pad the end to whole frames."""


def is_media(head: bytes) -> bool:
    """Whether a file that begins with `head` is read here."""
    return MAGIC.match(head) is not None


def complain_of_length(path: Path, seconds: float, max_seconds: float) -> LongAudioError:
    """The error for a file that lasts longer than expected."""
    text = f"{show_path(path)} lasts {seconds:.2f} s or more, and at most {max_seconds:.2f} s were expected"
    return LongAudioError(text, seconds)


def decode(
    path: Path, content: bytes | memoryview, max_seconds: float
) -> tuple[NDArray[np.float32], int, list[tuple[str, str]]]:
    """All samples of the first sound track.

    Returns:
        `(n, channels)` float32, the rate (Hz), and notes as in `decoding.Decoded`.

    Raises:
        AudioError: the extra is not installed, or the file has no sound, is cut off or damaged.
    """
    if not has_media():
        raise AudioError(
            f"{show_path(path)} needs another decoder: `pip install 'mindaudio_ds2[media]'`, or convert it with "
            f"`ffmpeg -i {show_path(path.name)} {show_path(path.stem)}.flac`"
        )
    import av

    if _count_movies(content) > 1:
        raise AudioError(f"{show_path(path)} is several recordings joined into one file; take them apart")
    notes = []
    try:
        with av.open(io.BytesIO(content)) as container:
            tracks = container.streams.audio
            if not tracks:
                raise AudioError(f"{show_path(path)} has no sound track")
            if len(tracks) > 1:
                notes.append(("tracks", f"it has {len(tracks)} sound tracks; the first is read"))
            samples = _read_track(path, container, tracks[0], max_seconds)
            rate_hz = int(tracks[0].rate)
            expected = float(tracks[0].duration * tracks[0].time_base) if tracks[0].duration else None
            if expected is None and container.duration and "matroska" in container.format.name:
                expected = container.duration / 1e6 if not container.streams.video else None
    except av.FFmpegError as error:
        raise AudioError(f"{show_path(path)} is damaged or cut off ({error}); fetch or record it again") from error
    seconds = len(samples) / rate_hz
    if expected is not None and container.format.name != "aac" and seconds < expected - LARGEST_LOSS_SECONDS:
        raise AudioError(
            f"{show_path(path)} is cut off: it announces {expected:.2f} s, only {seconds:.2f} s are there; "
            "fetch or record it again"
        )
    return samples, rate_hz, notes


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


def _read_track(path: Path, container: Any, track: Any, max_seconds: float) -> NDArray[np.float32]:
    import av

    resampler = av.AudioResampler(format="fltp")  # of the samples only: rate and channels stay
    blocks, num_samples = [], 0
    for frame in container.decode(track):
        for same in resampler.resample(frame):
            blocks.append(same.to_ndarray())  # (channels, n)
            num_samples += blocks[-1].shape[1]
        if num_samples > max_seconds * track.rate:
            raise complain_of_length(path, num_samples / track.rate, max_seconds)
    blocks += [same.to_ndarray() for same in resampler.resample(None)]
    if not blocks:
        raise AudioError(f"{show_path(path)} holds no samples; fetch or record it again")
    joined: NDArray[np.float32] = np.concatenate(blocks, axis=1).T
    return np.ascontiguousarray(joined, dtype=np.float32)
