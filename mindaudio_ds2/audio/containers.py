"""How much sound a container announces, and how much of it is there. libsndfile reads what it finds and says nothing.

Covers the containers whose sound lies in one stretch of bytes. `find_pieces` finds recordings that were joined end to
end (`cat a.wav b.wav`), of which libsndfile reads the first only.
"""

import io
import mmap
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

UNKNOWN_LENGTH_BYTES = 0x7FFF0000
"""Programs that write WAV into a pipe announce at least so many bytes, because they cannot know the number."""

MOST_PADDING_BYTES = 4096
"""So much behind the sound may be anything; more could be sound."""

SCANNED_BYTES, LONGEST_PATTERN_BYTES = 1 << 24, 64

TAGS = (b"TAG", b"ID3", b"APETAGEX", b"3DI", b"LYRICSBEGIN")
MAGICS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff\x2e\x91", b"caff", b".snd", b"NIST_1A", b"2BIT", b"Creative Voice")

Content = bytes | memoryview


@dataclass(frozen=True)
class Extent:
    """Where a container says that its sound lies.

    Attributes:
        start: offset of the sound's first byte.
        end: offset behind its last byte, as announced; may lie beyond the end of the file.
        size_offset: where the number of bytes stands, if it can be left open; else None.
        is_open: whether the number says that the length was not known.
    """

    start: int
    end: int
    size_offset: int | None = None
    is_open: bool = False


Header = tuple[bytes, int, int, int]
"""Of a chunk: its name, where its content starts, how many bytes it has, and where the next chunk starts."""


def find_extent(content: Content) -> Extent | None:
    """Where the sound of a file lies that begins with `content[0]`; None for other kinds of files.

    A header that is cut short ends in an Extent beyond the file.
    """
    head = bytes(content[:64])
    for magic, parse in PARSERS:
        if head.startswith(magic):
            try:
                return parse(content)
            except (struct.error, ValueError, KeyError):
                return None
    return None


