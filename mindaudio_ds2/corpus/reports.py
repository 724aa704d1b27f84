"""Statistics of a corpus as text for people and as JSON for programs."""

import dataclasses
import unicodedata
from collections.abc import Sequence
from typing import Any

from mindaudio_ds2.corpus.statistics import Distribution, ManifestStatistics, choose_edges

NUM_BINS = 15
MAX_LISTED = 10


def describe(statistics: ManifestStatistics) -> str:
    """All numbers, both histograms, and the first `MAX_LISTED` ids of each kind of suspicion, over many lines."""
    slowest, fastest = statistics.rate_limits
    lines = [
        f"  utterances        {statistics.num_utterances:,}",
        f"  hours             {statistics.hours:,.3f}",
        f"  words             {statistics.num_words:,}, {statistics.vocabulary_size:,} different",
        f"  characters        {statistics.num_characters:,}, spaces included",
        f"  speakers          {_format_speakers(statistics)}",
        *_format_distribution("duration (seconds)", statistics.durations),
        *_format_distribution("rate of speech (characters a second)", statistics.characters_per_second),
        "  characters used   " + " ".join(f"{c!r}:{n:,}" for c, n in statistics.character_counts.items()),
    ]
    if statistics.unknown_characters is not None:
        unknown = ", ".join(f"{_name(c)} {n:,} times" for c, n in statistics.unknown_characters.items())
        lines.append(f"  not in alphabet   {unknown or 'none'}")
        lines.append(_format_ids("with characters that are not in the alphabet", statistics.with_unknown_characters))
    lines += [
        _format_ids(f"suspiciously few characters, below {slowest:.1f} a second", statistics.too_few_characters),
        _format_ids(f"suspiciously many characters, above {fastest:.1f} a second", statistics.too_many_characters),
        _format_ids("very short", statistics.too_short),
        _format_ids("very long", statistics.too_long),
        _format_ids("same audio file", [" = ".join(group) for group in statistics.same_audio]),
        _format_ids("same transcript and duration", [" = ".join(group) for group in statistics.same_content]),
    ]
    return "\n".join(lines)


def _name(character: str) -> str:
    return f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'without a name')})"


def _format_speakers(statistics: ManifestStatistics) -> str:
    hours = statistics.speaker_hours
    if hours is None:
        return "unknown"
    low, middle, high = (hours.percentiles[percent] * 60 for percent in (0, 50, 100))
    unknown = f"; {statistics.num_without_speaker:,} utterances without" if statistics.num_without_speaker else ""
    return f"{statistics.num_speakers:,}, each {low:.1f} to {high:.1f} minutes, median {middle:.1f}{unknown}"


def _format_distribution(title: str, distribution: Distribution) -> list[str]:
    edges = choose_edges([distribution], NUM_BINS)
    counts = distribution.count(edges)
    percentiles = "  ".join(f"{percent}%: {value:.2f}" for percent, value in distribution.percentiles.items())
    lines = [f"  {title}", f"    {percentiles}"]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        bar = "#" * round(50 * count / counts.max())
        above = "+" if high == edges[-1] and distribution.values[-1] > high else " "
        lines.append(f"    {low:6.4g} to {high:6.4g}{above} {count:9,}  {bar}".rstrip())
    return lines


def _format_ids(title: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MAX_LISTED:,} more (--json lists all)" if len(ids) > MAX_LISTED else ""
    return f"  {title}: {len(ids):,}" + "".join(f"\n      {name}" for name in ids[:MAX_LISTED]) + more


def to_json(statistics: ManifestStatistics) -> dict[str, Any]:
    """All fields of the statistics, with all ids; a distribution becomes its percentiles and a histogram."""

    def convert(value: Any) -> Any:
        if not isinstance(value, Distribution):
            return value
        edges = choose_edges([value], NUM_BINS)
        histogram = {"edges": edges.tolist(), "counts": value.count(edges).tolist()}
        return {"percentiles": value.percentiles, "histogram": histogram}

    return {field.name: convert(getattr(statistics, field.name)) for field in dataclasses.fields(statistics)}
