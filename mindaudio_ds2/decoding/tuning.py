"""The weights of a language model and of the label prior, searched on dev: wide at first, then to better neighbours."""

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
UNKNOWNS = (-40.0, -20.0, -6.0, -3.0, -1.0)
"""Ties go to the dearest, since within an unknown word all that follows is free; a clearly spelt name is worth more."""
PRIORS = (0.0, 0.3, 0.6, 0.9)
"""Of the label prior; the first stands in the trials before."""
STEPS = (0.5, 0.25)
"""In weight."""
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
    walk = 10 + 9 * (MOVES - 1)  # all neighbours at first; after a move, one of them is where it came from
    return len(WEIGHTS) * len(BONUSES) + len(UNKNOWNS) + len(PRIORS) - 1 + walk * len(STEPS) + 1


def search(
    log_probs: Sequence[NDArray[np.float32]],
    references: Sequence[str],
    start: BeamSettings,
    open_decoder: Callable[[BeamSettings], Decoder],
    watch: Callable[[Trial], None],
) -> list[Trial]:
    """Try weights and bonuses on a wide grid, what is unknown, the label prior, then steps from the best.

    Where unknown words are cheap, the wide grid asks for a large bonus, against words run together into one. Once they
    are dear, a smaller one is better: the best may lie several steps from where the grid found it. Steps are taken
    while a neighbour is better.

    Args:
        log_probs: of each utterance, `(S, V)`.
        references: what was said.
        start: widths and thresholds, which stay; its prior weight is 0.
        open_decoder: a decoder with other settings.
        watch: called after each trial.

    Returns:
        All trials, the best first; of equal ones the smaller weight, then the smaller prior. The best without the
        prior, all else alike, is among them.
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
    best = try_all(dataclasses.replace(best, prior_weight=prior) for prior in PRIORS)
    for step in STEPS:
        for _ in range(MOVES):
            before, best = best, try_all(_list_neighbours(best, step))
            if best == before:
                break
    try_all([dataclasses.replace(best, prior_weight=0.0)])  # to say what the prior alone brings
    return sorted(trials.values(), key=_rank)


def _list_neighbours(settings: BeamSettings, step: float) -> Iterator[BeamSettings]:
    """Another prior, another bonus, or another weight with a bonus that offsets some of what a word then costs more.

    A word of running text costs 4 to 8 nats, so that good settings lie on a slope: bonus rises with weight.
    """
    for by in (-step, step):
        prior = round(max(settings.prior_weight + 0.4 * by, 0.0), 3)
        yield dataclasses.replace(settings, prior_weight=prior)
    for w, b in ((0, 2), (1, 0), (1, 4), (1, 8)):
        for by in (-step, step):
            weight = max(settings.weight + w * by, 0.0)
            yield dataclasses.replace(settings, weight=weight, bonus=settings.bonus + b * by)


def _rank(trial: Trial) -> tuple[int, float, float]:
    return trial.word_errors, trial.settings.weight, trial.settings.prior_weight
