"""Files in blocks against the same files read at once."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio import decoding
from mindaudio_ds2.audio.channels import Channels
from mindaudio_ds2.audio.io import read_sound
from mindaudio_ds2.audio.sound_blocks import SoundBlocks
from mindaudio_ds2.errors import AudioError


def write_noise(
    path: Path, rate_hz: int, channels: int, level: float = 0.1, offset: float = 0.0, **options: Any
) -> None:
    generator = np.random.default_rng(rate_hz)
    samples = level * generator.uniform(-1, 1, (2 * rate_hz + 17, channels)) + offset
    soundfile.write(path, samples, rate_hz, **options)


@pytest.mark.parametrize("block_samples", [997, 100_000])
@pytest.mark.parametrize(
    ("name", "rate_hz", "num_channels", "options", "channels", "kinds"),
    [
        ("a.wav", 16000, 1, {}, "mix", []),
        ("a.flac", 44100, 2, {}, "mix", []),
        ("a.wav", 96000, 8, {"subtype": "PCM_24"}, "split", []),
        ("a.wav", 44100, 2, {"subtype": "FLOAT", "offset": 0.05}, "mix", ["offset"]),
        ("a.wav", 16000, 3, {"subtype": "FLOAT", "offset": 0.05}, "split", ["offset"]),
        ("a.wav", 8000, 2, {"subtype": "FLOAT", "level": 2.5}, 2, ["scaled", "low rate"]),
        ("a.mp3", 22050, 2, {}, "mix", []),
        ("a.ogg", 16000, 1, {}, "mix", []),
        ("a.wav", 16000, 3, {"level": 1e-5, "subtype": "FLOAT"}, "split", ["silence"]),
    ],
)
def test_blocks_are_what_the_whole_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    rate_hz: int,
    num_channels: int,
    options: dict[str, Any],
    channels: Channels,
    kinds: list[str],
    block_samples: int,
) -> None:
    write_noise(tmp_path / name, rate_hz, num_channels, **options)
    whole = read_sound(tmp_path / name, 16000, channels)
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", block_samples)
    blocks = SoundBlocks(tmp_path / name, 16000, channels)
    joined = np.concatenate(list(blocks), axis=1)
    assert blocks.num_rows == len(joined) == len(whole.waveforms)
    assert np.array_equal(joined, whole.waveforms) or np.abs(joined - whole.waveforms).max() < 1e-6
    assert joined.shape == whole.waveforms.shape
    assert (blocks.duration_seconds, blocks.notes) == (whole.duration_seconds, whole.notes)
    assert [note.kind for note in blocks.notes] == kinds


def test_channels_that_cancel_are_told_from_the_whole_file(tmp_path: Path) -> None:
    noise: NDArray[np.float64] = 0.1 * np.random.default_rng(1).standard_normal(9000)
    soundfile.write(tmp_path / "a.wav", np.stack([noise, -0.9 * noise], axis=1), 16000)
    blocks = SoundBlocks(tmp_path / "a.wav", 16000)
    assert [note.kind for note in blocks.notes] == ["antiphase"]
    assert np.array_equal(np.concatenate(list(blocks), axis=1), read_sound(tmp_path / "a.wav", 16000).waveforms)


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 1 << 15)
    peaks = []
    for minutes in (1, 8):
        with soundfile.SoundFile(tmp_path / "a.flac", "w", 16000, 1) as file:
            for seed in range(minutes):
                file.write(0.1 * np.random.default_rng(seed).uniform(-1, 1, 60 * 16000))
        tracemalloc.start()
        num_samples = sum(block.shape[1] for block in SoundBlocks(tmp_path / "a.flac", 8000))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert num_samples == minutes * 60 * 8000
    assert peaks[1] < 1.2 * peaks[0] + 100_000


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.ogg"])
def test_a_file_that_ends_in_the_middle_is_an_error_before_the_first_block(tmp_path: Path, name: str) -> None:
    write_noise(tmp_path / name, 16000, 1)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match="cut off"):
        SoundBlocks(tmp_path / name, 16000)


def test_a_channel_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.wav", 16000, 2)
    with pytest.raises(AudioError, match="is number 2, and number 3"):
        SoundBlocks(tmp_path / "a.wav", 16000, 3)


def test_samples_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    samples = np.zeros(50_000)
    samples[40_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="not finite"):
        SoundBlocks(tmp_path / "a.wav", 16000)


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    write_noise(tmp_path / "a.wav", 16000, 1)
    blocks = SoundBlocks(tmp_path / "a.wav", 16000)
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 16000)
    with pytest.raises(AudioError, match="changed"):
        list(blocks)
