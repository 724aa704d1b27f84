"""One hypothesis of a recording from those of its segments, and which part of it each segment gave."""

import dataclasses
from collections.abc import Iterable, Sequence

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word, part_words
from mindaudio_ds2.segmentation.segmenter import Stretch


def stitch(segments: Sequence[Stretch], hypotheses: Iterable[Hypothesis], sample_rate_hz: int) -> Hypothesis:
    """Put the words of segments together, those in an overlap once.

    Halfway through an overlap the later segment takes over: the earlier one gives the words whose middle lies before,
    the later one those whose middle lies behind the last of these. So a word whose times differ a little between the
    two is neither lost nor doubled.

    Args:
        segments: in order, as `Segmenter` gives them; silences may be among them or not.
        hypotheses: one for each segment that is speech, with times from its start.
        sample_rate_hz: of the segments (Hz).

    Returns:
        Text, words with times from the recording's start that share none, and the sum of the scores, overlaps counted
        twice.
    """
    words: list[Word] = []
    score = 0.0
    last_end_seconds = 0.0
    spoken = [each for each in segments if each.is_speech]
    for place, hypothesis in zip(spoken, hypotheses, strict=True):
        start, end = place.start / sample_rate_hz, place.end / sample_rate_hz
        own = [
            dataclasses.replace(word, start_seconds=word.start_seconds + start, end_seconds=word.end_seconds + start)
            for word in hypothesis.words
        ]
        if start < last_end_seconds:
            middle = (start + last_end_seconds) / 2
            words = [word for word in words if _find_middle(word) < middle]
            taken_until = words[-1].end_seconds if words else middle
            own = [word for word in own if _find_middle(word) >= taken_until]
        words += own
        score += hypothesis.score
        last_end_seconds = end
    return Hypothesis(" ".join(word.text for word in words), score, part_words(words, 0.0, last_end_seconds))


def part_segments(segments: Sequence[Stretch]) -> list[Stretch]:
    """Stretches that share no sample: those that overlap are cut where `stitch` lets the later one take over."""
    parted: list[Stretch] = []
    for each in segments:
        if parted and each.start < parted[-1].end:
            middle = (each.start + parted[-1].end) // 2
            parted[-1] = dataclasses.replace(parted[-1], end=middle)
            each = dataclasses.replace(each, start=middle)
        parted.append(each)
    return parted


def _find_middle(word: Word) -> float:
    return (word.start_seconds + word.end_seconds) / 2
