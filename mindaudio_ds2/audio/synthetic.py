"""Noise and rooms that need no recordings."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]
"""(num_samples,) float32."""

LOWEST_PINK_HZ_SHARE = 0.001
"""Share of the sample rate below which pink noise falls no further towards low frequencies; 16 of 16000 Hz."""


Colour = Literal["white", "pink"]


def make_noise(colour: Colour, num_samples: int, generator: np.random.Generator) -> Waveform:
    """Noise whose root mean square is 1: of equal power in each Hz (white) or in each octave (pink).

    Args:
        colour: which.
        num_samples: at least 1.
        generator: its samples.

    Returns:
        (num_samples,) float32.
    """
    white: Waveform = generator.standard_normal(num_samples, dtype=np.float32)
    if colour == "pink":
        import scipy.fft

        size = scipy.fft.next_fast_len(num_samples, real=True)
        spectrum = scipy.fft.rfft(white, n=size)
        shares = np.arange(len(spectrum), dtype=np.float32) / np.float32(size)
        falling = np.sqrt(np.maximum(shares, np.float32(LOWEST_PINK_HZ_SHARE)))
        white = scipy.fft.irfft(spectrum / falling, n=size)[:num_samples]
    return white / np.float32(math.sqrt(np.square(white, dtype=np.float64).mean()))


def make_babble(voices: Sequence[Waveform], num_samples: int, generator: np.random.Generator) -> Waveform:
    """Several voices at once, each as loud as the others, from a place of its own, and repeated where it ends.

    Args:
        voices: recordings of speech; silent ones are left out.
        num_samples: wanted.
        generator: where each begins.

    Returns:
        (num_samples,) float32; zeros where all are silent.
    """
    babble = np.zeros(num_samples, np.float32)
    for voice in voices:
        start = int(generator.integers(len(voice)))
        power = np.square(voice, dtype=np.float64).mean()
        if power > 0:
            babble += np.resize(np.roll(voice, -start), num_samples) / np.float32(math.sqrt(power))
    return babble


def make_room_response(
    reverberation_seconds: float, direct_db: float, rate_hz: int, generator: np.random.Generator
) -> Waveform:
    """The impulse response of a made-up room: direct sound, and noise that decays by 60 dB in the given time.

    Args:
        reverberation_seconds: until the decay has reached 60 dB; the response ends there.
        direct_db: power of the direct sound over that of all reflections (dB).
        rate_hz: of the response.
        generator: the reflections.

    Returns:
        (num_samples,) float32, the direct sound first, as 1.
    """
    times = np.arange(round(reverberation_seconds * rate_hz)) / rate_hz
    tail = generator.standard_normal(len(times)) * 10 ** (-3 * times / reverberation_seconds)
    response = tail / math.sqrt(np.square(tail).sum()) * 10 ** (-direct_db / 20)
    response[0] = 1.0
    single: Waveform = response.astype(np.float32)
    return single
