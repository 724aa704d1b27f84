"""From the bytes of a sound file to all of its samples, or an error that says what is wrong with it."""

import io
import mmap
import os
import re
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
    """All samples of a file.

    Raises:
        AudioError: missing, not audio, empty, cut off, damaged, or of a format that does not say how long it is.
        LongAudioError: it lasts longer than `max_seconds`.
    """
    with open_sound_file(path) as raw:
        content, notes = _map_whole(path, raw)
        try:
            pieces = _find_pieces(content)
            if len(pieces) < 2:
                decoded = _decode_piece(path, content, raw, max_seconds)
            else:
                parts = [_decode_piece(path, content[start:end], None, max_seconds) for start, end in pieces]
                decoded = _join(path, parts)
            decoded.notes += notes
        except AudioError:
            raise
        except Exception as error:  # decoders answer damaged files with whatever their first wrong byte leads to
            raise AudioError(f"{show_path(path)} is damaged or cut off ({error!r}); {FETCH}") from error
    return decoded


def measure(path: Path) -> float:
    """Length of a file (seconds), from its header where that can be trusted, else by decoding all of it."""
    with open_sound_file(path) as raw:
        content, _ = _map_whole(path, raw)
        is_plain = bytes(content[:4]) in (b"RIFF", b"FORM", b"fLaC", b"NIST", b"RF64", b".snd")
        if is_plain and (containers.find_extent(content) is None or len(containers.find_pieces(content)) == 1):
            extent = containers.find_extent(content)
            is_open = extent is not None and (extent.is_open or extent.end == extent.start)
            seconds = None if is_open else _measure_header(path, content, raw)
            if seconds is not None:
                return seconds
    decoded = decode(path, float("inf"))
    return len(decoded.samples) / decoded.rate_hz


def read_rate_hz(path: Path) -> int:
    """The sample rate (Hz) that a file's header tells."""
    with open_sound_file(path) as raw:
        content, _ = _map_whole(path, raw)
        if media.is_media(bytes(content[:64])):
            return media.decode(path, content, float("inf"))[1]
        with _open(path, content, raw) as file:
            return int(file.samplerate)


def _measure_header(path: Path, content: containers.Content, raw: IO[bytes]) -> float | None:
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
            raise AudioError(f"{show_path(path)} is cut off or damaged at its end ({error}); {FETCH}") from error
        tail = max(4, os.lseek(raw.fileno(), 0, os.SEEK_CUR) - MOST_BUFFERED_BYTES)
        if is_flac and FLAC_START.search(content, tail):
            return None
        return float(file.frames / file.samplerate)


def _map_whole(path: Path, raw: IO[bytes]) -> tuple[containers.Content, list[tuple[str, str]]]:
    """The bytes of a file, and those of a WAV whose header was never finished with its length put in."""
    if os.fstat(raw.fileno()).st_size == 0:
        raise AudioError(f"{show_path(path)} is an empty file; {FETCH}")
    content: containers.Content = memoryview(mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ))
    extent = containers.find_extent(content)
    is_unfinished = extent and extent.size_offset is not None and extent.start == extent.end < len(content)
    if extent and is_unfinished and containers.find_rest(content, extent) < len(content):
        note = "its header was never finished; all that follows it is taken for sound"
        return containers.complete(content, extent), [("unfinished header", note)]
    end = containers.find_rest(content, extent) if extent and not extent.is_open else len(content)
    is_little = 0 < len(content) - end <= containers.MOST_PADDING_BYTES
    if is_little and not containers.begins_recording(content, end):
        note = f"{len(content) - end} bytes behind its sound are nothing known and are not read"
        return bytes(content[:end]), [("trailing bytes", note)]
    return content, []


def _find_pieces(content: containers.Content) -> list[tuple[int, int]]:
    """Where the recordings of a file begin and end that were joined one behind another."""
    head = bytes(content[:4])
    if head in (b"RIFF", b"RF64", b"RIFX", b"FORM", b".snd", b"caff", b"riff", b"NIST", b"2BIT", b"Crea"):
        return containers.find_pieces(content)
    starts = [0]
    if head == b"fLaC":
        starts += [found.start() for found in FLAC_START.finditer(content) if found.start() > 0]
    elif head == b"OggS":
        was_first = True
        for found in OGG_PAGE.finditer(content):
            is_first = bool(found[1][0] & 2)
            if is_first and not was_first:
                starts.append(found.start())
            was_first = is_first
    elif head.startswith((b"ID3", b"\xff")):
        frames = [_find_mp3_frame(content, found.start()) for found in MP3_TAG.finditer(content)]
        starts += [place for place in frames if place is not None][1:]
    return list(zip(starts, [*starts[1:], len(content)], strict=True))


