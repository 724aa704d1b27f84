"""Seeds on command lines."""

import argparse
import re
from pathlib import Path

import pytest

from mindaudio_ds2.commands import robustness
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_a_seed_is_a_whole_number_from_zero() -> None:
    assert [parse_seed(text) for text in ("0", "7", str(2**70))] == [0, 7, 2**70]
    for text in ("-1", "1.5", "", "x", "²"):
        with pytest.raises(argparse.ArgumentTypeError, match="whole number, 0 or more"):
            parse_seed(text)


def test_a_negative_seed_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="--seed: must be a whole number, 0 or more, found '-1'"):
        robustness.main.make_parser().parse_args(["english", "a.jsonl", "--seed", "-1"])


def test_every_command_and_recipe_reads_its_seed_so() -> None:
    found = []
    for folder in ("mindaudio_ds2", "recipes", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            found += re.findall(r'"--seed",\s*type=(\w+)', path.read_text(encoding="utf-8"))
    assert len(found) >= 9
    assert set(found) == {"parse_seed"}
