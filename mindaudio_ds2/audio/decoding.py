"""From the bytes of a sound file to all of its samples, or an error that says what is wrong with it."""

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio import containers, media
from mindaudio_ds2.audio.sound_files import show_path
from mindaudio_ds2.audio.streams import open_sound_file
from mindaudio_ds2.errors import AudioError

CONVERT = "convert it to WAV or FLAC, for example with `ffmpeg -i FILE out.flac`"
FETCH = "fetch or record it again, or leave it out"

FORMATS = frozenset(
    ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST", "VOC", "SVX", "AVR")
)
"""Those of libsndfile's formats that say how long they are. Of others half a file would be taken for a whole one."""

BLOCK_SAMPLES = 1 << 20
LEAST_RATE_HZ, MOST_RATE_HZ = 2000, 768_000
LONGEST_OGG_PAGE_BYTES = 65307
MOST_BUFFERED_BYTES = 1 << 17
"""Decoders read no further ahead than this."""

NO_COUNT = 1 << 62
"""libsndfile gives more samples than this where a FLAC does not say how many it has."""

FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
MP3_TAG = re.compile(rb"Xing|Info")
OGG_PAGE = re.compile(rb"OggS\x00(.)", re.DOTALL)
DECLARED_LENGTH = re.compile(r"^ *(?:data|riff|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile's log says that a container announces more bytes than the file has."""


@dataclass
class Decoded:
    """What a file holds.

    Attributes:
        samples: `(n, channels)` float32, as they are in the file.
        rate_hz: the file's own (Hz).
        is_float: whether it is kept in floating point, which has room above full scale.
        notes: (kind, text) of each thing that a listener should know.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    is_float: bool
    notes: list[tuple[str, str]] = field(default_factory=list)


class _Stream(soundfile.SoundFile):
    """Reads on to the end of the sound: soundfile itself stops at the header's count, and seeks after each block."""

    def seekable(self) -> bool:
        """Whether soundfile may seek on its own account."""
        return False


def decode(path: Path, max_seconds: float) -> Decoded:
    """All samples of a file at once; see `decode_blocks`."""
    blocks = list(decode_blocks(path, max_seconds))
    first = blocks[0]
    samples = first.samples if len(blocks) == 1 else np.concatenate([block.samples for block in blocks])
    return Decoded(samples, first.rate_hz, any(block.is_float for block in blocks), first.notes)


def decode_blocks(path: Path, max_seconds: float = float("inf")) -> Iterator[Decoded]:
    """The samples of a file, some at a time, in memory that does not grow with it; at least one block.

    All blocks have the same rate and channels. The notes are the first one's. That a file is cut off or damaged may be
    found at its end only.

    Raises:
        AudioError: missing, not audio, empty, cut off, damaged, or of a format that does not say how long it is.
        LongAudioError: it lasts longer than `max_seconds`.
    """
    with open_sound_file(path) as file:
        content, raw, notes = _map_whole(path, file)
        try:
            pieces = _find_pieces(content)
            if len(pieces) < 2:
                blocks = _decode_piece(path, content, raw, max_seconds)
            else:
                notes = [("joined", f"it is {len(pieces)} recordings joined into one file; all are read"), *notes]
                blocks = _decode_joined(path, [content[start:end] for start, end in pieces], max_seconds)
            for number, block in enumerate(blocks):
                block.notes = [*block.notes, *notes] if number == 0 else []
                yield block
        except AudioError:
            raise
        except Exception as error:  # decoders answer damaged files with whatever their first wrong byte leads to
            raise AudioError(f"{show_path(path)} is damaged or cut off ({say_reason(error)}); {FETCH}") from error


def say_reason(error: Exception) -> str:
    """What a decoder gave up on, in words: libsndfile's and FFmpeg's own, and none that only our program means."""
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string).strip().rstrip(".")
    return str(getattr(error, "strerror", None) or "its bytes are not what its format wants")


def measure(path: Path) -> float:
    """Length of a file (seconds), from its header where that can be trusted, else by decoding all of it."""
    with open_sound_file(path) as file:
        content, raw, _ = _map_whole(path, file)
        is_plain = bytes(content[:4]) in (b"RIFF", b"FORM", b"fLaC", b"NIST", b"RF64", b".snd")
        if is_plain and (containers.find_extent(content) is None or len(containers.find_pieces(content)) == 1):
            extent = containers.find_extent(content)
            is_open = extent is not None and (extent.is_open or extent.end == extent.start)
            seconds = None if is_open else _measure_header(path, content, raw)
            if seconds is not None:
                return seconds
    num_samples = 0
    for block in decode_blocks(path):
        num_samples += len(block.samples)
    return num_samples / block.rate_hz


def read_rate_hz(path: Path) -> int:
    """The sample rate (Hz) that a file's header tells."""
    with open_sound_file(path) as whole:
        content, raw, _ = _map_whole(path, whole)
        if media.is_media(bytes(content[:64])):
            return next(media.decode_blocks(path, _open_content(content, raw))).rate_hz
        with _open(path, content, raw) as file:
            return int(file.samplerate)


