"""How often a network writes each label, whatever it hears: divided out, the beam search weighs what was heard.

A language model knows how texts go, and so does a network: p(label | sound) holds how frequent the label is, the blank
above all. By Bayes, p(sound | label) goes with p(label | sound) / p(label). Only a part of the prior, its power
p(label) ** weight, is divided out, since neighbouring frames are not independent. Miao, Gowayyed and Metze, "EESEN"
(arXiv:1507.08240, 2015), section 3, decode CTC networks so, with priors counted in transcripts. Here they are what the
network itself says on average, which needs no counting and fits its peaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import LanguageModelError
from mindaudio_ds2.text.tokenizer import Tokenizer

LEAST = -100.0
"""A label once in e^100 frames: nobody has counted so many."""
MOST_AWAY_FROM_ONE = 1e-3
"""Of the sum of all probabilities."""


@dataclass(frozen=True)
class LabelPrior:
    """How likely a network finds each label on average.

    Attributes:
        labels: V symbols, as `Tokenizer.symbols` has them.
        log_probs: `(V,)` natural log probabilities, which sum to 1.

    Raises:
        ValueError: these are no such probabilities.
    """

    labels: tuple[str, ...]
    log_probs: tuple[float, ...]

    def __post_init__(self) -> None:
        for label, value in zip(self.labels, self.log_probs, strict=True):
            if type(value) not in (int, float) or not LEAST <= value <= 0:
                raise ValueError(
                    f"the prior of the label {label!r:.40} is {value!r:.40}; log probabilities are from {LEAST:g} to 0"
                )
        total = float(np.exp(np.array(self.log_probs, np.float64)).sum())
        if abs(total - 1) > MOST_AWAY_FROM_ONE:
            raise ValueError(f"the prior of the labels sums to {total:.3g}, and probabilities to 1")


def measure_prior(log_probs: Sequence[NDArray[np.float32]], tokenizer: Tokenizer) -> LabelPrior:
    """The mean posterior of each label over all frames, and of one frame at least.

    N frames cannot tell a label that is heard less often than once in N from one never heard, which would have nothing
    to divide by. So what adds up to less than one frame counts as one; all others keep what was measured.

    Args:
        log_probs: of each utterance, `(S, V)` float32 natural log probabilities.
        tokenizer: what the labels stand for.
    """
    heard = np.zeros(tokenizer.size)
    for rows in log_probs:
        heard += np.exp(rows.astype(np.float64)).sum(axis=0)
    heard = np.maximum(heard, 1.0)
    return LabelPrior(tokenizer.symbols, tuple(np.log(heard / heard.sum()).tolist()))


def _tell_apart(told: tuple[str, ...], symbols: tuple[str, ...]) -> str:
    if len(told) != len(symbols):
        return f"it has {len(told)}, the network {len(symbols)}"
    place, label, symbol = next(
        (n, *pair) for n, pair in enumerate(zip(told, symbols, strict=True), 1) if pair[0] != pair[1]
    )
    return f"label {place} is {label!r:.40}, the network's {symbol!r:.40}"


class PriorDivision:
    """Divides posteriors by a prior to the power of a weight.

    Args:
        tokenizer: what the network's labels stand for.
        prior: of the same labels, or None.
        weight: the power, not negative; with 0 every frame stays as it is, to the bit, and no prior is needed.

    Raises:
        LanguageModelError: there is a weight and no prior, or a prior of other labels.
    """

    def __init__(self, tokenizer: Tokenizer, prior: LabelPrior | None, weight: float) -> None:
        self._offset: NDArray[np.float32] | None = None
        if weight == 0:
            return
        if prior is None:
            raise LanguageModelError(
                f"the prior weight {weight:g} weighs a prior, and there is none; mindaudio-ds2 tune measures it"
            )
        if prior.labels != tokenizer.symbols:
            difference = _tell_apart(prior.labels, tokenizer.symbols)
            raise LanguageModelError(
                f"the prior is of other labels than the network's ({difference}): this decoder.json was tuned with "
                "another; run mindaudio-ds2 tune with this network, or decode with --decoder greedy"
            )
        self._offset = (weight * np.array(prior.log_probs)).astype(np.float32)

    def apply(self, log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """What remains of `(S, V)` log probabilities, each frame on its own; they sum to 1 in each frame again.

        So thresholds and the confidences of words keep their meaning. A frame in which nothing is possible (minus
        infinity throughout) stays so.
        """
        if self._offset is None or not len(log_probs):
            return log_probs
        divided = log_probs - self._offset
        peak = divided.max(axis=1, keepdims=True)
        peak[np.isneginf(peak)] = 0.0
        total = np.exp(divided - peak).sum(axis=1, keepdims=True)
        total[total == 0.0] = 1.0
        divided -= peak + np.log(total)
        return divided
