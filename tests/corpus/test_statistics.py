import json
import statistics as python_statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindaudio_ds2.corpus.charts import draw_histograms
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.reports import describe, to_json
from mindaudio_ds2.corpus.statistics import (
    Distribution,
    ManifestStatistics,
    SuspicionLimits,
    choose_edges,
    find_rate_limits,
    measure_corpus,
)
from mindaudio_ds2.errors import OutputError

LIMITS = SuspicionLimits(min_seconds=0.5, max_seconds=30.0, min_rate=None, max_rate=None, max_deviations=4.0)


def normalize(transcript: str) -> str:
    return " ".join(transcript.upper().split())


def measure(utterances: list[Utterance], characters: str | None = None) -> ManifestStatistics:
    return measure_corpus(utterances, normalize, characters, LIMITS)


def make_corpus(num_utterances: int, seed: int = 1) -> list[Utterance]:
    """Ten characters a second, give or take."""
    generator = np.random.default_rng(seed)
    utterances = []
    for n in range(num_utterances):
        words = ["".join(generator.choice(list("ABCDE"), size)) for size in generator.integers(1, 9, size=10)]
        transcript = " ".join(words)
        seconds = len(transcript) / 10 * float(generator.lognormal(0, 0.1))
        utterances.append(Utterance(f"u{n}", f"/wav/u{n}.wav", seconds, transcript, f"s{n % 7}"))
    return utterances


def test_totals_agree_with_counting_by_hand() -> None:
    utterances = make_corpus(200)
    found = measure(utterances)
    text = [utterance.transcript for utterance in utterances]
    assert found.num_utterances == 200
    assert found.hours == pytest.approx(sum(u.duration_seconds for u in utterances) / 3600)
    assert found.num_characters == sum(map(len, text))
    assert found.num_words == sum(len(line.split()) for line in text)
    assert found.vocabulary_size == len(set(" ".join(text).split()))
    assert found.character_counts == dict(sorted(Counter("".join(text)).items()))
    assert (found.num_speakers, found.num_without_speaker) == (7, 0)
    by_speaker = [sum(u.duration_seconds for u in utterances if u.speaker == f"s{n}") / 3600 for n in range(7)]
    assert found.speaker_hours is not None
    np.testing.assert_allclose(found.speaker_hours.values, sorted(by_speaker))
    rates = sorted(len(u.transcript) / u.duration_seconds for u in utterances)
    np.testing.assert_allclose(found.characters_per_second.values, rates)


def test_unknown_speakers_are_counted_apart() -> None:
    found = measure([Utterance("a", "a", 1.0, "GO"), Utterance("b", "b", 1.0, "GO ON", "s")])
    assert (found.num_speakers, found.num_without_speaker) == (1, 1)
    assert measure([Utterance("a", "a", 1.0, "GO")]).speaker_hours is None


@given(st.lists(st.text(min_size=1, max_size=40).filter(lambda text: bool(text.strip())), min_size=1, max_size=20))
def test_characters_of_any_script_are_counted_as_a_counter_would(transcripts: list[str]) -> None:
    utterances = [Utterance(f"{n}", f"{n}", 1.0, text) for n, text in enumerate(transcripts)]
    found = measure_corpus(utterances, lambda text: text, None, LIMITS)
    assert found.character_counts == Counter("".join(transcripts))


