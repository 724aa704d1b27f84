"""Utterances a second, from a few real updates."""

import re
from collections.abc import Callable

import pytest

from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import ConfigError
from recipes.benchmark import performance


def test_speed_is_that_of_the_second_epoch(configure: Callable[..., Config], mindspore_cpu: None) -> None:
    shown = performance.measure(configure({"batching.accumulation_steps": 2}), 2)
    found = re.match(
        r"([\d.]+) utterances a second, ([\d.]+) hours .*: 1 updates of (\d+) utterances in ([\d.]+) s", shown
    )
    assert found, shown
    rate, hours, num_utterances, seconds = map(float, found.groups())
    assert 1 <= num_utterances <= 6
    assert rate == pytest.approx(num_utterances / seconds, rel=0.5, abs=0.02)
    assert 0 < hours < rate * 2, "no utterance of the tiny corpus lasts 2 s"
    assert "fp32 on CPU" in shown


def test_what_is_measured_are_whole_updates_of_an_epoch(configure: Callable[..., Config]) -> None:
    config = configure({})
    utterances = read_manifest(config.data.train_manifest)
    few = performance.choose(utterances, config, 2)
    assert 2 <= len(few) <= 6
    assert set(few) <= set(performance.choose(utterances, config, 3))
    assert sorted(u.id for u in performance.choose(utterances, config, 1000)) == sorted(u.id for u in utterances)


def test_one_update_cannot_be_measured(configure: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        performance.measure(configure({}), 1)
