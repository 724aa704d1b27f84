"""The beam search against enumeration of all paths, against ctc-beam-decoder, and against itself in pieces."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.decoding.beam import BeamDecoder, BeamSettings
from mindaudio_ds2.decoding.hotwords import LARGEST_WEIGHT, Hotword
from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.decoding.ngram_estimate import estimate
from mindaudio_ds2.errors import ConfigError, LanguageModelError
from mindaudio_ds2.text.tokenizer import Tokenizer
from tests.decoding.beam_cases import (
    EVERYTHING,
    enumerate_texts,
    make_log_probs,
    make_model,
    make_tokenizer,
    store,
    write_arpa,
)

UNITS = make_tokenizer("AB ")
EXACT = BeamSettings(**EVERYTHING, weight=0.7, bonus=0.4, unknown=-1.5)  # type: ignore[arg-type]
PIECES = make_tokenizer("AB ", units=("▁", "▁A", "A", "B"))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ' "
SENTENCES = ["THE CAT SAT ON THE MAT", "THE DOG ATE THE CAT", "A DOG SAT", "ON A MAT THE CAT ATE", "THE MAT"] * 3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tokenizer", [UNITS, make_tokenizer("AB ", "last"), PIECES], ids=["first", "last", "pieces"])
@pytest.mark.parametrize("hotwords", [{}, {"B": 1.5, "A B": 2.0, "BB": 0.7}], ids=["plain", "hotwords"])
@pytest.mark.parametrize("has_model", [False, True], ids=["no model", "model"])
def test_scores_equal_the_sum_over_all_paths(
    seed: int, tokenizer: Tokenizer, hotwords: dict[str, float], has_model: bool, kernels: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path) if has_model else None
    log_probs = make_log_probs(seed, 6, tokenizer.size)
    expected = enumerate_texts(log_probs, tokenizer, EXACT, model, hotwords)
    decoder = BeamDecoder(
        tokenizer, 0.02, EXACT, kernels, model=model, hotwords=[Hotword(*pair) for pair in hotwords.items()]
    )
    found = decoder.decode(log_probs)
    assert len(found) == len(expected)
    assert {h.text: h.score for h in found} == pytest.approx(expected, abs=2e-5)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_a_character_model_scores_every_label(kernels: Path, tmp_path: Path) -> None:
    arpa = (
        "\\data\\\nngram 1=6\nngram 2=2\n\n\\1-grams:\n-3 <unk>\n-99 <s> -0.2\n-1 </s>\n-0.7 A -0.3\n-0.9 B\n"
        "-0.6 <space>\n\n\\2-grams:\n-0.1 A B\n-0.4 <s> A\n\n\\end\\\n"
    )
    model = make_model(tmp_path, arpa, scores_labels=True)
    log_probs = make_log_probs(3, 3, 4)
    found = {h.text: h.score for h in BeamDecoder(UNITS, 0.02, EXACT, kernels, model=model).decode(log_probs)}
    acoustic = enumerate_texts(log_probs, UNITS, dataclasses.replace(EXACT, bonus=0.0))
    log10_prob = -0.4 - 0.3 - 0.6 - 0.9 - 1  # <s> A, then <space>, B and </s> after backing off
    expected = acoustic["A B"] + 0.7 * math.log(10) * log10_prob + 0.4 * 2  # three frames leave it a single path
    assert found["A B"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("has_compiler", [True, False])
def test_a_model_of_units_tells_units_that_begin_words_from_others(
    has_compiler: bool, kernels: Path, tmp_path: Path
) -> None:
    arpa = "\\data\\\nngram 1=6\n\n\\1-grams:\n-3 <unk>\n-99 <s>\n-1 </s>\n-0.5 ▁A\n-0.9 A\n-0.6 B\n\n\\end\\\n"
    model, library = make_model(tmp_path, arpa, scores_labels=True), kernels if has_compiler else None
    log_probs = np.full((3, PIECES.size), -np.inf, np.float32)
    log_probs[[0, 1, 2], [PIECES.symbols.index(unit) for unit in ("▁A", "B", "▁A")]] = 0.0
    (found,) = BeamDecoder(PIECES, 0.02, EXACT, library, model=model).decode(log_probs)
    assert found.text == "AB A"
    assert found.score == pytest.approx(0.7 * math.log(10) * (-0.5 - 0.6 - 0.5 - 1) + 0.4 * 2, abs=1e-5)


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, Path]:
    folder = tmp_path_factory.mktemp("lm")
    tables = estimate(SENTENCES, 3)
    write_arpa(folder / "sentences.arpa", tables)
    return store(folder / "sentences.lm", tables), folder / "sentences.arpa"


@pytest.mark.parametrize("seed", range(10))
def test_scores_reach_those_of_ctc_beam_decoder(
    seed: int, kernels: Path, sentence_model: tuple[LanguageModel, Path]
) -> None:
    oracle = pytest.importorskip("ctc_beam_decoder", reason="ctc-beam-decoder has wheels for some machines only")
    model, arpa = sentence_model
    tokenizer = make_tokenizer(LETTERS, "last")
    log_probs = make_speech(seed, tokenizer)
    theirs = oracle.build_ctcdecoder([*LETTERS, ""], str(arpa), alpha=0.8, beta=1.2, unk_score_offset=-7.0)
    beams = theirs.decode_beams(log_probs, beam_width=200, beam_prune_logp=-30, token_min_logp=-9)
    settings = BeamSettings(200, 200, -9.0, 30.0, 0.8, 1.2, -7.0)
    ours = {h.text: h.score for h in BeamDecoder(tokenizer, 0.02, settings, kernels, model=model).decode(log_probs)}
    shared = [(ours[text], score) for text, _, _, _, score in beams[:10] if text in ours]
    assert shared
    gains = [our_score - their_score for our_score, their_score in shared]
    assert min(gains) > -0.1  # it drops some of a text's paths, sometimes the best, so that ours is higher
    assert min(map(abs, gains)) < 0.3
    assert max(ours.values()) >= beams[0][4] - 1e-3


@pytest.mark.parametrize("seed", range(10))
def test_texts_without_a_model_equal_those_of_ctc_beam_decoder(seed: int, kernels: Path) -> None:
    oracle = pytest.importorskip("ctc_beam_decoder", reason="ctc-beam-decoder has wheels for some machines only")
    tokenizer = make_tokenizer(LETTERS, "last")
    log_probs = make_speech(seed, tokenizer, gain=9.0)
    beams = oracle.build_ctcdecoder([*LETTERS, ""]).decode_beams(
        log_probs, beam_width=200, beam_prune_logp=-30, token_min_logp=-9
    )
    settings = BeamSettings(200, 1, -9.0, 30.0, bonus=0.0)
    best = BeamDecoder(tokenizer, 0.02, settings, kernels).decode(log_probs)[0]
    assert best.text == beams[0][0]
    assert best.score == pytest.approx(beams[0][4], abs=0.1)


def make_speech(seed: int, tokenizer: Tokenizer, sentence: str = "", gain: float = 5.0) -> np.ndarray:
    """Log probabilities of a sentence, with noise that greedy decoding stumbles over."""
    generator = np.random.default_rng(seed)
    sentence = sentence or SENTENCES[seed % 5]
    labels = []
    for letter in sentence:
        label = (LETTERS.index(letter) + (tokenizer.blank_id == 0)) % tokenizer.size
        labels += [label] * int(generator.integers(1, 3)) + [tokenizer.blank_id] * int(generator.integers(1, 3))
    logits = generator.standard_normal((len(labels), tokenizer.size)) * 1.3
    logits[np.arange(len(labels)), labels] += gain
    log_probs: np.ndarray = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    return log_probs


@pytest.mark.parametrize("seed", range(20))
def test_any_cut_into_chunks_gives_the_same(
    seed: int, kernels: Path, sentence_model: tuple[LanguageModel, Path]
) -> None:
    tokenizer = make_tokenizer(LETTERS)
    settings = BeamSettings(beam_width=30, num_best=10)
    decoder = BeamDecoder(tokenizer, 0.02, settings, kernels, model=sentence_model[0], hotwords=[Hotword("DOG", 3.0)])
    log_probs = make_log_probs(seed, 120, tokenizer.size, 2.5) if seed % 2 else make_speech(seed, tokenizer)
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(log_probs) + 1, 7))
    stream = decoder.start()
    for chunk in np.split(log_probs, cuts):
        stream.feed(chunk)
        stream.read()  # looking changes nothing
    assert stream.finish() == decoder.decode(log_probs)


def test_a_long_stream_forgets_only_what_no_prefix_needs(kernels: Path) -> None:
    tokenizer = make_tokenizer(LETTERS)
    log_probs = np.concatenate([make_speech(seed, tokenizer) for seed in range(400)])
    decoder = BeamDecoder(tokenizer, 0.02, BeamSettings(beam_width=20, beam_threshold=10.0), kernels)
    stream = decoder.start()
    for chunk in np.array_split(log_probs, 50):
        stream.feed(chunk)
    whole = stream.finish()[0]
    assert whole == decoder.decode(log_probs)[0]
    assert len(whole.text) > 4000
    times = [time for word in whole.words for time in (word.start_seconds, word.end_seconds)]
    assert times == sorted(times)


def test_threads_change_no_result(kernels: Path, sentence_model: tuple[LanguageModel, Path]) -> None:
    tokenizer = make_tokenizer(LETTERS)
    decoder = BeamDecoder(tokenizer, 0.02, BeamSettings(num_best=5), kernels, model=sentence_model[0])
    batch = np.stack([make_log_probs(seed, 60, tokenizer.size, 2.0) for seed in range(12)])
    lengths = np.arange(49, 61).astype(np.int32)
    alone = [decoder.decode(rows[:n]) for rows, n in zip(batch, lengths, strict=True)]
    assert decoder.decode_batch(batch, lengths, num_threads=4) == alone


def test_words_carry_times_of_the_best_path_and_confidence(kernels: Path) -> None:
    path = [0, 1, 1, 2, 0, 3, 3, 0, 2, 0]  # _AAB_  _B_
    log_probs = np.log(np.full((10, 4), 0.02) + 0.92 * np.eye(4)[path]).astype(np.float32)
    best = BeamDecoder(UNITS, 0.5, BeamSettings(bonus=0.0), kernels).decode(log_probs)[0]
    assert [(w.text, w.start_seconds, w.end_seconds) for w in best.words] == [("AB", 0.5, 2.0), ("B", 4.0, 4.5)]
    assert all(0.5 < word.confidence <= 0.94 for word in best.words)


def test_doubtful_words_have_less_confidence(kernels: Path) -> None:
    log_probs = np.log(np.array([[0.01, 0.97, 0.01, 0.01], [0.01, 0.01, 0.01, 0.97], [0.02, 0.5, 0.46, 0.02]]))
    sure, doubtful = BeamDecoder(UNITS, 0.5, BeamSettings(), kernels).decode(log_probs.astype(np.float32))[0].words
    assert sure.confidence > 0.8
    assert doubtful.confidence < 0.5


def test_hotwords_win_over_what_sounds_alike(kernels: Path, sentence_model: tuple[LanguageModel, Path]) -> None:
    tokenizer = make_tokenizer(LETTERS)
    log_probs = make_speech(1, tokenizer, "THE QUB SAT")
    settings = BeamSettings(weight=1.0, unknown=-12.0)
    plain = BeamDecoder(tokenizer, 0.02, settings, kernels, model=sentence_model[0]).decode(log_probs)[0]
    hotwords = [Hotword("QUB", 4.0)]
    hot = BeamDecoder(tokenizer, 0.02, settings, kernels, model=sentence_model[0], hotwords=hotwords).decode(log_probs)[
        0
    ]
    assert plain.text != "THE QUB SAT"
    assert hot.text == "THE QUB SAT"


def test_the_beam_keeps_no_more_than_its_width(kernels: Path) -> None:
    log_probs = make_log_probs(0, 8, 4)
    for width in (1, 3, 10):
        settings = dataclasses.replace(EXACT, beam_width=width)
        assert len(BeamDecoder(UNITS, 0.02, settings, kernels).decode(log_probs)) <= width


@pytest.mark.parametrize("said", ["THE RAT SAT ON THE MAT", "THE CART SAT ON THE MAT", "THE C AT SAT ON THE MAT"])
@pytest.mark.parametrize("has_compiler", [True, False])
def test_doubt_outlives_the_prefixes_that_were_dropped(
    said: str, has_compiler: bool, kernels: Path, sentence_model: tuple[LanguageModel, Path]
) -> None:
    """Whatever stood in place of a word long before, the word is as sure as where all prefixes are kept to the end."""
    tokenizer = make_tokenizer(LETTERS)
    likely, other = (np.exp(make_speech(1, tokenizer, text, 8.0)) for text in ("THE CAT SAT ON THE MAT", said))
    if len(other) > len(likely):  # the additional letter's frames are blank in the likely text
        place = 3 * (said.index("C") + 2 if "CART" in said else said.index("C") + 1)
        blank = np.full((len(other) - len(likely), tokenizer.size), 1e-6, np.float32)
        blank[:, tokenizer.blank_id] = 1.0
        likely = np.insert(likely, place, blank, axis=0)
    log_probs = np.log(0.7 * likely + 0.3 * other).astype(np.float32)
    few, all_kept = (
        BeamDecoder(
            tokenizer,
            0.02,
            BeamSettings(beam_width=60, num_best=num_best, weight=0.2, unknown=-1.0),
            kernels if has_compiler else None,
            model=sentence_model[0],
        ).decode(log_probs)[0]
        for num_best in (1, 60)
    )
    assert few.text == all_kept.text == "THE CAT SAT ON THE MAT"
    confidences = np.array([[word.confidence for word in found.words] for found in (few, all_kept)])
    np.testing.assert_allclose(confidences[0], confidences[1], atol=0.06)
    assert confidences[0, 1] < 0.9 < confidences[0, 4]


@pytest.mark.parametrize("has_compiler", [True, False])
def test_a_word_that_ends_does_not_fall_out_of_a_narrow_beam(has_compiler: bool, kernels: Path, tmp_path: Path) -> None:
    """Its price stands out only where the other words begun have none yet: "A B" is likelier than "AB", in any beam."""
    arpa = "\\data\\\nngram 1=6\n\n\\1-grams:\n-9 <unk>\n-99 <s>\n-1 </s>\n-1.5 A\n-1.5 B\n-3.5 AB\n\n\\end\\\n"
    model, library = make_model(tmp_path, arpa), kernels if has_compiler else None
    frames = [[0.01, 0.97, 0.01, 0.01], [0.01, 0.01, 0.3, 0.68], [0.01, 0.01, 0.97, 0.01]]  # blank, A, B, space
    log_probs = np.log(np.array(frames, np.float32))
    for width in (1, 2, 100):
        settings = BeamSettings(beam_width=width, weight=1.0, bonus=2.5)
        found = BeamDecoder(UNITS, 0.02, settings, library, model=model).decode(log_probs)
        assert found[0].text == "A B"


def test_labels_below_the_token_threshold_are_not_tried(kernels: Path) -> None:
    log_probs = np.log(np.array([[0.1, 0.8, 0.06, 0.04]] * 3, np.float32))
    settings = dataclasses.replace(EXACT, token_threshold=math.log(0.05))
    found = {h.text for h in BeamDecoder(UNITS, 0.02, settings, kernels).decode(log_probs)}
    assert any("B" in text for text in found)
    settings = dataclasses.replace(EXACT, token_threshold=math.log(0.07))
    assert {h.text for h in BeamDecoder(UNITS, 0.02, settings, kernels).decode(log_probs)} == {"", "A", "AA"}


def test_prefixes_below_the_beam_threshold_are_dropped(kernels: Path) -> None:
    log_probs = np.log(np.array([[0.1, 0.7, 0.15, 0.05]], np.float32))
    settings = dataclasses.replace(EXACT, bonus=0.0, beam_threshold=math.log(0.7 / 0.12))
    found = BeamDecoder(UNITS, 0.02, settings, kernels).decode(log_probs)
    assert [h.text for h in found] == ["A", "B", ""]  # the blank and the space together have 0.15
    settings = dataclasses.replace(settings, beam_threshold=math.log(0.7 / 0.2))
    assert [h.text for h in BeamDecoder(UNITS, 0.02, settings, kernels).decode(log_probs)] == ["A"]


def test_no_frames_give_an_empty_text(kernels: Path) -> None:
    found = BeamDecoder(UNITS, 0.02, BeamSettings(), kernels).decode(np.zeros((0, 4), np.float32))
    assert [(h.text, h.words) for h in found] == [("", ())]


@pytest.mark.parametrize(
    "changes",
    [
        {"beam_width": 0},
        {"beam_width": 10_001},
        {"num_best": 0},
        {"num_best": 1001},
        {"beam_threshold": 0},
        {"weight": -1},
        {"bonus": math.nan},
        {"bonus": 1e300},
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(BeamSettings(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "hotwords",
    [
        *(
            [Hotword("", 1.0)],
            [Hotword("  ", 1.0)],
            [Hotword("abc", 1.0)],
            [Hotword("A", math.nan)],
            [Hotword("A", 1e308)],
        ),
        *([Hotword("A", 1.0, ("c",))], [Hotword("A", 1.0, ("B B",))], [Hotword("A B", 1.0, ("B",))]),
        [Hotword("A", 1.0, ("AB",)), Hotword("B", 1.0, ("AB",))],  # AB would be written in two ways
        [Hotword("A", 1.0, ("B",)), Hotword("A B", 1.0)],  # B is to be written A, and B
    ],
)
def test_hotwords_that_cannot_be_are_refused(hotwords: list[Hotword], kernels: Path) -> None:
    with pytest.raises(LanguageModelError, match="hotword"):
        BeamDecoder(UNITS, 0.02, BeamSettings(), kernels, hotwords=hotwords)


@pytest.mark.parametrize("has_compiler", [True, False])
def test_what_sounds_like_a_hotword_is_found_and_written_as_the_hotword(has_compiler: bool, kernels: Path) -> None:
    tokenizer = make_tokenizer(LETTERS)
    log_probs = make_speech(1, tokenizer, "THE TEWANA SAT")
    hotwords = [Hotword("TIJUANA", 4.0, ("TEWANA", "TEEWANA")), Hotword("SAN SIRO", 1.0, ("SAN SEEROH",))]
    settings = BeamSettings(num_best=20)
    decoder = BeamDecoder(tokenizer, 0.02, settings, kernels if has_compiler else None, hotwords=hotwords)
    found = decoder.decode(log_probs)
    assert found[0].text.split()[1] == "TIJUANA"
    assert " ".join(word.text for word in found[0].words) == found[0].text
    assert len({hypothesis.text for hypothesis in found}) == len(found)  # once, however it was spelt
    said: list[Word] = []
    stream = decoder.start()
    for chunk in np.array_split(log_probs, 9):
        stream.feed(chunk)
        assert not any("TEWANA" in hypothesis.text.split() for hypothesis in stream.read())
        said += stream.take()
    said += stream.finish()[0].words
    assert " ".join(word.text for word in said) == found[0].text


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_stay_numbers_with_the_heaviest_hotwords(sign: int, kernels: Path) -> None:
    hotwords = [Hotword(text, sign * LARGEST_WEIGHT) for text in ("A", "B", "AB", "A B", "B A", "BB A")]
    decoder = BeamDecoder(UNITS, 0.02, BeamSettings(), kernels, hotwords=hotwords)
    assert math.isfinite(decoder.decode(make_log_probs(0, 200, 4, 1.0))[0].score)


@pytest.mark.parametrize("sentences", [[s.lower() for s in SENTENCES], ["КОШКА СИДИТ", "СОБАКА ЕСТ КОШКУ"] * 3])
@pytest.mark.parametrize("has_compiler", [True, False])
def test_a_model_of_another_letter_case_or_alphabet_is_refused(
    sentences: list[str], has_compiler: bool, kernels: Path, tmp_path: Path
) -> None:
    model = store(tmp_path / "other.lm", estimate(sentences, 2))
    with pytest.raises(LanguageModelError, match=r"other\.lm is of another alphabet or letter case.*build it"):
        BeamDecoder(make_tokenizer(LETTERS), 0.02, BeamSettings(), kernels if has_compiler else None, model=model)


# Words that are settled before the end ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_taking_settled_words_changes_neither_text_nor_score(
    seed: int, kernels: Path, sentence_model: tuple[LanguageModel, Path]
) -> None:
    tokenizer = PIECES if seed % 5 == 4 else make_tokenizer(LETTERS)
    settings = BeamSettings(beam_width=30, num_best=5)
    model = None if seed % 5 == 4 else sentence_model[0]
    decoder = BeamDecoder(tokenizer, 0.02, settings, kernels, model=model)
    noise = make_log_probs(seed, 300, tokenizer.size, 4.0)
    log_probs = noise if model is None else np.concatenate([make_speech(seed + i, tokenizer) for i in range(8)])
    whole = decoder.decode(log_probs)[0]
    stream = decoder.start()
    taken: list[Word] = []
    for chunk in np.split(log_probs, np.arange(0, len(log_probs), 4)):
        stream.feed(chunk)
        taken += stream.take()
    rest = stream.finish()[0]
    assert taken
    assert [word.text for word in (*taken, *rest.words)] == [word.text for word in whole.words]
    assert rest.score == pytest.approx(whole.score)


def test_settling_leaves_the_best_hypothesis_and_its_words_to_take(kernels: Path) -> None:
    log_probs = make_speech(1, make_tokenizer(LETTERS), "THE CAT SAT ON THE M", gain=4.0)
    stream = BeamDecoder(make_tokenizer(LETTERS), 0.02, BeamSettings(num_best=50), kernels).start()
    stream.feed(log_probs)
    before = stream.read()
    assert len({hypothesis.text for hypothesis in before}) > 5
    stream.settle()
    taken = stream.take()
    assert [word.text for word in taken] == [word.text for word in before[0].words[:-1]]
    assert [(w.text, w.start_seconds) for w in stream.read()[0].words] == [
        (before[0].words[-1].text, before[0].words[-1].start_seconds)
    ]
