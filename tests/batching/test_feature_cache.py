import dataclasses
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.batching import feature_cache
from mindaudio_ds2.batching.feature_cache import load_features
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import AudioError, ManifestError, OutputError
from mindaudio_ds2.network_config import FeatureConfig

CONFIG = FeatureConfig(16000, "log_spectrogram", "hamming", 0.02, 0.01, 320, 80, "utterance", [], [])


def write_noise(path: Path, seed: int = 0, num_samples: int = 4000) -> None:
    samples = np.random.default_rng(seed).normal(0, 0.1, num_samples).astype(np.float32)
    soundfile.write(path, samples, 16000, subtype="PCM_16")


@pytest.fixture
def utterance(tmp_path: Path) -> Utterance:
    path = tmp_path / "noise.wav"
    write_noise(path)
    return Utterance("u1", str(path), 0.25, "A")


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def list_entries(cache_dir: Path) -> list[Path]:
    return sorted(path for path in cache_dir.rglob("*") if path.is_file())


def compute_afresh(utterance: Utterance, config: FeatureConfig = CONFIG) -> NDArray[np.float32]:
    return compute_features(read_audio(utterance.audio_path, config.sample_rate_hz), config)


def test_features_are_the_same_bits_with_and_without_a_cache(utterance: Utterance, cache_dir: Path) -> None:
    expected = compute_afresh(utterance)
    for folder in (None, cache_dir, cache_dir):
        features = load_features(utterance, CONFIG, folder)
        assert features.dtype == np.float32
        assert features.shape == expected.shape
        assert features.tobytes() == expected.tobytes()
    assert len(list_entries(cache_dir)) == 1


def test_kept_features_are_not_computed_again(
    utterance: Utterance, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_features(utterance, CONFIG, cache_dir)
    monkeypatch.setattr(feature_cache, "read_audio", None)
    monkeypatch.setattr(feature_cache, "compute_features", None)
    assert load_features(utterance, CONFIG, cache_dir).tobytes() == first.tobytes()


def test_features_of_changed_sound_are_neither_kept_nor_taken_from_the_cache(
    utterance: Utterance, cache_dir: Path
) -> None:
    plain = load_features(utterance, CONFIG, cache_dir)
    entries = {path: path.read_bytes() for path in list_entries(cache_dir)}
    waveform = read_audio(utterance.audio_path, CONFIG.sample_rate_hz)
    changed = load_features(utterance, CONFIG, cache_dir, lambda given: given[::-1])
    assert changed.tobytes() == compute_features(waveform[::-1], CONFIG).tobytes()
    assert {path: path.read_bytes() for path in list_entries(cache_dir)} == entries
    assert load_features(utterance, CONFIG, cache_dir).tobytes() == plain.tobytes()


def test_without_a_cache_nothing_is_written(utterance: Utterance, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    load_features(utterance, CONFIG, None)
    assert sorted(tmp_path.rglob("*")) == before


def test_changed_audio_of_the_same_size_and_name_gets_its_own_features(utterance: Utterance, cache_dir: Path) -> None:
    old = load_features(utterance, CONFIG, cache_dir)
    changed_ns = os.stat(utterance.audio_path).st_mtime_ns + 1
    write_noise(Path(utterance.audio_path), seed=1)
    os.utime(utterance.audio_path, ns=(changed_ns, changed_ns))
    new = load_features(utterance, CONFIG, cache_dir)
    assert not np.array_equal(old, new)
    assert np.array_equal(new, compute_afresh(utterance))


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate_hz": 8000, "window_seconds": 0.04},
        {"kind": "log_mel", "num_mel_bands": 40},
        {"normalization": "speech"},
        {"window": "hann"},
        {"window_seconds": 0.015},
        {"hop_seconds": 0.02},
        {"fft_size": 512},
    ],
)
def test_each_key_of_the_config_has_features_of_its_own(
    change: dict[str, object], utterance: Utterance, cache_dir: Path
) -> None:
    changed = dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]
    load_features(utterance, CONFIG, cache_dir)
    assert np.array_equal(load_features(utterance, changed, cache_dir), compute_afresh(utterance, changed))
    assert len(list_entries(cache_dir)) == 2


