"""What telephones and codecs leave of sound: encoded and decoded in memory, in as many samples and not later."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.resampling import resample
from mindaudio_ds2.augmentation_config import CodecName
from mindaudio_ds2.errors import ConfigError

Waveform = NDArray[np.float32]
"""(num_samples,) float32."""

TELEPHONE_RATE_HZ = 8000
TELEPHONE_BAND_HZ = (300.0, 3400.0)
MP3_DELAY_SAMPLES = 1105  # LAME's encoder 576, the decoder 529
BUTTERWORTH_ORDER = 8
FILTER_PAD_SECONDS = 0.05

Container = tuple[str, str, int]
"""Format and subtype as libsndfile names them, and the rate at which sound is encoded (Hz)."""

CONTAINERS: dict[CodecName, Container] = {
    "mp3": ("MP3", "MPEG_LAYER_III", 16000),
    "opus": ("OGG", "OPUS", 16000),
    "mu_law": ("WAV", "ULAW", TELEPHONE_RATE_HZ),
    "a_law": ("WAV", "ALAW", TELEPHONE_RATE_HZ),
    "gsm": ("WAV", "GSM610", TELEPHONE_RATE_HZ),
}
KBPS_RANGES: dict[CodecName, tuple[float, float]] = {"mp3": (8, 160), "opus": (6, 256)}
"""What libsndfile makes of its compression levels 1 and 0."""


def require_codecs(names: list[CodecName]) -> None:
    """Make sure that the installed libsndfile has codecs.

    Raises:
        ConfigError: names those that are missing.
    """
    missing = [name for name in names if not soundfile.check_format(*CONTAINERS[name][:2])]
    if missing:
        raise ConfigError(
            f"augmentation.codecs has {missing}, which libsndfile {soundfile.__libsndfile_version__} cannot write; "
            "take them out, or install soundfile's wheel, which brings a newer one"
        )


def pass_codec(waveform: Waveform, rate_hz: int, name: CodecName, kbps: float) -> Waveform:
    """Encode and decode at the codec's usual rate for speech: 16 kHz, or 8 kHz for those of telephones.

    Args:
        waveform: of n samples; beyond full scale they are clipped.
        rate_hz: of the waveform.
        name: of the codec.
        kbps: bit rate of mp3 (constant) and opus (about); the others have but one (kbit/s).

    Returns:
        n samples.
    """
    format_name, subtype, codec_hz = CONTAINERS[name]
    options: dict[str, Any] = {"format": format_name, "subtype": subtype}
    if name in KBPS_RANGES:
        low, high = KBPS_RANGES[name]
        level = 1 - (kbps - low) / (high - low)
        options["compression_level"] = min(0.99, max(0.0, level))  # at 1 exactly, LAME refuses 8 kbit/s
    if name == "mp3":
        options["bitrate_mode"] = "CONSTANT"
    return _resampled(waveform, rate_hz, codec_hz, lambda sound: encode(sound, codec_hz, **options))


def pass_telephone(waveform: Waveform, rate_hz: int) -> Waveform:
    """The band from 300 to 3400 Hz, sampled at 8 kHz; as many samples at the rate of before."""
    return _resampled(
        waveform, rate_hz, TELEPHONE_RATE_HZ, lambda sound: filter_band(sound, TELEPHONE_RATE_HZ, *TELEPHONE_BAND_HZ)
    )


def pass_rate(waveform: Waveform, rate_hz: int, other_hz: int) -> Waveform:
    """What another sample rate leaves of a waveform; as many samples at the rate of before."""
    return _resampled(waveform, rate_hz, other_hz, lambda sound: sound)


def filter_band(waveform: Waveform, rate_hz: int, low_hz: float, high_hz: float) -> Waveform:
    """Let a band pass, with the magnitudes of Butterworth filters of order 8 (-3 dB at the edges) and without delay.

    Args:
        waveform: of n samples.
        rate_hz: of the waveform.
        low_hz: lower edge; 0 for none (Hz).
        high_hz: upper edge (Hz).

    Returns:
        n samples.
    """
    import scipy.fft

    num_samples = len(waveform)
    size = scipy.fft.next_fast_len(num_samples + round(FILTER_PAD_SECONDS * rate_hz), real=True)
    frequencies = np.arange(size // 2 + 1) * (rate_hz / size)
    gains = 1 / np.sqrt(1 + (frequencies / high_hz) ** (2 * BUTTERWORTH_ORDER))
    if low_hz:
        ratios = (frequencies / low_hz) ** BUTTERWORTH_ORDER
        gains *= ratios / np.sqrt(1 + ratios**2)
    spectrum = scipy.fft.rfft(waveform, n=size) * gains.astype(np.float32)
    filtered: Waveform = scipy.fft.irfft(spectrum, n=size)[:num_samples]
    return filtered


def encode(waveform: Waveform, rate_hz: int, **options: Any) -> Waveform:
    """Write into memory and read back: as many samples, at the same time."""
    file = io.BytesIO()
    is_mp3 = options["format"] == "MP3"
    padded = np.pad(np.clip(waveform, -1.0, 1.0), (0, 2 * MP3_DELAY_SAMPLES * is_mp3))
    soundfile.write(file, padded, rate_hz, **options)
    file.seek(0)
    decoded: Waveform = soundfile.read(file, dtype="float32")[0]
    # below 40 kbit/s LAME leaves no room for the tag by which decoders take the delay away, and there is more sound
    delay = MP3_DELAY_SAMPLES if is_mp3 and len(decoded) > len(padded) else 0
    decoded = decoded[delay:][: len(waveform)]
    return np.pad(decoded, (0, len(waveform) - len(decoded)))


def _resampled(waveform: Waveform, rate_hz: int, other_hz: int, change: Callable[[Waveform], Waveform]) -> Waveform:
    """What a change at another rate makes of a waveform, in as many samples."""
    if rate_hz == other_hz:
        return change(waveform)
    there = resample(waveform, rate_hz, other_hz, math.ceil(len(waveform) * other_hz / rate_hz))
    return resample(change(there), other_hz, rate_hz, len(waveform))
