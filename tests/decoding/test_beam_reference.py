"""The beam search in Python: against enumeration of all paths, and the C++ against it with every limit on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.decoding.beam import BeamDecoder, BeamSettings
from mindaudio_ds2.decoding.hotwords import Hotword
from mindaudio_ds2.decoding.hypothesis import Hypothesis
from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.decoding.ngram_estimate import estimate
from mindaudio_ds2.text.tokenizer import Tokenizer
from tests.decoding.beam_cases import EVERYTHING, enumerate_texts, make_log_probs, make_model, make_tokenizer, store

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ' "
PIECES = make_tokenizer("AB ", units=("▁", "▁A", "A", "B"))
WORDS = make_tokenizer(LETTERS, units=("▁", *LETTERS[:-1], "▁TH", "▁A", "AT", "▁DO", "▁SAT", "ON"))
UNITS = [make_tokenizer("AB "), make_tokenizer("AB ", "last"), PIECES]
SENTENCES = ["THE CAT SAT ON THE MAT", "THE DOG ATE THE CAT", "A DOG SAT", "ON A MAT THE CAT ATE"] * 3
HOTWORDS = [Hotword("KAT", 4.0), Hotword("THE DOG", 3.0), Hotword("AT", -2.0)]
LIMITED = BeamSettings(beam_width=12, num_best=5, token_threshold=-6.0, beam_threshold=9.0, weight=0.8, unknown=-4.0)


def make_speech(seed: int, tokenizer: Tokenizer, sentence: str) -> np.ndarray:
    """Log-probabilities of a network that says a sentence, in doubt."""
    rng = np.random.default_rng(seed)
    labels = tokenizer.encode(sentence)
    logits = rng.normal(0, 1.0, (3 * len(labels), tokenizer.size))
    for place, label in enumerate(labels):
        logits[3 * place, label] += 4
        logits[3 * place + 1 : 3 * place + 3, tokenizer.blank_id] += 3
    found: np.ndarray = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    return found


def assert_same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    assert [h.text for h in found] == [h.text for h in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-9)
        for word, same in zip(one.words, other.words, strict=True):
            assert (word.start_seconds, word.end_seconds) == (same.start_seconds, same.end_seconds)
            assert word.confidence == pytest.approx(same.confidence, abs=1e-9)


@pytest.mark.parametrize(
    "tokenizer", [make_tokenizer("AB "), make_tokenizer("AB ", "last"), PIECES], ids=["first", "last", "pieces"]
)
@pytest.mark.parametrize("hotwords", [{}, {"B": 1.5, "A B": 2.0, "BB": 0.7}], ids=["plain", "hotwords"])
def test_scores_without_a_compiler_equal_the_sum_over_all_paths(
    tokenizer: Tokenizer, hotwords: dict[str, float], tmp_path: Path
) -> None:
    settings = BeamSettings(**EVERYTHING, weight=0.7, bonus=0.4, unknown=-1.5)  # type: ignore[arg-type]
    model, log_probs = make_model(tmp_path), make_log_probs(1, 5, tokenizer.size)
    expected = enumerate_texts(log_probs, tokenizer, settings, model, hotwords)
    found = BeamDecoder(
        tokenizer, 0.02, settings, None, model=model, hotwords=[Hotword(*pair) for pair in hotwords.items()]
    ).decode(log_probs)
    assert {h.text: h.score for h in found} == pytest.approx(expected, abs=2e-5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return store(tmp_path_factory.mktemp("lm") / "sentences.lm", estimate(SENTENCES, 3, 0.0))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tokenizer", [make_tokenizer(LETTERS), WORDS], ids=["characters", "units"])
def test_the_native_search_finds_what_python_finds(
    seed: int, tokenizer: Tokenizer, kernels: Path, model: LanguageModel
) -> None:
    log_probs = make_speech(seed, tokenizer, SENTENCES[seed % 4])
    native, python = (
        BeamDecoder(tokenizer, 0.02, LIMITED, library, model=model if seed % 3 else None, hotwords=HOTWORDS)
        for library in (kernels, None)
    )
    assert_same(native.decode(log_probs), python.decode(log_probs))


def test_a_character_model_counts_the_same_in_both(kernels: Path, tmp_path: Path) -> None:
    arpa = (
        "\\data\\\nngram 1=6\nngram 2=2\n\n\\1-grams:\n-3 <unk>\n-99 <s> -0.2\n-1 </s>\n-0.7 A -0.3\n-0.9 B\n"
        "-0.6 <space>\n\n\\2-grams:\n-0.1 A B\n-0.4 <s> A\n\n\\end\\\n"
    )
    letters, log_probs = make_model(tmp_path, arpa, scores_labels=True), make_log_probs(5, 12, 4)
    native, python = (
        BeamDecoder(make_tokenizer("AB "), 0.02, LIMITED, library, model=letters) for library in (kernels, None)
    )
    assert_same(native.decode(log_probs), python.decode(log_probs))


def test_chunks_give_what_the_whole_gives_in_python(model: LanguageModel) -> None:
    tokenizer = make_tokenizer(LETTERS)
    log_probs = make_speech(9, tokenizer, SENTENCES[1])
    decoder = BeamDecoder(tokenizer, 0.02, LIMITED, None, model=model, hotwords=HOTWORDS)
    stream, whole = decoder.start(), decoder.decode(log_probs)
    for chunk in np.split(log_probs, [1, 1, 20, 37]):
        stream.feed(chunk)
    assert stream.read()
    assert_same(stream.finish(), whole)


def test_a_frame_in_which_nothing_is_possible_is_passed_over(kernels: Path) -> None:
    log_probs = make_log_probs(2, 6, 4)
    log_probs[3] = -np.inf
    native, python = (BeamDecoder(make_tokenizer("AB "), 0.02, LIMITED, library) for library in (kernels, None))
    assert_same(native.decode(log_probs), python.decode(log_probs))


@pytest.mark.parametrize("seed", range(6))
def test_both_settle_and_hand_out_the_same_words(seed: int, kernels: Path, model: LanguageModel) -> None:
    tokenizer = PIECES if seed == 5 else make_tokenizer(LETTERS)
    sentences = " ".join(SENTENCES[(seed + place) % 4] for place in range(3))
    log_probs = make_log_probs(seed, 60, 5, 3.0) if seed == 5 else make_speech(seed, tokenizer, sentences)
    native, python = (
        BeamDecoder(tokenizer, 0.02, LIMITED, library, model=model if seed < 5 else None).start()
        for library in (kernels, None)
    )
    num_taken = 0
    for place, chunk in enumerate(np.split(log_probs, np.arange(0, len(log_probs), 12))):
        for stream in (native, python):
            stream.feed(chunk)
            if place % 5 == 4:
                stream.settle()
        ours, theirs = native.take(), python.take()
        assert [(w.text, w.start_seconds, w.end_seconds) for w in ours] == [
            (w.text, w.start_seconds, w.end_seconds) for w in theirs
        ]
        num_taken += len(ours)
        assert_same(native.read(), python.read())
    assert num_taken > 3
    assert_same(native.finish(), python.finish())
