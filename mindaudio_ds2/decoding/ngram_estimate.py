"""N-gram models from text: interpolated modified Kneser-Ney (Chen and Goodman, 1998).

They are pruned by entropy (Stolcke, 1998). All of it is sorting and adding of whole arrays in NumPy: 20 million words
take one to two minutes and less than 3 GB. kaldingram took 12 minutes and 5.3 GB for them.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.arpa import join_levels
from mindaudio_ds2.decoding.language_model import SPECIAL_WORDS, NgramTables
from mindaudio_ds2.errors import LanguageModelError

Ids = NDArray[np.int64]
Counts = NDArray[np.int32]
"""Also places: no order has 2^31 n-grams, for the files have 32 bits for those of all orders."""

Reals = NDArray[np.float64]

UNKNOWN, START, END = range(3)
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
    suffix: Counts
    raw: Counts
    counts: Counts
    probs: Reals
    backoff: Reals

    @property
    def parent(self) -> Ids:
        return self.keys >> 31


@dataclass(frozen=True)
class Tokens:
    """A text in numbers.

    Attributes:
        words: the vocabulary, the special words first.
        ids: `(T,)` each word's place in it; sentences go from `START` to `END`, and a word that was cut is `UNKNOWN`.
    """

    words: list[str]
    ids: NDArray[np.int32]

    @property
    def cut_share(self) -> float:
        """The share of the text's words that are not in the vocabulary."""
        num_words = np.count_nonzero((self.ids != START) & (self.ids != END))
        return float(np.count_nonzero(self.ids == UNKNOWN) / max(num_words, 1))


class _Numbers(dict[str, int]):
    """Numbers for words in the order in which they are asked for."""

    def __missing__(self, word: str) -> int:
        self[word] = len(self)
        return self[word]


def encode_sentences(sentences: Iterable[str], num_words: int | None = None) -> Tokens:
    """Number the words of a text.

    Args:
        sentences: words with spaces between; each is asked for once.
        num_words: so many words, the most frequent ones, are the vocabulary; of equally frequent ones, those whose
            UTF-8 comes first. None: all.
    """
    numbers = _Numbers(zip(SPECIAL_WORDS, range(len(SPECIAL_WORDS)), strict=True))
    text = array("i")
    for sentence in sentences:
        text.append(START)
        text.extend(map(numbers.__getitem__, sentence.split()))
        text.append(END)
    found = np.frombuffer(text, np.int32) if text else np.zeros(0, np.int32)
    counts = np.bincount(found, minlength=len(numbers)).tolist()
    words = list(numbers)[len(SPECIAL_WORDS) :]
    words.sort(key=str.encode)
    words = sorted(words, key=lambda word: -counts[numbers[word]])[:num_words]
    words = [*SPECIAL_WORDS, *sorted(words, key=str.encode)]
    places = np.full(len(numbers), UNKNOWN, np.int32)
    places[[numbers[word] for word in words]] = np.arange(len(words))
    return Tokens(words, places[found])


def estimate(sentences: Iterable[str], order: int, prune_threshold: float = 0.0) -> NgramTables:
    """`estimate_tokens` of sentences, with all of their words."""
    return estimate_tokens(encode_sentences(sentences), order, prune_threshold)


def estimate_tokens(tokens: Tokens, order: int, prune_threshold: float = 0.0) -> NgramTables:
    """Estimate a model. No n-gram reaches over a word that was cut; what comes after it begins anew.

    Args:
        tokens: the text.
        order: from 1 to 6.
        prune_threshold: n-grams without which perplexity rises by less than this share are left out; 0 keeps all.

    Returns:
        The model with <unk>, to which the smoothing leaves a little.

    Raises:
        LanguageModelError: there are no words.
    """
    if len(tokens.words) == len(SPECIAL_WORDS):
        raise LanguageModelError("the text holds no words; name another, or another alphabet")
    levels = _count(tokens.ids, len(tokens.words), order)
    _smooth(levels)
    kept = [np.ones(len(level.keys), bool) for level in levels]
    if prune_threshold > 0 and order > 1:
        kept = _prune(levels, prune_threshold, len(tokens.ids))
        _renormalize(levels, kept)
    return _join(tokens.words, levels, kept)


def _count(tokens: NDArray[np.int32], num_words: int, order: int) -> list[_Level]:
    none = np.zeros(0)
    raw = np.bincount(tokens, minlength=num_words).astype(np.int32)
    raw[UNKNOWN] = 0
    levels = [_Level(np.arange(num_words), np.zeros(num_words, np.int32), raw, raw, none, none)]
    ids = tokens  # of the n-gram that ends at each place
    ends = tokens != UNKNOWN  # where an n-gram ends
    goes_on = ends & (tokens != START)
    for length in range(2, order + 1):
        ends = np.concatenate([[False], ends[:-1]]) & goes_on
        keys = ids[:-1][ends[1:]].astype(np.int64)
        if not len(keys):
            raise LanguageModelError(
                f"no sentence of the text is long enough for an order of {order}; take a lower one"
            )
        keys <<= 31
        keys |= tokens[ends]
        if length < order:
            keys, raw, inverse = _number(keys)
            ids = np.full(len(tokens), -1, np.int32)
            ids[ends] = inverse
            del inverse
        else:
            keys.sort()
            is_new = _find_new(keys)
            keys, raw = keys[is_new], _measure(is_new)
        levels.append(_Level(keys, _find_suffixes(levels[-1], keys), raw, raw, none, none))
    begins = np.arange(num_words) == START
    for level, above in zip(levels, levels[1:], strict=False):
        follows = np.bincount(above.suffix, minlength=len(level.keys))
        level.counts = np.where(begins, level.raw, follows).astype(np.int32)
        begins = begins[above.parent]
    levels[0].counts[START] = 0
    return levels


def _number(keys: Ids) -> tuple[Ids, Counts, Counts]:
    """The different keys, ascending, how often each stands in `keys`, and the place of each key among them."""
    order = np.argsort(keys)
    keys = keys[order]
    is_new = _find_new(keys)
    inverse = np.empty(len(keys), np.int32)
    inverse[order] = np.cumsum(is_new, dtype=np.int32) - 1
    return keys[is_new], _measure(is_new), inverse


def _find_new(keys: Ids) -> NDArray[np.bool_]:
    return np.concatenate([[True], keys[1:] != keys[:-1]])


def _measure(is_new: NDArray[np.bool_]) -> Counts:
    return np.diff(np.flatnonzero(is_new), append=len(is_new)).astype(np.int32)


def _find_suffixes(below: _Level, keys: Ids) -> Counts:
    """The places, in the order below, of n-grams without their first words; they all stand there."""
    wanted = below.suffix[keys >> 31].astype(np.int64)
    wanted <<= 31
    wanted |= keys & (2**31 - 1)
    return np.asarray(np.searchsorted(below.keys, wanted), np.int32)


def _find_discounts(counts: Counts) -> Reals:
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
