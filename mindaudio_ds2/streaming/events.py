"""What a stream says: words that are certain, words that may change, and where an utterance ends."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from mindaudio_ds2.decoding.hypothesis import Word
from mindaudio_ds2.errors import ConfigError


@dataclass(frozen=True)
class Endpointing:
    """When an utterance ends.

    Attributes:
        silence_seconds: after so much sound without a letter, positive (s).
        max_seconds: between two words, once it has lasted so long, at least 1 (s).
    """

    silence_seconds: float = 0.8
    max_seconds: float = 20.0

    def __post_init__(self) -> None:
        if not self.silence_seconds > 0:
            raise ConfigError(f"a silence of {self.silence_seconds:g} s ends nothing; give more than 0")
        if not self.max_seconds >= 1:
            raise ConfigError(f"utterances must be allowed at least 1 s, found {self.max_seconds:g}")


ENDPOINTING = Endpointing()


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a stream says. Times count from its first sample.

    Attributes:
        kind: "final", words that nothing can change any more, each in one event and in order; "partial", what follows
            the last of them for now, and takes the place of the partial before, as a final and an endpoint do, too;
            "endpoint", the end of an utterance, whose words have all been final.
        utterance: number of the utterance, from 0; those without words are not counted.
        text: the words, with one space between them.
        words: the words with their times and confidence.
        start_seconds: of the first word; without words when this was said, in seconds of sound.
        end_seconds: of the last word, or as above.
        reason: of an endpoint "silence", "length" or "end"; else empty.
    """

    kind: Literal["final", "partial", "endpoint"]
    utterance: int
    text: str
    words: tuple[Word, ...]
    start_seconds: float
    end_seconds: float
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)


def make_event(
    kind: Literal["final", "partial", "endpoint"],
    utterance: int,
    words: tuple[Word, ...],
    now_seconds: float,
    reason: str = "",
) -> Event:
    """An event of these words; `now_seconds` stands for their times where there are none."""
    start, end = (words[0].start_seconds, words[-1].end_seconds) if words else (now_seconds, now_seconds)
    return Event(kind, utterance, " ".join(word.text for word in words), words, start, end, reason)
