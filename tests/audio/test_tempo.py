"""Another tempo: the length changes, the pitch does not, and nothing clicks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.audio.tempo import change_tempo
from tests.audio.test_augment import FEATURES, make_tone, measure_hz
from tests.audio.test_conditions import speak

RATE_HZ = 16000
FACTORS = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("hz", [80.0, 137.0, 440.0, 1234.5])
def test_a_tone_keeps_its_pitch_and_its_loudness_and_does_not_click(hz: float, factor: float) -> None:
    tone = make_tone(hz, 1.5)
    changed = change_tempo(tone, factor, RATE_HZ)
    assert changed.dtype == np.float32
    assert len(changed) == math.ceil(len(tone) / factor - 1e-6)
    middle = changed[len(changed) // 8 : -len(changed) // 8]
    assert measure_hz(changed) == pytest.approx(hz, rel=0.005)
    assert np.abs(middle).max() == pytest.approx(0.3, rel=0.05)
    # a click is a bend: of a sine, the second difference is nowhere above amplitude * omega ** 2
    most = 0.3 * (2 * np.pi * hz / RATE_HZ) ** 2
    assert np.abs(np.diff(middle.astype(np.float64), 2)).max() < 1.6 * most + 1e-4


def test_the_tempo_of_before_leaves_the_samples() -> None:
    speech = speak(RATE_HZ)
    np.testing.assert_allclose(change_tempo(speech, 1.0, RATE_HZ), speech, atol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_what_is_said_comes_earlier_or_later_by_the_factor(factor: float) -> None:
    sound = np.zeros(RATE_HZ * 2, np.float32)
    sound[RATE_HZ : RATE_HZ + 3200] = make_tone(300.0, 0.2)
    heard = np.flatnonzero(np.abs(change_tempo(sound, factor, RATE_HZ)) > 0.1)
    assert heard[0] / RATE_HZ == pytest.approx(1.0 / factor, abs=0.025)
    assert heard[-1] / RATE_HZ == pytest.approx(1.2 / factor, abs=0.025)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
def test_a_voice_keeps_its_harmonics_at_any_rate(rate_hz: int) -> None:
    """The share of power in each band of 200 Hz is that of before."""
    speech = speak(rate_hz)
    spectra = []
    for sound in (speech, change_tempo(speech, 0.85, rate_hz), change_tempo(speech, 1.2, rate_hz)):
        power = np.abs(np.fft.rfft(sound)) ** 2
        bands = (np.fft.rfftfreq(len(sound), 1 / rate_hz) // 200).astype(int)
        spectrum = np.bincount(bands, power)[:15]
        spectra.append(10 * np.log10(spectrum / spectrum.sum()))
    for spectrum in spectra[1:]:
        np.testing.assert_allclose(spectrum, spectra[0], atol=3)


@given(num_samples=st.integers(1, 3000), factor=st.floats(0.5, 2.0))
def test_lengths_are_those_that_frames_are_counted_from(num_samples: int, factor: float) -> None:
    changed = change_tempo(np.ones(num_samples, np.float32), factor, RATE_HZ)
    assert np.isfinite(changed).all()
    assert 1 + len(changed) // 160 == FEATURES.num_frames(num_samples / RATE_HZ / factor)
