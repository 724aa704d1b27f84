"""Every container whole, halved, joined, with a wrong length, and what a reader says of strange sound."""

import contextlib
import io
import os
import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.channels import parse_channels
from mindaudio_ds2.audio.io import (
    listen,
    measure_duration_seconds,
    read_audio,
    read_rate_hz,
    read_sound,
)
from mindaudio_ds2.errors import AudioError, ConfigError, LongAudioError

ROOT = Path(__file__).resolve().parents[2]
RATE_HZ = 16000
NOISE = np.random.default_rng(1).uniform(-0.5, 0.5, 2 * RATE_HZ).astype(np.float32)
KINDS = [
    *[("WAV", "PCM_16"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("WAV", "G721_32"), ("WAV", "FLOAT")],
    *[("AU", "PCM_16"), ("AU", "G721_32"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("CAF", "PCM_16")],
    *[("CAF", "ALAC_16"), ("VOC", "PCM_16"), ("SVX", "PCM_16"), ("AVR", "PCM_16"), ("NIST", "PCM_16")],
    *[("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
]


def encode(container: str, subtype: str, samples: NDArray[np.float32] = NOISE, rate_hz: int = RATE_HZ) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


def put(folder: Path, content: bytes, name: str = "a.snd") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def wav(data: bytes, size: int, rate_hz: int = RATE_HZ) -> bytes:
    head = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16) + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 36 + size & 0xFFFFFFFF) + b"WAVE" + head + data


PCM = (NOISE * 32767).astype("<i2").tobytes()


def list_kinds(sound: Any) -> list[str]:
    return [note.kind for note in sound.notes]


@pytest.mark.parametrize(("container", "subtype"), KINDS)
def test_half_a_file_is_an_error_to_read_and_to_measure(container: str, subtype: str, tmp_path: Path) -> None:
    content = encode(container, subtype)
    for size in (len(content) // 2, len(content) - 1000):
        path = put(tmp_path, content[:size])
        for use in (read_sound, measure_duration_seconds):
            with pytest.raises(AudioError, match=r"a\.snd .*(cut off|damaged)"):
                use(path)


@pytest.mark.parametrize("num_pieces", [2, 3])
@pytest.mark.parametrize(("container", "subtype"), KINDS)
def test_joined_files_are_read_to_the_end(container: str, subtype: str, num_pieces: int, tmp_path: Path) -> None:
    content = encode(container, subtype)
    alone = read_sound(put(tmp_path, content, "alone.snd"))
    path = put(tmp_path, content * num_pieces)
    joined = read_sound(path)
    np.testing.assert_allclose(joined.waveform, np.tile(alone.waveform, num_pieces), atol=1e-6)
    assert list_kinds(joined) == ["joined"]
    assert measure_duration_seconds(path) == len(joined.waveform) / RATE_HZ


def test_joined_files_of_different_rates_are_an_error(tmp_path: Path) -> None:
    path = put(tmp_path, encode("WAV", "PCM_16") + encode("WAV", "PCM_16", rate_hz=8000))
    with pytest.raises(AudioError, match="2 recordings joined into one file, of different rates"):
        read_sound(path)


@pytest.mark.parametrize("container", ["PAF", "IRCAM", "PVF", "MAT5"])
def test_formats_that_do_not_say_how_long_they_are_are_refused(container: str, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="half of it could pass for all; convert it"):
        read_sound(put(tmp_path, encode(container, "PCM_16")))


@pytest.mark.parametrize("container", ["WAV", "AU", "W64", "VOC", "SVX", "AVR", "NIST", "AIFF", "CAF", "RF64"])
def test_a_few_bytes_behind_the_sound_are_told_and_not_read(container: str, tmp_path: Path) -> None:
    path = put(tmp_path, encode(container, "PCM_16") + b"x" * 200)
    sound = read_sound(path)
    assert (len(sound.waveform), list_kinds(sound)) == (len(NOISE), ["trailing bytes"])
    assert measure_duration_seconds(path) == 2


@pytest.mark.parametrize("tag", [b"LIST" + struct.pack("<I", 90000) + bytes(range(1, 251)) * 360, b"TAG" + b"x" * 9000])
def test_chunks_and_tags_behind_the_sound_are_no_sound(tag: bytes, tmp_path: Path) -> None:
    sound = read_sound(put(tmp_path, wav(PCM, len(PCM)) + tag))
    assert (len(sound.waveform), list_kinds(sound)) == (len(NOISE), [])


def test_a_wav_that_announces_less_than_it_has_is_an_error(tmp_path: Path) -> None:
    path = put(tmp_path, wav(PCM, 16000))
    for use in (read_sound, measure_duration_seconds):
        with pytest.raises(AudioError, match="announces 16000 bytes of sound, but 48000 more follow.*ignore_length"):
            use(path)


def test_a_wav_that_was_never_closed_is_read_and_told(tmp_path: Path) -> None:
    path = put(tmp_path, wav(PCM, 0))
    sound = read_sound(path)
    np.testing.assert_allclose(sound.waveform, NOISE, atol=1e-4)
    assert list_kinds(sound) == ["unfinished header"]
    assert measure_duration_seconds(path) == 2
    with pytest.raises(AudioError, match="holds no samples"):
        read_sound(put(tmp_path, wav(b"", 0)))


def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    content = bytearray(encode("FLAC", "PCM_16"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path = put(tmp_path, bytes(content))
    np.testing.assert_allclose(read_audio(path, RATE_HZ), NOISE, atol=1e-4)
    assert measure_duration_seconds(path) == 2


@pytest.mark.parametrize("rate_hz", [1, 1000, 10_000_000])
def test_a_rate_that_no_speech_has_is_an_error_and_costs_no_memory(rate_hz: int, tmp_path: Path) -> None:
    path = put(tmp_path, wav(PCM, len(PCM), rate_hz))
    tracemalloc.start()
    for use in (measure_duration_seconds, lambda path: read_audio(path, RATE_HZ)):
        with pytest.raises(AudioError, match=f"claims a sample rate of {rate_hz} Hz"):
            use(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_a_header_that_claims_hours_costs_no_memory(tmp_path: Path) -> None:
    content = bytearray(encode("FLAC", "PCM_16"))
    content[22:26] = b"\xff\xff\xff\xff"  # 74 hours
    tracemalloc.start()
    with pytest.raises(AudioError):
        read_audio(put(tmp_path, bytes(content)), RATE_HZ)
    assert tracemalloc.get_traced_memory()[1] < 5e7
    tracemalloc.stop()


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_reading_stops_where_a_file_is_longer_than_expected(container: str, subtype: str, tmp_path: Path) -> None:
    path = put(tmp_path, encode(container, subtype))
    assert len(read_audio(path, RATE_HZ, max_seconds=2.1)) == len(NOISE)
    with pytest.raises(LongAudioError, match="lasts 2.00 s or more, and at most 1.50 s") as raised:
        read_audio(path, RATE_HZ, max_seconds=1.5)
    assert raised.value.seconds == 2


def test_a_name_that_is_not_utf8_is_no_obstacle(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        path.write_bytes(wav(PCM, len(PCM)))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(read_audio(path, RATE_HZ)) == len(NOISE)
    path.write_bytes(b"words")
    with pytest.raises(AudioError, match="caf.udce9"):
        read_audio(path, RATE_HZ)


def test_random_damage_is_an_audio_error_or_no_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    num_refused = num_read = 0
    told = []
    for container, subtype in KINDS:
        content = np.frombuffer(encode(container, subtype), np.uint8)
        for _ in range(12):
            damaged = content.copy()
            damaged[generator.integers(0, min(200, len(content)), 4)] = generator.integers(0, 256, 4)
            path = put(tmp_path, damaged.tobytes())
            try:
                waveform = read_sound(path).waveform
            except AudioError as error:
                num_refused += 1
                told.append(str(error))
            else:
                num_read += 1
                assert np.abs(waveform).max() <= 1, "neither infinite nor NaN nor beyond full scale"
            with contextlib.suppress(AudioError):
                assert measure_duration_seconds(path) > 0
    strange = [text for text in told if re.search(r"\w+Error\b|<\w+", text)]
    assert not strange, "words, and no names of exceptions and objects"
    assert num_refused > 20
    assert num_read > 20


# What is strange about sound ------------------------------------------------------------------------------------------


def test_channels_that_cancel_leave_the_loudest(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([0.9 * NOISE, -NOISE], axis=1), RATE_HZ, subtype="FLOAT")
    sound = read_sound(path)
    np.testing.assert_array_equal(sound.waveform, -NOISE)
    assert list_kinds(sound) == ["antiphase"]


@pytest.mark.parametrize("offset", [-0.3, -0.02, 0.02, 0.1])
def test_a_large_constant_is_taken_away(offset: float, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE + offset, RATE_HZ, subtype="FLOAT")
    sound = read_sound(tmp_path / "a.wav")
    np.testing.assert_allclose(sound.waveform, NOISE - NOISE.mean(), atol=1e-6)
    assert list_kinds(sound) == ["offset"]


def test_the_small_constant_that_corpora_have_stays_to_the_bit(tmp_path: Path) -> None:
    samples = NOISE + np.float32(0.013)
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE_HZ), samples)


def test_a_constant_louder_than_its_sound_is_taken_away(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.01 * NOISE + 0.01, RATE_HZ, subtype="FLOAT")
    assert list_kinds(read_sound(tmp_path / "a.wav")) == ["offset"]


def test_silence_and_a_low_rate_are_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    sound = read_sound(tmp_path / "a.wav", RATE_HZ)
    assert list_kinds(sound) == ["silence", "low rate"]
    assert "8000 Hz" in sound.notes[1].text
    assert (sound.rate_hz, sound.file_rate_hz, sound.duration_seconds) == (RATE_HZ, 8000, 1.0)
    assert read_rate_hz(tmp_path / "a.wav") == 8000


def test_channels_can_be_mixed_split_or_chosen(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([NOISE, 0.5 * NOISE], axis=1), RATE_HZ, subtype="FLOAT")
    path = tmp_path / "a.wav"
    np.testing.assert_allclose(read_sound(path).waveforms, [0.75 * NOISE], atol=1e-7)
    np.testing.assert_array_equal(read_sound(path, channels="split").waveforms, [NOISE, 0.5 * NOISE])
    np.testing.assert_array_equal(read_sound(path, channels=2).waveforms, [0.5 * NOISE])
    with pytest.raises(AudioError, match="the last channel of .*a.wav is number 2, and number 3 is asked for"):
        read_sound(path, channels=3)


def test_channels_are_parsed_or_refused() -> None:
    assert [parse_channels(text) for text in ("mix", "split", "2")] == ["mix", "split", 2]
    for text in ("0", "-1", "left", ""):
        with pytest.raises(ConfigError, match="mix, split or a number"):
            parse_channels(text)


def test_listening_to_many_keeps_their_order_and_one_files_trouble_is_its_own(tmp_path: Path) -> None:
    good = put(tmp_path, wav(PCM, len(PCM)), "good.wav")
    heard = listen([good, tmp_path / "gone.wav", good], 2)
    assert [getattr(each, "duration_seconds", None) for each in heard] == [2.0, None, 2.0]
    assert isinstance(heard[1], AudioError)


# Pipes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "OPUS")])
def test_sound_from_a_pipe_is_measured_and_read(name: str, container: str, subtype: str) -> None:
    script = (
        "from mindaudio_ds2.audio.io import *\n"
        f"print(measure_duration_seconds({name!r}), len(read_audio({name!r}, 16000)), len(read_audio({name!r}, 8000)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=encode(container, subtype), capture_output=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.decode().split() == ["2.0", "32000", "16000"], done.stderr.decode()


def test_an_empty_pipe_is_an_error() -> None:
    script = "from mindaudio_ds2.audio.io import read_audio\nread_audio('-', 16000)"
    done = subprocess.run([sys.executable, "-c", script], input=b"", capture_output=True, cwd=ROOT, timeout=60)
    assert b"standard input is empty: what should send the sound has ended" in done.stderr