def _find_mp3_frame(content: containers.Content, tag: int) -> int | None:
    """Where the frame begins that holds an encoder's tag (Xing, Info): behind the side information."""
    for distance in (13, 21, 36, 15, 23, 38):
        head = bytes(content[tag - distance : tag - distance + 2]) if tag >= distance else b""
        if len(head) == 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
            return tag - distance
    return None


def _join(path: Path, parts: list[Decoded]) -> Decoded:
    first = parts[0]
    if {(part.rate_hz, part.samples.shape[1]) for part in parts} != {(first.rate_hz, first.samples.shape[1])}:
        raise AudioError(
            f"{show_path(path)} is {len(parts)} recordings joined into one file, of different rates or channels; "
            "take them apart"
        )
    notes = [("joined", f"it is {len(parts)} recordings joined into one file; all are read")]
    samples = np.concatenate([part.samples for part in parts])
    return Decoded(samples, first.rate_hz, any(part.is_float for part in parts), notes)


def _open(path: Path, content: containers.Content, raw: IO[bytes] | None) -> Any:
    """Open with libsndfile; by descriptor where it is the file as it is, because that is quickest."""
    if raw is not None and isinstance(content, memoryview):
        raw.seek(0)
        source: Any = raw.fileno()
    else:
        source = io.BytesIO(content)
    try:
        file = _Stream(source, closefd=False)
    except (soundfile.SoundFileError, TypeError) as error:
        if bytes(content[:4]) == b"OggS":
            raise AudioError(f"{show_path(path)} is damaged or cut off ({error}); {FETCH}") from error
        raise AudioError(f"{show_path(path)} is not audio in a known format ({error}); {CONVERT}") from error
    problem = None
    if file.format not in FORMATS:
        problem = f"is {file.format}, a format that does not say how long it is, so half of it could pass for all"
    elif not LEAST_RATE_HZ <= file.samplerate <= MOST_RATE_HZ:
        problem = f"claims a sample rate of {file.samplerate} Hz, which no recording of speech has"
    if problem:
        file.close()
        raise AudioError(f"{show_path(path)} {problem}; {CONVERT}")
    return file


def _decode_piece(path: Path, content: containers.Content, raw: IO[bytes] | None, max_seconds: float) -> Decoded:
    if media.is_media(bytes(content[:64])):
        samples, rate_hz, notes = media.decode(path, content, max_seconds)
        return Decoded(samples, rate_hz, False, notes)
    _check_extent(path, content)
    with _open(path, content, raw) as file:
        _check_log(path, file)
        announced = file.frames
        if announced == 0:
            raise AudioError(f"{show_path(path)} holds no samples; {FETCH}")
        if announced < NO_COUNT and announced / file.samplerate > max_seconds:
            raise media.complain_of_length(path, announced / file.samplerate, max_seconds)
        samples = _read_blocks(path, file, max_seconds)
        is_exact = file.format != "MP3" or _has_length_tag(content)
        if len(samples) < announced < NO_COUNT and is_exact:
            raise AudioError(
                f"{show_path(path)} is cut off: it announces {announced} samples, only {len(samples)} are there; "
                f"{FETCH}"
            )
        if raw is not None and isinstance(content, memoryview) and file.format == "MP3":
            unread = len(content) - os.lseek(raw.fileno(), 0, os.SEEK_CUR)
            if unread > MOST_BUFFERED_BYTES:
                raise AudioError(f"{show_path(path)} has {unread} bytes behind the end that it announces; {CONVERT}")
        if len(samples) == 0:
            raise AudioError(f"{show_path(path)} holds no samples; {FETCH}")
        return Decoded(samples, file.samplerate, file.subtype in ("FLOAT", "DOUBLE"))


def _read_blocks(path: Path, file: Any, max_seconds: float) -> NDArray[np.float32]:
    size = max(1, min(BLOCK_SAMPLES // file.channels, file.frames))
    blocks, num_frames = [], 0
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        blocks.append(block)
        num_frames += len(block)
        if num_frames / file.samplerate > max_seconds:
            raise media.complain_of_length(path, num_frames / file.samplerate, max_seconds)
    if not blocks:
        return np.zeros((0, file.channels), np.float32)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


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
