"""Changes to sound: measured on what comes out, by means that the code does not use."""

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mindaudio_ds2.audio.augment import add_noise, change_gain, change_speed, reverberate, shift_later
from mindaudio_ds2.audio.draws import DIRECT_RANGE_DB, Draw, draw_augmentation, make_generator
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.augmentation_config import AugmentationConfig
from mindaudio_ds2.network_config import FeatureConfig

RATE_HZ = 16000
NUM_DRAWS = 3000
FEATURES = FeatureConfig(RATE_HZ, "log_mel", "hann", 0.025, 0.01, 512, 80, "utterance", [], [])
OFF = AugmentationConfig(
    join_probability=0.0,
    join_max_utterances=4,
    join_max_seconds=10.0,
    tempo_probability=0.0,
    tempo_range=(0.8, 1.25),
    silence_probability=0.0,
    silence_range_seconds=(0.2, 1.0),
    silence_level_range_db=(-80.0, -50.0),
    synthetic_rir_probability=0.0,
    synthetic_rir_range_seconds=(0.1, 0.6),
    synthetic_noise_probability=0.0,
    synthetic_noise_kinds=["white", "pink", "babble"],
    clip_probability=0.0,
    clip_range_db=(3.0, 15.0),
    low_pass_probability=0.0,
    low_pass_range_hz=(2000.0, 7000.0),
    telephone_probability=0.0,
    codec_probability=0.0,
    codecs=["mp3", "opus", "mu_law", "a_law", "gsm"],
    codec_range_kbps=(12.0, 48.0),
    speed_probability=0.0,
    speed_range=(0.9, 1.1),
    speed_num_factors=0,
    shift_probability=0.0,
    max_shift_seconds=0.3,
    rir_probability=0.0,
    rir_path=None,
    noise_probability=0.0,
    noise_path=None,
    noise_snr_range_db=(5.0, 25.0),
    gain_probability=0.0,
    gain_range_db=(-10.0, 6.0),
    vtlp_probability=0.0,
    vtlp_range=(0.8, 1.2),
    time_warp_probability=0.0,
    max_time_warp_share=0.05,
    mask_probability=0.0,
    num_frequency_masks=0,
    max_frequency_mask_share=0.0,
    num_time_masks=0,
    max_time_mask_share=0.0,
    unit_sampling=0.0,
)
OF_WAVEFORM = (
    *("speed", "shift", "rir", "noise", "gain", "join", "tempo", "silence", "synthetic_rir", "synthetic_noise"),
    *("clip", "low_pass", "telephone", "codec"),
)
OF_FEATURES = ("vtlp", "time_warp", "mask")
KINDS = (*OF_WAVEFORM, *OF_FEATURES)
NAMES = {
    "shift": "shift_seconds",
    "gain": "gain_db",
    "mask": "is_masked",
    "join": "num_joined",
    "clip": "clip_db",
    "low_pass": "low_pass_hz",
    "telephone": "is_telephone",
}


def with_probability(config: AugmentationConfig, value: float, *kinds: str) -> AugmentationConfig:
    changes: dict[str, Any] = {f"{kind}_probability": value for kind in kinds}
    return dataclasses.replace(config, **changes)


def draw_many(
    config: AugmentationConfig, num_rirs: int = 3, num_noises: int = 5, num_draws: int = NUM_DRAWS
) -> list[Draw]:
    generators = (make_generator(1, 0, f"u{number}") for number in range(num_draws))
    return [draw_augmentation(config, generator, num_rirs, num_noises) for generator in generators]


def make_tone(hz: float, seconds: float, amplitude: float = 0.3) -> NDArray[np.float32]:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone: NDArray[np.float32] = (amplitude * np.sin(2 * np.pi * hz * times)).astype(np.float32)
    return tone


def make_speech(seed: int = 0, num_samples: int = 24000) -> NDArray[np.float32]:
    """Noise that is loud in the middle and soft at both ends."""
    generator = np.random.default_rng(seed)
    loudness = 0.002 + 0.2 * np.sin(np.pi * np.arange(num_samples) / num_samples) ** 4
    speech: NDArray[np.float32] = (loudness * generator.standard_normal(num_samples)).astype(np.float32)
    return speech


