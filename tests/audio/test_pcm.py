"""Sound from pipes, against what soundfile wrote."""

import io
import os
import struct
import threading

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.audio.pcm import PcmReader
from mindaudio_ds2.errors import AudioError

SOUND = (0.5 * np.sin(np.arange(3000) / 7)).astype(np.float32)


def send(content: bytes, piece: int = 1000) -> int:
    """The reading end of a pipe through which this comes piece by piece."""
    reading, writing = os.pipe()

    def write() -> None:
        for start in range(0, len(content), piece):
            os.write(writing, content[start : start + piece])
        os.close(writing)

    threading.Thread(target=write, daemon=True).start()
    return reading


def read(reader: PcmReader) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *reader])


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 0.01), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("PCM_32", 1e-6), ("FLOAT", 0), ("DOUBLE", 1e-7)],
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
def test_every_kind_of_wav_is_read_and_its_channels_mixed(subtype: str, tolerance: float, container: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.stack([SOUND, SOUND * 0.5], axis=1), 22050, subtype, format=container)
    reader = PcmReader(send(file.getvalue()))
    assert (reader.format.rate_hz, reader.format.num_channels) == (22050, 2)
    np.testing.assert_allclose(read(reader), SOUND * 0.75, atol=tolerance + 1e-7)


def test_channels_that_cancel_leave_the_loudest_as_in_files() -> None:
    file = io.BytesIO()
    silence = np.zeros(500, np.float32)
    sound = np.concatenate([silence, SOUND])
    soundfile.write(file, np.stack([sound * 0.99, -sound], axis=1), 16000, "FLOAT", format="WAV")
    reader = PcmReader(send(file.getvalue()))
    np.testing.assert_allclose(read(reader), -sound, atol=1e-6)
    assert reader.notes == {"antiphase": "its channels cancel each other, so channel 2 alone is read"}


def test_raw_samples_want_a_rate_and_need_no_whole_reads() -> None:
    content = (SOUND * 32767).astype("<i2").tobytes()
    reader = PcmReader(send(content + b"\1", piece=333), 8000)
    np.testing.assert_allclose(read(reader), SOUND, atol=1e-4)
    reader.look_behind()
    assert reader.notes == {"cut sample": "the last sample was cut off: 1 bytes were not heard"}


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_of_unknown_size_is_read_to_the_end(size: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, SOUND, 16000, "PCM_16", format="WAV")
    content = bytearray(file.getvalue())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    assert len(read(PcmReader(send(bytes(content))))) == len(SOUND)


def test_what_stands_behind_the_samples_is_no_sound() -> None:
    file = io.BytesIO()
    soundfile.write(file, SOUND, 16000, "PCM_16", format="WAV")
    reader = PcmReader(send(file.getvalue() + b"LIST\3\0\0\0abc\0"))
    assert len(read(reader)) == len(SOUND)
    reader.look_behind()
    assert reader.notes == {}


def test_what_a_wav_does_not_announce_or_does_not_hold_is_told() -> None:
    file = io.BytesIO()
    soundfile.write(file, SOUND, 16000, "PCM_16", format="WAV")
    whole = file.getvalue()
    place = whole.index(b"data") + 4
    short = whole[:place] + struct.pack("<I", 4000) + whole[place + 4 :]
    for content, num_heard, note in (
        (whole + whole, 3000, f"another recording begins behind its samples: {len(whole)} bytes were not heard"),
        (whole + b"LIST\3\0\0\0abc\0" + whole, 3000, f"behind its samples: {len(whole)} bytes were not heard"),
        (short, 2000, "more than its header announces behind its samples: 2000 bytes were not heard"),
        (whole[:-1001], 2499, "it is cut off: its header announces 1001 bytes more than came"),
    ):
        reader = PcmReader(send(content))
        assert len(read(reader)) == num_heard
        reader.look_behind()
        assert note in "; ".join(reader.notes.values())


def test_a_pipe_that_stays_open_behind_its_wav_is_not_waited_for() -> None:
    file = io.BytesIO()
    soundfile.write(file, SOUND, 16000, "PCM_16", format="WAV")
    reading, writing = os.pipe()
    os.write(writing, file.getvalue())
    reader = PcmReader(reading)
    assert len(read(reader)) == len(SOUND)
    reader.look_behind()
    assert reader.notes == {}


def test_reading_stops_when_it_is_told_though_nothing_comes() -> None:
    reading, writing = os.pipe()
    os.write(writing, bytes(200))
    is_over = threading.Event()
    reader = PcmReader(reading, 16000, is_over.is_set)
    blocks = iter(reader)
    assert len(next(blocks)) == 100
    threading.Timer(0.3, is_over.set).start()
    assert list(blocks) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF", "ended within the header"),
        (b"OggS" + bytes(40), "no WAV"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0\1\0", "does not tell"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "does not tell"),
        (b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x55\0\1\0\x40\x1f\0\0\0\0\0\0\0\0\x10\0", "format 85"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f", "before its samples"),
        (b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0", "an RF64, .* transcribe that without --stream"),
    ],
)
def test_what_is_no_wav_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        PcmReader(send(content))


@pytest.mark.parametrize("rate_hz", [0, 7, 5_000_000])
def test_impossible_rates_are_refused(rate_hz: int) -> None:
    with pytest.raises(AudioError, match="from 4000 to 192000"):
        PcmReader(send(b""), rate_hz)
    file = io.BytesIO()
    soundfile.write(file, SOUND, 16000, "PCM_16", format="WAV")
    content = file.getvalue().replace(struct.pack("<I", 16000), struct.pack("<I", rate_hz))
    with pytest.raises(AudioError, match="from 4000 to 192000"):
        PcmReader(send(content))


@pytest.mark.parametrize(
    ("container", "remedy"), [("WAV", "leave --rate_hz away"), ("RF64", "leave --rate_hz away"), ("FLAC", "ffmpeg -i")]
)
@pytest.mark.parametrize("piece", [5, 1000])
def test_a_header_is_not_heard_as_samples(container: str, remedy: str, piece: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, SOUND, 16000, "PCM_16", format=container)
    with pytest.raises(AudioError, match=f"the header of {container}, .*{remedy}"):
        PcmReader(send(file.getvalue(), piece), 16000)


def test_raw_samples_may_be_fewer_than_a_header_or_begin_like_one() -> None:
    assert len(read(PcmReader(send(b"\1\0" * 3), 16000))) == 3
    assert len(read(PcmReader(send(b"RIFF" + bytes(20)), 16000))) == 12


@pytest.mark.parametrize("rate_hz", [None, 16000])
def test_a_pipe_through_which_nothing_comes_is_told_apart_from_silence(rate_hz: int | None) -> None:
    with pytest.raises(AudioError, match="standard input is empty: what should send the sound has ended"):
        read(PcmReader(send(b""), rate_hz))


def test_who_stops_before_the_first_sample_has_not_sent_an_empty_pipe() -> None:
    reading, writing = os.pipe()
    assert len(read(PcmReader(reading, 16000, lambda: True))) == 0
    for descriptor in (reading, writing):
        os.close(descriptor)
