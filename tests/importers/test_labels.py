import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.importers.labels import from_text_config, read_labels, to_text_config
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer


@given(st.permutations([*"_ABC' "]))
def test_every_label_keeps_its_row(labels: list[str]) -> None:
    text, rows = to_text_config(labels)
    tokenizer = Tokenizer(text)
    assert labels[rows[tokenizer.blank_id]] == "_"
    for character in tokenizer.characters:
        assert labels[rows[int(tokenizer.encode(f"A{character}A")[1])]] == character


@given(st.permutations([*"ABC' "]), st.sampled_from(["first", "last"]), st.sampled_from(["first", "last"]))
def test_labels_for_others_name_our_ids(characters: list[str], ours: Any, theirs: Any) -> None:
    tokenizer = Tokenizer(TextConfig("".join(characters), ours, "upper", "error"))
    labels, rows = from_text_config(tokenizer.config, theirs)
    assert labels[0 if theirs == "first" else -1] == "_"
    assert rows[labels.index("_")] == tokenizer.blank_id
    for place, label in enumerate(labels):
        if label != "_":
            assert rows[place] == tokenizer.encode(f"A{label}A")[1]


@pytest.mark.parametrize(
    ("characters", "letter_case"), [("AB", "upper"), ("ab", "lower"), ("aB", "keep"), ("文 ", "keep"), ("ab'", "lower")]
)
def test_the_letter_case_is_that_of_the_labels(characters: str, letter_case: str) -> None:
    text, _ = to_text_config(["_", *characters])
    assert text.letter_case == letter_case
    assert Tokenizer(text).characters == characters


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": 1}, "list of single characters"),
        (["_", "AB"], "list of single characters"),
        (["_", "A", "A"], "twice"),
        (["A", "B"], "'_', the blank"),
        (["_"], "and a character"),
    ],
)
def test_labels_that_cannot_be_are_refused(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=words) as raised:
        read_labels(path)
    assert str(path) in str(raised.value)


def test_a_labels_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.json"):
        read_labels(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("[", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"x\.json"):
        read_labels(tmp_path / "x.json")


def test_labels_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('["_", "\'", "Ä", " "]', encoding="utf-8")
    assert read_labels(tmp_path / "labels.json") == ["_", "'", "Ä", " "]
