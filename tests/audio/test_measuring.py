from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.audio import io
from mindaudio_ds2.audio.io import measure_duration_seconds, measure_durations
from mindaudio_ds2.errors import AudioError

RATE_HZ = 16000


def write_sound(path: Path, num_samples: int) -> Path:
    rng = np.random.default_rng(num_samples)
    soundfile.write(path, rng.uniform(-0.5, 0.5, num_samples).astype(np.float32), RATE_HZ)
    return path


@pytest.mark.parametrize("num_workers", [1, 4])
def test_many_files_are_measured_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    monkeypatch.setattr(io, "CHUNK_FILES", 7)
    counts = list(range(120, 100, -1))
    paths = [write_sound(tmp_path / f"{count}.flac", count) for count in counts]
    assert measure_durations(paths, num_workers) == [count / RATE_HZ for count in counts]


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    good = write_sound(tmp_path / "good.wav", 1600)
    (tmp_path / "text.flac").write_text("no sound")
    (tmp_path / "empty.flac").touch()
    paths = [good, tmp_path / "text.flac", tmp_path / "none.wav", tmp_path / "empty.flac", tmp_path, good]
    first, *others, last = measure_durations(paths, 3)
    assert first == last == 0.1
    for path, error in zip(paths[1:], others, strict=False):
        assert isinstance(error, AudioError)
        assert f"{path}" in f"{error}"


def test_nothing_to_measure_is_nothing() -> None:
    assert measure_durations([], 2) == []


@pytest.mark.parametrize("num_bytes_lost", [1, 2, 17, 500, 5000, 20000])
def test_a_cut_flac_is_found_although_its_header_tells_nothing(tmp_path: Path, num_bytes_lost: int) -> None:
    path = write_sound(tmp_path / "a.flac", 12345)
    assert measure_duration_seconds(path) == 12345 / RATE_HZ
    content = path.read_bytes()
    assert len(content) > 21000
    path.write_bytes(content[:-num_bytes_lost])
    with pytest.raises(AudioError, match=r"a\.flac"):
        measure_duration_seconds(path)


@pytest.mark.parametrize("num_samples", [1, 2, 4095, 4096, 4097, 50000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_whole_flac_of_any_length_is_measured(tmp_path: Path, num_samples: int, subtype: str) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((num_samples, 2)), 44100, subtype=subtype)
    assert measure_duration_seconds(path) == num_samples / 44100