def _measure_header(path: Path, content: containers.Content, raw: IO[bytes] | None) -> float | None:
    with _open(path, content, raw) as file:
        _check_extent(path, content)
        _check_log(path, file)
        is_flac = file.format == "FLAC"
        if not super(_Stream, file).seekable() or file.frames >= NO_COUNT:
            return None
        try:
            file.seek(file.frames - 1)
            if len(file.read(1)) < 1:
                raise AudioError(
                    f"{show_path(path)} is cut off: the last of its {file.frames} samples is not there; {FETCH}"
                )
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{show_path(path)} is cut off or damaged at its end ({say_reason(error)}); {FETCH}"
            ) from error
        tail = max(4, os.lseek(raw.fileno(), 0, os.SEEK_CUR) - MOST_BUFFERED_BYTES) if raw else 4
        if is_flac and FLAC_START.search(content, tail):
            return None
        return float(file.frames / file.samplerate)


def _map_whole(path: Path, raw: IO[bytes]) -> tuple[containers.Content, IO[bytes] | None, list[tuple[str, str]]]:
    """The bytes of a file, mapped; the file itself where these are all of it as it is, else None; and notes.

    A WAV whose header was never finished gets its length, in memory alone.
    """
    if os.fstat(raw.fileno()).st_size == 0:
        raise AudioError(f"{show_path(path)} is an empty file; {FETCH}")
    content = memoryview(mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ))
    extent = containers.find_extent(content)
    is_unfinished = extent and extent.size_offset is not None and extent.start == extent.end < len(content)
    if extent and is_unfinished and containers.find_rest(content, extent) < len(content):
        note = "its header was never finished; all that follows it is taken for sound"
        own = memoryview(mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY))
        containers.complete(own, extent)
        return own, None, [("unfinished header", note)]
    end = containers.find_rest(content, extent) if extent and not extent.is_open else len(content)
    is_little = 0 < len(content) - end <= containers.MOST_PADDING_BYTES
    if is_little and not containers.begins_recording(content, end):
        note = f"{len(content) - end} bytes behind its sound are nothing known and are not read"
        return content[:end], None, [("trailing bytes", note)]
    return content, raw, []


def _open_content(content: containers.Content, raw: IO[bytes] | None) -> Any:
    """A file of the content; no copy of it."""
    if raw is None:
        return containers.ContentFile(content)
    raw.seek(0)
    return raw


def _find_pieces(content: containers.Content) -> list[tuple[int, int]]:
    """Where the recordings of a file begin and end that were joined one behind another."""
    head = bytes(content[:4])
    if head in (b"RIFF", b"RF64", b"RIFX", b"FORM", b".snd", b"caff", b"riff", b"NIST", b"2BIT", b"Crea"):
        return containers.find_pieces(content)
    starts = [0]
    if head == b"fLaC":
        starts += [place for place, _ in containers.scan(FLAC_START, content) if place > 0]
    elif head == b"OggS":
        was_first = True
        for place, found in containers.scan(OGG_PAGE, content):
            is_first = bool(found[1][0] & 2)
            if is_first and not was_first:
                starts.append(place)
            was_first = is_first
    elif head.startswith((b"ID3", b"\xff")):
        frames = [_find_mp3_frame(content, place) for place, _ in containers.scan(MP3_TAG, content)]
        starts += [place for place in frames if place is not None][1:]
    return list(zip(starts, [*starts[1:], len(content)], strict=True))


def _find_mp3_frame(content: containers.Content, tag: int) -> int | None:
    """Where the frame begins that holds an encoder's tag (Xing, Info): behind the side information."""
    for distance in (13, 21, 36, 15, 23, 38):
        head = bytes(content[tag - distance : tag - distance + 2]) if tag >= distance else b""
        if len(head) == 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
            return tag - distance
    return None


def _decode_joined(path: Path, pieces: list[containers.Content], max_seconds: float) -> Iterator[Decoded]:
    kinds = set()
    for piece in pieces:
        for block in _decode_piece(path, piece, None, max_seconds):
            kinds.add((block.rate_hz, block.samples.shape[1]))
            if len(kinds) > 1:
                raise AudioError(
                    f"{show_path(path)} is {len(pieces)} recordings joined into one file, of different rates or "
                    "channels; take them apart"
                )
            yield block


