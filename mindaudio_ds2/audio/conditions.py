"""Recording conditions in which a recogniser should hold: silence, level, noise, rooms, telephones, codecs, speed.

Every condition is a pure function of a waveform and a generator, and leaves its words intelligible.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from mindaudio_ds2.audio.augment import Waveform, add_noise, change_gain, change_speed, reverberate
from mindaudio_ds2.audio.codecs import TELEPHONE_RATE_HZ, encode, pass_codec, pass_rate
from mindaudio_ds2.audio.synthetic import make_room_response
from mindaudio_ds2.augmentation_config import CodecName

FAINT_RMS = 0.001

Condition = Callable[[Waveform, int, np.random.Generator], Waveform]
"""(waveform, sample rate in Hz, generator) to a waveform of the same rate."""


def surround(waveform: Waveform, rate_hz: int, generator: np.random.Generator, seconds: float, rms: float) -> Waveform:
    """White noise of an rms on each side, digital silence where it is 0."""
    size = round(seconds * rate_hz)
    before, after = (rms * generator.standard_normal((2, size))).astype(np.float32)
    return np.concatenate([before, waveform, after])


def add_offset(waveform: Waveform, rate_hz: int, generator: np.random.Generator, offset: float) -> Waveform:
    """A constant in all samples."""
    return waveform + np.float32(offset)


def scale(waveform: Waveform, rate_hz: int, generator: np.random.Generator, gain_db: float) -> Waveform:
    """Another level, clipped at full scale."""
    return np.clip(change_gain(waveform, gain_db), -1.0, 1.0)


def add_white_noise(waveform: Waveform, rate_hz: int, generator: np.random.Generator, snr_db: float) -> Waveform:
    """White noise at a ratio of the whole waveform's power to the noise's."""
    noise = generator.standard_normal(len(waveform)).astype(np.float32)
    return add_noise(waveform, noise, 0.0, snr_db)


def enter_room(
    waveform: Waveform, rate_hz: int, generator: np.random.Generator, reverberation_seconds: float
) -> Waveform:
    """A room of noise that decays by 60 dB in the given time, with as much power as the direct sound."""
    return reverberate(waveform, make_room_response(reverberation_seconds, 0.0, rate_hz, generator))


def telephone(waveform: Waveform, rate_hz: int, generator: np.random.Generator) -> Waveform:
    """The band of a sample rate of 8 kHz."""
    return pass_rate(waveform, rate_hz, TELEPHONE_RATE_HZ)


def encode_16_kbps(waveform: Waveform, rate_hz: int, generator: np.random.Generator, codec: CodecName) -> Waveform:
    """MP3 or Opus of 16 kbit/s and back."""
    return pass_codec(waveform, rate_hz, codec, 16.0)


def encode_mu_law(waveform: Waveform, rate_hz: int, generator: np.random.Generator) -> Waveform:
    """8-bit µ-law (ITU-T G.711) at the waveform's own rate, and back."""
    return encode(waveform, rate_hz, format="WAV", subtype="ULAW")


def play(waveform: Waveform, rate_hz: int, generator: np.random.Generator, factor: float) -> Waveform:
    """Faster or slower, with pitch and formants."""
    return change_speed(waveform, factor, rate_hz)


CONDITIONS: Mapping[str, Condition] = {
    **{f"{s:g} s of silence around": partial(surround, seconds=s, rms=0.0) for s in (0.2, 1.0, 3.0)},
    "1 s of faint noise around": partial(surround, seconds=1.0, rms=FAINT_RMS),
    "offset 0.02": partial(add_offset, offset=0.02),
    "level -20 dB": partial(scale, gain_db=-20.0),
    "level +10 dB": partial(scale, gain_db=10.0),
    "level +12 dB, clipped": partial(scale, gain_db=12.0),
    **{f"white noise at {db} dB": partial(add_white_noise, snr_db=float(db)) for db in (20, 10, 0)},
    "room, 0.4 s": partial(enter_room, reverberation_seconds=0.4),
    "telephone band, 8 kHz": telephone,
    "MP3, 16 kbit/s": partial(encode_16_kbps, codec="mp3"),
    "Opus, 16 kbit/s": partial(encode_16_kbps, codec="opus"),
    "µ-law": encode_mu_law,
    "speed -10 %": partial(play, factor=0.9),
    "speed +10 %": partial(play, factor=1.1),
}
"""By the names that a table shows."""
