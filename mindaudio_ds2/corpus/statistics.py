"""What a corpus consists of, and what in it looks like a mistake, as far as the manifest tells."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.corpus.manifest import Utterance

SHOWN_PERCENTS = (0, 1, 5, 25, 50, 75, 95, 99, 100)
SMALLEST_LOG_DEVIATION = 0.1
"""Where most of a corpus is spoken at the same rate, a rate must still differ by this much (a tenth) to count."""
CHUNK_UTTERANCES = 10_000


@dataclass(frozen=True, eq=False)
class Distribution:
    """Numbers of which the order does not matter.

    Attributes:
        values: `(n,)` float64, ascending; n is at least 1.
    """

    values: NDArray[np.float64]

    @property
    def percentiles(self) -> dict[int, float]:
        """By percent, see `SHOWN_PERCENTS`; 0 is the smallest value, 50 the median, 100 the largest."""
        return dict(zip(SHOWN_PERCENTS, np.percentile(self.values, SHOWN_PERCENTS).tolist(), strict=True))

    @property
    def median(self) -> float:
        """The value in the middle."""
        return float(np.median(self.values))

    def count(self, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many values lie between neighbouring edges.

        Args:
            edges: `(b,)` ascending. The last bin holds all that lies above it too, the first all that lies below it.

        Returns:
            `(b - 1,)`; their sum is n.
        """
        inside = np.clip(self.values, edges[0], edges[-1])
        counts: NDArray[np.int64] = np.histogram(inside, edges)[0]
        return counts


def choose_edges(distributions: Sequence[Distribution], num_bins: int) -> NDArray[np.float64]:
    """Edges of bins of a round width, from 0 to where almost all of the values lie (99.5 percent of each).

    Args:
        distributions: what is to be shown together; no value is negative.
        num_bins: at most so many bins.

    Returns:
        `(b,)` with 2 <= b <= num_bins + 1.
    """
    top = max(float(np.percentile(distribution.values, 99.5)) for distribution in distributions)
    least = max(top, 1e-6) / num_bins
    power = 10.0 ** np.floor(np.log10(least))
    width = next(power * step for step in (1, 2, 2.5, 5, 10, 20) if power * step >= least)
    edges: NDArray[np.float64] = width * np.arange(max(1, int(np.ceil(top / width - 1e-9))) + 1)
    return edges


@dataclass(frozen=True)
class SuspicionLimits:
    """What makes an utterance suspicious.

    Attributes:
        min_seconds: it is shorter.
        max_seconds: it is longer.
        min_rate: it has fewer characters a second; None leaves that to `max_deviations`.
        max_rate: it has more characters a second; None leaves that to `max_deviations`.
        max_deviations: its rate is so many robust standard deviations from the median, see `find_rate_limits`.
    """

    min_seconds: float
    max_seconds: float
    min_rate: float | None
    max_rate: float | None
    max_deviations: float


@dataclass(frozen=True, eq=False)
class ManifestStatistics:
    """A corpus in numbers. Ids stand in the manifest's order.

    Attributes:
        num_utterances: rows of the manifest.
        hours: sum of all durations.
        num_speakers: known speakers.
        num_without_speaker: utterances whose speaker is unknown.
        speaker_hours: hours of each known speaker; None where there is none.
        durations: of the utterances (seconds).
        characters_per_second: of each utterance, spaces included.
        num_characters: of all transcripts, spaces included.
        num_words: of all transcripts.
        vocabulary_size: different words.
        character_counts: how often each character stands in the transcripts; sorted by character.
        unknown_characters: those of them that are not in the alphabet; None where no alphabet was given.
        with_unknown_characters: ids of the utterances that hold one.
        rate_limits: the slowest and the fastest rate that is not suspicious (characters a second).
        too_few_characters: ids of those below; perhaps the transcript lacks words, or the recording goes on for long.
        too_many_characters: ids of those above; perhaps the recording is cut, or the transcript another's.
        too_short: ids of utterances shorter than the limit.
        too_long: ids of utterances longer than the limit.
        same_audio: groups of ids that share an audio file.
        same_content: groups of ids with the same transcript and exactly the same duration, but not the same file.
    """

    num_utterances: int
    hours: float
    num_speakers: int
    num_without_speaker: int
    speaker_hours: Distribution | None
    durations: Distribution
    characters_per_second: Distribution
    num_characters: int
    num_words: int
    vocabulary_size: int
    character_counts: dict[str, int]
    unknown_characters: dict[str, int] | None
    with_unknown_characters: list[str]
    rate_limits: tuple[float, float]
    too_few_characters: list[str]
    too_many_characters: list[str]
    too_short: list[str]
    too_long: list[str]
    same_audio: list[list[str]]
    same_content: list[list[str]]


