"""What decoding finds: the one value that every decoder returns."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

LEAST_WORD_SECONDS = 0.01
"""No word is shorter: time-marked formats want a duration of each, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word and when it was said.

    Attributes:
        text: the word.
        start_seconds: begin of the first output frame that shows its first character; where the recording is at hand,
            begin of its sound (`segmentation.word_times`).
        end_seconds: end of the last output frame that shows its last character, or of its sound.
        confidence: from 0 to 1, how sure the decoder is. A probability only where it was calibrated.
    """

    text: str
    start_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What was recognised in one utterance.

    Attributes:
        text: the words, with one space between them.
        score: natural log probability; higher is better. Greedy: of the best path, the sum over its frames. Beam: of
            all paths kept that write the text (with what a hotword sounds like in it: of the best spelling), with what
            language model, bonus and hotwords add.
        words: the words of `text` with their times.
    """

    text: str
    score: float
    words: tuple[Word, ...]


def part_words(words: Iterable[Word], first_seconds: float, last_seconds: float) -> tuple[Word, ...]:
    """Words one behind the other, each with a duration: where two share time, the later one begins when the other ends.

    Args:
        words: in order.
        first_seconds: none begins before.
        last_seconds: none ends behind. Where there is not room for all, each is as short as it takes.
    """
    given = list(words)
    least = min(LEAST_WORD_SECONDS, max(0.0, last_seconds - first_seconds) / max(1, len(given)))
    times, taken_until = [], first_seconds
    for word in given:
        start = max(word.start_seconds, taken_until)
        taken_until = max(word.end_seconds, start + least)
        times.append((start, taken_until))
    parted: list[Word] = []
    for word, (start, end) in zip(reversed(given), reversed(times), strict=True):
        end = min(end, last_seconds)
        last_seconds = start if start + least <= end else max(first_seconds, end - least)
        parted.append(replace(word, start_seconds=last_seconds, end_seconds=end))
    return tuple(reversed(parted))
