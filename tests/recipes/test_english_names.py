"""Names put into sentences and spoken, and how hotwords are counted; voice and network are stand-ins."""

import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.decoding.hotwords import Hotword, read_hotwords
from mindaudio_ds2.errors import ConfigError, DeepSpeechError
from recipes.benchmark.benchmark_hotwords import (
    Bench,
    Heard,
    Row,
    choose,
    count,
    leave_out_known,
    report,
    require_halves,
)
from recipes.english.say_names import CARRIERS, draw_plain, fill_carriers, read_names, speak
from recipes.english.sentences import LETTERS
from recipes.english.voices import Request
from tests.decoding.beam_cases import make_model

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "english"
NAMES = (RECIPE / "names.txt", RECIPE / "more_names.txt")


class Beeper:
    """Says noise, a tenth of a second a word."""

    num_spoken = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def draw(self, text: str, index: int, rng: random.Random) -> Request:
        return Request(text, self.name, 1.0, 1.0, 1.0, 1.0, rng.randrange(2**31))

    def speak(self, request: Request) -> NDArray[np.float32]:
        Beeper.num_spoken += 1
        noise = np.random.default_rng(request.seed).uniform(-0.1, 0.1, 1600 * len(request.text.split()))
        return noise.astype(np.float32)


def test_each_name_stands_once_in_different_carriers() -> None:
    lines = fill_carriers(["OBAMA", "FRANK SINATRA"], 3, seed=1)
    assert [line.turn for line in lines] == [0, 1, 2] * 2
    assert len({line.transcript for line in lines}) == 6
    for line, name in zip(lines, ["OBAMA"] * 3 + ["FRANK SINATRA"] * 3, strict=True):
        assert count(name, line.transcript) == 1
        assert set(line.transcript) <= LETTERS
        assert name.title() in line.written
    assert {*fill_carriers(["OBAMA"], 2, seed=1)} < {*lines}  # more times add to fewer


def test_names_are_read_as_hotwords_are(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeff# people\r\nObama\t3\r\n\r\nO'Hara \r\n", encoding="utf-8")
    assert read_names(path) == ["Obama", "O'Hara"]
    for content, said in ((b"", "none"), (b"# nobody\n", "none"), (b"A\nR2D2\n", "'R2D2'"), (b"\xff", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(DeepSpeechError, match=said):
            read_names(path)
    with pytest.raises(DeepSpeechError, match="cannot be read"):
        read_names(tmp_path / "none.txt")


def test_no_carrier_and_no_name_holds_what_cannot_be_recognised() -> None:
    hotwords = [word for path in NAMES for word in read_hotwords(path)]
    spellings = [text for word in hotwords for text in (word.text, *word.sounds_like)]
    assert len(hotwords) == 60
    assert len(spellings) == len({*spellings})
    assert all(set(text) <= LETTERS for text in spellings)
    assert not any(count(text, carrier.upper()) for text in spellings for carrier in CARRIERS)


def test_sentences_without_names_are_beginnings_of_transcripts() -> None:
    transcripts = [f"THE {word} " + "WENT ON " * 15 for word in ("CAT", "DOG", "COW")]
    lines = draw_plain(transcripts, 2, seed=1)
    assert len({line.transcript for line in lines}) == 2
    for line in lines:
        assert len(line.transcript.split()) == 20
        assert any(text.startswith(line.transcript) for text in transcripts)


def test_engines_take_turns_and_nothing_is_said_twice(tmp_path: Path) -> None:
    lines, engines = fill_carriers(["OBAMA", "MINSK"], 3, seed=1), [Beeper("low"), Beeper("high")]
    before = Beeper.num_spoken
    first = list(speak(lines, engines, tmp_path, seed=1))
    assert [utterance.speaker for utterance in first] == ["low", "high", "low"] * 2
    assert [utterance.transcript for utterance in first] == [line.transcript for line in lines]
    assert all(Path(utterance.audio_path).is_file() for utterance in first)
    assert Beeper.num_spoken - before == 6
    assert list(speak(lines, engines, tmp_path, seed=1)) == first
    assert Beeper.num_spoken - before == 6


def test_whole_words_count_and_neighbours_twice() -> None:
    assert count("AB", "AB ABC AB AB CAB") == 3
    assert count("AB CD", "XAB CD AB CD") == 1


def test_a_name_of_known_words_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(tmp_path)
    names = [Hotword(text, 1.0, ("BB",) * len(text.split())) for text in ("A B", "A BB", "AB")]
    assert leave_out_known(names, Path(model.path)) == [names[1]]
    assert "A B, AB" in capsys.readouterr().out


def test_the_lightest_weight_is_chosen_that_finds_most_within_the_limit() -> None:
    def row(found: int, false: int) -> Row:
        return Row(found, 100, false, false, 50, 30, 1000)

    assert choose({0.5: row(60, 0), 1.0: row(80, 4), 1.5: row(80, 5), 2.0: row(90, 6)}) == 1.0
    with pytest.raises(ConfigError, match="more than 0.5% of words .* lighter --weights"):
        choose({1.0: row(80, 6)})


def test_what_cannot_be_measured_is_an_error_before_it_is() -> None:
    def hear(*references: str) -> list[Heard]:
        return [Heard(reference, np.zeros((0, 4), np.float32)) for reference in references]

    named, plain = hear("WE SAW OBAMA", "MINSK IS FAR"), {Path("plain.jsonl"): hear("A CAT", "A DOG")}
    require_halves(["OBAMA", "MINSK"], named, plain)
    for names, said in (
        (["OBAMA"], r"the report is said \(none is left"),
        (["TIJUANA", "MINSK"], r"choice is said \(T"),
    ):
        with pytest.raises(ConfigError, match=said):
            require_halves(names, named, plain)
    with pytest.raises(ConfigError, match="no words for the report"):
        require_halves(["OBAMA", "MINSK"], named, {Path("plain.jsonl"): hear("A CAT", "")})
    nobody = Bench.__new__(Bench)  # nothing is heard or decoded
    with pytest.raises(ConfigError, match="none of the names is said"):
        report(nobody, [Hotword("TIJUANA", 1.0)], named, plain, 1.0)
