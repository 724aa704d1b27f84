"""Units against sentencepiece, which trained them; their file, and what does not fit."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.errors import ConfigError, ManifestError
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.text.units import list_units, read_units, train_units, write_units

sentencepiece = pytest.importorskip("sentencepiece", reason="no sentencepiece: pip install 'mindaudio_ds2[tokenizer]'")

CHARACTERS = "ABCDEFGHIÄ' "
TEXT = TextConfig(CHARACTERS, "first", "upper", "error")
SIZE = 60


def make_lines() -> list[str]:
    """Words put together from syllables, so that some pieces of words come far more often than others."""
    chance = random.Random(0)
    syllables = ["AB", "BAD", "CE", "DÄ", "FIG", "HI", "A", "'D", "GEH", "ICE"]
    words = ["".join(chance.choices(syllables, range(10, 0, -1), k=chance.randint(1, 3))) for _ in range(2000)]
    return [" ".join(words[at : at + 8]) for at in range(0, len(words), 8)]


@pytest.fixture(scope="module")
def model() -> bytes:
    return train_units(make_lines(), CHARACTERS, SIZE)


@pytest.fixture(scope="module")
def tokenizer(model: bytes) -> Tokenizer:
    units, scores = list_units(model)
    return Tokenizer(dataclasses.replace(TEXT, units=units, unit_scores=scores))


@pytest.fixture(scope="module")
def theirs(model: bytes) -> Any:
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def spell(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.symbols[label] for label in tokenizer.encode(text)]


def test_there_are_as_many_units_as_asked_for_and_every_character_is_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.size == SIZE + 1
    assert {*CHARACTERS.replace(" ", "▁")} <= {*tokenizer.symbols}
    assert max(map(len, tokenizer.symbols)) > 3


def test_a_text_is_split_as_sentencepiece_splits_it(tokenizer: Tokenizer, theirs: Any) -> None:
    for line in make_lines():
        assert spell(tokenizer, line) == theirs.encode(line, out_type=str)


@given(text=st.text(CHARACTERS, max_size=60))
def test_any_text_is_split_as_well_as_sentencepiece_splits_it(tokenizer: Tokenizer, theirs: Any, text: str) -> None:
    """Where two ways are as likely to the precision of sentencepiece's float32 sums, either is right."""
    text = " ".join(text.split())
    ours, expected = spell(tokenizer, text), theirs.encode(text, out_type=str)
    score = dict(zip(tokenizer.config.units, tokenizer.config.unit_scores, strict=True)).__getitem__
    assert ours == expected or sum(map(score, ours)) == pytest.approx(sum(map(score, expected)), abs=1e-4)


@given(text=st.text(CHARACTERS + CHARACTERS.lower() + "\t"), blank=st.sampled_from(["first", "last"]))
def test_any_text_survives_a_round_trip_and_its_words_begin_where_units_say(
    tokenizer: Tokenizer, text: str, blank: Any
) -> None:
    tokenizer = Tokenizer(dataclasses.replace(tokenizer.config, blank=blank))
    labels = tokenizer.encode(text)
    normal = tokenizer.normalize(text)
    assert tokenizer.decode(labels) == normal
    assert tokenizer.blank_id not in labels
    assert sum(map(tokenizer.starts_word, labels)) == len(normal.split())
    spelt = "".join(" " * tokenizer.starts_word(label) + tokenizer.texts[label] for label in labels)
    assert spelt.strip() == normal


def test_unknown_characters_are_an_error_or_dropped_as_without_units(tokenizer: Tokenizer) -> None:
    with pytest.raises(ManifestError, match=r"\['X'\]"):
        tokenizer.encode("AX")
    dropping = Tokenizer(dataclasses.replace(tokenizer.config, unknown_character="drop"))
    encoded = dropping.encode_transcript("u", "A XX B")
    assert (tokenizer.decode(encoded.labels), encoded.num_dropped) == ("A B", 2)


