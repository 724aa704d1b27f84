"""Drawn splits against all splits that there are, and against sentencepiece's own sampling."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.text.sampling import SplitSampler, split_into_characters
from mindaudio_ds2.text.units import list_units, train_units

UNITS = ("▁", "A", "B", "AB", "▁A", "BA", "▁AB", "ABA")
SCORES = (-2.0, -2.5, -3.0, -3.2, -2.8, -4.0, -3.9, -5.0)
NUM_DRAWS = 4000


def list_splits(word: str) -> list[list[str]]:
    if not word:
        return [[]]
    heads = (word[:end] for end in range(1, len(word) + 1) if word[:end] in UNITS)
    return [[head, *rest] for head in heads for rest in list_splits(word[len(head) :])]


@pytest.mark.parametrize("smoothness", [0.05, 0.5, 1.0])
def test_each_split_comes_as_often_as_its_probability_to_the_power_says(smoothness: float) -> None:
    splits = list_splits("▁ABABA")
    assert len(splits) > 15
    score = dict(zip(UNITS, SCORES, strict=True))
    weights = [math.exp(smoothness * sum(score[unit] for unit in split)) for split in splits]
    sampler, generator = SplitSampler(UNITS, SCORES, smoothness), np.random.default_rng(1)
    counts = Counter(tuple(sampler.split("ABABA", generator)) for _ in range(NUM_DRAWS))
    assert set(counts) <= {tuple(split) for split in splits}
    for split, weight in zip(splits, weights, strict=True):
        share = weight / sum(weights)
        assert counts[tuple(split)] / NUM_DRAWS == pytest.approx(share, abs=5 * math.sqrt(share / NUM_DRAWS) + 1e-3)


@given(text=st.text("AB ", max_size=40), seed=st.integers(0, 2**32))
def test_whatever_is_drawn_spells_the_text(text: str, seed: int) -> None:
    text = " ".join(text.split())
    units = SplitSampler(UNITS, SCORES, 0.3).split(text, np.random.default_rng(seed))
    assert "".join(units).replace("▁", " ").strip() == text
    assert len(units) <= len(split_into_characters(text))


def test_words_that_came_before_change_no_draw() -> None:
    fresh, used = SplitSampler(UNITS, SCORES, 0.3), SplitSampler(UNITS, SCORES, 0.3)
    for seed in range(20):
        used.split("AB BABA A", np.random.default_rng(seed))
    for seed in range(20):
        drawn = [sampler.split("ABAB BA", np.random.default_rng(seed)) for sampler in (fresh, used)]
        assert drawn[0] == drawn[1]


def test_unlikely_units_of_a_long_word_do_not_underflow() -> None:
    scores = [score * 200 for score in SCORES]
    word = "AB" * 50
    assert "".join(SplitSampler(UNITS, scores, 1.0).split(word, np.random.default_rng(1))) == "▁" + word


def test_sentencepiece_draws_as_often() -> None:
    sentencepiece = pytest.importorskip(
        "sentencepiece", reason="no sentencepiece: pip install 'mindaudio_ds2[tokenizer]'"
    )
    lines = ["BAD DAB CAB ABC CABABA", "BADCAB DABBAD AB CAB", "ABBA CABDAB BAD DAD"] * 30
    model = train_units(lines, "ABCD ", 12)
    theirs: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
    sampler, generator = SplitSampler(*list_units(model), 0.4), np.random.default_rng(1)
    ours = Counter(tuple(sampler.split("CABABBA", generator)) for _ in range(NUM_DRAWS))
    found = Counter(
        tuple(theirs.encode("CABABBA", out_type=str, enable_sampling=True, alpha=0.4, nbest_size=-1))
        for _ in range(NUM_DRAWS)
    )
    assert len(found) >= 3
    for split in {*ours, *found}:
        share = (ours[split] + found[split]) / (2 * NUM_DRAWS)
        assert (ours[split] - found[split]) / NUM_DRAWS == pytest.approx(0, abs=5 * math.sqrt(2 * share / NUM_DRAWS))
