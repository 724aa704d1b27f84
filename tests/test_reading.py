import json
from typing import Any

import pytest

from mindaudio_ds2.reading import ReadError, parse_json
from mindaudio_ds2.yaml_reader import parse_yaml


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "thousands of digits|cannot be read"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": ', "line 1"),
    ],
)
def test_hostile_text_is_one_kind_of_error(parse: Any, text: str, complaint: str) -> None:
    with pytest.raises(ReadError, match=complaint):
        parse(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 010", "another number"),
        ("a: 1:30", "another number"),
        ("a: !!timestamp 2001-01-01", "not read here"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: &x [1]\nb: *x", "anchors are not read"),
        ("a:\n  b: 1\n  b: 2", "'b' stands twice; remove one at line 3"),
        ("[a, b]: 1", "a key must be a word"),
        ("a" * 1_000_001, "1,000,001 characters"),
    ],
)
def test_yaml_that_means_something_else_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ReadError, match=complaint):
        parse_yaml(text)


def test_words_and_numbers_of_yaml_are_what_they_look_like() -> None:
    text = "\ufeffa: off\nb: yes\nc: true\nd: 1e-3\ne: 10\nf: null\ng: 2001-01-01\nh: -0.5\ni: [1, x]"
    expected = {"a": "off", "b": "yes", "c": True, "d": 1e-3, "e": 10, "f": None, "g": "2001-01-01", "h": -0.5}
    assert parse_yaml(text) == {**expected, "i": [1, "x"]}


def test_json_with_a_byte_order_mark_is_read() -> None:
    assert parse_json("\ufeff" + json.dumps({"a": [1.5, "é", None]})) == {"a": [1.5, "é", None]}
