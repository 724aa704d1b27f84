"""Reading sound files of every kind, whole and broken."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.io import measure_duration_seconds, read_audio, read_sound
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.network_config import FeatureConfig

RATE_HZ = 16000
FORMATS = {
    "WAV 16": ("a.wav", "PCM_16", 1e-4),
    "WAV 24": ("a.wav", "PCM_24", 1e-6),
    "WAV float": ("a.wav", "FLOAT", 0.0),
    "WAV mu-law": ("a.wav", "ULAW", 0.03),
    "FLAC 16": ("a.flac", "PCM_16", 1e-4),
    "FLAC 24": ("a.flac", "PCM_24", 1e-6),
    "AIFF": ("a.aiff", "PCM_16", 1e-4),
    "SPHERE": ("a.sph", "PCM_16", 1e-4),
    "Vorbis": ("a.ogg", "VORBIS", 0.1),
    "Opus": ("a.ogg", "OPUS", 0.1),
    "MP3": ("a.mp3", "MPEG_LAYER_III", 0.1),
}


def make_tone(num_samples: int, rate_hz: int = RATE_HZ, frequency_hz: float = 440.0) -> NDArray[np.float32]:
    phases = 2 * np.pi * frequency_hz * np.arange(num_samples) / rate_hz
    tone: NDArray[np.float32] = (0.5 * np.sin(phases)).astype(np.float32)
    return tone


def write(path: Path, samples: NDArray[np.float32], rate_hz: int = RATE_HZ, subtype: str | None = None) -> Path:
    container = "NIST" if path.suffix == ".sph" else None
    soundfile.write(path, samples, rate_hz, subtype=subtype, format=container)
    return path


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_samples_that_were_written(tmp_path: Path, kind: str) -> None:
    name, subtype, tolerance = FORMATS[kind]
    tone = make_tone(RATE_HZ)
    waveform = read_audio(write(tmp_path / name, tone, subtype=subtype), RATE_HZ)
    assert waveform.dtype == np.float32
    assert waveform.shape == tone.shape
    # lossy codecs smear the abrupt ends of the tone
    assert np.abs(waveform - tone)[800:-800].max() <= tolerance
    assert np.abs(waveform).max() <= 1


@pytest.mark.parametrize("kind", FORMATS)
def test_duration_is_samples_over_rate_at_full_precision(tmp_path: Path, kind: str) -> None:
    name, subtype, _ = FORMATS[kind]
    path = write(tmp_path / name, make_tone(16001), subtype=subtype)
    assert measure_duration_seconds(str(path)) == 16001 / RATE_HZ


def test_channels_are_averaged(tmp_path: Path) -> None:
    tone = make_tone(4000)
    path = write(tmp_path / "a.wav", np.stack([tone, 0 * tone, -0.5 * tone], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path, RATE_HZ), tone / 6, atol=1e-7)
    assert measure_duration_seconds(path) == 0.25


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 32000, 44100, 48000])
def test_resampling_keeps_a_tone_a_tone(tmp_path: Path, rate_hz: int) -> None:
    path = write(tmp_path / "a.wav", make_tone(rate_hz, rate_hz), rate_hz, "FLOAT")
    waveform = read_audio(path, RATE_HZ)
    assert waveform.shape == (RATE_HZ,)
    assert waveform.dtype == np.float32
    assert np.abs(waveform - make_tone(RATE_HZ))[800:-800].max() < 1e-3


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("num_samples", [1, 2, 159, 160, 441, 882, 1000, 7919, 22050])
def test_number_of_samples_and_frames_follow_from_the_duration(tmp_path: Path, rate_hz: int, num_samples: int) -> None:
    path = write(tmp_path / "a.wav", make_tone(num_samples, rate_hz), rate_hz)
    num_resampled = len(read_audio(path, RATE_HZ))
    assert num_resampled == math.ceil(num_samples * RATE_HZ / rate_hz - 1e-9)
    config = FeatureConfig(RATE_HZ, "log_spectrogram", "hann", 0.02, 0.01, 320, 80, "utterance", [], [])
    assert config.num_frames(measure_duration_seconds(path)) == 1 + num_resampled // 160


@pytest.mark.parametrize("peak", [1.01, 2.0, 3.9, 90.0])
def test_floating_point_above_full_scale_is_scaled_and_not_clipped(tmp_path: Path, peak: float) -> None:
    tone = 2 * make_tone(1600)
    sound = read_sound(write(tmp_path / "a.wav", tone * np.float32(peak), subtype="FLOAT"), RATE_HZ)
    np.testing.assert_allclose(sound.waveform, tone / np.abs(tone).max(), atol=1e-6)
    assert [note.kind for note in sound.notes] == ["scaled"]


def test_full_scale_itself_is_left_as_it_is(tmp_path: Path) -> None:
    samples = np.array([0.5, 1.0, -1.0, -0.5], np.float32)
    sound = read_sound(write(tmp_path / "a.wav", samples, subtype="FLOAT"), RATE_HZ)
    np.testing.assert_array_equal(sound.waveform, samples)
    assert not sound.notes


def test_resampling_a_full_scale_square_wave_stays_in_range(tmp_path: Path) -> None:
    square = np.sign(make_tone(8000, 8000) + 1e-9)
    waveform = read_audio(write(tmp_path / "a.wav", square, 8000, "FLOAT"), RATE_HZ)
    assert np.abs(waveform).max() == 1


def test_samples_that_were_never_scaled_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", make_tone(100) * 30000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav reaches .* full scale is 1"):
        read_audio(path, RATE_HZ)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_an_error(tmp_path: Path, value: float) -> None:
    samples = np.stack([make_tone(100)] * 2, axis=1)
    samples[50, 1] = value
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav holds samples that are not finite"):
        read_audio(path, RATE_HZ)


@pytest.mark.parametrize("use", [measure_duration_seconds, lambda path: read_audio(path, RATE_HZ)])
def test_files_that_hold_no_sound_are_errors_that_name_them(tmp_path: Path, use: Callable[[Path], object]) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is not sound\n" * 100)
    (tmp_path / "headerless.raw").write_bytes(b"\x00\x01" * 1000)
    write(tmp_path / "zero.wav", make_tone(0))
    expected = {
        "missing.wav": "cannot be read: No such file or directory; correct the path",
        "folder.wav": "cannot be read: Is a directory",
        "empty.wav": "is an empty file",
        "text.wav": "is not audio in a known format; convert it",
        "headerless.raw": "is not audio in a known format; convert it",
        "zero.wav": "holds no samples",
    }
    for name, text in expected.items():
        with pytest.raises(AudioError, match=f"{name} {text}"):
            use(tmp_path / name)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_was_cut_off_is_an_error(tmp_path: Path, kind: str, share: float) -> None:
    name, subtype, _ = FORMATS[kind]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE_HZ).astype(np.float32)
    path = cut(write(tmp_path / name, noise, subtype=subtype), share)
    with pytest.raises(AudioError, match=name) as raised:
        read_audio(path, RATE_HZ)
    assert not re.search(r"\w+Error\b|<\w+", str(raised.value)), "words, and no names of exceptions and objects"


@pytest.mark.parametrize("kind", ["WAV 16", "AIFF", "SPHERE", "Vorbis", "Opus", "MP3"])
def test_measuring_sees_a_cut_without_decoding(tmp_path: Path, kind: str) -> None:
    name, subtype, _ = FORMATS[kind]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE_HZ).astype(np.float32)
    path = cut(write(tmp_path / name, noise, subtype=subtype), 0.6)
    with pytest.raises(AudioError, match=name):
        measure_duration_seconds(path)


@pytest.mark.parametrize("announced", [0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_from_a_pipe_announces_no_length_and_is_read_whole(tmp_path: Path, announced: int) -> None:
    path = write(tmp_path / "a.wav", make_tone(1000), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = announced.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(read_audio(path, RATE_HZ)) == 1000
    assert measure_duration_seconds(path) == 1000 / RATE_HZ


def test_mp3_with_a_picture_and_without_length_tag_is_measured_by_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, make_tone(5 * RATE_HZ), RATE_HZ, bitrate_mode="CONSTANT", compression_level=0.5)
    content = path.read_bytes()
    first_sound = content.index(content[:2], 10)  # behind the frame with the length tag
    picture = b"ID3\x03\x00\x00" + bytes([0, 1, 0, 0]) + bytes(1 << 14)
    path.write_bytes(picture + content[first_sound:])
    waveform = read_audio(path, RATE_HZ)
    assert measure_duration_seconds(path) == len(waveform) / RATE_HZ
    assert len(waveform) / RATE_HZ == pytest.approx(5, abs=0.15)  # whole codec frames


def test_ogg_with_something_behind_its_last_page_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", make_tone(RATE_HZ), subtype="OPUS")
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    assert len(read_audio(path, RATE_HZ)) == RATE_HZ


def test_an4_files_have_the_length_that_libsndfile_reports(shared_data: Path) -> None:
    path = next((shared_data / "an4" / "wav").rglob("*.flac"))
    samples, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == RATE_HZ
    np.testing.assert_array_equal(read_audio(path, RATE_HZ), samples)
    assert measure_duration_seconds(path) == len(samples) / RATE_HZ
