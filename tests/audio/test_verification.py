import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.verification import AudioLimits, verify_audio, verify_utterance
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.problems import Problems

RATE_HZ = 16000
LIMITS = AudioLimits(sample_rate_hz=RATE_HZ, silence_dbfs=-60.0, max_clipped_share=0.01)


def make_noise(seconds: float = 0.5, peak: float = 0.5) -> NDArray[np.float32]:
    noise = np.random.default_rng(1).uniform(-1, 1, size=round(seconds * RATE_HZ)).astype(np.float32)
    scaled: NDArray[np.float32] = peak * noise / np.abs(noise).max()
    return scaled


def write(path: Path, samples: NDArray[np.float32], rate_hz: int = RATE_HZ, **options: str) -> Utterance:
    soundfile.write(path, samples, rate_hz, **options)
    return Utterance(path.stem, str(path), len(samples) / rate_hz, "GO")


def find_kinds(utterance: Utterance) -> list[str]:
    return [kind for kind, _ in verify_utterance(utterance, LIMITS)]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_whole_audio_has_no_problems(suffix: str, tmp_path: Path) -> None:
    assert verify_utterance(write(tmp_path / f"a{suffix}", make_noise()), LIMITS) == []


def test_missing_audio_is_found(tmp_path: Path) -> None:
    found = verify_utterance(Utterance("a", f"{tmp_path}/a.wav", 1.0, "GO"), LIMITS)
    assert [kind for kind, _ in found] == ["audio that is missing or may not be read"]
    assert found[0][1].startswith(f"a: audio file {tmp_path}/a.wav")


def test_a_folder_is_not_audio(tmp_path: Path) -> None:
    assert find_kinds(Utterance("a", str(tmp_path), 1.0, "GO")) == ["audio that is missing or may not be read"]


@pytest.mark.parametrize("name", ["a.wav", "a.raw", "cut off.wav"])
def test_what_is_not_audio_is_found_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("these are words")
    assert find_kinds(Utterance("a", f"{tmp_path / name}", 1.0, "GO")) == ["audio that cannot be decoded"]


def test_empty_audio_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert find_kinds(Utterance("a", f"{tmp_path}/a.wav", 1.0, "GO")) == ["empty audio"]
    soundfile.write(tmp_path / "b.wav", np.zeros(0), RATE_HZ)
    assert find_kinds(Utterance("b", f"{tmp_path}/b.wav", 1.0, "GO")) == ["empty audio"]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_audio_that_is_cut_off_is_found(suffix: str, tmp_path: Path) -> None:
    utterance = write(tmp_path / f"a{suffix}", make_noise())
    whole = Path(utterance.audio_path).read_bytes()
    Path(utterance.audio_path).write_bytes(whole[: len(whole) // 2])
    assert find_kinds(utterance) == ["audio that is cut off or damaged"]


def test_samples_that_are_not_finite_or_not_scaled_are_found(tmp_path: Path) -> None:
    samples = make_noise()
    samples[100] = np.nan
    assert find_kinds(write(tmp_path / "a.wav", samples, subtype="FLOAT")) == ["samples that are not finite"]
    loud = write(tmp_path / "b.wav", 32768 * make_noise(), subtype="FLOAT")
    assert find_kinds(loud) == ["samples that are not scaled to full scale 1"]


@pytest.mark.parametrize(
    ("error_seconds", "is_wrong"), [(0.009, False), (0.011, True), (-0.009, False), (-0.011, True)]
)
def test_a_duration_may_differ_by_one_frame(error_seconds: float, is_wrong: bool, tmp_path: Path) -> None:
    right = write(tmp_path / "a.wav", make_noise())
    told = Utterance("a", right.audio_path, right.duration_seconds + error_seconds, "GO")
    assert find_kinds(told) == ["duration differs from the manifest"] * is_wrong


def test_silence_is_found_whether_it_is_digital_or_just_faint(tmp_path: Path) -> None:
    found = verify_utterance(write(tmp_path / "a.wav", 0 * make_noise()), LIMITS)
    assert found == [("silence", f"a: {tmp_path}/a.wav holds only zeros; speech peaks above -60 dB")]
    found = verify_utterance(write(tmp_path / "b.wav", make_noise(peak=10 ** (-70 / 20)), subtype="FLOAT"), LIMITS)
    assert found == [("silence", f"b: {tmp_path}/b.wav peaks at -70 dB; speech peaks above -60 dB")]
    assert find_kinds(write(tmp_path / "c.wav", make_noise(peak=10 ** (-50 / 20)))) == []


def test_clipping_is_found_where_more_than_a_share_of_the_samples_is_at_full_scale(tmp_path: Path) -> None:
    samples = make_noise(1.0)
    samples[:150] = 1.0
    assert find_kinds(write(tmp_path / "a.wav", samples)) == []  # 150 of 16000 are less than 1 %
    samples[:170] = -1.0
    assert find_kinds(write(tmp_path / "b.wav", samples)) == ["clipping"]


def test_a_lower_sample_rate_than_the_features_want_is_found(tmp_path: Path) -> None:
    assert find_kinds(write(tmp_path / "a.wav", make_noise(), rate_hz=8000)) == ["sample rate below the features'"]
    assert find_kinds(write(tmp_path / "b.wav", make_noise(), rate_hz=44100)) == []


def test_everything_that_is_wrong_with_one_file_is_said(tmp_path: Path) -> None:
    utterance = write(tmp_path / "a.wav", 0 * make_noise(), rate_hz=8000)
    told = Utterance("a", utterance.audio_path, 99.0, "GO")
    kinds = find_kinds(told)
    assert kinds == ["duration differs from the manifest", "sample rate below the features'", "silence"]


@pytest.mark.parametrize("num_workers", [1, 4])
def test_a_whole_manifest_is_verified_in_its_order_whatever_is_broken_in_it(num_workers: int, tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", make_noise(0.1))
    utterances = [Utterance(f"u{n}", good.audio_path, 0.1, "GO") for n in range(1100)]
    broken = sorted(random.Random(1).sample(range(1100), 40))
    for place in broken:
        utterances[place] = Utterance(f"u{place}", f"{tmp_path}/{place}.wav", 0.1, "GO")
    problems = Problems()
    verify_audio(utterances, LIMITS, num_workers, problems)
    assert problems.counts == {"audio that is missing or may not be read": 40}
    summary = problems.summary(max_listed=40)
    places = [summary.index(f"u{place}: ") for place in broken]
    assert places == sorted(places)


def test_real_speech_has_no_problems(shared_data: Path) -> None:
    paths = sorted((shared_data / "an4" / "wav").rglob("*.flac"))[:20]
    assert paths
    for path in paths:
        assert find_kinds(Utterance("a", str(path), soundfile.info(path).duration, "GO")) == []
