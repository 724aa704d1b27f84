"""Events from paths written by hand: what is final, what is shown, and where utterances end."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.decoding.beam import BeamDecoder, BeamSettings
from mindaudio_ds2.decoding.choice import Decoder
from mindaudio_ds2.decoding.greedy import GreedyDecoder
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.streaming.events import Endpointing, Event
from mindaudio_ds2.streaming.utterances import STEP_FRAMES, UtteranceStream
from mindaudio_ds2.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer(TextConfig("ABCDE ", "first", "upper", "error"))
SECONDS = 0.1
ENDPOINTING = Endpointing(silence_seconds=1.0, max_seconds=5.0)


def make_log_probs(path: str, best: float = 0.9) -> NDArray[np.float32]:
    """(S, V) whose best path spells `path`; `_` is the blank."""
    labels = [0 if character == "_" else 1 + "ABCDE ".index(character) for character in path]
    shares = np.full((len(path), TOKENIZER.size), (1 - best) / (TOKENIZER.size - 1))
    shares[np.arange(len(path)), labels] = best
    log_probs: NDArray[np.float32] = np.log(shares).astype(np.float32)
    return log_probs


def make_babble(seed: int, num_words: int) -> str:
    """Words of letters with short and long pauses; each begins with a space, as networks learn it."""
    generator = np.random.default_rng(seed)
    words = []
    for _ in range(num_words):
        letters = generator.choice(list("ABCDE"), generator.integers(1, 6)).tolist()
        lengths = generator.integers(1, 3, (len(letters), 2)).tolist()
        spoken = "".join(letter * heard + "_" * pause for letter, (heard, pause) in zip(letters, lengths, strict=True))
        words.append(" " + spoken + "_" * int(generator.choice([0, 2, 8, 25])))
    return "".join(words)


@pytest.fixture(params=["greedy", "beam"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    if request.param == "greedy":
        return GreedyDecoder(TOKENIZER, SECONDS)
    kernels: Path = request.getfixturevalue("kernels")
    return BeamDecoder(TOKENIZER, SECONDS, BeamSettings(beam_width=20, bonus=0.0), kernels)


def run(decoder: Decoder, chunks: list[NDArray[np.float32]], endpointing: Endpointing | None) -> list[Event]:
    stream = UtteranceStream(decoder, TOKENIZER, SECONDS, endpointing)
    events = [event for chunk in chunks for event in stream.feed(chunk)]
    return events + stream.finish(SECONDS * sum(map(len, chunks)))


def list_certain(events: list[Event]) -> list[Event]:
    return [event for event in events if event.kind != "partial"]


def join(events: list[Event]) -> str:
    return " ".join(event.text for event in events if event.kind == "final")


@pytest.mark.parametrize("endpointing", [ENDPOINTING, None], ids=["endpoints", "none"])
@pytest.mark.parametrize("seed", range(6))
def test_no_cut_changes_what_is_certain_and_no_word_is_lost(
    seed: int, endpointing: Endpointing | None, decoder: Decoder
) -> None:
    log_probs = make_log_probs(make_babble(seed, 60))
    generator = np.random.default_rng(seed)
    whole = run(decoder, [log_probs], endpointing)
    assert join(whole) == decoder.decode(log_probs)[0].text
    for num_cuts in (3, 40, len(log_probs)):
        cuts = np.sort(generator.integers(0, len(log_probs) + 1, num_cuts))
        assert list_certain(run(decoder, np.split(log_probs, cuts), endpointing)) == list_certain(whole)
    words = [word for event in whole if event.kind == "endpoint" for word in event.words]
    assert [word for event in whole if event.kind == "final" for word in event.words] == words
    times = [time for word in words for time in (word.start_seconds, word.end_seconds)]
    assert times == sorted(times)


def test_a_silence_ends_an_utterance_and_the_next_begins_with_its_first_letter(decoder: Decoder) -> None:
    events = run(decoder, list(make_log_probs("_AB_ C" + "_" * 30 + " DE__")[:, None]), ENDPOINTING)
    ends = [event for event in events if event.kind == "endpoint"]
    assert [(end.utterance, end.text, end.reason) for end in ends] == [(0, "AB C", "silence"), (1, "DE", "end")]
    assert (ends[0].start_seconds, ends[0].end_seconds) == pytest.approx((0.1, 0.6))
    assert (ends[1].start_seconds, ends[1].end_seconds) == pytest.approx((3.7, 3.9))


def test_an_endpoint_comes_a_step_after_its_silence_at_the_latest() -> None:
    stream = UtteranceStream(GreedyDecoder(TOKENIZER, SECONDS), TOKENIZER, SECONDS, ENDPOINTING)
    path = "_AB" + "_" * 30
    kinds = [[event.kind for event in stream.feed(frame)] for frame in make_log_probs(path)[:, None]]
    (place,) = [place for place, of_frame in enumerate(kinds) if "endpoint" in of_frame]
    assert 2 + 10 <= place <= 2 + 10 + STEP_FRAMES


def test_a_long_utterance_ends_between_two_words(decoder: Decoder) -> None:
    path = "".join(" " + letter + "_" + letter for letter in "ABCDE" * 12)
    events = run(decoder, [make_log_probs(path)], ENDPOINTING)
    ends = [event for event in events if event.kind == "endpoint"]
    assert [end.reason for end in ends] == ["length"] * (len(ends) - 1) + ["end"]
    assert all(end.end_seconds - end.start_seconds < 5.8 for end in ends)
    assert " ".join(end.text for end in ends) == join(events) == " ".join(2 * letter for letter in "ABCDE" * 12)


def test_a_word_without_end_is_not_cut() -> None:
    events = run(GreedyDecoder(TOKENIZER, SECONDS), [make_log_probs("AB" * 60 + " C")], ENDPOINTING)
    assert join(events) == "AB" * 60 + " C"


def test_partials_show_what_may_change_and_finals_take_it_back() -> None:
    stream = UtteranceStream(GreedyDecoder(TOKENIZER, SECONDS), TOKENIZER, SECONDS, ENDPOINTING)
    said = [
        [(event.kind, event.text) for event in stream.feed(make_log_probs(part))] for part in ("__AB", "__", "B A_")
    ]
    assert said[0] == [("partial", "AB")]
    assert said[1] == []
    assert said[2] == [("final", "ABB"), ("partial", "A")]
    assert [(event.kind, event.text) for event in stream.finish(0.9)] == [("final", "A"), ("endpoint", "ABB A")]


def test_silence_says_nothing(decoder: Decoder) -> None:
    assert run(decoder, list(make_log_probs("_" * 200, 0.999)[:, None]), ENDPOINTING) == []
    assert run(decoder, [], ENDPOINTING) == []


def test_no_word_outlasts_the_stream() -> None:
    stream = UtteranceStream(GreedyDecoder(TOKENIZER, SECONDS), TOKENIZER, SECONDS, ENDPOINTING)
    stream.feed(make_log_probs("_AAA"))
    assert [event.words[0].end_seconds for event in stream.finish(0.35)] == [0.35, 0.35]


def test_hours_of_speech_leave_nothing_behind(decoder: Decoder) -> None:
    """What a stream holds after many utterances is what it held after few."""
    import pickle

    stream = UtteranceStream(decoder, TOKENIZER, SECONDS, ENDPOINTING)
    sizes = []
    for seed in range(8):
        stream.feed(make_log_probs(make_babble(seed, 30) + "_" * 20))
        held = {key: value for key, value in vars(stream).items() if key not in ("_decoder", "_decoding")}
        sizes.append(len(pickle.dumps(held)))
    assert max(sizes) - min(sizes) < 200
