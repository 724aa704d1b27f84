import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.characters import LetterCase, count_characters, find_doubts, name_character
from mindaudio_ds2.text.tokenizer import Tokenizer

LANGUAGES = {
    "Turkish": ["ışık ağaç İstanbul", "şeker çok güzel"],
    "German": ["größe straße Übung", "MASSE"],
    "Greek": ["ο λόγος του Οδυσσέα", "ΟΔΟΣ"],
    "Russian": ["ёлка и объезд", "Щука"],
    "Chinese": ["我喜欢语音识别", "今天天气很好"],
    "Hebrew": ["שלום עולם"],
    "Arabic": ["مرحبا بالعالم", "مُحَمَّد"],
    "Hindi": ["नमस्ते दुनिया", "क्षमा"],
    "Vietnamese": ["tiếng Việt", "được"],
    "Croatian digraphs": ["ǆep Ǆep ǅep"],
    "emoji": ["no 🙂 yes"],
}
CASES: tuple[LetterCase, ...] = ("upper", "lower", "keep")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("letter_case", CASES)
def test_the_characters_make_an_alphabet_that_encodes_their_transcripts(language: str, letter_case: LetterCase) -> None:
    transcripts = LANGUAGES[language]
    characters = "".join(sorted(count_characters(transcripts, letter_case)))
    tokenizer = Tokenizer(TextConfig(characters, "first", letter_case, "error"))
    for transcript in transcripts:
        assert tokenizer.decode(tokenizer.encode(transcript)) == tokenizer.normalize(transcript)


@given(st.lists(st.text(), max_size=5), st.sampled_from(CASES))
def test_any_text_gives_an_alphabet_that_is_allowed(transcripts: list[str], letter_case: LetterCase) -> None:
    composed = [unicodedata.normalize("NFC", transcript) for transcript in transcripts]
    counts = count_characters(composed, letter_case)
    if not counts:
        return
    tokenizer = Tokenizer(TextConfig("".join(sorted(counts)), "first", letter_case, "error"))
    assert sum(counts.values()) == sum(len(tokenizer.encode(transcript)) for transcript in composed)


def test_characters_are_counted_after_the_letter_case() -> None:
    assert count_characters(["Ab  a\n", "ß"], "upper") == {"A": 2, "B": 1, " ": 1, "S": 2}
    assert count_characters(["Ab  a\n", "ß"], "keep") == {"A": 1, "b": 1, "a": 1, " ": 1, "ß": 1}


def test_characters_are_named_so_that_they_can_be_found() -> None:
    assert name_character("é") == "é U+00E9 LATIN SMALL LETTER E WITH ACUTE"
    assert name_character("\u200b") == "U+200B ZERO WIDTH SPACE"
    assert name_character("\x07") == "U+0007 without a name"


CLEAN = ["go on and on"] * 5


def test_clean_transcripts_raise_no_doubts() -> None:
    assert find_doubts(CLEAN, ["go on"], "upper") == []


@pytest.mark.parametrize(
    ("transcripts", "letter_case", "message"),
    [
        ([*CLEAN, "gö"], "lower", "Stands less than 5 times.*\n    ö U\\+00F6.*1 times.*'gö'"),
        (["go, on!"] * 5, "upper", "Nobody hears ! ,"),
        (["go 1 2"] * 5, "upper", "Numbers are written with 1 2"),
        (["go\u200b on"] * 5, "upper", "Nobody sees or hears U\\+200B ZERO WIDTH SPACE"),
        (["Go gO"] * 5, "keep", "Capitals and small letters"),
        (["ışık on"] * 5, "upper", "Turkish"),
        (["İki on"] * 5, "lower", "Turkish"),
        (["我喜欢"] * 5, "keep", "Go by CER"),
        (["".join(map(chr, range(0x4E00, 0x4F00)))] * 5, "keep", "256 characters are many"),
    ],
)
def test_what_looks_like_a_mistake_is_said(transcripts: list[str], letter_case: LetterCase, message: str) -> None:
    doubts = find_doubts(transcripts, [], letter_case)
    assert any(re.search(message, doubt) for doubt in doubts), doubts


def test_apostrophe_and_hyphen_are_not_doubted() -> None:
    assert find_doubts(["o'clock well-known"] * 5, [], "lower") == []


def test_characters_of_dev_and_test_alone_are_named() -> None:
    (doubt,) = find_doubts(CLEAN, ["go é"], "lower")
    assert "é U+00E9" in doubt
    assert "counts as an error" in doubt


def test_long_lists_are_cut_and_counted() -> None:
    transcripts = [" ".join(chr(0x3B1 + number) for number in range(24))]
    (rare, *_) = find_doubts(transcripts, [], "keep")
    assert len(rare.splitlines()) == 22
    assert rare.endswith("and 4 more")
