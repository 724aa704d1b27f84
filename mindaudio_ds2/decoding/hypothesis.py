"""What decoding finds: the one value that every decoder returns."""

from dataclasses import dataclass


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
