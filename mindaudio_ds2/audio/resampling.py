"""From one sample rate to another: the one place that calls soxr."""

import numpy as np
from numpy.typing import NDArray


def resample(waveform: NDArray[np.float32], from_hz: float, to_hz: float, num_samples: int) -> NDArray[np.float32]:
    """Resample with soxr in high quality, to an exact number of samples.

    Args:
        waveform: `(n,)`.
        from_hz: its rate; need not be whole (Hz).
        to_hz: the rate wanted (Hz).
        num_samples: of the result; soxr's own count may be off by rounding, and is cut or padded with zeros.
    """
    import soxr  # here, because most recordings have the rate that is wanted

    changed: NDArray[np.float32] = soxr.resample(waveform, from_hz, to_hz, quality="HQ")
    return np.pad(changed[:num_samples], (0, max(0, num_samples - len(changed))))