def test_features_damaged_at_any_place_are_replaced(
    utterance: Utterance, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_features(utterance, CONFIG, cache_dir)
    (entry,) = list_entries(cache_dir)
    whole = entry.read_bytes()
    # Headers stand at the front and at the back; between them are the values.
    for place in [*range(0, 250, 3), *range(250, len(whole), 997), *range(len(whole) - 150, len(whole), 3)]:
        entry.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        assert np.array_equal(load_features(utterance, CONFIG, cache_dir), expected), f"byte {place}"
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        caplog.clear()
        entry.write_bytes(whole[:length])
        with caplog.at_level(logging.WARNING):
            assert np.array_equal(load_features(utterance, CONFIG, cache_dir), expected)
        assert str(entry) in caplog.text
        assert "unusable" in caplog.text
        assert entry.stat().st_size == len(whole)
    assert list_entries(cache_dir) == [entry]


def test_every_bit_of_cached_features_is_under_the_checksum(utterance: Utterance, cache_dir: Path) -> None:
    expected = load_features(utterance, CONFIG, cache_dir)
    (entry,) = list_entries(cache_dir)
    whole = entry.read_bytes()
    for place in range(300, len(whole) - 300, len(whole) // 40):
        for bit in (0, 7):  # the last of a fraction changes nothing that one would see
            entry.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
            assert np.array_equal(load_features(utterance, CONFIG, cache_dir), expected), f"byte {place}, bit {bit}"


def test_an_entry_that_holds_something_else_is_replaced(utterance: Utterance, cache_dir: Path) -> None:
    expected = load_features(utterance, CONFIG, cache_dir)
    (entry,) = list_entries(cache_dir)
    for foreign in (expected.astype(np.float64), expected[:, :-1], expected[0]):
        np.savez(entry, features=foreign)
        assert np.array_equal(load_features(utterance, CONFIG, cache_dir), expected)
    np.savez(entry, other=expected)
    assert np.array_equal(load_features(utterance, CONFIG, cache_dir), expected)


def test_a_file_in_the_place_of_the_cache_is_an_error_naming_the_path(utterance: Utterance, cache_dir: Path) -> None:
    cache_dir.write_text("in the way")
    with pytest.raises(OutputError, match=str(cache_dir)):
        load_features(utterance, CONFIG, cache_dir)
    assert cache_dir.read_text() == "in the way"


def test_a_folder_in_the_place_of_an_entry_is_an_error_naming_the_path(utterance: Utterance, cache_dir: Path) -> None:
    load_features(utterance, CONFIG, cache_dir)
    (entry,) = list_entries(cache_dir)
    entry.unlink()
    entry.mkdir()
    with pytest.raises(OutputError, match=str(entry)):
        load_features(utterance, CONFIG, cache_dir)
    assert list_entries(cache_dir) == []


@pytest.mark.parametrize("has_cache", [False, True])
def test_unusable_audio_is_an_error_naming_utterance_and_file(
    has_cache: bool, utterance: Utterance, cache_dir: Path
) -> None:
    path = Path(utterance.audio_path)
    for spoil in ("missing", "folder", "text"):
        if spoil == "missing":
            path.unlink()
        elif spoil == "folder":
            path.mkdir()
        else:
            path.rmdir()
            path.write_text("no sound")
        with pytest.raises(AudioError) as caught:
            load_features(utterance, CONFIG, cache_dir if has_cache else None)
        assert "'u1'" in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("has_cache", [False, True])
def test_a_wrong_duration_in_the_manifest_is_an_error(has_cache: bool, utterance: Utterance, cache_dir: Path) -> None:
    folder = cache_dir if has_cache else None
    for duration in (0.16, 0.25, 0.34):
        load_features(dataclasses.replace(utterance, duration_seconds=duration), CONFIG, folder)
    for duration in (0.13, 0.37, 25.0):
        with pytest.raises(ManifestError) as caught:
            load_features(dataclasses.replace(utterance, duration_seconds=duration), CONFIG, folder)
        text = str(caught.value)
        for part in ("'u1'", utterance.audio_path, f"{duration:.3f}", "0.25 s", "prepare.py"):
            assert part in text
