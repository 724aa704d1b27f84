"""The prior of the labels: how it is measured, and that both searches decode what is left when it is divided out."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.decoding.beam import BeamDecoder, BeamSettings
from mindaudio_ds2.decoding.label_prior import LabelPrior, PriorDivision, measure_prior
from mindaudio_ds2.decoding.tuning import search
from mindaudio_ds2.errors import ConfigError, LanguageModelError
from mindaudio_ds2.text.tokenizer import Tokenizer
from tests.decoding.beam_cases import EVERYTHING, enumerate_texts, make_log_probs, make_model, make_tokenizer

FIRST, LAST = make_tokenizer("AB "), make_tokenizer("AB ", "last")
PIECES = make_tokenizer("AB ", units=("▁", "▁A", "A", "B"))
LETTERS = make_tokenizer("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")
EXACT = BeamSettings(**EVERYTHING, weight=0.7, bonus=0.4, unknown=-1.5, prior_weight=0.6)  # type: ignore[arg-type]


def make_prior(tokenizer: Tokenizer, seed: int = 0) -> LabelPrior:
    shares = np.random.default_rng(seed).dirichlet(np.full(tokenizer.size, 0.7))
    return LabelPrior(tokenizer.symbols, tuple(np.log(shares).tolist()))


def divide(log_probs: np.ndarray, prior: LabelPrior, weight: float) -> np.ndarray:
    """By the definition, in float64."""
    left = np.exp(log_probs.astype(np.float64)) / np.exp(prior.log_probs) ** weight
    found: np.ndarray = np.log(left / left.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def test_a_prior_is_the_mean_posterior_and_that_of_one_frame_at_least() -> None:
    rows = np.array([[0.5, 0.5, 0, 0], [1, 0, 0, 0], [0.25, 0.75, 0, 0]])
    with np.errstate(divide="ignore"):
        log_probs = np.log(rows).astype(np.float32)
    prior = measure_prior([log_probs[:2], log_probs[2:], log_probs[:0]], FIRST)
    assert prior.labels == ("", "A", "B", " ")
    assert np.exp(prior.log_probs) == pytest.approx([1.75 / 5, 1.25 / 5, 1 / 5, 1 / 5])  # 3 frames, and 2 given


def test_a_label_never_heard_in_many_frames_is_once_in_as_many() -> None:
    log_probs = np.full((9997, 4), -np.inf, np.float32)
    log_probs[:, 0] = 0.0
    assert np.exp(measure_prior([log_probs], FIRST).log_probs[1:]) == pytest.approx(1e-4)
    assert measure_prior([log_probs[:0]], FIRST).log_probs == pytest.approx([math.log(0.25)] * 4)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_each_frame_is_divided_and_sums_to_one_again(weight: float) -> None:
    log_probs, prior = make_log_probs(1, 50, LETTERS.size, 6.0), make_prior(LETTERS)
    before = log_probs.copy()
    found = PriorDivision(LETTERS, prior, weight).apply(log_probs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, divide(log_probs, prior, weight), atol=1e-5)
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(log_probs, before)


def test_what_is_impossible_stays_so() -> None:
    log_probs = make_log_probs(1, 3, 4)
    log_probs[0, 2], log_probs[1] = -np.inf, -np.inf
    found = PriorDivision(FIRST, make_prior(FIRST), 0.5).apply(log_probs)
    assert np.isneginf(found).tolist() == np.isneginf(log_probs).tolist()
    assert not np.isnan(found).any()


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "python"])
@pytest.mark.parametrize("tokenizer", [FIRST, LAST, PIECES], ids=["first", "last", "pieces"])
def test_scores_equal_the_sum_over_all_paths_of_what_is_left(
    is_native: bool, tokenizer: Tokenizer, kernels: Path, tmp_path: Path
) -> None:
    model, log_probs, prior = make_model(tmp_path), make_log_probs(2, 5, tokenizer.size), make_prior(tokenizer)
    expected = enumerate_texts(divide(log_probs, prior, 0.6), tokenizer, EXACT, model)
    decoder = BeamDecoder(tokenizer, 0.02, EXACT, kernels if is_native else None, model=model, label_prior=prior)
    assert {h.text: h.score for h in decoder.decode(log_probs)} == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "python"])
def test_a_weight_of_nothing_changes_no_bit(is_native: bool, kernels: Path) -> None:
    library, settings = kernels if is_native else None, BeamSettings(beam_width=20, num_best=5)
    log_probs = make_log_probs(3, 40, 4, 2.0)
    with_prior = BeamDecoder(FIRST, 0.02, settings, library, label_prior=make_prior(FIRST))
    assert with_prior.decode(log_probs) == BeamDecoder(FIRST, 0.02, settings, library).decode(log_probs)
    weighed = dataclasses.replace(settings, prior_weight=0.5)
    divided = BeamDecoder(FIRST, 0.02, weighed, library, label_prior=make_prior(FIRST)).decode(log_probs)
    assert [h.score for h in divided] != [h.score for h in with_prior.decode(log_probs)]


@pytest.mark.parametrize("tokenizer", [FIRST, LETTERS], ids=["4 labels", "29 labels"])
@pytest.mark.parametrize("size", [1, 3, 17])
def test_any_cut_into_chunks_gives_the_same(size: int, tokenizer: Tokenizer, kernels: Path) -> None:
    settings = BeamSettings(beam_width=30, num_best=10, prior_weight=0.6)
    decoder = BeamDecoder(tokenizer, 0.02, settings, kernels, label_prior=make_prior(tokenizer))
    log_probs = make_log_probs(size, 120, tokenizer.size, 2.5)
    stream = decoder.start()
    for first in range(0, len(log_probs), size):
        stream.feed(log_probs[first : first + size])
    stream.feed(log_probs[:0])
    assert stream.finish() == decoder.decode(log_probs)
    batch = decoder.decode_batch(np.stack([log_probs] * 2), np.array([120, 50], np.int32), num_threads=2)
    assert batch == [decoder.decode(log_probs), decoder.decode(log_probs[:50])]


def test_a_weight_asks_for_a_prior_of_the_same_labels_in_the_same_order() -> None:
    settings = BeamSettings(prior_weight=0.6)
    with pytest.raises(LanguageModelError, match=r"prior weight 0\.6 .* there is none; mindaudio-ds2 tune measures it"):
        BeamDecoder(FIRST, 0.02, settings, None)
    for other, told in ((LETTERS, "it has 29, the network 4"), (LAST, "label 1 is 'A', the network's ''")):
        with pytest.raises(LanguageModelError, match=rf"other labels.*\({told}\).* tune"):
            BeamDecoder(FIRST, 0.02, settings, None, label_prior=make_prior(other))
        BeamDecoder(FIRST, 0.02, BeamSettings(), None, label_prior=make_prior(other))  # which counts for nothing


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, 20.0])
def test_impossible_weights_are_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match="prior weight .* from 0 to"):
        BeamSettings(prior_weight=weight)


@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        ((-0.1, math.nan), "'A' is nan"),
        ((-math.inf, 0.0), "'' is -inf"),
        ((-0.7, 0.1), "from -100 to 0"),
        ((-0.7, True), "'A' is True"),
        ((-0.7, "x"), "'A' is 'x'"),
        ((-0.7, -0.6), "sums to 1.05"),
    ],
)
def test_what_is_no_prior_is_refused(log_probs: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelPrior(("", "A"), log_probs)


def test_tuning_divides_by_the_prior_where_the_network_prefers_a_frequent_label(kernels: Path) -> None:
    """A network that multiplies what it hears with how frequent A was in training writes it for faint B and C, too."""
    tokenizer, rng = make_tokenizer("ABC "), np.random.default_rng(0)
    frequency = np.log([0.5, 0.4, 0.01, 0.04, 0.05])
    references = [" ".join(rng.choice(["A", "B", "C"], 8, p=[0.8, 0.08, 0.12])) for _ in range(12)]
    log_probs = []
    for reference in references:
        heard = np.full((4 * len(reference), tokenizer.size), 0.0)
        for place, label in enumerate(tokenizer.encode(reference)):
            heard[4 * place, label] = 2.6
            heard[4 * place + 1 : 4 * place + 4, tokenizer.blank_id] = 4.0
        logits = heard + frequency
        log_probs.append((logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32))
    prior = measure_prior(log_probs, tokenizer)

    def open_decoder(settings: BeamSettings) -> BeamDecoder:
        return BeamDecoder(tokenizer, 0.02, settings, kernels, label_prior=prior)

    trials = search(log_probs, references, BeamSettings(beam_width=10), open_decoder, lambda trial: None)
    plain = dataclasses.replace(trials[0].settings, prior_weight=0.0)
    assert plain in [trial.settings for trial in trials]
    without = min(trial.word_errors for trial in trials if trial.settings.prior_weight == 0)
    assert trials[0].settings.prior_weight > 0
    assert trials[0].word_errors < without / 2