def find_rest(content: Content, extent: Extent) -> int:
    """Where what follows the sound, and is known to be no sound (chunks, tags, zeros), ends."""
    place = min(extent.end, len(content))
    read = CHUNKS.get(bytes(content[:4]))
    place += extent.start != extent.end and place < len(content) and read is not None and (place - extent.start) % 2
    while read is not None and place + 8 <= len(content):
        name, _, _, following = read(content, place)
        if name[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM", b"data", b"SSND", b"BODY", b"caff", b"riff"):
            break
        if not re.fullmatch(rb"[ -~]{4}.{0,12}", name, re.DOTALL) or not place < following <= len(content) + 1:
            break
        place = following
    place = min(place, len(content))
    rest = bytes(content[place : place + 16])
    if rest.startswith(TAGS) or not any(bytes(content[place:])):
        return len(content)
    return place


def begins_recording(content: Content, place: int) -> bool:
    """Whether another recording begins there."""
    return bytes(content[place : place + 16]).startswith(MAGICS)


def find_pieces(content: Content) -> list[tuple[int, int]]:
    """Recordings that stand one behind another in a file, (start, end) each; one, or none if it is of no such kind."""
    pieces = []
    start = 0
    while extent := find_extent(content[start:]):
        end = start + find_rest(content[start:], extent)
        if not begins_recording(content, end):
            pieces.append((start, len(content)))
            break
        pieces.append((start, end))
        start = end
    return pieces


def complete(content: memoryview, extent: Extent) -> None:
    """Give a WAV whose header was never finished the length that it has; `content` is changed."""
    assert extent.size_offset is not None, "only sizes that may be left open are mended"
    struct.pack_into("<I", content, extent.size_offset, len(content) - extent.start)
    struct.pack_into("<I", content, 4, len(content) - 8)


def scan(pattern: re.Pattern[bytes], content: Content) -> Iterator[tuple[int, re.Match[bytes]]]:
    """Where a pattern of at most `LONGEST_PATTERN_BYTES` is found, and its match; of a mapped file, pages that were
    looked through do not stay in memory."""
    mapped = getattr(content, "obj", None)
    for start in range(0, len(content), SCANNED_BYTES):
        window = content[start : start + SCANNED_BYTES + LONGEST_PATTERN_BYTES]
        for found in pattern.finditer(window):
            if found.start() < SCANNED_BYTES:
                yield start + found.start(), found
        if isinstance(mapped, mmap.mmap) and len(content) > SCANNED_BYTES:
            mapped.madvise(mmap.MADV_DONTNEED)


class ContentFile(io.RawIOBase):
    """Bytes in memory as a file; unlike `io.BytesIO` without a copy of them."""

    def __init__(self, content: Content) -> None:
        self._content, self._place = content, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the present place on; returns how many bytes there were."""
        chunk = self._content[self._place : self._place + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._place += len(chunk)
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._content)}[whence]
        self._place = max(0, start + offset)
        return self._place

    def tell(self) -> int:
        """The present place."""
        return self._place


# Kinds of containers ------------------------------------------------------------------------------------------------


def _read_riff(content: Content, place: int) -> Header:
    name, size = struct.unpack_from("<4sI", content, place)
    return name, place + 8, size, place + 8 + size + size % 2


def _read_iff(content: Content, place: int) -> Header:
    name, size = struct.unpack_from(">4sI", content, place)
    return name, place + 8, size, place + 8 + size + size % 2


def _read_w64(content: Content, place: int) -> Header:
    name, size = struct.unpack_from("<16sQ", content, place)
    return name, place + 24, size - 24, place + (size + 7) // 8 * 8


def _read_caf(content: Content, place: int) -> Header:
    name, size = struct.unpack_from(">4sq", content, place)
    return name, place + 12, size, place + 12 + size


CHUNKS: dict[bytes, Callable[[Content, int], Header]] = {
    **{b"RIFF": _read_riff, b"RF64": _read_riff, b"FORM": _read_iff, b"RIFX": _read_iff},
    **{b"riff": _read_w64, b"caff": _read_caf},
}


def _find_chunk(content: Content, place: int, names: tuple[bytes, ...]) -> Header:
    read = CHUNKS[bytes(content[:4])]
    while True:
        header = read(content, place)
        if header[0][:4] in names:
            return header
        if header[3] <= place:
            raise ValueError("a chunk without an end")
        place = header[3]


def _parse_riff(content: Content) -> Extent:
    _, start, size, _ = _find_chunk(content, 12, (b"data",))
    if bytes(content[:4]) == b"RF64" and size == 0xFFFFFFFF:
        _, table, _, _ = _find_chunk(content, 12, (b"ds64",))
        return Extent(start, start + struct.unpack_from("<Q", content, table + 8)[0])
    is_little = bytes(content[:4]) != b"RIFX"
    return Extent(start, start + size, start - 4 if is_little else None, size >= UNKNOWN_LENGTH_BYTES)


def _parse_iff(content: Content) -> Extent:
    _, start, size, _ = _find_chunk(content, 12, (b"SSND", b"BODY"))
    return Extent(start, start + size, None, size >= UNKNOWN_LENGTH_BYTES)


def _parse_w64(content: Content) -> Extent:
    _, start, size, _ = _find_chunk(content, 40, (b"data",))
    return Extent(start, start + size)


def _parse_caf(content: Content) -> Extent:
    _, start, size, _ = _find_chunk(content, 8, (b"data",))
    return Extent(start, start + size, None, is_open=size == -1)


def _parse_au(content: Content) -> Extent:
    start, size = struct.unpack_from(">II", content, 4)
    return Extent(start, start + size, None, size >= UNKNOWN_LENGTH_BYTES)


def _parse_sphere(content: Content) -> Extent:
    start = int(bytes(content[8:16]))
    fields = dict(re.findall(rb"(\w+) -i (\d+)", bytes(content[:start])))
    size = int(fields[b"sample_count"]) * int(fields.get(b"channel_count", 1)) * int(fields[b"sample_n_bytes"])
    return Extent(start, start + size)


def _parse_avr(content: Content) -> Extent:
    is_stereo, num_bits = struct.unpack_from(">HH", content, 12)
    num_frames = struct.unpack_from(">I", content, 26)[0]
    return Extent(128, 128 + num_frames * (2 if is_stereo else 1) * (num_bits // 8))


def _parse_voc(content: Content) -> Extent:
    place: int = struct.unpack_from("<H", content, 20)[0]
    while True:
        kind = content[place] if place < len(content) else 9
        size = int.from_bytes(content[place + 1 : place + 4], "little")
        if kind in (1, 9):
            end = place + 4 + size
            if end < len(content) and content[end] in (0, *MAGICS[-1][:1]):
                return Extent(place + 4, end + 1)  # with the terminator
            return Extent(place + 4, end)
        place += 4 + size


PARSERS: tuple[tuple[bytes, Callable[[Content], Extent]], ...] = (
    *((magic, _parse_riff) for magic in (b"RIFF", b"RF64", b"RIFX")),
    (b"FORM", _parse_iff),
    (b"riff\x2e\x91", _parse_w64),
    (b"caff", _parse_caf),
    (b".snd", _parse_au),
    (b"NIST_1A", _parse_sphere),
    (b"2BIT", _parse_avr),
    (b"Creative Voice File", _parse_voc),
)
