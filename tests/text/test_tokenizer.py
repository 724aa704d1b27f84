"""Characters to ids and back: nothing is lost, nothing unknown passes unseen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.errors import ConfigError, ManifestError
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer

ENGLISH = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ "


def make_tokenizer(
    characters: str = ENGLISH, blank: str = "first", letter_case: str = "upper", unknown_character: str = "error"
) -> Tokenizer:
    return Tokenizer(TextConfig(characters, blank, letter_case, unknown_character))  # type: ignore[arg-type]


@pytest.mark.parametrize("blank", ["first", "last"])
def test_every_character_survives_a_round_trip(blank: str) -> None:
    tokenizer = make_tokenizer(blank=blank)
    for character in ENGLISH.strip():
        assert tokenizer.decode(tokenizer.encode(character)) == character
    assert tokenizer.decode(tokenizer.encode("DON'T 'TIS A B")) == "DON'T 'TIS A B"


@pytest.mark.parametrize("blank", ["first", "last"])
@given(text=st.text(ENGLISH))
def test_any_text_of_the_alphabet_survives_a_round_trip(blank: str, text: str) -> None:
    tokenizer = make_tokenizer(blank=blank)
    labels = tokenizer.encode(text)
    assert tokenizer.decode(labels) == " ".join(text.split())
    assert tokenizer.blank_id not in labels
    assert all(0 <= label < tokenizer.size for label in labels)


def test_blank_first_moves_the_characters_up() -> None:
    tokenizer = make_tokenizer("ABC", blank="first")
    assert (tokenizer.blank_id, tokenizer.size, tokenizer.characters) == (0, 4, "ABC")
    assert tokenizer.encode("CAB").tolist() == [3, 1, 2]


def test_blank_last_leaves_the_characters_where_they_are() -> None:
    tokenizer = make_tokenizer("ABC", blank="last")
    assert (tokenizer.blank_id, tokenizer.size) == (3, 4)
    assert tokenizer.encode("CAB").tolist() == [2, 0, 1]


def test_labels_are_int32() -> None:
    labels = make_tokenizer().encode("YES")
    assert labels.dtype == np.int32
    assert labels.shape == (3,)
    assert make_tokenizer().encode("").dtype == np.int32


def test_letter_case_is_applied() -> None:
    assert make_tokenizer().decode(make_tokenizer().encode("don't Stop")) == "DON'T STOP"
    lower = make_tokenizer("abc ", letter_case="lower")
    assert lower.decode(lower.encode("A Cab")) == "a cab"


def test_kept_letter_case_tells_letters_apart() -> None:
    tokenizer = make_tokenizer("aA", letter_case="keep")
    assert tokenizer.encode("aA").tolist() == [1, 2]


def test_white_space_is_joined_and_trimmed() -> None:
    assert make_tokenizer().normalize("  one\t two\n\nthree\u00a0four ") == "ONE TWO THREE FOUR"


def test_an_unknown_character_is_an_error_that_names_utterance_and_character() -> None:
    with pytest.raises(ManifestError, match=r"utterance 'an4-7'.*\['2', 'É'\].*text\.characters"):
        make_tokenizer().encode_transcript("an4-7", "caf\u00e9 22")


def test_a_space_outside_the_alphabet_is_an_unknown_character() -> None:
    with pytest.raises(ManifestError, match=r"\[' '\]"):
        make_tokenizer("AB").encode_transcript("u", "A B")


def test_dropped_characters_are_counted() -> None:
    tokenizer = make_tokenizer(unknown_character="drop")
    encoded = tokenizer.encode_transcript("u", "Rock & Roll, 24!")
    assert tokenizer.decode(encoded.labels) == "ROCK ROLL"
    assert encoded.num_dropped == len("&,24!")


def test_a_transcript_can_lose_all_its_characters() -> None:
    encoded = make_tokenizer(unknown_character="drop").encode_transcript("u", "42")
    assert encoded.labels.shape == (0,)
    assert encoded.num_dropped == 2


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_nothing_is_dropped_from_a_known_transcript(policy: str) -> None:
    encoded = make_tokenizer(unknown_character=policy).encode_transcript("u", "don't")
    assert encoded.num_dropped == 0
    assert len(encoded.labels) == 5


@pytest.mark.parametrize(
    ("characters", "letter_case"), [("ABc", "upper"), ("abC", "lower"), ("AB\t", "keep"), ("A\u00df", "upper")]
)
def test_a_character_that_no_transcript_can_hold_is_an_error(characters: str, letter_case: str) -> None:
    with pytest.raises(ConfigError, match=r"text\.characters.*text\.letter_case"):
        make_tokenizer(characters, letter_case=letter_case)


def test_other_scripts_survive_a_round_trip() -> None:
    tokenizer = make_tokenizer("абвгдеёжз ñü中文", letter_case="lower")
    assert tokenizer.decode(tokenizer.encode("ЁЖ Ñ 中文")) == "ёж ñ 中文"


def test_equal_configurations_give_equal_alphabets() -> None:
    assert make_tokenizer() == make_tokenizer()
    assert make_tokenizer() != make_tokenizer(blank="last")
