from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.audio import sound_pool
from mindaudio_ds2.audio.sound_pool import SoundPool
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.errors import AudioError, ConfigError, ManifestError

KEY = "augmentation.noise_path"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings at different depths, of 100, 200 and 300 samples, and a text."""
    for number, name in enumerate(("b.wav", "a/c.FLAC", "a/b/d.wav"), start=1):
        path = tmp_path / "noise" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(100 * number, 0.1 * number), 8000)
    (tmp_path / "noise" / "README").write_text("not sound", encoding="utf-8")
    (tmp_path / "noise" / "a" / "list.txt").write_text("not sound", encoding="utf-8")
    return tmp_path / "noise"


def test_a_folder_is_searched_at_any_depth_in_one_order(folder: Path) -> None:
    pool = SoundPool(str(folder), 8000, KEY)
    assert [path.relative_to(folder).as_posix() for path in pool.paths] == ["a/b/d.wav", "a/c.FLAC", "b.wav"]
    assert len(pool) == 3
    assert pool.durations == pytest.approx([300 / 8000, 200 / 8000, 100 / 8000])
    assert [len(pool.read(index)) for index in range(3)] == [300, 200, 100]
    assert pool.read(0)[0] == pytest.approx(0.3, abs=1e-4)


def test_sound_has_the_rate_that_was_asked_for(folder: Path) -> None:
    waveform = SoundPool(str(folder), 16000, KEY).read(0)
    assert waveform.dtype == np.float32
    assert waveform.shape == (600,)


def test_a_manifest_names_its_files_in_its_order(folder: Path, tmp_path: Path) -> None:
    rows = [Utterance(name, str(folder / name), 0.01, "talk") for name in ("b.wav", "a/b/d.wav")]
    write_manifest(tmp_path / "babble.jsonl", rows)
    pool = SoundPool(str(tmp_path / "babble.jsonl"), 8000, KEY)
    assert [path.name for path in pool.paths] == ["b.wav", "d.wav"]


def test_no_path_makes_an_empty_pool() -> None:
    pool = SoundPool(None, 16000, KEY)
    assert (len(pool), pool.durations) == (0, [])


def test_a_missing_folder_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{KEY} is '{tmp_path}/none'.*no such folder or manifest"):
        SoundPool(str(tmp_path / "none"), 16000, KEY)


def test_a_folder_without_sound_is_named_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("nothing", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{KEY} is '{tmp_path}', but no sound.*\.wav"):
        SoundPool(str(tmp_path), 16000, KEY)


def test_a_file_that_is_no_sound_is_found_at_the_start(folder: Path) -> None:
    (folder / "z.wav").write_text("not sound", encoding="utf-8")
    with pytest.raises(AudioError, match=r"z\.wav"):
        SoundPool(str(folder), 16000, KEY)


def test_a_table_that_is_no_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "noise.jsonl").write_text("rain.wav\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"noise\.jsonl"):
        SoundPool(str(tmp_path / "noise.jsonl"), 16000, KEY)


def test_files_are_read_once_as_long_as_there_is_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = SoundPool(str(folder), 8000, KEY)
    monkeypatch.setattr(sound_pool, "MAX_KEPT_SAMPLES", 450)
    read_sound, paths_read = sound_pool.read_sound, []

    def read_and_note(path: Path, sample_rate_hz: int, **options: bool) -> object:
        paths_read.append(path.name)
        return read_sound(path, sample_rate_hz, **options)

    monkeypatch.setattr(sound_pool, "read_sound", read_and_note)
    for _ in range(3):
        assert [len(pool.read(index)) for index in range(3)] == [300, 200, 100]
    assert paths_read == ["d.wav", "c.FLAC", "b.wav", "c.FLAC", "c.FLAC"]
