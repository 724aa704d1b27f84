"""N-gram models from text: interpolated modified Kneser-Ney (Chen and Goodman, 1998).

They are pruned by entropy (Stolcke, 1998). All of it is sorting and adding of whole arrays in NumPy: 20 million words
take one to two minutes and less than 3 GB. kaldingram took 12 minutes and 5.3 GB for them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.arpa import join_levels
from mindaudio_ds2.decoding.language_model import SPECIAL_WORDS, NgramTables
from mindaudio_ds2.errors import LanguageModelError

Ids = NDArray[np.int64]
Reals = NDArray[np.float64]

START, END = 1, 2
NEVER_LOG10 = -99.0
"""log10 of the probability of <s>, which is never said."""

TINY = 1e-9


@dataclass
class _Level:
    """The n-grams of one order, sorted by parent and last word.

    Attributes:
        keys: parent * 2^31 + last word; parents are places in the order below.
        suffix: place, in the order below, of the n-gram without its first word.
        raw: how often it stands in the text.
        counts: adjusted: how many words it follows; raw at the highest order and after <s>.
        probs: of the last word after the others.
        backoff: factor for what is not among its children.
    """

    keys: Ids
    suffix: Ids
    raw: Ids
    counts: Ids
    probs: Reals
    backoff: Reals

    @property
    def parent(self) -> Ids:
        return self.keys // 2**31


def encode_sentences(sentences: Sequence[str]) -> tuple[list[str], NDArray[np.int32]]:
    """All words, the special ones first, and the text as their numbers: each sentence from 1 (<s>) to 2 (</s>)."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(sentence.split())
    words = [*SPECIAL_WORDS, *sorted(counts, key=str.encode)]
    ids = {word: number for number, word in enumerate(words)}
    num_tokens = sum(counts.values()) + 2 * len(sentences)
    tokens = (i for sentence in sentences for i in (START, *[ids[word] for word in sentence.split()], END))
    return words, np.fromiter(tokens, np.int32, num_tokens)


def estimate(sentences: Sequence[str], order: int, prune_threshold: float = 0.0) -> NgramTables:
    """Estimate a model.

    Args:
        sentences: words with spaces between.
        order: from 1 to 6.
        prune_threshold: n-grams without which perplexity rises by less than this share are left out; 0 keeps all.

    Returns:
        The model with <unk>, to which the smoothing leaves a little.

    Raises:
        LanguageModelError: there are no words.
    """
    words, tokens = encode_sentences(sentences)
    if len(words) == len(SPECIAL_WORDS):
        raise LanguageModelError("the text holds no words; name another, or another alphabet")
    levels = _count(tokens, len(words), order)
    num_tokens = len(tokens)
    del tokens
    _smooth(levels)
    kept = [np.ones(len(level.keys), bool) for level in levels]
    if prune_threshold > 0 and order > 1:
        kept = _prune(levels, prune_threshold, num_tokens)
        _renormalize(levels, kept)
    return _join(words, levels, kept)


