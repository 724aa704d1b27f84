"""Changes to the sound of training utterances that leave their words intelligible.

Each is a pure function of a waveform and plain numbers, which `draws.py` draws.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.draws import SilenceDraw
from mindaudio_ds2.audio.resampling import resample
from mindaudio_ds2.audio.synthetic import Colour, make_noise

LEAST_POWER = 1e-10
"""Mean square below which sound counts as silence; the rounding of 16-bit samples makes 8e-11."""

BACKGROUND_SECONDS = 0.1
"""Length of the quietest stretch of a recording, which is taken for its background (seconds)."""

Waveform = NDArray[np.float32]
"""(num_samples,) float32."""


def change_speed(waveform: Waveform, factor: float, sample_rate_hz: int) -> Waveform:
    """Play sound faster or slower, as a tape would: pitch and formants move with it.

    Args:
        waveform: of n samples.
        factor: above 1 is faster, shorter and higher.
        sample_rate_hz: of the waveform.

    Returns:
        ceil(n / factor) samples, resampled with soxr in high quality.
    """
    num_samples = math.ceil(len(waveform) / factor - 1e-6)  # the count that FeatureConfig.num_frames makes
    rate_hz = float(sample_rate_hz)
    return resample(waveform, rate_hz * factor, rate_hz, num_samples)


def shift_later(waveform: Waveform, num_samples: int, sample_rate_hz: int) -> Waveform:
    """Put more of a recording's own background in front of it.

    Zeros would be something that no microphone records: log features of them lie far below all others, and would move
    the utterance's mean. The background is the quietest stretch, forwards and backwards in turn, so that it has no
    steps.

    Args:
        waveform: of n samples.
        num_samples: how much later everything comes.
        sample_rate_hz: of the waveform.

    Returns:
        n + num_samples samples, of which the last n are the waveform.
    """
    return np.concatenate([_repeat_background(waveform, num_samples, sample_rate_hz), waveform])


def _repeat_background(waveform: Waveform, num_samples: int, sample_rate_hz: int) -> Waveform:
    size = min(len(waveform), max(1, round(BACKGROUND_SECONDS * sample_rate_hz)))
    energies = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    start = int(np.argmin(energies[size:] - energies[:-size]))
    background = waveform[start : start + size]
    return np.resize(np.concatenate([background, background[::-1]]), num_samples)


def surround(waveform: Waveform, draw: SilenceDraw, sample_rate_hz: int) -> Waveform:
    """Put silence on both sides of a recording.

    Args:
        waveform: of n samples.
        draw: how much, and of which kind. Room noise is also heard under the recording, because it does not stop.
        sample_rate_hz: of the waveform.

    Returns:
        n samples, and those of the silence.
    """
    sides = [round(seconds * sample_rate_hz) for seconds in (draw.before_seconds, draw.after_seconds)]
    if draw.kind == "background":
        before, after = (_repeat_background(waveform, num_samples, sample_rate_hz) for num_samples in sides)
        return np.concatenate([before, waveform, after])
    padded: Waveform = np.pad(waveform, sides)
    if draw.kind == "digital":
        return padded
    generator = np.random.default_rng(draw.seed)
    colour: Colour = "white" if generator.random() < 0.5 else "pink"
    return padded + np.float32(10 ** (draw.level_db / 20)) * make_noise(colour, len(padded), generator)


def reverberate(waveform: Waveform, response: Waveform) -> Waveform:
    """Let sound be heard in another room, as loud as before and not later.

    Args:
        waveform: of n samples.
        response: the room's impulse response, whose largest sample is taken for the direct path.

    Returns:
        n samples; sample t has its direct sound from sample t of the waveform. What still sounds after the end is cut.
    """
    from scipy.signal import fftconvolve

    delay = int(np.abs(response).argmax())
    changed: Waveform = fftconvolve(waveform, response)[delay : delay + len(waveform)].astype(np.float32)
    power_before, power = measure_power(waveform), measure_power(changed)
    if power == 0:
        return waveform
    return changed * np.float32(math.sqrt(power_before / power))


def add_noise(waveform: Waveform, noise: Waveform, place: float, snr_db: float, power: float | None = None) -> Waveform:
    """Add noise at a level that is measured, not assumed.

    Noise longer than the waveform is cut; shorter noise is repeated. Where either is silent there is no such level,
    and the waveform stays as it is.

    Args:
        waveform: of n samples.
        noise: any number of samples at the same rate.
        place: where the noise begins, as a share of the places where it can (0 to 1, without 1).
        snr_db: mean square of the waveform over that of the noise added (dB).
        power: mean square of the speech in the waveform, where there is silence around it; None for that of all.

    Returns:
        n samples. They may exceed 1; nothing is clipped.
    """
    num_samples = len(waveform)
    if len(noise) < num_samples:
        piece = np.resize(np.roll(noise, -int(place * len(noise))), num_samples)
    else:
        start = int(place * (len(noise) - num_samples + 1))
        piece = noise[start : start + num_samples]
    power, noise_power = measure_power(waveform) if power is None else power, measure_power(piece)
    if power < LEAST_POWER or noise_power < LEAST_POWER:
        return waveform
    factor = math.sqrt(power / noise_power) * 10 ** (-snr_db / 20)
    return waveform + np.float32(factor) * piece


def change_gain(waveform: Waveform, gain_db: float) -> Waveform:
    """Make sound louder or softer. Samples may exceed 1; nothing is clipped."""
    return waveform * np.float32(10 ** (gain_db / 20))


def clip_peaks(waveform: Waveform, depth_db: float) -> Waveform:
    """Cut off what is less than `depth_db` below the highest peak, as an overdriven microphone does (dB)."""
    limit = np.abs(waveform).max() * np.float32(10 ** (-depth_db / 20))
    return np.clip(waveform, -limit, limit)


def measure_power(waveform: Waveform) -> float:
    """Mean square, in float64."""
    return float(np.square(waveform, dtype=np.float64).mean())