def test_characters_outside_the_alphabet_are_counted_after_the_letter_case() -> None:
    utterances = [
        Utterance("a", "a", 1.0, "go on"),
        Utterance("b", "b", 1.0, "naïve 🙂 IÑ"),
        Utterance("c", "c", 1.0, "ï"),
    ]
    found = measure(utterances, "ABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    assert found.unknown_characters == {"Ï": 2, "Ñ": 1, "🙂": 1}
    assert found.with_unknown_characters == ["b", "c"]
    assert measure(utterances).unknown_characters is None
    assert "'Ñ' (U+00D1 LATIN CAPITAL LETTER N WITH TILDE) 1 times" in describe(found)


def test_transcripts_and_recordings_that_do_not_belong_together_are_found() -> None:
    corpus = make_corpus(300)
    fast = Utterance("fast", "/f", 1.0, "A" * 40)
    slow = Utterance("slow", "/s", 20.0, "A")
    found = measure([*corpus[:100], fast, *corpus[100:], slow])
    assert (found.too_many_characters, found.too_few_characters) == (["fast"], ["slow"])


def test_limits_given_as_numbers_replace_those_of_the_corpus() -> None:
    limits = SuspicionLimits(0.5, 30.0, min_rate=3.0, max_rate=4.0, max_deviations=100.0)
    utterances = [Utterance(f"{n}", f"{n}", 1.0, "A" * n) for n in range(1, 7)]
    found = measure_corpus(utterances, normalize, None, limits)
    assert found.rate_limits == (3.0, 4.0)
    assert (found.too_few_characters, found.too_many_characters) == (["1", "2"], ["5", "6"])


def test_rate_limits_are_standard_deviations_of_the_logarithms_that_mistakes_hardly_move() -> None:
    generator = np.random.default_rng(3)
    rates = np.exp(generator.normal(np.log(14), 0.2, size=20_000))
    low, high = find_rate_limits(rates, 4.0)
    assert low == pytest.approx(14 * np.exp(-0.8), rel=0.03)
    assert high == pytest.approx(14 * np.exp(0.8), rel=0.03)
    rates[:200] = 1000.0  # one mistake in a hundred, which would treble an ordinary standard deviation
    assert find_rate_limits(rates, 4.0) == pytest.approx((low, high), rel=0.05)


def test_corpora_of_one_rate_have_limits_around_it() -> None:
    low, high = find_rate_limits(np.full(5, 10.0), 4.0)
    assert 6 < low < 7 < 14 < high < 16


def test_very_short_and_very_long_utterances_are_listed() -> None:
    durations = (0.49, 0.5, 30.0, 30.1)
    found = measure([Utterance(f"{seconds}", f"{seconds}", seconds, "GO") for seconds in durations])
    assert (found.too_short, found.too_long) == (["0.49"], ["30.1"])


def test_duplicates_are_grouped_once() -> None:
    utterances = [
        Utterance("a", "/1.wav", 2.0, "go on"),
        Utterance("b", "/2.wav", 2.0, "GO  ON"),
        Utterance("c", "/1.wav", 2.0, "go on"),
        Utterance("d", "/3.wav", 2.5, "go on"),
        Utterance("e", "/4.wav", 2.0, "go off"),
    ]
    found = measure(utterances)
    assert found.same_audio == [["a", "c"]]
    assert found.same_content == [["a", "b"]]


def test_percentiles_agree_with_the_standard_library() -> None:
    values = np.sort(np.random.default_rng(1).normal(10, 2, size=1001))
    percentiles = Distribution(values).percentiles
    expected = python_statistics.quantiles(values, n=100, method="inclusive")
    for percent in (1, 5, 25, 50, 75, 95, 99):
        assert percentiles[percent] == pytest.approx(expected[percent - 1])
    assert (percentiles[0], percentiles[100]) == (values[0], values[-1])
    assert Distribution(values).median == pytest.approx(python_statistics.median(values))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(1, 60))
def test_every_value_is_in_one_bin_of_a_histogram(values: list[float], num_bins: int) -> None:
    distribution = Distribution(np.sort(np.array(values)))
    edges = choose_edges([distribution], num_bins)
    assert 2 <= len(edges) <= num_bins + 1
    assert distribution.count(edges).sum() == len(values)


def test_bins_are_round_and_an_outlier_does_not_stretch_them() -> None:
    values = np.sort(np.append(np.random.default_rng(1).uniform(0, 16, size=2000), 900.0))
    edges = choose_edges([Distribution(values)], 15)
    np.testing.assert_allclose(edges, np.arange(0, 17, 2))
    assert Distribution(values).count(edges)[-1] == (values >= 14).sum()


def test_the_report_lists_the_first_of_many_and_says_how_many_there_are() -> None:
    text = describe(measure([Utterance(f"u{n:02d}", f"{n}", 0.1, "GO") for n in range(25)]))
    assert "very short: 25\n      u00\n" in text
    assert "u09 and 15 more" in text
    assert "u10" not in text.split("same")[0]


def test_json_holds_every_number_and_every_id() -> None:
    content = json.loads(json.dumps(to_json(measure([Utterance(f"u{n}", f"{n}", 0.1, "GO") for n in range(25)]))))
    assert content.keys() == ManifestStatistics.__dataclass_fields__.keys()
    assert len(content["too_short"]) == 25
    assert sum(content["durations"]["histogram"]["counts"]) == 25
    assert content["durations"]["percentiles"]["50"] == pytest.approx(0.1)


def test_a_picture_is_drawn_of_one_corpus_and_of_several(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    corpora = {"train": measure(make_corpus(200)), "dev": measure(make_corpus(1, seed=2))}
    draw_histograms(corpora, tmp_path / "both.png")
    draw_histograms({"train": corpora["train"]}, tmp_path / "one.SVG")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    assert "characters a second" in (tmp_path / "one.SVG").read_text(encoding="utf-8")


def test_a_picture_without_a_known_ending_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(OutputError, match=r"choose \.png"):
        draw_histograms({"train": measure(make_corpus(3))}, tmp_path / "picture.doc")


def test_without_matplotlib_a_picture_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(OutputError, match="pip install"):
        draw_histograms({"train": measure(make_corpus(3))}, tmp_path / "picture.png")