def measure_corpus(
    utterances: Sequence[Utterance],
    normalize: Callable[[str], str],
    characters: str | None,
    limits: SuspicionLimits,
) -> ManifestStatistics:
    """Gather the statistics of a corpus. Audio is not opened.

    Args:
        utterances: at least one.
        normalize: what becomes of a transcript before its characters are looked up, `Tokenizer.normalize`.
        characters: the alphabet; None where none is to be compared with.
        limits: what is listed as suspicious.
    """
    transcripts = [normalize(utterance.transcript) for utterance in utterances]
    seconds = np.array([utterance.duration_seconds for utterance in utterances], np.float64)  # (n,)
    lengths = np.array([len(transcript) for transcript in transcripts], np.int64)  # (n,)
    rates = lengths / seconds
    slowest, fastest = find_rate_limits(rates, limits.max_deviations)
    slowest = slowest if limits.min_rate is None else limits.min_rate
    fastest = fastest if limits.max_rate is None else limits.max_rate
    counts = _count_characters(transcripts)
    unknown = {c: n for c, n in counts.items() if c not in characters} if characters is not None else None
    num_words, vocabulary_size = _count_words(transcripts)
    speaker_hours = _sum_speaker_hours(utterances)

    def select(mask: NDArray[np.bool_]) -> list[str]:
        return [utterances[i].id for i in np.flatnonzero(mask)]

    return ManifestStatistics(
        num_utterances=len(utterances),
        hours=float(seconds.sum()) / 3600,
        num_speakers=len(speaker_hours),
        num_without_speaker=sum(not utterance.speaker for utterance in utterances),
        speaker_hours=_distribute(np.array(speaker_hours)) if speaker_hours else None,
        durations=_distribute(seconds),
        characters_per_second=_distribute(rates),
        num_characters=int(lengths.sum()),
        num_words=num_words,
        vocabulary_size=vocabulary_size,
        character_counts=counts,
        unknown_characters=unknown,
        with_unknown_characters=_find_holders(utterances, transcripts, set(unknown or ())),
        rate_limits=(slowest, fastest),
        too_few_characters=select(rates < slowest),
        too_many_characters=select(rates > fastest),
        too_short=select(seconds < limits.min_seconds),
        too_long=select(seconds > limits.max_seconds),
        same_audio=_group_ids(utterances, [u.audio_path for u in utterances]),
        same_content=_find_same_content(utterances, transcripts),
    )


def find_rate_limits(rates: NDArray[np.float64], max_deviations: float) -> tuple[float, float]:
    """Where rates of speech begin to be suspicious: so many robust standard deviations from the median.

    The deviation is that of the rates' logarithms, so that half and double the median are equally far. It is taken from
    the median of the distances (times 1.4826: that makes it the standard deviation, where the distribution is normal),
    so that mistakes, as long as they are few, hardly move the limits.

    Args:
        rates: `(n,)` characters a second, n at least 1.
        max_deviations: so many robust standard deviations are allowed.

    Returns:
        The slowest and the fastest rate that is not suspicious (characters a second).
    """
    logs = np.log(np.maximum(rates, 1e-3))  # a transcript may be empty once it is normalised
    middle = float(np.median(logs))
    deviation = max(1.4826 * float(np.median(np.abs(logs - middle))), SMALLEST_LOG_DEVIATION)
    spread = max_deviations * deviation
    return float(np.exp(middle - spread)), float(np.exp(middle + spread))


def _distribute(values: NDArray[np.float64]) -> Distribution:
    return Distribution(np.sort(values))


def _count_characters(transcripts: Sequence[str]) -> dict[str, int]:
    """Counts by character, sorted. Through NumPy: a Counter takes ten times as long."""
    counts = np.zeros(0x110000, np.int64)
    for start in range(0, len(transcripts), CHUNK_UTTERANCES):
        text = "".join(transcripts[start : start + CHUNK_UTTERANCES])
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        found, found_counts = np.unique(points, return_counts=True)
        counts[found] += found_counts
    return {chr(point): int(counts[point]) for point in np.flatnonzero(counts)}


def _count_words(transcripts: Iterable[str]) -> tuple[int, int]:
    """All words, and how many of them differ."""
    num_words = 0
    vocabulary: set[str] = set()
    for transcript in transcripts:
        words = transcript.split()
        num_words += len(words)
        vocabulary.update(words)
    return num_words, len(vocabulary)


def _sum_speaker_hours(utterances: Iterable[Utterance]) -> list[float]:
    """Hours of each known speaker."""
    seconds: dict[str, float] = defaultdict(float)
    for utterance in utterances:
        seconds[utterance.speaker] += utterance.duration_seconds
    return [total / 3600 for speaker, total in seconds.items() if speaker]


def _find_holders(utterances: Sequence[Utterance], transcripts: Sequence[str], characters: set[str]) -> list[str]:
    """Ids of the utterances in which one of the characters stands."""
    if not characters:
        return []
    return [
        u.id for u, transcript in zip(utterances, transcripts, strict=True) if not characters.isdisjoint(transcript)
    ]


def _group_ids(utterances: Sequence[Utterance], keys: Iterable[Hashable]) -> list[list[str]]:
    """Ids of the utterances that share a key, where there is more than one."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for utterance, key in zip(utterances, keys, strict=True):
        groups[key].append(utterance.id)
    return [group for group in groups.values() if len(group) > 1]


def _find_same_content(utterances: Sequence[Utterance], transcripts: Sequence[str]) -> list[list[str]]:
    """Where two files sound alike, but for those that are one file."""
    firsts: dict[str, int] = {}
    for place, utterance in enumerate(utterances):
        firsts.setdefault(utterance.audio_path, place)
    places = list(firsts.values())
    chosen = [utterances[place] for place in places]
    return _group_ids(chosen, [(transcripts[place], utterances[place].duration_seconds) for place in places])
