"""Phones' and browsers' files, made by PyAV and compared with what went in."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.audio import media
from mindaudio_ds2.audio.io import measure_duration_seconds, read_audio, read_sound
from mindaudio_ds2.audio.sound_blocks import SoundBlocks
from mindaudio_ds2.errors import AudioError, LongAudioError

needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="PyAV is an extra (media)")
FILES = {"a.m4a": "aac", "a.mp4": "aac", "a.webm": "libopus", "a.mkv": "aac", "a.aac": "aac", "a.mov": "aac"}
RATE_HZ = 48000
TONES = np.stack(
    [0.3 * np.sin(2 * np.pi * f * np.arange(2 * RATE_HZ) / RATE_HZ + 3 * np.sin(np.arange(2 * RATE_HZ) / 9000))
     for f in (440, 700)]
).astype(np.float32)  # fmt: skip


def write(path: Path, codec: str, with_video: bool = False) -> Path:
    import av

    with av.open(str(path), "w") as container:
        if with_video:
            video: Any = container.add_stream("mpeg4", rate=10)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        stream: Any = container.add_stream(codec, rate=RATE_HZ, layout="stereo")
        if with_video:
            for _ in range(20):
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(TONES, format="fltp", layout="stereo")
        frame.sample_rate = RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@needs_av
@pytest.mark.parametrize("name", FILES)
def test_the_sound_is_what_went_in(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, FILES[name])
    sound = read_sound(path, channels="split")
    assert (sound.file_rate_hz, len(sound.waveforms)) == (RATE_HZ, 2)
    assert abs(sound.waveforms.shape[1] - 2 * RATE_HZ) < 3000, "encoders fill whole frames"
    assert measure_duration_seconds(path) == sound.waveforms.shape[1] / RATE_HZ
    inside = TONES[:, 20000:60000]
    lags = [np.corrcoef(inside[0], sound.waveforms[0, 20000 + lag : 60000 + lag])[0, 1] for lag in range(-1400, 2200)]
    lag = int(np.argmax(lags)) - 1400
    for number in (0, 1):
        assert np.corrcoef(inside[number], sound.waveforms[number, 20000 + lag : 60000 + lag])[0, 1] > 0.99


@needs_av
def test_the_sound_of_a_video_is_read(tmp_path: Path) -> None:
    assert len(read_audio(write(tmp_path / "a.mp4", "aac", with_video=True), 16000)) == pytest.approx(32000, abs=1000)


@needs_av
@pytest.mark.parametrize("name", FILES)
def test_half_a_file_is_an_error(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, FILES[name])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match="cut off"):
        read_audio(path, 16000)


@needs_av
@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.mov"])
def test_joined_movies_are_an_error(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, FILES[name])
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(AudioError, match="several recordings joined"):
        read_audio(path, 16000)


@needs_av
def test_reading_stops_where_a_file_is_longer_than_expected(tmp_path: Path) -> None:
    with pytest.raises(LongAudioError):
        read_audio(write(tmp_path / "a.m4a", "aac"), 16000, max_seconds=1)


@needs_av
def test_a_picture_without_sound_is_an_error(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(video.encode(None))
    with pytest.raises(AudioError, match="has no sound track"):
        read_audio(tmp_path / "a.mp4", 16000)


@pytest.mark.parametrize("head", [b"\0\0\0\x20ftypM4A ", b"\x1aE\xdf\xa3", b"\xff\xf1\x50\x80", b"#!AMR\n"])
def test_without_the_extra_the_remedy_is_named(head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "has_media", lambda: False)
    (tmp_path / "talk.m4a").write_bytes(head + bytes(500))
    with pytest.raises(AudioError, match=r"pip install 'mindaudio_ds2\[media\]'.*ffmpeg -i talk\.m4a talk\.flac"):
        read_audio(tmp_path / "talk.m4a", 16000)


@needs_av
@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.webm"])
def test_blocks_of_a_phones_or_browsers_file_are_what_the_whole_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / name, FILES[name], with_video=name == "a.mp4")
    whole = read_sound(path, 16000, "split")
    monkeypatch.setattr(media, "BLOCK_SAMPLES", 5000)
    blocks = SoundBlocks(path, 16000, "split")
    parts = list(blocks)
    assert len(parts) > 10
    assert np.concatenate(parts, axis=1).shape == whole.waveforms.shape
    assert np.abs(np.concatenate(parts, axis=1) - whole.waveforms).max() < 1e-6
    assert blocks.notes == whole.notes
