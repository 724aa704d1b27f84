"""What changes in the course of a run, as pure functions of how far it has come: learning rate, norms, zero weights."""

import math
from collections.abc import Sequence

from mindaudio_ds2.training_config import ONE_CYCLE_RANGE, ScheduleConfig, TrainingConfig

PRUNINGS_PER_EPOCH = 4
"""How often the share of zero weights rises in an epoch."""

SLACK = 1e-9
"""Sums of shares of an epoch may be less than the whole by so much."""


def learning_rate(
    config: ScheduleConfig, progress_epochs: float, num_epochs: int, dev_wers: Sequence[float] = ()
) -> float:
    """The learning rate of a step.

    Args:
        config: which curve.
        progress_epochs: epochs done when the step is done, with its fraction; above 0.
        num_epochs: length of the whole training.
        dev_wers: dev WER of each epoch that is wholly done; plateau alone looks at it.

    Returns:
        A linear rise to the peak over the warm-up, then the curve of `config.name`.
    """
    peak, final, warmup = config.peak_learning_rate, config.final_learning_rate, config.warmup_epochs
    if config.name == "one_cycle":
        low = peak / ONE_CYCLE_RANGE
        corners = ((0.0, low), (warmup, peak), (2 * warmup, low), (float(num_epochs), final))
        return _interpolate(corners, progress_epochs)
    if progress_epochs < warmup:
        return peak * progress_epochs / warmup
    if config.name == "constant":
        return peak
    if config.name == "exponential":
        return max(final, peak * config.decay_per_epoch ** math.floor(progress_epochs - warmup))
    if config.name == "plateau":
        num_plateaus = count_plateaus(dev_wers, config.plateau_patience_epochs)
        return max(final, peak * config.plateau_factor**num_plateaus)
    done = min(1.0, (progress_epochs - warmup) / max(num_epochs - warmup, 1e-9))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * done))


def has_looked_ahead(config: ScheduleConfig, progress_epochs: float) -> bool:
    """Whether a learning rate used so far would have been another one in a longer or shorter run.

    Args:
        config: which curve.
        progress_epochs: epochs done.
    """
    since = {"cosine": config.warmup_epochs, "one_cycle": 2 * config.warmup_epochs}
    return progress_epochs > since.get(config.name, math.inf)


def count_frozen_epochs(config: TrainingConfig) -> int:
    """How many of the last epochs keep the running statistics of batch norms.

    A share is that of all epochs, rounded. Any share above 0 is at least one epoch, and any below 1 leaves the first,
    without which there would be no statistics to keep.
    """
    if config.frozen_norm_share in (0, 1):
        return round(config.epochs * config.frozen_norm_share)
    rounded = config.epochs - round(config.epochs * (1 - config.frozen_norm_share))
    return min(max(rounded, 1), config.epochs - 1)


def count_pruning_epochs(config: TrainingConfig) -> int:
    """After how many epochs all weights that are to become zero are; 0 where none are."""
    return max(1, round(config.epochs * config.prune_end_share)) if config.prune_share else 0


def pruned_share(config: TrainingConfig, progress_epochs: float) -> float:
    """The share of zeros in each pruned matrix (Zhu and Gupta 2017, arXiv:1710.01878).

    Args:
        config: `prune_share` s and `prune_end_share`, which gives the end.
        progress_epochs: epochs done, with their fraction.

    Returns:
        s * (1 - (1 - progress / end) ** 3), at the last quarter of an epoch that is wholly done; s from the end on.
    """
    end = count_pruning_epochs(config)
    done = math.floor(progress_epochs * PRUNINGS_PER_EPOCH + SLACK) / PRUNINGS_PER_EPOCH
    return config.prune_share * (1 - (1 - done / end) ** 3) if done < end else config.prune_share


def count_plateaus(dev_wers: Sequence[float], patience_epochs: int) -> int:
    """How often the dev WER has not fallen below its lowest for so many epochs in a row; each counts from the last.

    Args:
        dev_wers: of the epochs in their order.
        patience_epochs: at least 1.
    """
    lowest, num_waited, num_plateaus = math.inf, 0, 0
    for wer in dev_wers:
        num_waited = 0 if wer < lowest else num_waited + 1
        lowest = min(lowest, wer)
        if num_waited == patience_epochs:
            num_plateaus, num_waited = num_plateaus + 1, 0
    return num_plateaus


def _interpolate(corners: Sequence[tuple[float, float]], x: float) -> float:
    """The height at `x` of the line through corners (x, y) that go from left to right; beyond the last, its height."""
    for (x0, y0), (x1, y1) in zip(corners, corners[1:], strict=False):
        if x < x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return corners[-1][1]
