"""Greedy decoding against paths written by hand and against a collapse written in one line."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.decoding.greedy import GreedyDecoder, decode_greedy
from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer

CHARACTERS = "ABC' "
FIRST = Tokenizer(TextConfig(CHARACTERS, "first", "upper", "error"))
UNITS = Tokenizer(TextConfig("AB ", "first", "upper", "error", None, ["▁", "▁A", "A", "B", "▁BA"], [-1.0] * 5))
LAST = Tokenizer(TextConfig(CHARACTERS, "last", "upper", "error"))


def make_log_probs(path: str, tokenizer: Tokenizer = FIRST, best: float = 0.75) -> NDArray[np.float32]:
    """(S, V) whose best path spells `path`; `_` is the blank."""
    shares = np.full((len(path), tokenizer.size), (1 - best) / (tokenizer.size - 1))
    for frame, character in enumerate(path):
        label = tokenizer.blank_id if character == "_" else tokenizer.characters.index(character)
        label += character != "_" and tokenizer.blank_id == 0
        shares[frame, label] = best
    log_probs: NDArray[np.float32] = np.log(shares).astype(np.float32)
    return log_probs


def decode(path: str, tokenizer: Tokenizer = FIRST, seconds_per_frame: float = 0.5) -> Hypothesis:
    log_probs = make_log_probs(path, tokenizer)
    return decode_greedy(log_probs[None], np.array([len(path)], np.int32), tokenizer, seconds_per_frame)[0]


@pytest.mark.parametrize("tokenizer", [FIRST, LAST], ids=["blank first", "blank last"])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ABC", "ABC"),
        ("AABBB", "AB"),
        ("A_A", "AA"),
        ("__A__A_AB_", "AAAB"),
        ("C_'_A", "C'A"),
        ("A B", "A B"),
        ("_A__ _ __B", "A B"),
        (" A_ _", "A"),
        ("____", ""),
        (" _ ", ""),
        ("", ""),
    ],
)
def test_repeats_collapse_and_blanks_drop(path: str, text: str, tokenizer: Tokenizer) -> None:
    assert decode(path, tokenizer).text == text


@pytest.mark.parametrize("tokenizer", [FIRST, LAST, UNITS], ids=["blank first", "blank last", "units"])
def test_random_batches_equal_a_plain_collapse(tokenizer: Tokenizer) -> None:
    generator = np.random.default_rng(0)
    log_probs = np.log(generator.dirichlet(np.ones(tokenizer.size), size=(20, 50))).astype(np.float32)
    lengths = generator.integers(0, 51, 20).astype(np.int32)
    hypotheses = decode_greedy(log_probs, lengths, tokenizer, 0.02)
    assert len(hypotheses) == 20
    for utterance, length, hypothesis in zip(log_probs, lengths, hypotheses, strict=True):
        path = [int(frame.argmax()) for frame in utterance[:length]]
        collapsed = [label for label, _ in itertools.groupby(path) if label != tokenizer.blank_id]
        assert hypothesis.text == " ".join(tokenizer.decode(collapsed).split())
        assert hypothesis.score == pytest.approx(sum(float(frame.max()) for frame in utterance[:length]), abs=1e-4)


def test_frames_beyond_a_length_are_never_read() -> None:
    log_probs = np.full((2, 6, FIRST.size), np.nan, dtype=np.float32)
    log_probs[0, :3] = make_log_probs("AB_")
    log_probs[1, :5] = make_log_probs("C_C A")
    short, long = decode_greedy(log_probs, np.array([3, 5], np.int32), FIRST, 0.5)
    assert (short.text, long.text) == ("AB", "CC A")
    assert np.isfinite([short.score, long.score]).all()
    assert short == decode("AB_")


def test_the_score_is_the_sum_of_the_best_log_probabilities() -> None:
    assert decode("A_B").score == pytest.approx(3 * np.log(0.75), rel=1e-6)
    assert decode("").score == 0.0


def test_words_carry_the_times_of_their_characters() -> None:
    #      frames: 0123456789
    hypothesis = decode("_AAB_ _CC_", seconds_per_frame=0.5)
    found = [(word.text, word.start_seconds, word.end_seconds) for word in hypothesis.words]
    assert found == [("AB", 0.5, 2.0), ("C", 3.5, 4.5)]
    assert [word.confidence for word in hypothesis.words] == pytest.approx([0.75, 0.75])
    assert hypothesis.text == "AB C"


def test_words_are_the_text_and_follow_each_other_in_time() -> None:
    generator = np.random.default_rng(1)
    log_probs = generator.standard_normal((1, 400, FIRST.size)).astype(np.float32)
    hypothesis = decode_greedy(log_probs, np.array([400], np.int32), FIRST, 0.02)[0]
    assert " ".join(word.text for word in hypothesis.words) == hypothesis.text
    times = [time for word in hypothesis.words for time in (word.start_seconds, word.end_seconds)]
    assert times == sorted(times)
    assert times[-1] <= 400 * 0.02


def test_units_begin_words_and_words_have_the_times_of_their_units() -> None:
    path = [UNITS.symbols.index(symbol) for symbol in ("▁BA", "▁BA", "B", "", "B", "▁", "A", "▁A", "▁A", "", "▁A")]
    log_probs = np.log(np.full((len(path), UNITS.size), 0.02, np.float32))
    log_probs[np.arange(len(path)), path] = np.log(0.9)
    (found,) = GreedyDecoder(UNITS, 0.5).decode(log_probs)
    assert found.text == "BABB A A A"
    times = [(word.start_seconds, word.end_seconds) for word in found.words]
    assert times == [(0.0, 2.5), (3.0, 3.5), (3.5, 4.5), (5.0, 5.5)]


def test_an_alphabet_without_space_gives_one_word() -> None:
    tokenizer = Tokenizer(TextConfig("AB", "first", "upper", "error"))
    log_probs = np.log(np.eye(3, dtype=np.float32)[[1, 0, 2, 2]] + 1e-9)
    hypothesis = decode_greedy(log_probs[None], np.array([4], np.int32), tokenizer, 0.1)[0]
    assert [word.text for word in hypothesis.words] == ["AB"]


def test_read_only_arrays_are_accepted() -> None:
    log_probs = make_log_probs("AB")[None]
    log_probs.setflags(write=False)
    assert decode_greedy(log_probs, np.array([2], np.int32), FIRST, 0.1)[0].text == "AB"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("tokenizer", [FIRST, UNITS], ids=["characters", "units"])
def test_any_cut_gives_the_same_and_words_can_be_taken_as_they_end(tokenizer: Tokenizer, seed: int) -> None:
    generator = np.random.default_rng(seed)
    log_probs = np.log(generator.dirichlet(np.ones(tokenizer.size) / 4, size=200)).astype(np.float32)
    decoder = GreedyDecoder(tokenizer, 0.02)
    whole = decoder.decode(log_probs)[0]
    patient, taker = decoder.start(), decoder.start()
    taken: list[Word] = []
    for chunk in np.split(log_probs, np.sort(generator.integers(0, 201, 30))):
        patient.feed(chunk)
        taker.feed(chunk)
        taken += taker.take()
        assert patient.read()[0].words[: len(taken)] == tuple(taken)
    rest = taker.finish()[0]
    assert (*taken, *rest.words) == whole.words == patient.finish()[0].words
    assert rest.score == pytest.approx(whole.score)
