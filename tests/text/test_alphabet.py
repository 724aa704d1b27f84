"""Characters to ids and back: nothing is lost, nothing unknown passes unseen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.config import TextConfig
from mindaudio_ds2.errors import ConfigError, ManifestError
from mindaudio_ds2.text.alphabet import Alphabet

ENGLISH = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ "


def make_alphabet(
    characters: str = ENGLISH, blank: str = "first", letter_case: str = "upper", unknown_character: str = "error"
) -> Alphabet:
    return Alphabet(TextConfig(characters, blank, letter_case, unknown_character))  # type: ignore[arg-type]


@pytest.mark.parametrize("blank", ["first", "last"])
def test_every_character_survives_a_round_trip(blank: str) -> None:
    alphabet = make_alphabet(blank=blank)
    for character in ENGLISH.strip():
        assert alphabet.decode(alphabet.encode(character)) == character
    assert alphabet.decode(alphabet.encode("DON'T 'TIS A B")) == "DON'T 'TIS A B"


@pytest.mark.parametrize("blank", ["first", "last"])
@given(text=st.text(ENGLISH))
def test_any_text_of_the_alphabet_survives_a_round_trip(blank: str, text: str) -> None:
    alphabet = make_alphabet(blank=blank)
    labels = alphabet.encode(text)
    assert alphabet.decode(labels) == " ".join(text.split())
    assert alphabet.blank_id not in labels
    assert all(0 <= label < alphabet.size for label in labels)


def test_blank_first_moves_the_characters_up() -> None:
    alphabet = make_alphabet("ABC", blank="first")
    assert (alphabet.blank_id, alphabet.size, alphabet.characters) == (0, 4, "ABC")
    assert alphabet.encode("CAB").tolist() == [3, 1, 2]


def test_blank_last_leaves_the_characters_where_they_are() -> None:
    alphabet = make_alphabet("ABC", blank="last")
    assert (alphabet.blank_id, alphabet.size) == (3, 4)
    assert alphabet.encode("CAB").tolist() == [2, 0, 1]


def test_labels_are_int32() -> None:
    labels = make_alphabet().encode("YES")
    assert labels.dtype == np.int32
    assert labels.shape == (3,)
    assert make_alphabet().encode("").dtype == np.int32


def test_letter_case_is_applied() -> None:
    assert make_alphabet().decode(make_alphabet().encode("don't Stop")) == "DON'T STOP"
    lower = make_alphabet("abc ", letter_case="lower")
    assert lower.decode(lower.encode("A Cab")) == "a cab"


def test_kept_letter_case_tells_letters_apart() -> None:
    alphabet = make_alphabet("aA", letter_case="keep")
    assert alphabet.encode("aA").tolist() == [1, 2]


def test_white_space_is_joined_and_trimmed() -> None:
    assert make_alphabet().normalize("  one\t two\n\nthree\u00a0four ") == "ONE TWO THREE FOUR"


def test_an_unknown_character_is_an_error_that_names_utterance_and_character() -> None:
    with pytest.raises(ManifestError, match=r"utterance 'an4-7'.*\['2', 'É'\].*text\.characters"):
        make_alphabet().encode_transcript("an4-7", "caf\u00e9 22")


def test_a_space_outside_the_alphabet_is_an_unknown_character() -> None:
    with pytest.raises(ManifestError, match=r"\[' '\]"):
        make_alphabet("AB").encode_transcript("u", "A B")


def test_dropped_characters_are_counted() -> None:
    alphabet = make_alphabet(unknown_character="drop")
    encoded = alphabet.encode_transcript("u", "Rock & Roll, 24!")
    assert alphabet.decode(encoded.labels) == "ROCK ROLL"
    assert encoded.num_dropped == len("&,24!")


def test_a_transcript_can_lose_all_its_characters() -> None:
    encoded = make_alphabet(unknown_character="drop").encode_transcript("u", "42")
    assert encoded.labels.shape == (0,)
    assert encoded.num_dropped == 2


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_nothing_is_dropped_from_a_known_transcript(policy: str) -> None:
    encoded = make_alphabet(unknown_character=policy).encode_transcript("u", "don't")
    assert encoded.num_dropped == 0
    assert len(encoded.labels) == 5


@pytest.mark.parametrize(
    ("characters", "letter_case"), [("ABc", "upper"), ("abC", "lower"), ("AB\t", "keep"), ("A\u00df", "upper")]
)
def test_a_character_that_no_transcript_can_hold_is_an_error(characters: str, letter_case: str) -> None:
    with pytest.raises(ConfigError, match=r"text\.characters.*text\.letter_case"):
        make_alphabet(characters, letter_case=letter_case)


def test_other_scripts_survive_a_round_trip() -> None:
    alphabet = make_alphabet("абвгдеёжз ñü中文", letter_case="lower")
    assert alphabet.decode(alphabet.encode("ЁЖ Ñ 中文")) == "ёж ñ 中文"


def test_equal_configurations_give_equal_alphabets() -> None:
    assert make_alphabet() == make_alphabet()
    assert make_alphabet() != make_alphabet(blank="last")
