"""Exact zeros in live speech, such as a muted microphone: the network for streams finds no words in them.

Its features (`corpus`) have so high a floor that zeros are what the noise of the last bit is: `audio.normalization`.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2 import Recognizer, models
from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.decoding.choice import DecoderChoice, find_choice
from mindaudio_ds2.decoding.greedy import GreedyDecoder
from mindaudio_ds2.streaming.events import Event

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

RATE_HZ = 16000
LATE = 0.3  # how far a word's letters come from its sound (s)
Sound = NDArray[np.float32]


def make_zeros(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def make_last_bits(seconds: float) -> Sound:
    """Noise of the least that 16 bits can say."""
    bits = np.random.default_rng(3).integers(-1, 2, round(seconds * RATE_HZ))
    return np.asarray(bits / 2**15, np.float32)


@pytest.fixture(scope="module", params=["greedy", "language model"])
def recognizer(request: pytest.FixtureRequest) -> Recognizer:
    choice = DecoderChoice()
    if request.param != "greedy":
        choice = find_choice(models.find_file("english", "recognition"))
        assert choice.kind == "beam"
    return Recognizer.load("english_stream", choice=choice)


@pytest.fixture(scope="module")
def speech(shared_data: Path) -> list[Sound]:
    """Five seconds of each of three readings, which begin and end within words."""
    folder = shared_data / "mini_librispeech" / "LibriSpeech" / "dev-mini" / "19" / "198"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    paths = sorted(folder.glob("*.flac"))
    sounds = [read_audio(path, RATE_HZ) for path in paths[1:40:13]]
    return [sound[RATE_HZ : 6 * RATE_HZ] for sound in sounds]


def hear(recognizer: Recognizer, sound: Sound, seed: int, **options: None) -> list[Event]:
    """All events of a stream that is cut anywhere."""
    generator = np.random.default_rng(seed)
    places = np.sort(generator.integers(0, len(sound) + 1, int(generator.integers(1, 60))))
    stream = recognizer.stream(RATE_HZ, **options)
    return [event for chunk in np.split(sound, places) for event in stream.feed(chunk)] + stream.finish()


def list_finals(events: list[Event]) -> list[str]:
    return [word.text for event in events if event.kind == "final" for word in event.words]


def find_letters(recognizer: Recognizer, sound: Sound) -> NDArray[np.float32]:
    """For each output frame, how probable it is that it says any letter."""
    log_probs, lengths = recognizer.network.recognize([sound])
    is_letter = np.array([bool(text) for text in recognizer.network.tokenizer.texts])
    return np.asarray(np.exp(log_probs[0, : lengths[0]])[:, is_letter].sum(axis=1))


def test_a_muted_microphone_says_nothing(recognizer: Recognizer) -> None:
    for seed, seconds in enumerate((0.01, 0.5, 3.0, 60.0)):
        assert hear(recognizer, make_zeros(seconds), seed) == []
        assert hear(recognizer, make_zeros(seconds) + np.float32(0.02), seed) == []  # a constant is as silent


def test_zeros_are_as_far_from_a_letter_as_the_noise_of_the_last_bit() -> None:
    recognizer = Recognizer.load("english_stream", choice=DecoderChoice())
    zeros, bits = (find_letters(recognizer, make(60.0)) for make in (make_zeros, make_last_bits))
    assert zeros.max() < 0.02
    assert bits.max() < 0.02


def test_of_features_for_streams_zeros_are_the_limit_of_noise() -> None:
    """In deviations of the training set. For whole recordings the floor is 30 dB lower, zeros far from all sound."""
    corpus = Recognizer.load("english_stream", choice=DecoderChoice()).network.features
    whole = Recognizer.load("english", choice=DecoderChoice()).network.features
    assert (corpus.normalization, whole.normalization) == ("corpus", "speech")

    def measure_distance(zeros: Sound, noise: Sound) -> float:
        return float(np.abs(compute_features(zeros, corpus) - compute_features(noise, corpus)).mean())

    zeros, bits = make_zeros(3.0), make_last_bits(3.0)
    assert measure_distance(zeros, bits) < 0.6
    assert measure_distance(zeros, bits / 8) < 0.02
    voice = 0.05 * np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    assert measure_distance(np.concatenate([voice, zeros]), np.concatenate([voice, bits])) < 0.02
    far = np.abs(compute_features(zeros, whole) - compute_features(bits, whole)).mean()
    assert far > 1.2, far


def test_zeros_before_between_and_after_speech_hold_no_word_and_lose_none(
    recognizer: Recognizer, speech: list[Sound]
) -> None:
    """Of the whole, which is recognised in one piece, and for any cut of a stream, with endpoints and without."""
    for seed, gaps in enumerate(((7.0, 0.4, 1.3, 1.3), (0.4, 7.0, 0.0, 30.0))):
        parts, silences, now = [make_zeros(gaps[0])], [(0.0, gaps[0])], gaps[0]
        for sound, gap in zip(speech, gaps[1:], strict=True):
            now += len(sound) / RATE_HZ
            parts += [sound, make_zeros(gap)]
            silences.append((now, now + gap))
            now += gap
        sound = np.concatenate(parts)
        log_probs, lengths = recognizer.network.recognize([sound])
        (whole, *_) = recognizer.decoder.decode(log_probs[0, : lengths[0]])
        assert len(whole.words) > 20
        inside = [w for w in whole.words for start, end in silences if start + LATE < w.start_seconds < end - LATE]
        assert inside == []
        ended = list_finals(hear(recognizer, sound, seed))
        assert ended == list_finals(hear(recognizer, sound, seed + 10))
        assert list_finals(hear(recognizer, sound, seed, endpointing=None)) == [word.text for word in whole.words]
        if isinstance(recognizer.decoder, GreedyDecoder):
            assert ended == [word.text for word in whole.words]
