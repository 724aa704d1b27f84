"""Slower and faster speech with the voice that it had: WSOLA, overlap-add of waveform pieces that fit each other.

Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale
modification of speech", ICASSP 1993.
"""

import math

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]
"""(num_samples,) float32."""

HOP_SECONDS = 0.016
"""Distance between pieces of the result, each of which is twice as long: two periods of a voice of 62 Hz."""

TOLERANCE_SECONDS = 0.008
"""How far a piece may be taken from its place, either way: together a period of a voice of 62 Hz."""


def change_tempo(waveform: Waveform, factor: float, sample_rate_hz: int) -> Waveform:
    """Say it faster or slower; pitch and formants stay.

    Pieces are taken from places that move `factor` times as fast as they are put down. Each is moved within a
    tolerance to where it goes on most like the piece before it would have gone on by itself.

    Args:
        waveform: of n samples.
        factor: above 1 is faster and shorter.
        sample_rate_hz: of the waveform.

    Returns:
        ceil(n / factor) samples.
    """
    num_samples = math.ceil(len(waveform) / factor - 1e-6)  # the count that FeatureConfig.num_frames makes
    hop, tolerance = round(HOP_SECONDS * sample_rate_hz), round(TOLERANCE_SECONDS * sample_rate_hz)
    num_pieces = 2 + num_samples // hop  # the first one begins a hop before the first sample
    front = hop + tolerance
    last = math.ceil((num_pieces - 1) * hop * factor) + tolerance + 3 * hop
    padded = np.pad(waveform, (front, max(0, front + last - len(waveform))))
    window = (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)).astype(np.float32)
    stretched = np.zeros((num_pieces + 1) * hop, np.float32)
    for number, start in enumerate(_find_pieces(padded, num_pieces, hop, tolerance, factor)):
        stretched[number * hop : (number + 2) * hop] += window * padded[start : start + 2 * hop]
    return stretched[hop : hop + num_samples]


def _find_pieces(padded: Waveform, num_pieces: int, hop: int, tolerance: int, factor: float) -> list[int]:
    """Where each piece begins in the padded waveform."""
    energies = np.concatenate([[0.0], np.cumsum(np.square(padded, dtype=np.float64))])
    norms = np.sqrt(np.maximum(energies[hop:] - energies[:-hop], 1e-12)).astype(np.float32)
    starts = [tolerance]
    for number in range(1, num_pieces):
        lowest = round((number - 1) * hop * factor) + hop  # of places that are `tolerance` around the one due
        going_on = padded[starts[-1] + hop : starts[-1] + 2 * hop]
        likeness = np.correlate(padded[lowest : lowest + 2 * tolerance + hop], going_on, "valid")
        starts.append(lowest + int((likeness / norms[lowest : lowest + 2 * tolerance + 1]).argmax()))
    return starts
