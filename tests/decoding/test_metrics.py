"""Error counts against cases done by hand, against a plain Levenshtein distance, and against jiwer's own totals."""

import math
from collections.abc import Sequence

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindaudio_ds2.decoding.metrics import (
    NORMALIZATIONS,
    AlignedWord,
    ErrorCounts,
    Normalizer,
    align_words,
    count_errors,
)
from mindaudio_ds2.errors import ConfigError

TEXTS = st.text("AB' ", max_size=14)


def count_edits(left: Sequence[str], right: Sequence[str]) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def make_texts(num_texts: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    words = ["YES", "NO", "DON'T", "STOP", "A", "GO"]
    return [" ".join(generator.choice(words, generator.integers(1, 9))) for _ in range(num_texts)]


def test_substitution_deletion_and_insertion_are_told_apart() -> None:
    assert count_errors("A B C D", "A X C D") == ErrorCounts(1, 4, 1, 0, 0, 7, 1)
    assert count_errors("A B C D", "A C D") == ErrorCounts(1, 4, 0, 1, 0, 7, 2)
    assert count_errors("A B C D", "A B C C D") == ErrorCounts(1, 4, 0, 0, 1, 7, 2)


def test_a_right_hypothesis_has_no_errors() -> None:
    counts = count_errors("DON'T STOP", "DON'T STOP")
    assert counts == ErrorCounts(1, 2, 0, 0, 0, 10, 0)
    assert (counts.wer, counts.cer) == (0.0, 0.0)


def test_a_missing_apostrophe_is_an_error() -> None:
    counts = count_errors("DON'T STOP", "DONT STOP")
    assert (counts.word_errors, counts.character_errors) == (1, 1)
    assert (counts.wer, counts.cer) == (1 / 2, 1 / 10)


def test_spaces_count_as_characters() -> None:
    counts = count_errors("AB CD", "ABCD")
    assert (counts.num_characters, counts.character_errors) == (5, 1)


def test_an_empty_hypothesis_deletes_everything() -> None:
    counts = count_errors("ONE TWO", "")
    assert counts == ErrorCounts(1, 2, 0, 2, 0, 7, 7)
    assert (counts.wer, counts.cer) == (1.0, 1.0)


def test_an_empty_reference_makes_every_word_an_insertion() -> None:
    counts = count_errors(" ", "ONE TWO")
    assert counts == ErrorCounts(1, 0, 0, 0, 2, 0, 7)
    assert math.isnan(counts.wer)
    assert math.isnan(counts.cer)


def test_nothing_against_nothing_has_no_errors_and_no_rate() -> None:
    assert count_errors("", "") == ErrorCounts(1)
    assert math.isnan(ErrorCounts().wer)


def test_errors_against_an_empty_reference_count_in_the_corpus() -> None:
    total = count_errors("", "UH") + count_errors("YES NO", "YES NO")
    assert (total.wer, total.num_utterances) == (1 / 2, 2)


def test_rates_can_exceed_1() -> None:
    assert count_errors("A", "B C D").wer == 3.0


def test_white_space_at_the_ends_and_in_runs_is_no_error() -> None:
    assert count_errors("  ONE \t TWO\n", "ONE TWO ") == ErrorCounts(1, 2, 0, 0, 0, 7, 0)


@given(reference=TEXTS, hypothesis=TEXTS)
@settings(max_examples=300, deadline=None)
def test_counts_are_the_least_number_of_edits(reference: str, hypothesis: str) -> None:
    counts = count_errors(reference, hypothesis)
    assert counts.word_errors == count_edits(reference.split(), hypothesis.split())
    assert counts.character_errors == count_edits(" ".join(reference.split()), " ".join(hypothesis.split()))
    assert counts.num_words == len(reference.split())
    assert counts.num_words - counts.deletions + counts.insertions == len(hypothesis.split())


def test_corpus_rates_equal_jiwer() -> None:
    references, hypotheses = make_texts(200, seed=1), make_texts(200, seed=2)
    total = sum(map(count_errors, references, hypotheses), ErrorCounts())
    words, characters = jiwer.process_words(references, hypotheses), jiwer.process_characters(references, hypotheses)
    assert (total.substitutions, total.deletions, total.insertions) == (
        words.substitutions,
        words.deletions,
        words.insertions,
    )
    assert total.wer == words.wer
    assert total.cer == characters.cer


def test_corpus_rate_is_not_the_mean_of_utterance_rates() -> None:
    short, long = count_errors("A", "B"), count_errors("A B C D E F G H I", "A B C D E F G H I")
    assert (short + long).wer == 1 / 10
    assert (short.wer + long.wer) / 2 == 1 / 2


@pytest.mark.parametrize("num_shards", [1, 2, 3, 7, 40])
def test_counts_of_shards_add_up_to_the_whole(num_shards: int) -> None:
    pairs = list(zip(make_texts(40, seed=3), make_texts(40, seed=4), strict=True))
    whole = sum((count_errors(*pair) for pair in pairs), ErrorCounts())
    shards = [
        sum((count_errors(*pair) for pair in pairs[rank::num_shards]), ErrorCounts()) for rank in range(num_shards)
    ]
    assert sum(shards, ErrorCounts()) == whole
    assert whole.num_utterances == 40


def test_an_alignment_shows_each_edit_in_its_place() -> None:
    assert align_words("ONE TWO THREE", "ONE TOO THREE FOUR") == [
        AlignedWord("ONE", "ONE"),
        AlignedWord("TWO", "TOO"),
        AlignedWord("THREE", "THREE"),
        AlignedWord(None, "FOUR"),
    ]
    assert align_words("YES", "") == [AlignedWord("YES", None)]
    assert align_words("", "YES") == [AlignedWord(None, "YES")]


@given(reference=TEXTS, hypothesis=TEXTS)
@settings(max_examples=200, deadline=None)
def test_an_alignment_holds_both_texts_and_the_counted_errors(reference: str, hypothesis: str) -> None:
    aligned = align_words(reference, hypothesis)
    assert [place.reference for place in aligned if place.reference is not None] == reference.split()
    assert [place.hypothesis for place in aligned if place.hypothesis is not None] == hypothesis.split()
    num_edits = sum(place.reference != place.hypothesis for place in aligned)
    assert num_edits == count_errors(reference, hypothesis).word_errors


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], "\u201cDon\u2019t!\u201d  he\u200b said: 7.5"),
        (["case"], "\u201cdon\u2019t!\u201d he\u200b said: 7.5"),
        (["quotes"], '"Don\'t!" he\u200b said: 7.5'),
        (["zero_width"], "\u201cDon\u2019t!\u201d he said: 7.5"),
        (["punctuation"], "Dont he\u200b said 75"),
        (["all"], "dont he said 75"),
    ],
)
def test_what_is_no_error_is_taken_away_by_name(kinds: list[str], expected: str) -> None:
    assert Normalizer.of(kinds)("\u201cDon\u2019t!\u201d  he\u200b said: 7.5") == expected


def test_unknown_normalizations_are_refused_and_the_order_does_not_matter() -> None:
    assert Normalizer.of(["case", "quotes"]) == Normalizer.of(["quotes", "case", "case"])
    assert Normalizer.of(["all"]).kinds == tuple(NORMALIZATIONS)
    with pytest.raises(ConfigError, match="numbers is unknown; choose of quotes, zero_width, case, punctuation, all"):
        Normalizer.of(["case", "numbers"])
