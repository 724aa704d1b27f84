"""Sound files of any format, rate and channel count, as one waveform of the configured rate."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.errors import AudioError

CONVERT = "convert it to WAV or FLAC, for example with `ffmpeg -i FILE out.flac`"
FETCH = "fetch or record it again, or take it out of the manifest"

LOUDEST_SAMPLE = 4.0
"""Lossy codecs overshoot full scale a little. Samples beyond this were never scaled to [-1, 1]."""

UNKNOWN_LENGTH_BYTES = 0x7FFF0000
"""Programs that write WAV into a pipe announce at least so many bytes, because they cannot know the number."""

LONGEST_OGG_PAGE_BYTES = 65307

CHUNK_FILES = 1024
"""Files that are queued for measuring at a time: a queue of a whole corpus would take a gigabyte."""

DECLARED_LENGTH = re.compile(r"^ *(?:data|riff|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile's log says that a container announces more bytes, or fewer, than the file has."""


def read_audio(path: str | Path, sample_rate_hz: int) -> NDArray[np.float32]:
    """Read a sound file as mono at one sample rate.

    Channels are averaged; another rate is resampled (soxr, high quality); samples just beyond full scale, as lossy
    codecs and resampling leave them, are clipped. An MP3 of variable bitrate that lacks its encoder's length tag (Xing)
    may be read in part only: libsndfile stops at a length that it estimates.

    Args:
        path: any format that libsndfile reads: WAV, FLAC, MP3, Ogg Vorbis and Opus, AIFF, NIST SPHERE (PCM) and others.
        sample_rate_hz: rate of the result (Hz).

    Returns:
        `(num_samples,)` float32 in [-1, 1]. With n samples in the file, num_samples is exactly
        ceil(n * sample_rate_hz / file's rate).

    Raises:
        AudioError: missing, not audio, empty, cut off, damaged, or samples that are not finite or not scaled.
    """
    path = Path(path)
    samples, file_rate_hz = _read_samples(path)
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        raise AudioError(f"{path} holds samples that are not finite (NaN or infinity); write the file again")
    if peak > LOUDEST_SAMPLE:
        raise AudioError(f"{path} reaches {peak:g}, but full scale is 1; divide its samples before writing it")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    waveform: NDArray[np.float32] = np.clip(_resample(mono, file_rate_hz, sample_rate_hz), -1.0, 1.0)
    return waveform


def measure_duration_seconds(path: str | Path) -> float:
    """Length of a sound file: its samples divided by its rate, at full precision.

    The header says it, so that a large corpus is measured in moments; of FLAC the last sample is decoded as well, for
    its header tells nothing of a cut. MP3 is decoded and counted instead: without an encoder's tag its length is only
    estimated from the size of the file.

    Args:
        path: any format that `read_audio` reads.

    Returns:
        Duration (seconds).

    Raises:
        AudioError: missing, not audio, empty, or visibly cut off.
    """
    path = Path(path)
    with _open(path) as file:
        if file.format == "FLAC" and not _has_last_sample(file):
            raise AudioError(f"{path} is cut off: the last of its {file.frames} samples is not there; {FETCH}")
        if file.format != "MP3":
            duration_seconds: float = file.frames / file.samplerate
            return duration_seconds
    samples, file_rate_hz = _read_samples(path)
    return len(samples) / file_rate_hz


def measure_durations(paths: Sequence[Path], num_workers: int) -> list[float | AudioError]:
    """Measure many files, several at a time, with a bar that shows the time left.

    Args:
        paths: of sound files.
        num_workers: threads (count).

    Returns:
        For each path, in the same order, its duration (seconds), or the error that `measure_duration_seconds` raised.
    """
    from tqdm import tqdm

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


def _read_samples(path: Path) -> tuple[NDArray[np.float32], int]:
    """All samples of a file, (n, channels) float32, and its rate."""
    with _open(path) as file:
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise AudioError(f"{path} is damaged or cut off ({error}); {FETCH}") from error
        is_exact = file.format != "MP3" or _has_length_tag(path)
        if len(samples) < file.frames and is_exact:
            raise AudioError(
                f"{path} is cut off: it announces {file.frames} samples, only {len(samples)} are there; {FETCH}"
            )
        if len(samples) == 0:
            raise AudioError(f"{path} holds no samples; {FETCH}")
        return samples, file.samplerate


def _open(path: Path) -> soundfile.SoundFile:
    """Open a file and make sure, as far as its header tells, that it is whole."""
    try:
        with open(path, "rb") as raw:
            head = raw.read(1024)
    except OSError as error:
        raise AudioError(f"audio file {path} cannot be read: {error.strerror}; correct the path") from error
    if not head:
        raise AudioError(f"{path} is an empty file; {FETCH}")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a name in .raw, which has no header
        raise AudioError(f"{path} is not audio in a known format ({error}); {CONVERT}") from error
    problem = _find_cut(file, head)
    if problem is None and file.frames == 0:
        problem = "holds no samples"
    if problem:
        file.close()
        raise AudioError(f"{path} {problem}; {FETCH}")
    return file


def _find_cut(file: soundfile.SoundFile, head: bytes) -> str | None:
    """What tells that a file ends too early; libsndfile itself just reads what is left, without an error."""
    for declared, actual in DECLARED_LENGTH.findall(file.extra_info):
        if int(actual) < int(declared) < UNKNOWN_LENGTH_BYTES:
            return f"is cut off: it announces {declared} bytes of sound, only {actual} are there"
    if file.format == "OGG" and _ends_within_ogg_page(Path(file.name)):
        return "is cut off in the middle of an Ogg page"
    sphere = re.search(rb"sample_count -i (\d+)", head) if file.format == "NIST" else None
    if sphere and int(sphere[1]) > file.frames:
        return f"is cut off: it announces {int(sphere[1])} samples, only {file.frames} are there"
    return None


def _has_last_sample(file: soundfile.SoundFile) -> bool:
    try:
        file.seek(file.frames - 1)
        return len(file.read(1)) == 1
    except soundfile.SoundFileError:
        return False


def _ends_within_ogg_page(path: Path) -> bool:
    """Whether the last page of an Ogg file (RFC 3533, section 6) is longer than what is left of the file."""
    with open(path, "rb") as raw:
        raw.seek(max(0, path.stat().st_size - LONGEST_OGG_PAGE_BYTES))
        tail = raw.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27:
        return True
    segments = page[27 : 27 + page[26]]
    return len(page) < 27 + page[26] + sum(segments)


def _has_length_tag(path: Path) -> bool:
    """Whether an MP3's first frame carries an encoder's tag (Xing, Info) with the exact length."""
    with open(path, "rb") as raw:
        id3 = raw.read(10)
        size = sum(byte << shift for byte, shift in zip(id3[6:], (21, 14, 7, 0), strict=True))
        raw.seek(10 + size if id3.startswith(b"ID3") else 0)
        first_frame = raw.read(48)
    return b"Xing" in first_frame or b"Info" in first_frame


def _resample(waveform: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """(n,) at one rate to (ceil(n * to / from),) at another. Exact integers: soxr's own count may be off by one."""
    if from_hz == to_hz:
        return waveform
    try:
        import soxr
    except ImportError:
        raise AudioError(
            f"a recording of {from_hz} Hz has to become one of {to_hz} Hz, and soxr is missing: pip install soxr"
        ) from None
    num_samples = -(-len(waveform) * to_hz // from_hz)
    resampled = soxr.resample(waveform, from_hz, to_hz, "HQ")
    return np.pad(resampled[:num_samples], (0, max(0, num_samples - len(resampled))))
