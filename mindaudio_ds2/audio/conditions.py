"""Recording conditions in which a recogniser should hold: silence, level, noise, rooms, telephones, codecs, speed.

Every condition is a pure function of a waveform and a generator, and leaves its words intelligible.
"""

import io
import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import soundfile

from mindaudio_ds2.audio.augment import Waveform, add_noise, change_gain, change_speed, reverberate
from mindaudio_ds2.audio.resampling import resample

FAINT_RMS = 0.001
MP3_DELAY_SAMPLES = 1105  # LAME's encoder 576, the decoder 529; without a tag of length nobody takes them away
CODEC_RATE_HZ = 16000  # both codecs take it

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
    times = np.arange(round(reverberation_seconds * rate_hz)) / rate_hz
    tail = generator.standard_normal(len(times)) * 10 ** (-3 * times / reverberation_seconds)
    response = tail / math.sqrt(np.square(tail).sum())
    response[0] = 1.0
    return reverberate(waveform, response.astype(np.float32))


def telephone(waveform: Waveform, rate_hz: int, generator: np.random.Generator) -> Waveform:
    """The band of a sample rate of 8 kHz."""
    return _through(waveform, rate_hz, 8000, lambda narrow: narrow)


def encode_mp3(waveform: Waveform, rate_hz: int, generator: np.random.Generator) -> Waveform:
    """MP3 of constant 16 kbit/s and back, not later."""
    level = 1 - (16 - 8) / (160 - 8)  # libsndfile maps 1 to 8 kbit/s and 0 to 160
    return _through(
        waveform,
        rate_hz,
        CODEC_RATE_HZ,
        lambda sound: _encode(
            sound,
            MP3_DELAY_SAMPLES,
            format="MP3",
            subtype="MPEG_LAYER_III",
            compression_level=level,
            bitrate_mode="CONSTANT",
        ),
    )


def encode_opus(waveform: Waveform, rate_hz: int, generator: np.random.Generator) -> Waveform:
    """Opus of about 16 kbit/s and back."""
    level = 1 - (16 - 6) / (256 - 6)  # libsndfile maps 1 to 6 kbit/s and 0 to 256
    return _through(
        waveform,
        rate_hz,
        CODEC_RATE_HZ,
        lambda sound: _encode(sound, 0, format="OGG", subtype="OPUS", compression_level=level),
    )


def encode_mu_law(waveform: Waveform, rate_hz: int, generator: np.random.Generator) -> Waveform:
    """8-bit µ-law (ITU-T G.711) at the waveform's own rate, and back."""
    return _encode(waveform, 0, format="WAV", subtype="ULAW", rate_hz=rate_hz)


def play(waveform: Waveform, rate_hz: int, generator: np.random.Generator, factor: float) -> Waveform:
    """Faster or slower, with pitch and formants."""
    return change_speed(waveform, factor, rate_hz)


def _through(waveform: Waveform, rate_hz: int, other_hz: int, change: Callable[[Waveform], Waveform]) -> Waveform:
    """What a change at another rate makes of a waveform, in as many samples."""
    if rate_hz == other_hz:
        return change(waveform)
    there = resample(waveform, rate_hz, other_hz, math.ceil(len(waveform) * other_hz / rate_hz))
    return resample(change(there), other_hz, rate_hz, len(waveform))


def _encode(waveform: Waveform, delay: int, rate_hz: int = CODEC_RATE_HZ, **kind: object) -> Waveform:
    """Write into memory and read back; as many samples, the first `delay` of the decoder's left out."""
    file = io.BytesIO()
    padded = np.pad(np.clip(waveform, -1.0, 1.0), (0, 2 * delay))
    soundfile.write(file, padded, rate_hz, **kind)
    file.seek(0)
    decoded: Waveform = soundfile.read(file, dtype="float32")[0][delay:][: len(waveform)]
    return np.pad(decoded, (0, len(waveform) - len(decoded)))


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
    "MP3, 16 kbit/s": encode_mp3,
    "Opus, 16 kbit/s": encode_opus,
    "µ-law": encode_mu_law,
    "speed -10 %": partial(play, factor=0.9),
    "speed +10 %": partial(play, factor=1.1),
}
"""By the names that a table shows."""