def _open(path: Path, content: containers.Content, raw: IO[bytes] | None) -> Any:
    """Open with libsndfile; by descriptor where it is the file as it is, because that is quickest."""
    source = _open_content(content, raw)
    if raw is not None:
        source = raw.fileno()
    try:
        file = _Stream(source, closefd=False)
    except (soundfile.SoundFileError, TypeError) as error:
        if bytes(content[:4]) == b"OggS":
            raise AudioError(f"{show_path(path)} is damaged or cut off ({say_reason(error)}); {FETCH}") from error
        raise AudioError(f"{show_path(path)} is not audio in a known format; {CONVERT}") from error
    problem = None
    if file.format not in FORMATS:
        problem = f"is {file.format}, a format that does not say how long it is, so half of it could pass for all"
    elif not LEAST_RATE_HZ <= file.samplerate <= MOST_RATE_HZ:
        problem = f"claims a sample rate of {file.samplerate} Hz, which no recording of speech has"
    if problem:
        file.close()
        raise AudioError(f"{show_path(path)} {problem}; {CONVERT}")
    return file


def _decode_piece(
    path: Path, content: containers.Content, raw: IO[bytes] | None, max_seconds: float
) -> Iterator[Decoded]:
    if media.is_media(bytes(content[:64])):
        media.require_single(path, content)
        for samples, rate_hz, notes in media.decode_blocks(path, _open_content(content, raw), max_seconds):
            yield Decoded(samples, rate_hz, False, notes)
        return
    _check_extent(path, content)
    with _open(path, content, raw) as file:
        _check_log(path, file)
        announced = file.frames
        if announced == 0:
            raise AudioError(f"{show_path(path)} holds no samples; {FETCH}")
        if announced < NO_COUNT and announced / file.samplerate > max_seconds:
            raise media.complain_of_length(path, announced / file.samplerate, max_seconds)
        num_read = 0
        for samples in _read_blocks(path, file, max_seconds):
            num_read += len(samples)
            yield Decoded(samples, file.samplerate, file.subtype in ("FLOAT", "DOUBLE"))
        is_exact = file.format != "MP3" or _has_length_tag(content)
        if num_read < announced < NO_COUNT and is_exact:
            raise AudioError(
                f"{show_path(path)} is cut off: it announces {announced} samples, only {num_read} are there; {FETCH}"
            )
        if raw is not None and file.format == "MP3":
            unread = len(content) - os.lseek(raw.fileno(), 0, os.SEEK_CUR)
            if unread > MOST_BUFFERED_BYTES:
                raise AudioError(f"{show_path(path)} has {unread} bytes behind the end that it announces; {CONVERT}")
        if num_read == 0:
            raise AudioError(f"{show_path(path)} holds no samples; {FETCH}")


def _read_blocks(path: Path, file: Any, max_seconds: float) -> Iterator[NDArray[np.float32]]:
    size = max(1, min(BLOCK_SAMPLES // file.channels, file.frames))
    num_frames = 0
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        num_frames += len(block)
        if num_frames / file.samplerate > max_seconds:
            raise media.complain_of_length(path, num_frames / file.samplerate, max_seconds)
        yield block


def _check_extent(path: Path, content: containers.Content) -> None:
    """Compare what the header announces with what is there."""
    extent = containers.find_extent(content)
    if extent is None:
        if bytes(content[:4]) == b"OggS" and _ends_within_ogg_page(content):
            raise AudioError(f"{show_path(path)} is cut off in the middle of an Ogg page; {FETCH}")
        return
    if extent.is_open:
        return
    if extent.end > len(content):
        there = max(0, len(content) - extent.start)
        raise AudioError(
            f"{show_path(path)} is cut off: it announces {extent.end - extent.start} bytes of sound, only {there} are "
            f"there; {FETCH}"
        )
    rest = len(content) - containers.find_rest(content, extent)
    if rest > containers.MOST_PADDING_BYTES:
        raise AudioError(
            f"{show_path(path)} announces {extent.end - extent.start} bytes of sound, but {rest} more follow that are "
            "nothing known; if they are sound, `ffmpeg -ignore_length 1 -i FILE out.flac` reads them"
        )


def _check_log(path: Path, file: Any) -> None:
    for declared, actual in DECLARED_LENGTH.findall(file.extra_info):
        if int(actual) < int(declared) < containers.UNKNOWN_LENGTH_BYTES:
            raise AudioError(
                f"{show_path(path)} is cut off: it announces {declared} bytes of sound, only {actual} are there; "
                f"{FETCH}"
            )


def _ends_within_ogg_page(content: containers.Content) -> bool:
    """Whether the last page of an Ogg file (RFC 3533, section 6) is longer than what is left of the file."""
    tail = bytes(content[-LONGEST_OGG_PAGE_BYTES:])
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27:
        return True
    segments = page[27 : 27 + page[26]]
    return len(page) < 27 + page[26] + sum(segments)


def _has_length_tag(content: containers.Content) -> bool:
    """Whether an MP3's first frame carries an encoder's tag (Xing, Info) with the exact length."""
    id3 = bytes(content[:10])
    size = sum(byte << shift for byte, shift in zip(id3[6:], (21, 14, 7, 0), strict=True))
    start = 10 + size if id3.startswith(b"ID3") else 0
    return bool(MP3_TAG.search(bytes(content[start : start + 48])))
