"""The page's arithmetic against that of the package, on the same numbers."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.decoding.greedy import GreedyDecoder
from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.decoding.segments import split_at_pauses
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.segmentation.detectors import EnergyDetector
from mindaudio_ds2.segmentation.segmenter import Segmenter, SegmentLimits, Stretch
from mindaudio_ds2.segmentation.stitching import stitch
from mindaudio_ds2.segmentation.word_times import WordPlacer
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.transcript_formats import as_srt, as_vtt
from mindaudio_ds2.transcription import Transcription
from tests.browser.node import needs_node, run_node

pytestmark = needs_node

SECONDS_PER_FRAME = 0.02
RATE_HZ = 8000
BLANKS: tuple[Literal["first", "last"], ...] = ("first", "last")
UNITS = ["▁", "A", "B", "▁A", "▁BA", "AB", "BBA"]
TOKENIZERS: dict[str, Tokenizer] = {blank: Tokenizer(TextConfig("AB ÄЖ", blank, "keep", "error")) for blank in BLANKS}
TOKENIZERS["units"] = Tokenizer(TextConfig("AB ", "first", "keep", "error", None, UNITS, [-1.0] * len(UNITS)))


def list_labels(tokenizer: Tokenizer) -> list[str]:
    return [" " * tokenizer.starts_word(i) + text for i, text in enumerate(tokenizer.texts)]


def make_log_probs(tokenizer: Tokenizer, num_frames: int, seed: int) -> NDArray[np.float32]:
    """With long blanks, repeats and spaces, and with equally likely labels here and there."""
    generator = np.random.default_rng(seed)
    path = np.repeat(generator.integers(0, tokenizer.size, num_frames), generator.integers(1, 4, num_frames))[
        :num_frames
    ]
    scores = generator.normal(0, 1, (num_frames, tokenizer.size)).round(1)
    scores[np.arange(num_frames), path] += 3
    log_probs: NDArray[np.float32] = (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)
    return log_probs


def make_speech(num_seconds: float, seed: int) -> NDArray[np.float32]:
    """Bursts of noise and tones of many levels between pauses, some shorter than what ends a segment."""
    generator = np.random.default_rng(seed)
    samples = generator.normal(0, 1e-3, round(num_seconds * RATE_HZ))
    place = 0.0
    while (place := place + generator.uniform(0.1, 1.6)) < num_seconds:
        end = place + generator.uniform(0.1, 4)
        part = slice(round(place * RATE_HZ), round(end * RATE_HZ))
        samples[part] += generator.normal(0, generator.uniform(0.01, 0.2), len(samples[part]))
        place = end
    return np.clip(samples, -1, 1).astype(np.float32)


def to_rows(words: tuple[Word, ...]) -> list[dict[str, Any]]:
    rows = []
    for word in words:
        times = {"start": pytest.approx(word.start_seconds), "end": pytest.approx(word.end_seconds)}
        rows.append({"text": word.text, **times, "confidence": pytest.approx(word.confidence)})
    return rows


def to_plain(words: tuple[Word, ...]) -> list[dict[str, Any]]:
    return [{"text": w.text, "start": w.start_seconds, "end": w.end_seconds, "confidence": 1.0} for w in words]


@pytest.mark.parametrize("labels", TOKENIZERS)
def test_greedy_decoding_finds_the_same_words_whole_and_in_chunks(tmp_path: Path, labels: str) -> None:
    tokenizer = TOKENIZERS[labels]
    cases = [make_log_probs(tokenizer, num_frames, seed) for seed, num_frames in enumerate([0, 1, 2, 40, 333])]
    expression = """value.cases.map((rows) => {
      const whole = Float32Array.from(rows.flat());
      const stream = new GreedyStream(value.labels, value.secondsPerFrame);
      for (const row of rows) stream.feed(Float32Array.from(row));
      return [decode(whole, value.labels, value.secondsPerFrame), stream.read()];
    })"""
    value = {
        "labels": list_labels(tokenizer),
        "secondsPerFrame": SECONDS_PER_FRAME,
        "cases": [c.tolist() for c in cases],
    }
    found = run_node(tmp_path, "greedy.js", "decode, GreedyStream", expression, value)
    decoder = GreedyDecoder(tokenizer, SECONDS_PER_FRAME)
    expected = [to_rows(decoder.decode(case)[0].words) for case in cases]
    assert sum(map(len, expected)) > 20
    assert [whole for whole, _ in found] == expected
    assert [chunks for _, chunks in found] == expected


@pytest.mark.parametrize("future_chunks", [0, 5])
def test_recordings_are_cut_at_the_same_samples(tmp_path: Path, future_chunks: int) -> None:
    recordings = [make_speech(seconds, seed) for seed, seconds in enumerate([0.001, 0.7, 30.003, 75])]
    limits = SegmentLimits(6.0)
    expression = """value.recordings.map((samples) => {
      const detector = new EnergyDetector(value.rate, value.futureChunks);
      const segmenter = new Segmenter(detector, value.limits, value.rate), all = Float32Array.from(samples), found = [];
      for (let i = 0; i < all.length; i += 12345) found.push(...segmenter.feed(all.subarray(i, i + 12345)));
      found.push(...segmenter.finish());
      return found.map((each) => [each.start, each.end, each.isSpeech, each.goesOn]);
    })"""
    value = {
        "rate": RATE_HZ,
        "futureChunks": future_chunks,
        "limits": {"max": limits.max_seconds, "silence": 0.8, "padding": 0.3, "overlap": 2.0},
        "recordings": [recording.tolist() for recording in recordings],
    }
    found = run_node(tmp_path, "segmenter.js", "EnergyDetector, Segmenter", expression, value)
    expected = []
    for recording in recordings:
        segmenter = Segmenter(EnergyDetector(RATE_HZ, future_chunks), limits, RATE_HZ)
        stretches = [*segmenter.feed(recording), *segmenter.finish()]
        expected.append([[each.start, each.end, each.is_speech, each.goes_on] for each in stretches])
    assert sum(goes_on for recording in expected for *_, goes_on in recording) > 3
    assert found == expected


@pytest.mark.parametrize("labels", ["first", "units"])
def test_words_stand_where_their_sound_is(tmp_path: Path, labels: str) -> None:
    tokenizer = TOKENIZERS[labels]
    cases = []
    for seed, seconds in enumerate([0.5, 3, 12]):
        log_probs = make_log_probs(tokenizer, round(seconds / SECONDS_PER_FRAME), seed)
        cases.append(
            (GreedyDecoder(tokenizer, SECONDS_PER_FRAME).decode(log_probs)[0], log_probs, make_speech(seconds, seed))
        )
    expression = """value.cases.map(([words, logProbs, samples]) => (
      placeWords(words, Float32Array.from(logProbs.flat()), Float32Array.from(samples), value.about)
    ))"""
    value = {
        "about": {"labels": list_labels(tokenizer), "secondsPerFrame": SECONDS_PER_FRAME, "rate": RATE_HZ},
        "cases": [(to_plain(h.words), log_probs.tolist(), samples.tolist()) for h, log_probs, samples in cases],
    }
    found = run_node(tmp_path, "placing.js", "placeWords", expression, value)
    placer = WordPlacer(tokenizer, SECONDS_PER_FRAME, RATE_HZ)
    for words, case in zip(found, cases, strict=True):
        expected = placer.place(*case).words
        assert len(words) == len(expected) > 0
        assert [[w["start"], w["end"]] for w in words] == [
            pytest.approx([w.start_seconds, w.end_seconds], abs=1e-6) for w in expected
        ]


def test_words_of_overlapping_segments_are_taken_once(tmp_path: Path) -> None:
    stretches = [Stretch(0, 64000, True, True), Stretch(48000, 96000, True), Stretch(96000, 104000, False)]
    stretches.append(Stretch(104000, 120000, True))
    hypotheses = []
    for texts in ("ONE TWO THREE FOUR", "THREE FOUR FIVE", "SIX"):
        words = [Word(text, 2 * i, 2 * i + 1.5, 1.0) for i, text in enumerate(texts.split())]
        hypotheses.append(Hypothesis(texts, 0.0, tuple(words)))
    expression = """(() => {
      const stitcher = new Stitcher(value.rate);
      value.segments.forEach(([start, end, words]) => stitcher.add({ start, end }, words));
      return stitcher.words;
    })()"""
    spoken = [each for each in stretches if each.is_speech]
    segments = [(each.start, each.end, to_plain(h.words)) for each, h in zip(spoken, hypotheses, strict=True)]
    found = run_node(tmp_path, "recognition.js", "Stitcher", expression, {"rate": RATE_HZ, "segments": segments})
    assert found == to_rows(stitch(stretches, hypotheses, RATE_HZ).words)


def test_subtitles_are_those_of_the_package(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    words = [Word("x" * 80, 0.1, 0.1, 1.0) for _ in range(5)]  # five subtitles at once
    place = 0.2
    texts = ["A", "<B>", "&", "D\\{E}", "internationalisation", "Ж" * 50, "x" * 130, "o'clock", "ä-ö"]
    for text in generator.choice(texts, 300, p=[0.3, 0.1, 0.1, 0.1, 0.15, 0.03, 0.02, 0.1, 0.1]).tolist():
        start = place + float(generator.exponential(0.3))
        place = start + float(generator.uniform(0.02, 0.8))
        words.append(Word(text, start, place, 1.0))
    expression = "[asSrt(value), asVtt(value), splitAtPauses(value).map((segment) => segment.text)]"
    found = run_node(tmp_path, "subtitles.js", "asSrt, asVtt, splitAtPauses", expression, to_plain(tuple(words)))
    hypothesis = Hypothesis(" ".join(word.text for word in words), 0.0, tuple(words))
    transcription = [Transcription(Path(), place, hypothesis, "")]
    segments = [segment.text for segment in split_at_pauses(words)]
    assert len(segments) > 5
    assert found == [as_srt(transcription), as_vtt(transcription), segments]


def test_another_rate_keeps_what_is_below_half_of_the_lower_one(tmp_path: Path) -> None:
    """Against the tones themselves; what lies above is gone."""
    rates = [(48000, 16000), (44100, 16000), (8000, 16000)]

    def make_tones(rate: int, frequencies: tuple[float, ...]) -> NDArray[np.float64]:
        times = np.arange(round(0.25 * rate)) / rate
        tones: NDArray[np.float64] = 0.2 * np.sum([np.sin(2 * np.pi * hz * times) for hz in frequencies], axis=0)
        return tones

    expression = """value.map(([from, to, samples]) => {
      const resampler = new Resampler(from, to), all = Float32Array.from(samples), found = [];
      for (let i = 0; i < all.length; i += 777) found.push(...resampler.feed(all.subarray(i, i + 777)));
      return [...found, ...resampler.finish()];
    })"""
    kept, lost = (300.0, 1700.0, 3300.0), (11000.0,)
    value = [(one, other, make_tones(one, kept + (lost if one > 30000 else ())).tolist()) for one, other in rates]
    for (_, rate), found in zip(rates, run_node(tmp_path, "resampler.js", "Resampler", expression, value), strict=True):
        expected = make_tones(rate, kept)
        assert len(found) == len(expected)
        inner = slice(rate // 50, -rate // 50)
        assert np.abs(np.array(found) - expected)[inner].max() < 0.004
