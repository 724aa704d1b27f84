"""Noise and rooms that need no recordings, measured by means that the code does not use; silence and clipped peaks."""

import numpy as np
import pytest
import scipy.signal

from mindaudio_ds2.audio.augment import clip_peaks, surround
from mindaudio_ds2.audio.draws import SilenceDraw
from mindaudio_ds2.audio.synthetic import make_babble, make_noise, make_room_response
from tests.audio.test_augment import make_speech, make_tone, power_db

RATE_HZ = 16000


@pytest.mark.parametrize(("colour", "db_per_octave"), [("white", 0.0), ("pink", -3.01)])
def test_noise_has_the_slope_of_its_colour_and_an_rms_of_1(colour: str, db_per_octave: float) -> None:
    noise = make_noise(colour, 200_000, np.random.default_rng(0))  # type: ignore[arg-type]
    assert noise.dtype == np.float32
    assert power_db(noise) == pytest.approx(0, abs=0.01)
    frequencies, power = scipy.signal.welch(noise, RATE_HZ, nperseg=4096)
    chosen = (frequencies > 60) & (frequencies < 7000)
    slope, _ = np.polyfit(np.log2(frequencies[chosen]), 10 * np.log10(power[chosen]), 1)
    assert slope == pytest.approx(db_per_octave, abs=0.15)


@pytest.mark.parametrize("num_samples", [1, 2, 3])
def test_the_shortest_noise_is_finite(num_samples: int) -> None:
    for colour in ("white", "pink"):
        assert np.isfinite(make_noise(colour, num_samples, np.random.default_rng(0))).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("direct_db", [-5.0, 0.0, 10.0])
def test_a_room_decays_as_fast_and_is_as_near_as_it_says(direct_db: float) -> None:
    """Schroeder's integral of the squared response falls by 60 dB in the reverberation time."""
    response = make_room_response(0.5, direct_db, RATE_HZ, np.random.default_rng(1)).astype(np.float64)
    assert response[0] == 1
    tail = response[1:] ** 2
    assert -10 * np.log10(tail.sum()) == pytest.approx(direct_db, abs=0.3)
    left_db = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum())
    seconds = [np.flatnonzero(left_db < level)[0] / RATE_HZ for level in (-5, -25)]
    assert 3 * (seconds[1] - seconds[0]) == pytest.approx(0.5, rel=0.1)


def test_babble_has_all_voices_equally_loud() -> None:
    voices = [make_tone(hz, 0.7, amplitude) for hz, amplitude in ((300, 0.01), (700, 0.5), (1500, 0.1))]
    babble = make_babble([*voices, np.zeros(100, np.float32)], 16000, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(babble))
    heights = [spectrum[hz - 5 : hz + 6].max() for hz in (300, 700, 1500)]
    assert max(heights) < 1.2 * min(heights)
    assert not make_babble([np.zeros(9, np.float32)], 20, np.random.default_rng(0)).any()


@pytest.mark.parametrize("kind", ["digital", "noise", "background"])
def test_silence_is_as_long_as_it_says_and_the_speech_stays(kind: str) -> None:
    speech = make_speech()
    draw = SilenceDraw(0.5, 1.25, kind, -60.0, seed=3)  # type: ignore[arg-type]
    changed = surround(speech, draw, RATE_HZ)
    before, said, after = np.split(changed, [8000, 8000 + len(speech)])
    assert changed.dtype == np.float32
    assert len(after) == 20000
    if kind == "noise":
        assert power_db(before) == pytest.approx(-60, abs=1.5)
        assert power_db(after) == pytest.approx(-60, abs=1.5)
        assert power_db(said - speech) == pytest.approx(-60, abs=1.5), "a room is not silent while someone speaks"
    else:
        np.testing.assert_array_equal(said, speech)
        loudest = 0.0 if kind == "digital" else 0.02
        assert max(np.abs(before).max(), np.abs(after).max()) <= loudest
        assert bool(before.any()) == (kind == "background")


def test_peaks_are_cut_by_so_many_decibels_and_nothing_else_is_touched() -> None:
    speech = make_speech()
    changed = clip_peaks(speech, 6.0)
    limit = np.abs(speech).max() * 10 ** (-6 / 20)
    assert np.abs(changed).max() == pytest.approx(limit, rel=1e-6)
    soft = np.abs(speech) < 0.999 * limit
    np.testing.assert_array_equal(changed[soft], speech[soft])
    np.testing.assert_allclose(np.abs(changed[~soft]), limit, rtol=2e-3)
    assert not clip_peaks(np.zeros(5, np.float32), 6.0).any()