def power_db(waveform: NDArray[Any]) -> float:
    return 10 * math.log10(sum(float(x) ** 2 for x in waveform) / len(waveform))


ALL_ON = with_probability(OFF, 1.0, *KINDS)


# What is drawn --------------------------------------------------------------------------------------------------------


def is_changed(draw: Draw, kind: str) -> bool:
    name = NAMES.get(kind, kind)
    return bool(getattr(draw, name) != getattr(Draw(), name))


def test_with_everything_off_nothing_is_drawn() -> None:
    assert set(draw_many(OFF)) == {Draw()}
    assert not Draw().changes_waveform


def test_masks_and_warps_leave_the_waveform() -> None:
    draws = draw_many(with_probability(OFF, 1.0, *OF_FEATURES), num_draws=50)
    assert all(is_changed(draw, kind) for kind in OF_FEATURES for draw in draws)
    assert not any(draw.changes_waveform for draw in draws)


@pytest.mark.parametrize("kind", OF_WAVEFORM)
def test_every_other_change_is_one_of_the_waveform(kind: str) -> None:
    config = with_probability(OFF, 1.0, kind)
    assert all(draw.changes_waveform for draw in draw_many(config, num_draws=50))


@pytest.mark.parametrize(("place", "kind"), [*enumerate(KINDS)])
def test_each_change_happens_as_often_as_its_probability_says_and_alone(place: int, kind: str) -> None:
    probability = (0.25, 0.6)[place % 2]
    draws = draw_many(with_probability(OFF, probability, kind))
    share = sum(is_changed(draw, kind) for draw in draws) / NUM_DRAWS
    assert share == pytest.approx(probability, abs=4 * math.sqrt(0.25 / NUM_DRAWS))
    assert not [draw for draw in draws if any(is_changed(draw, other) for other in KINDS if other != kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_switching_one_change_off_leaves_all_others_as_they_were(kind: str) -> None:
    without = draw_many(with_probability(ALL_ON, 0.0, kind), num_draws=50)
    name = NAMES.get(kind, kind)
    unchanged: dict[str, Any] = {name: getattr(Draw(), name)}
    expected = [dataclasses.replace(draw, **unchanged) for draw in draw_many(ALL_ON, num_draws=50)]
    assert without == expected


def test_what_is_drawn_fills_its_range_evenly() -> None:
    draws = draw_many(ALL_ON)
    noises = [draw.noise for draw in draws if draw.noise]
    warps = [draw.time_warp for draw in draws if draw.time_warp]
    silences = [draw.silence for draw in draws if draw.silence]
    rooms = [draw.synthetic_rir for draw in draws if draw.synthetic_rir]
    made = [draw.synthetic_noise for draw in draws if draw.synthetic_noise]
    codecs = [draw.codec for draw in draws if draw.codec]
    ranges: dict[tuple[float, float], list[float]] = {
        (0.801, 1.25): [draw.tempo for draw in draws if draw.tempo > 0.801],
        (0.2, 1.0): [silence.before_seconds for silence in silences],
        (0.2, 1.0001): [silence.after_seconds for silence in silences],
        (-80.0, -50.0): [silence.level_db for silence in silences],
        (0.1, 0.6): [room.reverberation_seconds for room in rooms],
        DIRECT_RANGE_DB: [room.direct_db for room in rooms],
        (5.0, 25.0001): [noise.snr_db for noise in made],
        (3.0, 15.0): [draw.clip_db for draw in draws],
        (2000.0, 7000.0): [draw.low_pass_hz for draw in draws if draw.low_pass_hz],
        (12.0, 48.0): [codec.kbps for codec in codecs],
        (0.9, 1.1): [draw.speed for draw in draws],
        (0.0, 0.3): [draw.shift_seconds for draw in draws],
        (5.0, 25.0): [noise.snr_db for noise in noises],
        (0.0, 1.0): [noise.place for noise in noises],
        (-10.0, 6.0): [draw.gain_db for draw in draws],
        (0.8, 1.2): [draw.vtlp for draw in draws],
        (0.25, 0.75): [warp.origin for warp in warps],
        (-0.05, 0.05): [warp.target - warp.origin for warp in warps],
    }
    for (low, high), values in ranges.items():
        assert len(values) > 0.99 * NUM_DRAWS
        counts, _ = np.histogram(values, bins=10, range=(low, high))
        assert counts.sum() == len(values)
        assert min(counts) > 0.8 * NUM_DRAWS / 10
    chosen = (
        (len(OFF.codecs), [codec.name for codec in codecs]),
        (3, [noise.kind for noise in made]),
        (3, [silence.kind for silence in silences]),
        (3, [draw.num_joined for draw in draws]),  # up to three others
    )
    for num_kinds, names in chosen:
        counted = Counter(names)
        assert len(counted) == num_kinds
        assert min(counted.values()) > 0.85 * NUM_DRAWS / num_kinds
    assert set(Counter(noise.index for noise in noises)) == set(range(5))
    assert set(Counter(draw.rir for draw in draws)) == set(range(3))


def test_three_factors_are_kaldis_and_the_middle_one_leaves_the_recording() -> None:
    draws = draw_many(dataclasses.replace(OFF, speed_probability=1.0, speed_num_factors=3))
    counts = Counter(draw.speed for draw in draws)
    assert set(counts) == {0.9, 1.0, 1.1}
    assert min(counts.values()) > 0.9 * NUM_DRAWS / 3
    assert all(draw.changes_waveform == (draw.speed != 1.0) for draw in draws)


def test_without_files_there_is_neither_noise_nor_another_room() -> None:
    assert all(draw.rir is None and draw.noise is None for draw in draw_many(ALL_ON, 0, 0, num_draws=50))


def test_what_is_drawn_depends_on_seed_epoch_and_utterance_only() -> None:
    def draw(seed: int, epoch: int, utterance_id: str) -> Draw:
        return draw_augmentation(ALL_ON, make_generator(seed, epoch, utterance_id), 3, 5)

    first = draw(1, 2, "an406")
    others = {draw(2, 2, "an406"), draw(1, 3, "an406"), draw(1, 2, "an407")}
    assert len(others | {first}) == 4
    assert draw(1, 2, "an406") == first


def test_drawing_leaves_the_generators_own_numbers_to_the_masks() -> None:
    generator = make_generator(1, 2, "an406")
    draw_augmentation(ALL_ON, generator, 3, 5)
    assert generator.random() == make_generator(1, 2, "an406").random()


# Speed ----------------------------------------------------------------------------------------------------------------


def measure_hz(tone: NDArray[np.float32]) -> float:
    """Frequency of a tone from the zero crossings of its middle."""
    middle = tone[len(tone) // 8 : -len(tone) // 8].astype(np.float64)
    before = np.flatnonzero((middle[:-1] < 0) & (middle[1:] >= 0))
    places = before - middle[before] / (middle[before + 1] - middle[before])
    return float((len(places) - 1) / (places[-1] - places[0]) * RATE_HZ)


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.957123, 1.0, 1.1, 1.2345, 2.0])
def test_a_faster_tone_is_higher_and_shorter_by_the_factor_and_as_loud(factor: float) -> None:
    tone = make_tone(440.0, 2.0)
    changed = change_speed(tone, factor, RATE_HZ)
    assert changed.dtype == np.float32
    assert len(changed) == math.ceil(len(tone) / factor - 1e-6)
    assert measure_hz(changed) == pytest.approx(440.0 * factor, rel=1e-5)
    middle = slice(len(changed) // 8, -len(changed) // 8)
    assert power_db(changed[middle]) == pytest.approx(power_db(tone), abs=0.02)


def test_a_click_comes_earlier_by_the_factor() -> None:
    click = np.zeros(16000, np.float32)
    click[8000] = 1
    for factor in (0.8, 1.25):
        assert int(np.abs(change_speed(click, factor, RATE_HZ)).argmax()) == pytest.approx(8000 / factor, abs=1)


@given(num_samples=st.integers(1, 3000), factor=st.floats(0.5, 2.0))
@example(num_samples=1759, factor=1.1)  # 1599.1 samples, and the sample that the next frame begins with
def test_lengths_are_those_that_frames_are_counted_from(num_samples: int, factor: float) -> None:
    changed = change_speed(np.ones(num_samples, np.float32), factor, RATE_HZ)
    assert len(changed) >= 1
    assert np.isfinite(changed).all()
    assert 1 + len(changed) // 160 == FEATURES.num_frames(num_samples / RATE_HZ / factor)


# Shift ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_new", [0, 1, 100, 1600, 5000, 40000])
def test_a_shift_puts_background_in_front_and_cuts_nothing(num_new: int) -> None:
    speech = make_speech()
    shifted = shift_later(speech, num_new, RATE_HZ)
    assert shifted.dtype == np.float32
    assert len(shifted) == num_new + len(speech)
    np.testing.assert_array_equal(shifted[num_new:], speech)
    if num_new >= 1600:
        quiet = min(power_db(speech[start:][:1600]) for start in range(0, len(speech) - 1600, 200))
        assert power_db(shifted[:num_new]) == pytest.approx(quiet, abs=0.5)
        assert np.abs(shifted[:num_new]).max() < 0.02, "speech is not repeated"


def test_background_is_found_wherever_it_is() -> None:
    speech = np.full(16000, 0.5, np.float32)
    speech[9000:11000] = 0.01
    assert set(shift_later(speech, 3000, RATE_HZ)[:3000].tolist()) == {np.float32(0.01)}


@pytest.mark.parametrize("num_samples", [1, 2, 100, 1599, 1600, 1601])
def test_a_recording_shorter_than_a_stretch_of_background_can_be_shifted(num_samples: int) -> None:
    speech = make_speech(num_samples=num_samples)
    shifted = shift_later(speech, 777, RATE_HZ)
    assert len(shifted) == 777 + num_samples
    assert set(shifted.tolist()) == set(speech.tolist())


# Rooms ----------------------------------------------------------------------------------------------------------------


def make_response(delay: int = 300, num_samples: int = 4000) -> NDArray[np.float32]:
    generator = np.random.default_rng(3)
    response = 0.1 * np.exp(-np.arange(num_samples) / 800) * generator.standard_normal(num_samples)
    response[:delay] = 0
    response[delay] = -1.0  # a microphone may be wired the other way round
    single: NDArray[np.float32] = response.astype(np.float32)
    return single


def test_reverberation_is_a_convolution_aligned_by_the_direct_path() -> None:
    speech, response = make_speech(num_samples=2000), make_response()
    changed = reverberate(speech, response)
    expected = np.asarray(np.convolve(speech.astype(np.float64), response.astype(np.float64)), np.float64)[300:2300]
    expected = expected * math.sqrt((speech.astype(np.float64) ** 2).mean() / (expected**2).mean())
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed, expected, atol=1e-6)


def test_reverberation_keeps_length_level_and_time() -> None:
    speech = make_speech(5)
    changed = reverberate(speech, make_response())
    assert len(changed) == len(speech)
    assert power_db(changed) == pytest.approx(power_db(speech), abs=0.001)
    likeness = np.abs(scipy.signal.correlate(changed, speech))
    assert int(likeness.argmax()) - (len(speech) - 1) == 0


def test_an_impulse_with_delay_changes_nothing() -> None:
    speech = make_speech()
    response = np.zeros(500, np.float32)
    response[123] = 0.4
    np.testing.assert_allclose(reverberate(speech, response), speech, atol=1e-6)


@pytest.mark.parametrize("spoiled", ["speech", "response"])
def test_silence_has_no_reverberation(spoiled: str) -> None:
    speech, response = make_speech(), make_response()
    (speech if spoiled == "speech" else response)[:] = 0
    np.testing.assert_array_equal(reverberate(speech, response), speech)


def test_a_real_room_moves_no_word(shared_data: Path) -> None:
    speech = make_speech()
    for path in sorted((shared_data / "rir").iterdir()):
        changed = reverberate(speech, read_audio(path, RATE_HZ))
        lag = int(np.abs(scipy.signal.correlate(changed, speech)).argmax()) - (len(speech) - 1)
        assert abs(lag) <= 1, path
        assert power_db(changed) == pytest.approx(power_db(speech), abs=0.001)


# Noise ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.3, 40.0])
@pytest.mark.parametrize("num_noise_samples", [1000, 24000, 24001, 100000])
@pytest.mark.parametrize("place", [0.0, 0.4, 0.999999])
def test_noise_has_the_power_that_was_asked_for(snr_db: float, num_noise_samples: int, place: float) -> None:
    speech = make_speech()
    noise = make_speech(9, num_noise_samples) + np.float32(0.05)
    noisy = add_noise(speech, noise, place, snr_db)
    assert noisy.dtype == np.float32
    assert len(noisy) == len(speech)
    added = noisy.astype(np.float64) - speech.astype(np.float64)
    assert power_db(speech) - power_db(added) == pytest.approx(snr_db, abs=0.01)


def find_added(num_samples: int, noise: NDArray[np.float32], place: float) -> list[int]:
    """Which values of a noise that counts upwards by 1 were added, whatever the level."""
    speech = np.full(num_samples, 1e-3, np.float32)
    added = add_noise(speech, noise, place, -60.0) - speech
    return [round(value) for value in added / np.median(np.diff(added))]


def test_long_noise_is_cut_at_every_place_where_it_fits() -> None:
    noise = np.arange(1, 21, dtype=np.float32)
    found = [find_added(15, noise, place) for place in np.linspace(0, 0.999, 6)]
    assert found == [list(range(start, start + 15)) for start in range(1, 7)]


def test_short_noise_begins_anywhere_and_is_repeated() -> None:
    noise = np.arange(1, 6, dtype=np.float32)
    found = [find_added(12, noise, place) for place in (0.0, 0.2, 0.5, 0.99)]
    expected = [[1 + (start + k) % 5 for k in range(12)] for start in (0, 1, 2, 4)]
    assert found == expected


@pytest.mark.parametrize("silent", ["speech", "noise"])
def test_silence_has_no_ratio_to_noise_and_stays_as_it_is(silent: str) -> None:
    speech, noise = make_speech(), make_speech(1)
    (speech if silent == "speech" else noise)[:] = 0
    np.testing.assert_array_equal(add_noise(speech, noise, 0.5, 10.0), speech)


def test_real_noise_has_the_power_that_was_asked_for(shared_data: Path) -> None:
    speech = make_speech()
    paths = sorted((shared_data / "noise").iterdir())
    num_changed = 0
    for number, path in enumerate(paths):
        snr_db = float(number % 21)
        added = add_noise(speech, read_audio(path, RATE_HZ), 0.3, snr_db).astype(np.float64) - speech
        if np.any(added):
            num_changed += 1
            measured = 10 * np.log10((speech.astype(np.float64) ** 2).mean() / (added**2).mean())
            assert measured == pytest.approx(snr_db, abs=0.1), path
    assert num_changed >= len(paths) - 10, "some clips of ESC-10 are zeros but for a bark"


# Gain -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain_db", [-20.0, -3.3, 0.0, 6.0, 20.0])
def test_gain_is_in_decibels_and_clips_nothing(gain_db: float) -> None:
    speech = make_speech()
    changed = change_gain(speech, gain_db)
    assert changed.dtype == np.float32
    assert power_db(changed) - power_db(speech) == pytest.approx(gain_db, abs=0.001)
    np.testing.assert_allclose(changed / speech, 10 ** (gain_db / 20), rtol=1e-6)


# All of them ----------------------------------------------------------------------------------------------------------


def test_no_change_writes_into_what_it_is_given() -> None:
    speech, other = make_speech(), make_response()
    speech.flags.writeable = other.flags.writeable = False
    before = speech.copy()
    change_speed(speech, 1.1, RATE_HZ)
    shift_later(speech, 100, RATE_HZ)
    reverberate(speech, other)
    add_noise(speech, other, 0.5, 5.0)
    change_gain(speech, 5.0)
    np.testing.assert_array_equal(speech, before)
