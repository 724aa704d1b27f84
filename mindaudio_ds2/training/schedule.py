"""The learning rate, as a pure function of how far training has come. What it says is what the optimiser uses."""

import math

from mindaudio_ds2.config import ScheduleConfig


def learning_rate(config: ScheduleConfig, progress_epochs: float, num_epochs: int) -> float:
    """The learning rate of a step.

    Args:
        config: which curve.
        progress_epochs: epochs done when the step is done, with its fraction; above 0.
        num_epochs: length of the whole training.

    Returns:
        A linear rise to the peak over the warm-up, then the curve of `config.name`.
    """
    peak, final, warmup = config.peak_learning_rate, config.final_learning_rate, config.warmup_epochs
    if progress_epochs < warmup:
        return peak * progress_epochs / warmup
    if config.name == "constant":
        return peak
    if config.name == "exponential":
        return max(final, peak * config.decay_per_epoch ** math.floor(progress_epochs - warmup))
    done = min(1.0, (progress_epochs - warmup) / max(num_epochs - warmup, 1e-9))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * done))
