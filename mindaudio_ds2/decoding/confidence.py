"""Confidences that mean something: raw ones turned into probabilities, and how well they do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-4
NUM_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """A logistic map of the log odds of a raw confidence (Platt, 1999).

    Attributes:
        offset: added.
        slope: factor; 1 with an offset of 0 changes nothing.
    """

    offset: float
    slope: float

    def apply(self, confidence: float) -> float:
        """The probability that a word of this raw confidence is right."""
        return 1 / (1 + math.exp(-(self.offset + self.slope * float(_find_log_odds(np.array(confidence))))))


def _find_log_odds(confidences: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(confidences, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped / (1 - clipped)))


def fit_calibration(confidences: Sequence[float], is_right: Sequence[bool]) -> Calibration:
    """The maximum likelihood, with a pull towards no change that counts as much as two words."""
    odds, right = _find_log_odds(np.array(confidences, np.float64)), np.array(is_right, np.float64)
    inputs, start = np.stack([np.ones_like(odds), odds], axis=1), np.array([0.0, 1.0])
    pull, weights = 0.25, start.copy()
    for _ in range(100):
        guess = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (guess - right) + pull * (weights - start)
        curvature = (inputs * (guess * (1 - guess))[:, None]).T @ inputs + pull * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            break
    return Calibration(float(weights[0]), float(weights[1]))


def measure_calibration(confidences: Sequence[float], is_right: Sequence[bool]) -> dict[str, float]:
    """Expected calibration error (10 bins of equal width, a fraction) and normalised cross-entropy (1 at best).

    Returns:
        "expected_calibration_error" and "normalized_cross_entropy"; the latter is NaN where all or no words are right.
    """
    guess = np.clip(np.array(confidences, np.float64), SMALLEST, 1 - SMALLEST)
    right = np.array(is_right, np.float64)
    if not len(guess):
        return {"expected_calibration_error": math.nan, "normalized_cross_entropy": math.nan}
    bins = np.minimum((guess * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, guess - right, NUM_BINS)
    share = right.mean()
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share)) if 0 < share < 1 else math.nan
    cross = -float(np.mean(right * np.log(guess) + (1 - right) * np.log(1 - guess)))
    return {
        "expected_calibration_error": float(np.abs(gaps).sum() / len(guess)),
        "normalized_cross_entropy": (entropy - cross) / entropy,
    }
