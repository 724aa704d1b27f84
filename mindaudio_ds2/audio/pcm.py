"""Sound that comes through a pipe while it is being made: WAV, or raw samples of 16 bits."""

import os
import re
import select
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.channels import find_antiphase
from mindaudio_ds2.audio.samples import require_rate
from mindaudio_ds2.errors import AudioError

BLOCK_BYTES = 1 << 16
POLL_SECONDS = 0.2
"""How often a pipe that gives nothing is left to see whether somebody wants to stop."""

MOST_BYTES_BEHIND = 1 << 24
CHUNK_NAME = re.compile(rb"[A-Za-z0-9_ ]{4}")

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
WAVES = ("WAV", "RF64")
HEAD_BYTES = 12
EMPTY = "standard input is empty: what should send the sound has ended without a word; look at its own messages"
REMEDY = "send WAV, or raw samples with --rate_hz: ffmpeg -i INPUT -f s16le -ac 1 -ar 16000 - | …"


@dataclass(frozen=True)
class SampleFormat:
    """How the samples of a pipe are written.

    Attributes:
        rate_hz: samples a second of each channel (Hz).
        num_channels: interleaved.
        num_bytes: of a sample.
        is_float: whether they are floating-point numbers, else integers, of one byte without sign.
    """

    rate_hz: int
    num_channels: int = 1
    num_bytes: int = 2
    is_float: bool = False

    @property
    def frame_bytes(self) -> int:
        """Of a sample of all channels."""
        return self.num_bytes * self.num_channels

    def decode(self, content: bytes) -> NDArray[np.float32]:
        """The samples (n, num_channels) float32, full scale being 1; `content` holds whole frames."""
        if self.is_float:
            samples = np.frombuffer(content, f"<f{self.num_bytes}").astype(np.float32)
        elif self.num_bytes == 1:
            samples = (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
        else:
            wide = np.zeros((len(content) // self.num_bytes, 4), np.uint8)  # the highest bytes of 32 bits
            wide[:, 4 - self.num_bytes :] = np.frombuffer(content, np.uint8).reshape(-1, self.num_bytes)
            samples = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
        framed: NDArray[np.float32] = samples.reshape(-1, self.num_channels)
        return framed


class PcmReader:
    """Reads samples from a pipe as they come.

    Args:
        descriptor: of the open pipe or file.
        rate_hz: of raw signed 16-bit little-endian samples of one channel (Hz); None expects the header of a WAV.
        should_stop: asked now and then; where it says so, reading ends as at the end of the pipe.

    Attributes:
        format: how the samples are written.
        notes: what is strange about the sound so far, a sentence for each kind.

    Raises:
        AudioError: a terminal, an impossible rate, not a WAV, or one whose samples cannot be read, a WAV where raw
            samples should be; when it is read, that it is empty.
    """

    def __init__(
        self, descriptor: int, rate_hz: int | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        if os.isatty(descriptor):
            raise AudioError(f"standard input is a terminal; {REMEDY}")
        self._descriptor, self._should_stop = descriptor, should_stop
        self._num_due: float = float("inf")
        self._num_samples_bytes = 0  # as announced
        self._num_read = 0
        self.notes: dict[str, str] = {}
        self._powers: NDArray[np.float64] = np.zeros(0)  # of the mean of the channels, and of each
        self._rest = b""  # what was read and not yet heard
        if rate_hz is None:
            self.format = self._read_header()
        else:
            self.format = SampleFormat(require_rate(rate_hz))
            self._rest = self._read_raw_beginning()

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Blocks (n,) float32 of one channel, each as soon as it is there."""
        while True:
            num_whole = len(self._rest) // self.format.frame_bytes * self.format.frame_bytes
            if num_whole:
                yield self._mix(self.format.decode(self._rest[:num_whole]))
                self._rest = self._rest[num_whole:]
            content = self._read(int(min(BLOCK_BYTES, self._num_due))) if self._num_due > 0 else b""
            if not content:
                break
            self._num_due -= len(content)
            self._rest += content
        if not self._num_read and not self._should_stop():
            raise AudioError(EMPTY)

    def look_behind(self) -> None:
        """Note what was not heard, when all blocks were read: bytes of a cut sample, and what stands behind the sound.

        Of a pipe that stays open it waits no longer than `POLL_SECONDS`.
        """
        if self._should_stop():
            return
        if self._rest:
            self.notes["cut sample"] = f"the last sample was cut off: {len(self._rest)} bytes were not heard"
        if 0 < self._num_due < float("inf"):
            self.notes["cut off"] = (
                f"it is cut off: its header announces {self._num_due} bytes more than came; send all of it again"
            )
        behind = b""
        while self._num_due == 0 and len(behind) < MOST_BYTES_BEHIND and (more := self._read_now()):
            behind += more
        if num_bytes := _count_unheard(behind, self._num_samples_bytes % 2):
            least = "at least " if len(behind) >= MOST_BYTES_BEHIND else ""
            what = "another recording begins" if b"RIFF" in behind[:1024] else "more than its header announces"
            self.notes["behind"] = f"{what} behind its samples: {least}{num_bytes} bytes were not heard"

    def _read_now(self) -> bytes:
        """What comes within `POLL_SECONDS`."""
        is_there = select.select([self._descriptor], [], [], POLL_SECONDS)[0]
        return os.read(self._descriptor, BLOCK_BYTES) if is_there else b""

    def _mix(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, num_channels) to (n,): their mean, or by the rule for files the loudest where they have cancelled."""
        mixed: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
        rows = np.column_stack([mixed, samples]).astype(np.float64)
        self._powers = np.square(rows).sum(axis=0) + (self._powers if len(self._powers) else 0.0)
        self.notes.pop("antiphase", None)
        loudest = find_antiphase(float(self._powers[0]), self._powers[1:], self.notes.__setitem__)
        return mixed if loudest is None else samples[:, loudest]

    def _read(self, num_bytes: int) -> bytes:
        """What is there, at most so much; empty at the end, or where reading is to stop."""
        while not self._should_stop():
            if select.select([self._descriptor], [], [], POLL_SECONDS)[0]:
                content = os.read(self._descriptor, num_bytes)
                self._num_read += len(content)
                return content
        return b""

    def _read_exactly(self, num_bytes: int) -> bytes:
        content = b""
        while len(content) < num_bytes:
            more = self._read(num_bytes - len(content))
            if not more:
                if not self._num_read:
                    raise AudioError(EMPTY)
                raise AudioError(f"standard input ended within the header of its WAV; {REMEDY}")
            content += more
        return content

    def _read_raw_beginning(self) -> bytes:
        """The first raw samples, unless they are the head of a file: samples begin with one only by a miracle."""
        content = b""
        while len(content) < HEAD_BYTES and (more := self._read(BLOCK_BYTES)):
            content += more
        if name := _name_container(content):
            remedy = "leave --rate_hz away" if name in WAVES else REMEDY
            raise AudioError(
                f"standard input begins with the header of {name}, and --rate_hz is for raw samples without one; "
                f"{remedy}"
            )
        return content

    def _read_header(self) -> SampleFormat:
        """Walk through the chunks of a WAV up to its samples, whose size may be unknown: 0, or as large as can be."""
        head = self._read_exactly(HEAD_BYTES)
        name = _name_container(head)
        if name == "RF64":
            raise AudioError(
                f"standard input is an RF64, a WAV for more than 4 GB, which cannot be heard as it comes; {REMEDY}; or "
                "save it in a file and transcribe that without --stream"
            )
        if name != "WAV":
            raise AudioError(f"standard input is no WAV; {REMEDY}")
        found: SampleFormat | None = None
        while True:
            name, size = struct.unpack("<4sI", self._read_exactly(8))
            if name == b"data":
                break
            if size > 1 << 20:
                raise AudioError(f"standard input has a chunk of {size} bytes before its samples; {REMEDY}")
            content = self._read_exactly(size + size % 2)
            if name == b"fmt ":
                found = _read_format(content)
        if found is None:
            raise AudioError(f"standard input is a WAV that does not tell how its samples are written; {REMEDY}")
        require_rate(found.rate_hz)
        if 0 < size < 0xFFFFFF00:
            self._num_due = self._num_samples_bytes = size
        return found


def _count_unheard(behind: bytes, num_padding: int) -> int:
    """How many of the bytes behind the samples are no chunks of a WAV, which hold titles and the like."""
    place = num_padding
    while name := CHUNK_NAME.match(behind, place):
        end = place + 8 + int.from_bytes(behind[place + 4 : place + 8], "little")
        if name[0] == b"RIFF" or end > len(behind):
            break
        place = end + end % 2
    return max(0, len(behind) - place)


def _name_container(head: bytes) -> str:
    """What begins with these bytes; empty for what may be raw samples."""
    name = {b"RIFF": "WAV", b"RF64": "RF64", b"fLaC": "FLAC", b"OggS": "Ogg"}.get(head[:4], "")
    return "" if name in WAVES and head[8:HEAD_BYTES] != b"WAVE" else name


def _read_format(content: bytes) -> SampleFormat:
    if len(content) < 16:
        raise AudioError(f"standard input is a WAV that does not tell how its samples are written; {REMEDY}")
    kind, num_channels, rate_hz, _, _, num_bits = struct.unpack("<HHIIHH", content[:16])
    if kind == EXTENSIBLE and len(content) >= 26:
        (kind,) = struct.unpack("<H", content[24:26])
    sizes = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}
    if num_bits not in sizes.get(kind, ()) or not 1 <= num_channels <= 64:
        raise AudioError(
            f"standard input is a WAV of format {kind} with {num_bits} bits and {num_channels} channels, which cannot "
            f"be heard; {REMEDY}"
        )
    return SampleFormat(rate_hz, num_channels, num_bits // 8, kind == FLOAT)