def test_training_twice_gives_the_same_units(model: bytes) -> None:
    assert list_units(train_units(reversed(make_lines()), CHARACTERS, SIZE)) == list_units(model)


@pytest.mark.parametrize(
    ("lines", "size", "message"),
    [
        (["ABC"], 11, "11 characters and ▁ are units already"),
        (make_lines(), 5000, r"at most \d+; choose less"),
        ([" ", ""], 60, "no words"),
    ],
)
def test_impossible_sizes_and_texts_are_refused(lines: list[str], size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_units(lines, CHARACTERS, size)


def test_the_largest_possible_size_that_is_named_is_possible() -> None:
    with pytest.raises(ConfigError) as raised:
        train_units(["ABC ABD"], "ABCD ", 1000)
    most = int(str(raised.value).split("at most ")[1].split(";")[0])
    assert len(list_units(train_units(["ABC ABD"], "ABCD ", most))[0]) == most


# The file -------------------------------------------------------------------------------------------------------------


def test_a_file_gives_the_units_once_and_is_not_needed_again(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "units.json"
    write_units(path, model, ["train.jsonl"])
    text = read_units(dataclasses.replace(TEXT, tokenizer=str(path)))
    assert (text.units, text.unit_scores) == list_units(model)
    path.unlink()
    assert read_units(text) is text
    assert read_units(TEXT) is TEXT


def test_units_that_were_not_read_yet_are_missed() -> None:
    with pytest.raises(ConfigError, match=r"u\.json.*read when training begins"):
        Tokenizer(dataclasses.replace(TEXT, tokenizer="u.json")).encode("A")


WHOLE = {"units": ["▁", "A", "B", "▁A"], "scores": [-1.0, -2.0, -3.0, -1.5], "source": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "no tokenizer's file"),
        ({"units": None}, "no tokenizer's file"),
        ({"units": {"A": 1}}, "no tokenizer's file"),
        ({"scores": [-1.0]}, "one number for each"),
        ({"scores": [-1.0, -2.0, float("nan"), -1.5]}, r"\[nan\].*a finite number"),
        ({"scores": ["x"] * 4}, "a finite number"),
        ({"units": ["▁", "A", "B", 3]}, "units are texts"),
        ({"units": ["▁", "A", "B", ""]}, "units are texts"),
        ({"units": ["▁", "A", "B", "A"]}, "stand twice"),
        ({"units": ["▁", "A", "B", "A▁"]}, "▁ within"),
        ({"units": ["▁", "A", "B", "AC"]}, "not in text.characters"),
        ({"units": ["▁", "A", "AB", "▁A"]}, r"'B'\].*to be a unit"),
        ({"units": ["▁B", "A", "B", "▁A"]}, r"'▁'\].*to be a unit"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(changes: dict[str, Any] | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "units.json"
    path.write_text("[1" if changes is None else json.dumps(WHOLE | changes), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"units\.json.*{message}"):
        read_units(TextConfig("AB ", "first", "upper", "error", str(path)))


def test_the_file_that_is_right_is_read_and_one_that_is_gone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "units.json"
    path.write_text(json.dumps(WHOLE), encoding="utf-8")
    text = TextConfig("AB ", "last", "upper", "error", str(path))
    tokenizer = Tokenizer(read_units(text))
    assert spell(tokenizer, "ab ba aab") == ["▁A", "B", "▁", "B", "A", "▁A", "A", "B"]
    assert tokenizer.blank_id == 4
    assert tokenizer.texts == ("", "A", "B", "A", "")
    with pytest.raises(ConfigError, match=r"gone\.json"):
        read_units(dataclasses.replace(text, tokenizer=str(tmp_path / "gone.json")))


def test_a_text_that_holds_the_mark_itself_cannot_have_units() -> None:
    with pytest.raises(ConfigError, match="units mark words"):
        TextConfig("A▁ ", "first", "keep", "error", None, ["▁", "A"], [-1.0, -1.0])


def test_senseless_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="too large"):
        train_units(make_lines(), CHARACTERS, 2**31)
