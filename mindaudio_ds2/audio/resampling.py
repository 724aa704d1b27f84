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


class BlockResampler:
    """`resample` of a recording that comes in blocks, in several channels.

    Args:
        from_hz: rate of what comes (Hz).
        to_hz: the rate wanted (Hz).
        num_samples: of the result, each channel.
        num_channels: of the recording.
    """

    def __init__(self, from_hz: int, to_hz: int, num_samples: int, num_channels: int) -> None:
        soxr = _import_soxr(from_hz, to_hz)
        self._stream = soxr.ResampleStream(from_hz, to_hz, num_channels, dtype="float32", quality="HQ")
        self._num_channels, self._num_due = num_channels, num_samples

    def feed(self, block: NDArray[np.float32], is_last: bool = False) -> NDArray[np.float32]:
        """Take the next `(channels, n)` samples, n may be 0; returns those of the result that are certain now."""
        chunk = np.ascontiguousarray(block.T)
        changed = self._stream.resample_chunk(chunk if self._num_channels > 1 else chunk[:, 0], last=is_last)
        rows = np.atleast_2d(changed.T)[:, : self._num_due]
        self._num_due -= rows.shape[1]
        missing = self._num_due if is_last else 0
        return np.pad(rows, ((0, 0), (0, missing)))


def _import_soxr(from_hz: float, to_hz: float) -> Any:
    try:
        import soxr  # here, because most recordings have the rate that is wanted
    except ImportError:
        raise AudioError(
            f"sound of {from_hz:g} Hz has to become one of {to_hz:g} Hz, and soxr is missing: pip install soxr"
        ) from None
    return soxr
