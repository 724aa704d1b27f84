"""Sound in memory or from a pipe: the one owner of the rates and samples that are possible."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import AudioError

LEAST_RATE_HZ, MOST_RATE_HZ = 4000, 192_000
"""Of a stream: less holds no speech, and more is a slip of the fingers, which would compute without end."""

LOUDEST_SAMPLES = 4.0
"""Samples beyond this were never scaled to [-1, 1]."""


def require_rate(rate_hz: object, least_hz: int = LEAST_RATE_HZ, most_hz: int = MOST_RATE_HZ) -> int:
    """A sample rate (Hz), if it is one.

    Args:
        rate_hz: what was given; a number without fraction of any type.
        least_hz: that is possible (Hz).
        most_hz: that is possible (Hz).

    Raises:
        AudioError: it is none; says which are possible.
    """
    is_number = isinstance(rate_hz, numbers.Real) and not isinstance(rate_hz, bool)
    if not is_number or not least_hz <= float(rate_hz) <= most_hz or not float(rate_hz).is_integer():  # type: ignore[arg-type]
        raise AudioError(
            f"a sample rate of {rate_hz!r} Hz is impossible; give that of the sound, a whole number from {least_hz} to "
            f"{most_hz}"
        )
    return int(rate_hz)  # type: ignore[call-overload, no-any-return]


def require_samples(samples: object) -> NDArray[Any]:
    """Samples `(n,)` of one channel, if they are such; n may be 0.

    Raises:
        AudioError: another type, shape or kind, not finite, or not scaled; says what to do.
    """
    if isinstance(samples, (bytes, bytearray, memoryview)):
        raise AudioError("samples must be a NumPy array, found bytes; give np.frombuffer(samples, np.int16)")
    if not isinstance(samples, np.ndarray):
        raise AudioError(
            f"samples must be a NumPy array, found {type(samples).__name__}; give np.asarray(samples, np.float32), in "
            "[-1, 1]"
        )
    if isinstance(samples, np.ma.MaskedArray):
        raise AudioError("samples are masked, and sound has no gaps; give samples.filled(0) for silence in them")
    if samples.ndim != 1:
        raise AudioError(f"samples must be one channel, (num_samples,), found {samples.shape}")
    if _is_int16(samples):
        return samples
    if samples.dtype.kind != "f":
        raise AudioError(f"samples must be floating-point in [-1, 1] or int16, found {samples.dtype}")
    if not np.isfinite(samples).all() or np.abs(samples).max(initial=0) > LOUDEST_SAMPLES:
        raise AudioError("samples are not finite or not scaled; divide them so that full scale is 1")
    return samples


def to_waveform(samples: object) -> NDArray[np.float32]:
    """Samples `(n,)`, floating-point in [-1, 1] or 16-bit integers, as float32, full scale being 1.

    Raises:
        AudioError: as `require_samples`.
    """
    given = require_samples(samples)
    scaled = given / np.float32(32768) if _is_int16(given) else given
    return scaled.astype(np.float32)


def _is_int16(samples: NDArray[Any]) -> bool:
    """In either order of bytes."""
    return samples.dtype.newbyteorder("=") == np.int16
