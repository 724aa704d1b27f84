"""What hotwords are worth to a search: against what a language model takes for the same words."""

import math
from pathlib import Path

import pytest

from mindaudio_ds2.decoding.hotwords import Hotword, check_hotwords, choose_weight, read_hotwords, weigh
from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.decoding.ngram_estimate import estimate
from mindaudio_ds2.errors import LanguageModelError
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer
from tests.decoding.beam_cases import store

SENTENCES = ["THE CAT SAT ON THE MAT", "THE DOG ATE THE CAT", "A DOG SAT", "ON A MAT THE CAT ATE", "THE MAT"] * 30
LN10 = math.log(10)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return store(tmp_path_factory.mktemp("lm") / "sentences.lm", estimate(SENTENCES, 3))


def test_without_a_model_a_hotword_is_worth_its_weight() -> None:
    (name,) = weigh([Hotword("QUB", 4.0)], None, 1.0)
    assert name.worth == 4.0
    assert name.lent == pytest.approx((4 / 3, 8 / 3, 4.0))


def test_what_the_model_takes_for_a_strange_word_is_given_back_down_to_a_usual_one(model: LanguageModel) -> None:
    (name,) = weigh([Hotword("QUB", 4.0)], model, 0.5)
    taken = 0.5 * LN10 * model.score_alone(0)
    assert name.worth + taken == pytest.approx(4.0 + 0.5 * LN10 * model.usual_score)
    assert name.lent == pytest.approx((4 / 3, 8 / 3, 4.0))  # the model has taken nothing while it is being spelt


def test_frequent_words_get_nothing_back(model: LanguageModel) -> None:
    (phrase,) = weigh([Hotword("THE", 4.0)], model, 1.0)
    assert phrase.worth == 4.0


def test_the_usual_score_is_the_mean_over_a_text(model: LanguageModel) -> None:
    scores = [model.score_alone(number) for number in range(len(model.words))]
    assert sum(10**score for score in scores) == pytest.approx(1.0, abs=1e-5)
    assert model.usual_score == pytest.approx(sum(10**score * score for score in scores), abs=1e-5)


def test_words_within_a_phrase_are_given_back_once_they_are_whole(model: LanguageModel) -> None:
    strange = weigh([Hotword("QUB", 0.0)], model, 1.0)[0].worth
    (phrase,) = weigh([Hotword("QUB ZEK", 7.0)], model, 1.0)
    assert phrase.worth == pytest.approx(7.0 + 2 * strange)
    assert phrase.lent == pytest.approx((1, 2, 3, 4 + strange, 5 + strange, 6 + strange, 7 + strange))


def test_a_word_in_two_hotwords_is_given_back_once(model: LanguageModel) -> None:
    strange = weigh([Hotword("QUB", 0.0)], model, 1.0)[0].worth
    name, surname = weigh([Hotword("QUB ZEK", 7.0), Hotword("ZEK", 2.0)], model, 1.0)
    assert name.worth + surname.worth == pytest.approx(9.0 + 2 * strange)


def test_a_hotword_without_a_weight_gets_one_that_grows_with_its_letters() -> None:
    assert choose_weight("AB CD", a_letter=2.0) == choose_weight("ABCD", a_letter=2.0) == choose_weight("AB", 2.0) + 4


def test_each_spelling_is_worth_as_much(model: LanguageModel) -> None:
    alone = weigh([Hotword("QUB", 4.0), Hotword("KEWB", 4.0)], model, 1.0)
    assert weigh([Hotword("QUB", 4.0, ("KEWB",))], model, 1.0) == alone


def test_hotwords_are_written_as_transcripts_are() -> None:
    capitals = Tokenizer(TextConfig("ABC ", "first", "upper", "error"))
    assert check_hotwords(capitals, [Hotword("Ab\tca", 2.0, ("aC b",)), Hotword("b", 3.0), Hotword("B", 3.0)]) == [
        Hotword("AB CA", 2.0, ("AC B",)),
        Hotword("B", 3.0),
    ]
    with pytest.raises(LanguageModelError, match="'B' stands there twice, with weights 1 and 3"):
        check_hotwords(capitals, [Hotword("b", 1.0), Hotword("B", 3.0)])
    as_they_are = Tokenizer(TextConfig("ABC ", "first", "keep", "error"))
    with pytest.raises(LanguageModelError, match=r"1 of 2 hotwords hold .*\['a', 'b'\]: 'ab'; respell"):
        check_hotwords(as_they_are, [Hotword("ab", 2.0), Hotword("AB", 2.0)])


def test_all_that_no_label_spells_is_found_at_once() -> None:
    names = [Hotword(f"AB{number}", 2.0) for number in range(8)]
    with pytest.raises(LanguageModelError) as raised:
        check_hotwords(Tokenizer(TextConfig("AB ", "first", "upper", "error")), [Hotword("A", 1.0), *names])
    assert "8 of 9 hotwords" in str(raised.value)
    assert "'AB3', 'AB4', ...; respell them" in str(raised.value)


def test_hotwords_are_lines_with_or_without_a_weight_and_what_they_sound_like(tmp_path: Path) -> None:
    (tmp_path / "hot.txt").write_text("# names\nA B\nBB\t2.5\n\nAB\t\tBA , BBA,\nB\t1\tA\t\n")
    assert read_hotwords(tmp_path / "hot.txt") == [
        *(Hotword("A B", choose_weight("A B")), Hotword("BB", 2.5)),
        *(Hotword("AB", choose_weight("AB"), ("BA", "BBA")), Hotword("B", 1.0, ("A",))),
    ]
    for content, said in (
        *((b"", "none"), (b"# nothing\n", "none"), (b"A\tmuch\n", "line 1"), (b"A\tBA\n", "line 1")),
        *((b"A\t1\tB\tBA\n", "too many tabs"), (b"\xff", "as UTF-8")),
    ):
        (tmp_path / "hot.txt").write_bytes(content)
        with pytest.raises(LanguageModelError, match=rf"hot\.txt.*{said}"):
            read_hotwords(tmp_path / "hot.txt")
