"""How late words come to the page: by hand, on a network that babbles, and in Chromium on one that hears tones."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.transcribe import Recognizer
from recipes.benchmark import benchmark_live_page as script
from tests.streaming.babbler import RATE_HZ, Babbler, make_sound


def test_a_word_counts_from_when_it_stood_as_it_stayed() -> None:
    frames: script.Frames = [
        *((100.0, 0, "A BET"), (200.0, 0, "A"), (300.0, 0, "A BE C"), (400.0, 0, "A BEE C"), (500.0, 2, "")),
        *((600.0, 2, "C"), (700.0, 3, "")),
    ]
    found = script.find_shown(frames, ["A", "BEE", "C"])
    assert found == [(100.0, 500.0), (400.0, 500.0), (600.0, 700.0)]  # C was taken back, and shown again


def test_moments_are_those_of_the_quickest_blocks_around_them() -> None:
    ends = np.arange(1, 101) * 640.0
    when = 50 + 1000 * ends / 16000
    late = np.where(np.arange(100) % 3, 30.0, 0.0)
    found = script.find_moments(np.stack([ends, when + late], axis=1), np.array([1.0, 2.5]), 16000)
    np.testing.assert_allclose(found, [1050.0, 2550.0])
    when[45:] += 500  # half a second was lost after 1.8 s
    found = script.find_moments(np.stack([ends, when + late], axis=1), np.array([0.0, 4.0]), 16000)
    np.testing.assert_allclose(found, [50.0, 4550.0])


def test_delays_are_those_of_the_words_that_the_whole_has_too() -> None:
    expected = [Word(text, i, i + 0.5, 0.9) for i, text in enumerate(("A", "B", "C", "D"))]
    frames: script.Frames = [(1000.0, 0, "A"), (3000.0, 1, "X"), (3600.0, 2, "C"), (4600.0, 4, "")]
    moments = np.array([500.0, 1500.0, 2500.0, 3500.0])
    row = script.measure_delays(expected, moments, ["A", "X", "C", "D"], frames)
    assert (row["num_words"], row["num_counted"]) == (4, 3)
    assert row["shown_seconds"][0] == pytest.approx(1.1)  # of 0.5, 1.1 and 1.1
    assert row["final_seconds"][0] == pytest.approx(2.1)  # of 2.5, 2.1 and 1.1
    assert row["shown_within_a_second"] == pytest.approx(1 / 3, abs=1e-3)


def test_what_a_page_without_delay_would_show_is_what_the_stream_says() -> None:
    recognizer = Recognizer(Babbler())
    samples = np.round(32767 * make_sound(6.0)).astype(np.int16)
    frames, words = script.follow(recognizer, samples, RATE_HZ // 25)
    assert words == recognizer.transcribe(samples, RATE_HZ).text.split()
    assert frames[-1][1] == len(words)
    shown = script.find_shown(frames, words)
    assert len(shown) == len(words)
    assert all(since <= settled for since, settled in shown)
    assert [word.text for word in script.decode_whole(recognizer, samples)] == words


def test_networks_and_decoders_that_cannot_be_measured_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    for options, message in (
        (("english", "none.jsonl", "--decoder", "greedy"), "needs whole utterances"),
        (("english_stream", "none.jsonl", "--page", "static", "--decoder", "english"), "decodes greedily"),
    ):
        monkeypatch.setattr("sys.argv", ["benchmark_live_page.py", *options])
        with pytest.raises(SystemExit):
            script.main()
        assert message in capsys.readouterr().err


def test_chromium_s_microphone_is_heard_and_its_words_are_timed(tmp_path: Path) -> None:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    from tests.chromium import SPOKEN, fill_folder
    from tests.serving.tones import run_server

    fill_folder(tmp_path)
    with run_server() as running:
        heard = script.listen(f"{running.address}/", tmp_path / "spoken.wav", 7.0)
    assert heard.words == SPOKEN.split()
    assert heard.arrivals[-1, 0] == len(heard.samples) > 3 * 16000
    assert heard.opened < heard.arrivals[0, 1]
    shown = script.find_shown(heard.frames, heard.words)
    assert len(shown) == 3
    assert all(heard.opened < since <= settled for since, settled in shown)


def test_an_empty_result_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = Recognizer(Babbler())
    monkeypatch.setattr(script, "decode_whole", lambda *_: ())
    heard = script.Heard(np.zeros(8000, np.int16), np.array([[8000.0, 1.0]]), [], [], 0.0)
    with pytest.raises(ConfigError, match="no words were heard"):
        script.describe(recognizer, heard)