def _count(tokens: NDArray[np.int32], num_words: int, order: int) -> list[_Level]:
    places = np.arange(len(tokens))
    depth = places - np.maximum.accumulate(np.where(tokens == START, places, 0))
    ids = tokens.astype(np.int64)
    none = np.zeros(0)
    raw = np.bincount(tokens, minlength=num_words)
    levels = [_Level(np.arange(num_words), np.zeros(0, np.int64), raw, raw, none, none)]
    begins = np.arange(num_words) == START
    all_begins = [begins]
    for length in range(2, order + 1):
        valid = np.flatnonzero(depth >= length - 1)
        if not len(valid):
            raise LanguageModelError(
                f"no sentence of the text is long enough for an order of {order}; take a lower one"
            )
        keys, inverse = np.unique(ids[valid - 1] * 2**31 + tokens[valid], return_inverse=True)
        suffix = np.zeros(len(keys), np.int64)
        suffix[inverse] = ids[valid]
        raw = np.bincount(inverse, minlength=len(keys))
        levels.append(_Level(keys, suffix, raw, raw, none, none))
        all_begins.append(all_begins[-1][keys // 2**31])
        ids = np.full(len(tokens), -1, np.int64)
        ids[valid] = inverse
    for level, above, begins in zip(levels, levels[1:], all_begins, strict=False):
        follows = np.bincount(above.suffix, minlength=len(level.keys))
        level.counts = np.where(begins, level.raw, follows)
    levels[0].counts = np.where(all_begins[0], 0, levels[0].counts)
    return levels


def _find_discounts(counts: Ids) -> Reals:
    """What is taken from a count of 0, 1, 2, and 3 or more."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(float)
    if (n <= 0).any():
        return np.array([0, 0.5, 1.0, 1.5])
    scale = n[0] / (n[0] + 2 * n[1])
    discounts = np.array([0, *(k - (k + 1) * scale * n[k] / n[k - 1] for k in (1, 2, 3))])
    is_sound = ((discounts >= 0) & (discounts <= np.arange(4))).all()
    return discounts if is_sound else np.array([0, 0.5, 1.0, 1.5])


def _smooth(levels: list[_Level]) -> None:
    unigrams = levels[0]
    taken = _find_discounts(unigrams.counts)[np.minimum(unigrams.counts, 3)]
    total = unigrams.counts.sum()
    unigrams.probs = (unigrams.counts - taken) / total + taken.sum() / total / (len(taken) - 1)
    unigrams.probs[START] = 0
    for below, level in zip(levels, levels[1:], strict=False):
        taken = _find_discounts(level.counts)[np.minimum(level.counts, 3)]
        parent = level.parent
        sums = np.bincount(parent, level.counts, len(below.keys))
        safe = np.maximum(sums, 1)
        below.backoff = np.where(sums > 0, np.bincount(parent, taken, len(below.keys)) / safe, 1.0)
        level.probs = (level.counts - taken) / safe[parent] + below.backoff[parent] * below.probs[level.suffix]
    levels[-1].backoff = np.ones(len(levels[-1].keys))


def _prune(levels: list[_Level], threshold: float, num_tokens: int) -> list[NDArray[np.bool_]]:
    """Which n-grams stay: from the highest order down, those that matter or that others begin with.

    How often a context occurs is taken from the text itself: Kneser-Ney's lower orders are no frequencies, and pruning
    by their product does harm (Chelba et al., 2010).
    """
    kept = [np.ones(len(levels[0].keys), bool)]
    for below, level in zip(levels[-2::-1], levels[:0:-1], strict=True):
        parent, low = level.parent, below.probs[level.suffix]
        rest_low = np.maximum(1 - np.bincount(parent, low, len(below.keys)), TINY)
        rest = np.maximum(below.backoff * rest_low, TINY)
        new_backoff = (rest[parent] + level.probs) / (rest_low[parent] + low)
        loss = level.probs * (np.log(low) + np.log(new_backoff) - np.log(level.probs))
        loss += rest[parent] * (np.log(new_backoff) - np.log(rest / rest_low)[parent])
        matters = np.expm1(-loss * below.raw[parent] / num_tokens) >= threshold
        if len(kept) > 1:
            above = levels[len(levels) - len(kept) + 1]
            matters |= np.bincount(above.parent[kept[1]], minlength=len(matters)) > 0
        kept.insert(1, matters)
    return kept


def _renormalize(levels: list[_Level], kept: list[NDArray[np.bool_]]) -> None:
    """Backoffs that make all probabilities add up to one again, from the lowest order up."""
    actual = levels[0].probs
    for below, level, stays in zip(levels, levels[1:], kept[1:], strict=False):
        parent, low = level.parent, actual[level.suffix]
        size = len(below.keys)
        rest = np.maximum(1 - np.bincount(parent[stays], level.probs[stays], size), TINY)
        rest_low = np.maximum(1 - np.bincount(parent[stays], low[stays], size), TINY)
        below.backoff = np.where(np.bincount(parent[stays], minlength=size) > 0, rest / rest_low, 1.0)
        actual = np.where(stays, level.probs, below.backoff[parent] * low)


def _join(words: list[str], levels: list[_Level], kept: list[NDArray[np.bool_]]) -> NgramTables:
    keys, log10_probs, backoffs = [], [], []
    places = np.zeros(0, np.int64)
    for number, (level, stays) in enumerate(zip(levels, kept, strict=True)):
        key = level.keys[stays]
        keys.append(key if number == 0 else places[key // 2**31] * 2**31 + key % 2**31)
        places = np.cumsum(stays) - 1
        with np.errstate(divide="ignore"):
            log10_probs.append(np.maximum(np.log10(level.probs[stays]), NEVER_LOG10))
        backoffs.append(np.log10(np.maximum(level.backoff[stays], TINY)))
    while len(keys) > 1 and not len(keys[-1]):  # pruned away altogether
        keys.pop(), log10_probs.pop(), backoffs.pop()
    return join_levels(words, keys, log10_probs, backoffs)
