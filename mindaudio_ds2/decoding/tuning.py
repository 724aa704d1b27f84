"""The weights of a language model, searched on dev: wide at first, then around the best."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.beam import BeamSettings
from mindaudio_ds2.decoding.choice import Decoder
from mindaudio_ds2.decoding.metrics import count_errors

WEIGHTS = (0.0, 1.0, 2.0, 3.0, 4.5, 6.0)
BONUSES = (-2.0, 0.0, 2.0, 4.0, 6.0)
UNKNOWNS = (-20.0, -6.0, -3.0, -1.0)
REFINEMENTS = (0.5, 0.25)


@dataclass(frozen=True)
class Trial:
    """What some settings made of dev."""

    settings: BeamSettings
    word_errors: int
    num_words: int

    @property
    def wer(self) -> float:
        """Word error rate, a fraction."""
        return self.word_errors / max(self.num_words, 1)


def count_trials() -> int:
    """How many settings `search` tries at most."""
    return len(WEIGHTS) * len(BONUSES) + len(UNKNOWNS) + 8 * len(REFINEMENTS)


def search(
    log_probs: Sequence[NDArray[np.float32]],
    references: Sequence[str],
    start: BeamSettings,
    open_decoder: Callable[[BeamSettings], Decoder],
    watch: Callable[[Trial], None],
) -> list[Trial]:
    """Try weights and bonuses on a wide grid, then what is unknown, then finer steps around the best.

    Args:
        log_probs: of each utterance, `(S, V)`.
        references: what was said.
        start: widths and thresholds, which stay.
        open_decoder: a decoder with other settings.
        watch: called after each trial.

    Returns:
        All trials, the best first; of equal ones the smaller weight.
    """
    trials: dict[BeamSettings, Trial] = {}

    def try_all(candidates: Iterable[BeamSettings]) -> BeamSettings:
        for settings in candidates:
            if settings not in trials:
                decoder = open_decoder(settings)
                counts = [
                    count_errors(reference, decoder.decode(rows)[0].text)
                    for reference, rows in zip(references, log_probs, strict=True)
                ]
                errors, words = (sum(getattr(c, name) for c in counts) for name in ("word_errors", "num_words"))
                trials[settings] = Trial(settings, errors, words)
                watch(trials[settings])
        return min(trials.values(), key=_rank).settings

    best = try_all(dataclasses.replace(start, weight=w, bonus=b) for w, b in itertools.product(WEIGHTS, BONUSES))
    best = try_all(dataclasses.replace(best, unknown=unknown) for unknown in UNKNOWNS)
    for step in REFINEMENTS:
        around = itertools.product((-step, 0.0, step), (-2 * step, 0.0, 2 * step))
        best = try_all(
            dataclasses.replace(best, weight=max(best.weight + w, 0.0), bonus=best.bonus + b) for w, b in list(around)
        )
    return sorted(trials.values(), key=_rank)


def _rank(trial: Trial) -> tuple[int, float]:
    return trial.word_errors, trial.settings.weight
