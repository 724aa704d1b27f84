"""The weights of a language model, searched on dev: wide at first, then from the best to better neighbours."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.beam import BeamSettings
from mindaudio_ds2.decoding.choice import Decoder
from mindaudio_ds2.decoding.metrics import count_errors

WEIGHTS = (0.0, 1.0, 2.0, 3.0, 4.5, 6.0)
BONUSES = (-2.0, 0.0, 2.0, 4.0, 6.0)
UNKNOWNS = (-20.0, -40.0, -6.0, -3.0, -1.0)
STEPS = (0.5, 0.25)
"""In weight; twice that in bonus."""
MOVES = 6
"""With each step, at most."""


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
    walk = 8 + 5 * (MOVES - 1)  # all neighbours at first; after a move, even across a corner, three were there before
    return len(WEIGHTS) * len(BONUSES) + len(UNKNOWNS) + walk * len(STEPS)


def search(
    log_probs: Sequence[NDArray[np.float32]],
    references: Sequence[str],
    start: BeamSettings,
    open_decoder: Callable[[BeamSettings], Decoder],
    watch: Callable[[Trial], None],
) -> list[Trial]:
    """Try weights and bonuses on a wide grid, then what is unknown, then steps from the best while that gets better.

    Where unknown words are cheap, the wide grid asks for a large bonus, against words run together into one. Once they
    are dear, a smaller one is better: the best may lie several steps from where the grid found it.

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
    for step in STEPS:
        for _ in range(MOVES):
            before, best = best, try_all(_list_neighbours(best, step))
            if best == before:
                break
    return sorted(trials.values(), key=_rank)


def _list_neighbours(settings: BeamSettings, step: float) -> Iterator[BeamSettings]:
    """Weight and bonus up or down by a step, one or both."""
    for w, b in itertools.product((-step, 0.0, step), (-2 * step, 0.0, 2 * step)):
        yield dataclasses.replace(settings, weight=max(settings.weight + w, 0.0), bonus=settings.bonus + b)


def _rank(trial: Trial) -> tuple[int, float]:
    return trial.word_errors, trial.settings.weight
