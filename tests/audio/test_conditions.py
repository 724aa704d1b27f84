"""Recording conditions: measured on what comes out."""

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from mindaudio_ds2.audio.conditions import CONDITIONS

RATES_HZ = (8000, 16000, 22050)


def speak(rate_hz: int) -> NDArray[np.float32]:
    """Two seconds of harmonics of a gliding voice, in syllables."""
    times = np.arange(2 * rate_hz) / rate_hz
    phases = 2 * np.pi * np.cumsum(120 + 30 * np.sin(3 * times)) / rate_hz
    harmonics = np.arange(1, 25)[:, None]
    voice = (np.sin(harmonics * phases) / harmonics).sum(axis=0)
    waveform: NDArray[np.float32] = (0.08 * voice * np.sin(2 * np.pi * 2 * times) ** 2).astype(np.float32)
    return waveform


def apply(name: str, waveform: NDArray[np.float32], rate_hz: int, seed: int = 0) -> NDArray[np.float32]:
    return CONDITIONS[name](waveform, rate_hz, np.random.default_rng(seed))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_is_pure_finite_and_as_long_as_it_says(name: str, rate_hz: int) -> None:
    waveform = speak(rate_hz)
    kept = waveform.copy()
    changed = apply(name, waveform, rate_hz)
    assert np.array_equal(waveform, kept)
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert np.array_equal(changed, apply(name, waveform, rate_hz))
    around = {"0.2 s": 0.2, "1 s": 1.0, "3 s": 3.0}
    extra = next((2 * s for text, s in around.items() if name.startswith(text)), 0.0) * rate_hz
    factor = {"speed -10 %": 0.9, "speed +10 %": 1.1}.get(name, 1.0)
    assert len(changed) == pytest.approx(len(waveform) / factor + extra, abs=2)


@pytest.mark.parametrize("name", ["MP3, 16 kbit/s", "Opus, 16 kbit/s", "µ-law", "telephone band, 8 kHz"])
def test_codecs_leave_sound_recognisable_and_not_later(name: str) -> None:
    waveform = speak(16000)
    changed = apply(name, waveform, 16000)
    lags = scipy.signal.correlate(changed, waveform)
    assert abs(int(lags.argmax()) - (len(waveform) - 1)) <= 2
    assert 0.8 < np.corrcoef(changed, waveform)[0, 1] < 1
    assert not np.array_equal(changed, waveform)


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_has_the_level_that_its_name_says(snr_db: int) -> None:
    waveform = speak(16000)
    noise = apply(f"white noise at {snr_db} dB", waveform, 16000) - waveform
    assert 10 * np.log10(np.mean(waveform**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.1)


def test_telephones_have_nothing_above_4_khz() -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(32000)).astype(np.float32)
    frequencies, power = scipy.signal.welch(apply("telephone band, 8 kHz", noise, 16000), 16000)
    assert power[frequencies > 4300].max() < 1e-3 * power[frequencies < 3500].min()


def test_silence_stays_finite_in_every_condition() -> None:
    for name in CONDITIONS:
        assert np.isfinite(apply(name, np.zeros(4000, np.float32), 16000)).all(), name
