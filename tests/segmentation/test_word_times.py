"""Words that are moved to where the sound has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mindaudio_ds2.decoding.greedy import GreedyDecoder
from mindaudio_ds2.decoding.hypothesis import LEAST_WORD_SECONDS, Hypothesis, Word
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.segmentation.word_times import WordPlacer
from mindaudio_ds2.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer(TextConfig("ABCD ", "first", "upper", "error"))
RATE_HZ, FRAME_SECONDS = 8000, 0.04


def sound(seconds: float, spoken: list[tuple[float, float]], level: float = 0.2) -> NDArray[np.float32]:
    """Noise between the given seconds, over a quiet background."""
    generator = np.random.default_rng(1)
    waveform = 0.001 * generator.standard_normal(round(seconds * RATE_HZ))
    for start, end in spoken:
        first, last = round(start * RATE_HZ), round(end * RATE_HZ)
        waveform[first:last] += level * generator.standard_normal(last - first)
    return waveform.astype(np.float32)


def show(seconds: float, letters: dict[float, str]) -> NDArray[np.float32]:
    """Log-probabilities that are sure of a letter in the frame at each of the given seconds, else of the blank."""
    probabilities = np.full((round(seconds / FRAME_SECONDS), TOKENIZER.size), 0.01)
    best = np.full(len(probabilities), TOKENIZER.blank_id)
    for second, letter in letters.items():
        best[int(second / FRAME_SECONDS)] = TOKENIZER.encode(letter)[0] if letter != " " else SPACE
    probabilities[np.arange(len(best)), best] = 0.95
    log_probs: NDArray[np.float32] = np.log(probabilities).astype(np.float32)
    return log_probs


SPACE = next(i for i in range(TOKENIZER.size) if i != TOKENIZER.blank_id and TOKENIZER.decode([i]) == " ")


def place(seconds: float, spoken: list[tuple[float, float]], letters: dict[float, str]) -> list[tuple[float, float]]:
    log_probs, waveform = show(seconds, letters), sound(seconds, spoken)
    (found,) = GreedyDecoder(TOKENIZER, FRAME_SECONDS).decode(log_probs)
    placed = WordPlacer(TOKENIZER, FRAME_SECONDS, RATE_HZ).place(found, log_probs, waveform)
    assert placed.text == found.text
    return [(word.start_seconds, word.end_seconds) for word in placed.words]


def test_words_between_pauses_begin_and_end_with_the_sound() -> None:
    spoken = [(0.5, 1.0), (1.3, 1.9)]
    times = place(2.5, spoken, {0.6: "A", 0.8: "B", 1.1: " ", 1.5: "C", 1.7: "D"})
    assert np.array(times) == pytest.approx(np.array(spoken), abs=0.021)


def test_letters_that_are_shown_before_the_speech_begins_do_not_begin_their_word() -> None:
    times = place(2.5, [(0.5, 1.0), (1.3, 1.9)], {0.01: "A", 0.13: "B", 0.3: " ", 1.5: "C", 2.3: "D"})
    assert np.array(times) == pytest.approx(np.array([(0.5, 1.0), (1.3, 1.9)]), abs=0.021)


def test_words_without_a_pause_between_them_touch_halfway() -> None:
    ((start, end), (begin, finish)) = place(2.0, [(0.4, 1.6)], {0.5: "A", 0.8: "B", 0.9: " ", 1.2: "C", 1.4: "D"})
    assert end == begin == pytest.approx(1.02, abs=0.01)
    assert (start, finish) == pytest.approx((0.4, 1.6), abs=0.021)


def test_a_short_dip_within_a_word_does_not_end_it() -> None:
    spoken = [(0.4, 0.7), (0.73, 1.0), (1.4, 1.8)]
    times = place(2.2, spoken, {0.5: "A", 0.9: "B", 1.2: " ", 1.6: "C"})
    assert np.array(times) == pytest.approx(np.array([(0.4, 1.0), (1.4, 1.8)]), abs=0.021)


def test_sound_from_the_first_sample_to_the_last_is_all_spoken() -> None:
    assert place(1.2, [(0.0, 1.2)], {0.1: "A", 1.0: "B"}) == [(0.0, 1.2)]


def test_units_hold_their_words_as_letters_do() -> None:
    units = ["▁", "▁AB", "▁A", "▁C", "▁CD", "A", "B", "C", "D"]
    tokenizer = Tokenizer(TextConfig("ABCD ", "first", "upper", "error", None, units, [-1.0] * len(units)))
    spoken = [(0.5, 1.0), (1.3, 1.9)]
    probabilities = np.full((62, tokenizer.size), 0.005)
    path = np.full(62, tokenizer.blank_id)
    for second, unit in {0.7: "▁AB", 1.4: "▁C", 1.7: "D"}.items():  # not the likeliest way to write CD
        path[int(second / FRAME_SECONDS)] = tokenizer.symbols.index(unit)
    probabilities[np.arange(62), path] = 0.95
    log_probs, waveform = np.log(probabilities).astype(np.float32), sound(2.5, spoken)
    (found,) = GreedyDecoder(tokenizer, FRAME_SECONDS).decode(log_probs)
    placed = WordPlacer(tokenizer, FRAME_SECONDS, RATE_HZ).place(found, log_probs, waveform)
    assert placed.text == "AB CD"
    times = [(word.start_seconds, word.end_seconds) for word in placed.words]
    assert np.array(times) == pytest.approx(np.array(spoken), abs=0.021)


def test_no_words_stay_no_words() -> None:
    nothing = Hypothesis("", -1.0, ())
    assert WordPlacer(TOKENIZER, FRAME_SECONDS, RATE_HZ).place(nothing, show(1, {}), sound(1, [])) == nothing


@given(
    seed=st.integers(0, 10**6),
    num_samples=st.integers(1, 20000),
    text=st.sampled_from(["A", "AB C", "D D D", "ABCD ABCD", "X Y"]),
)
def test_words_stay_in_order_and_within_the_recording_whatever_a_decoder_says(
    seed: int, num_samples: int, text: str
) -> None:
    generator = np.random.default_rng(seed)
    waveform = (0.1 * generator.standard_normal(num_samples)).astype(np.float32)
    waveform *= (np.arange(num_samples) // 900 % 3 > 0) if seed % 2 else 1.0
    frames = num_samples // 320 + 1
    scores = generator.standard_normal((frames, TOKENIZER.size)) * 3
    log_probs = (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)
    bounds = np.sort(generator.uniform(0, frames * FRAME_SECONDS, 2 * len(text.split()))).reshape(-1, 2)
    words = tuple(Word(word, start, end, 0.5) for word, (start, end) in zip(text.split(), bounds.tolist(), strict=True))
    placed = WordPlacer(TOKENIZER, FRAME_SECONDS, RATE_HZ).place(Hypothesis(text, -1.0, words), log_probs, waveform)
    times = [time for word in placed.words for time in (word.start_seconds, word.end_seconds)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= num_samples / RATE_HZ
    least = min(LEAST_WORD_SECONDS, num_samples / RATE_HZ / len(words))
    assert min(word.end_seconds - word.start_seconds for word in placed.words) >= least - 1e-6
    assert [word.text for word in placed.words] == text.split()
