"""What telephones, filters and codecs leave: measured against SciPy's filters, and by what a recogniser needs."""

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from mindaudio_ds2.audio import codecs
from mindaudio_ds2.audio.codecs import CONTAINERS, filter_band, pass_codec, pass_telephone, require_codecs
from mindaudio_ds2.augmentation_config import CodecName
from mindaudio_ds2.errors import ConfigError
from tests.audio.test_conditions import speak

RATE_HZ = 16000


def make_white(num_samples: int = 32000) -> NDArray[np.float32]:
    white: NDArray[np.float32] = (0.1 * np.random.default_rng(0).standard_normal(num_samples)).astype(np.float32)
    return white


def measure_gains_db(before: NDArray[np.float32], after: NDArray[np.float32], hz: list[int]) -> list[float]:
    """How much louder each frequency is, by the cross spectrum."""
    frequencies, cross = scipy.signal.csd(before, after, RATE_HZ, nperseg=1024)
    _, power = scipy.signal.welch(before, RATE_HZ, nperseg=1024)
    gains = 20 * np.log10(np.abs(cross) / power)
    return [float(np.interp(each, frequencies, gains)) for each in hz]


@pytest.mark.parametrize(("low_hz", "high_hz"), [(300.0, 3400.0), (0.0, 2000.0), (0.0, 7000.0)])
def test_a_band_has_the_magnitudes_of_scipys_butterworth_filters(low_hz: float, high_hz: float) -> None:
    rate_hz = 200_000  # at a rate far above the band, the bilinear transform of SciPy's digital filters bends nothing
    click = np.zeros(rate_hz, np.float32)
    click[rate_hz // 2] = 1.0
    frequencies = [100, 200, 300, 500, 1000, 2000, 3000, 3400, 5000, 7000]
    found = np.abs(np.fft.rfft(filter_band(click, rate_hz, low_hz, high_hz)))[frequencies]
    expected = np.ones(len(frequencies))
    for edge_hz, kind in ((low_hz, "highpass"), (high_hz, "lowpass")):
        if edge_hz:
            sections = scipy.signal.butter(codecs.BUTTERWORTH_ORDER, edge_hz, kind, fs=rate_hz, output="sos")
            expected *= np.abs(scipy.signal.sosfreqz(sections, frequencies, fs=rate_hz)[1])
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_telephone_lets_300_to_3400_hz_through_and_nothing_else() -> None:
    white = make_white()
    changed = pass_telephone(white, RATE_HZ)
    gains = measure_gains_db(white, changed, [60, 150, 300, 1000, 2500, 3400, 4500, 6000])
    assert max(gains[0], gains[1], gains[6], gains[7]) < -30
    assert gains[2] == pytest.approx(-3, abs=1)
    assert gains[5] == pytest.approx(-3, abs=1)
    assert gains[3:5] == pytest.approx([0, 0], abs=0.2)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050])
@pytest.mark.parametrize(
    ("name", "kbps"), [*((name, 24.0) for name in CONTAINERS), ("mp3", 8.0), ("mp3", 48.0), ("mp3", 160.0)]
)
def test_a_codec_leaves_speech_as_long_as_loud_and_as_early(name: CodecName, kbps: float, rate_hz: int) -> None:
    waveform = speak(rate_hz)[: 2 * rate_hz - 7]
    kept = waveform.copy()
    changed = pass_codec(waveform, rate_hz, name, kbps)
    assert np.array_equal(waveform, kept)
    assert changed.dtype == np.float32
    assert len(changed) == len(waveform)
    assert np.array_equal(changed, pass_codec(waveform, rate_hz, name, kbps)), "the same again"
    lag = int(scipy.signal.correlate(changed, waveform).argmax()) - (len(waveform) - 1)
    assert abs(lag) <= 2
    assert 0.8 < np.corrcoef(changed, waveform)[0, 1] < 1
    assert np.square(changed).mean() == pytest.approx(np.square(waveform).mean(), rel=0.15)


def test_a_lower_rate_leaves_less() -> None:
    waveform = speak(RATE_HZ)
    for name in ("mp3", "opus"):
        sent = [pass_codec(waveform, RATE_HZ, name, kbps) for kbps in (12.0, 24.0, 48.0)]
        errors = [np.square(each - waveform).mean() for each in sent]
        assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("num_samples", [1, 2, 100])
def test_the_shortest_sound_can_be_sent(num_samples: int) -> None:
    for name in CONTAINERS:
        assert len(pass_codec(np.ones(num_samples, np.float32), RATE_HZ, name, 16.0)) == num_samples
    assert len(pass_telephone(np.ones(num_samples, np.float32), RATE_HZ)) == num_samples


def test_a_codec_that_libsndfile_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_codecs(["mp3", "gsm"])
    monkeypatch.setattr(codecs.soundfile, "check_format", lambda *kind: "MP3" not in kind)
    with pytest.raises(ConfigError, match="augmentation.codecs has \\['mp3'\\]"):
        require_codecs(["mp3", "gsm"])
