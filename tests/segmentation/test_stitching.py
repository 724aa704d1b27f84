"""Words of overlapping segments in one hypothesis."""

import pytest

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.segmentation.segmenter import Stretch
from mindaudio_ds2.segmentation.stitching import part_segments, stitch

RATE_HZ = 100
SPOKEN = [(f"W{i}", 0.7 * i + 0.1, 0.7 * i + 0.6) for i in range(40)]


def hear(start: float, end: float, shift: float = 0.0) -> Hypothesis:
    """What a segment of the 28 s recording hears: whole words, with times that may be a little off."""
    words = tuple(
        Word(text, begin - start + shift, finish - start + shift, 1.0)
        for text, begin, finish in SPOKEN
        if begin >= start and finish <= end
    )
    return Hypothesis(" ".join(word.text for word in words), -1.0, words)


@pytest.mark.parametrize("shift", [-0.12, -0.04, 0.0, 0.04, 0.12])
@pytest.mark.parametrize("border", range(1000, 1100, 7))
def test_words_in_an_overlap_come_once(border: int, shift: float) -> None:
    segments = [Stretch(0, border + 100, True), Stretch(border - 100, 2000, True), Stretch(1830, 2800, True)]
    heard = [hear(0, border / 100 + 1), hear(border / 100 - 1, 20, shift), hear(18.3, 28)]
    whole = stitch(segments, heard, RATE_HZ)
    assert whole.text == " ".join(text for text, _, _ in SPOKEN)
    assert [word.start_seconds for word in whole.words] == pytest.approx([start for _, start, _ in SPOKEN], abs=0.13)
    assert whole.score == -3.0


def test_silences_have_no_hypothesis_and_touching_segments_share_no_word() -> None:
    segments = [Stretch(0, 700, True), Stretch(700, 1400, False), Stretch(1400, 2800, True)]
    whole = stitch(segments, [hear(0, 7), hear(14, 28)], RATE_HZ)
    assert whole.text.split() == [f"W{i}" for i in (*range(10), *range(20, 40))]


def test_a_segment_without_words_takes_none_away_but_its_own() -> None:
    segments = [Stretch(0, 1500, True), Stretch(1300, 2800, True)]
    whole = stitch(segments, [Hypothesis("", -1.0, ()), hear(13, 28)], RATE_HZ)
    assert whole.text.split() == [text for text, start, end in SPOKEN if (start + end) / 2 >= 14]


def test_nothing_gives_an_empty_hypothesis() -> None:
    assert stitch([Stretch(0, 100, False)], [], RATE_HZ) == Hypothesis("", 0.0, ())


def test_every_segment_needs_its_hypothesis() -> None:
    with pytest.raises(ValueError, match="zip"):
        stitch([Stretch(0, 100, True)], [], RATE_HZ)


def test_words_of_two_segments_share_no_time_and_each_has_some() -> None:
    segments = [Stretch(0, 400, True), Stretch(200, 600, True)]
    one = Hypothesis("A B", -1.0, (Word("A", 1.0, 1.5, 1.0), Word("B", 2.5, 2.9, 1.0)))
    other = Hypothesis("C D", -1.0, (Word("C", 0.8, 1.1, 1.0), Word("D", 3.99, 4.0, 1.0)))
    whole = stitch(segments, [one, other], RATE_HZ)
    times = [(word.text, word.start_seconds, word.end_seconds) for word in whole.words]
    assert times == [("A", 1.0, 1.5), ("B", 2.5, 2.9), ("C", 2.9, 3.1), ("D", 5.99, 6.0)]


def test_segments_are_parted_where_the_later_one_takes_over() -> None:
    segments = [Stretch(0, 1500, True, True), Stretch(1300, 2000, True), Stretch(2000, 2100, False)]
    assert part_segments(segments) == [Stretch(0, 1400, True, True), Stretch(1400, 2000, True), segments[2]]
