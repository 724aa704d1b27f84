"""From one sample rate to another: the one place that calls soxr."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import AudioError


def resample(waveform: NDArray[np.float32], from_hz: float, to_hz: float, num_samples: int) -> NDArray[np.float32]:
    """Resample with soxr in high quality, to an exact number of samples.

    Args:
        waveform: `(n,)`.
        from_hz: its rate; need not be whole (Hz).
        to_hz: the rate wanted (Hz).
        num_samples: of the result; soxr's own count may be off by rounding, and is cut or padded with zeros.

    Raises:
        AudioError: soxr is not installed.
    """
    changed: NDArray[np.float32] = _import_soxr(from_hz, to_hz).resample(waveform, from_hz, to_hz, quality="HQ")
    return np.pad(changed[:num_samples], (0, max(0, num_samples - len(changed))))


class StreamResampler:
    """`resample` of one channel that is still going on; any chunks give the same samples.

    Args:
        from_hz: rate of what comes (Hz).
        to_hz: the rate wanted (Hz).

    Raises:
        AudioError: soxr is not installed.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = _import_soxr(from_hz, to_hz).ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
        self._from_hz, self._to_hz = from_hz, to_hz
        self._num_fed = self._num_given = 0

    def feed(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next `(n,)` samples, n may be 0; gives those of the result that are certain now."""
        self._num_fed += len(waveform)
        return self._give(self._stream.resample_chunk(waveform, last=False))

    def finish(self) -> NDArray[np.float32]:
        """The rest; then there are as many samples as the duration has at the new rate, rounded up."""
        rest = self._give(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        num_due = -(-self._num_fed * self._to_hz // self._from_hz) - self._num_given
        return np.pad(rest[: len(rest) + num_due] if num_due < 0 else rest, (0, max(0, num_due)))

    def _give(self, changed: NDArray[np.float32]) -> NDArray[np.float32]:
        self._num_given += len(changed)
        return changed


def _import_soxr(from_hz: float, to_hz: float) -> Any:
    try:
        import soxr  # here, because most recordings have the rate that is wanted
    except ImportError:
        raise AudioError(
            f"sound of {from_hz:g} Hz has to become one of {to_hz:g} Hz, and soxr is missing: pip install soxr"
        ) from None
    return soxr
