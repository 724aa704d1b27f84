"""Taking utterances out of a corpus: by what they are, by hours, by speaker. All keeps the given order."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import ManifestError


def within_durations(
    utterances: Sequence[Utterance], min_seconds: float, max_seconds: float
) -> tuple[list[Utterance], list[Utterance]]:
    """Those that last from `min_seconds` to `max_seconds`, and those that do not."""
    kept: list[Utterance] = []
    left_out: list[Utterance] = []
    for utterance in utterances:
        is_within = min_seconds <= utterance.duration_seconds <= max_seconds
        (kept if is_within else left_out).append(utterance)
    return kept, left_out


def take_hours(utterances: Sequence[Utterance], hours: float, seed: int) -> list[Utterance]:
    """As many utterances, drawn by chance, as first fill a number of hours.

    An utterance's place in the draw depends on its id and the seed only. So the same ones are taken whatever the order
    they come in, and with one seed fewer hours are a part of more.

    Args:
        utterances: with different ids.
        hours: to be filled; all are taken where there are fewer (hours).
        seed: another one takes others.
    """
    chosen: set[str] = set()
    seconds = 0.0
    for utterance in sorted(utterances, key=lambda utterance: (_draw(utterance.id, seed), utterance.id)):
        if seconds >= hours * 3600:
            break
        chosen.add(utterance.id)
        seconds += utterance.duration_seconds
    return [utterance for utterance in utterances if utterance.id in chosen]


def split_by_speaker(
    utterances: Sequence[Utterance], share: float, seed: int
) -> tuple[list[Utterance], list[Utterance]]:
    """Hold out whole speakers, so that nobody is heard on both sides.

    Speakers are tried in an order drawn from their names and the seed, and each one that brings the hours held out
    nearer to the share is taken. At least one is taken and one is left.

    Args:
        utterances: of two or more known speakers; those of an unknown speaker are never held out.
        share: of all hours, to be held out (0 to 1).
        seed: another one holds out others.

    Returns:
        The rest, and what is held out.

    Raises:
        ManifestError: fewer than two speakers are known.
    """
    durations: dict[str, list[float]] = defaultdict(list)
    for utterance in utterances:
        durations[utterance.speaker].append(utterance.duration_seconds)
    seconds = {speaker: math.fsum(durations[speaker]) for speaker in sorted(durations)}  # the same in any order
    wanted = share * math.fsum(seconds.values())
    order = sorted(seconds.keys() - {""}, key=lambda speaker: (_draw(speaker, seed), speaker))
    if len(order) < 2:
        raise ManifestError(
            f"the utterances name {len(order)} speakers, but it takes two to hold one out; "
            "give every utterance its speaker, or bring a manifest of other speakers"
        )
    held_out: set[str] = set()
    held_seconds = 0.0
    for speaker in order:
        is_nearer = abs(held_seconds + seconds[speaker] - wanted) < abs(held_seconds - wanted)
        if is_nearer and len(held_out) + 1 < len(order):
            held_out.add(speaker)
            held_seconds += seconds[speaker]
    if not held_out:
        held_out.add(min(order, key=seconds.__getitem__))
    rest = [utterance for utterance in utterances if utterance.speaker not in held_out]
    return rest, [utterance for utterance in utterances if utterance.speaker in held_out]


@dataclass(frozen=True)
class Choice:
    """What utterances must be to be kept.

    Attributes:
        durations: the shortest and the longest (seconds).
        rates: the slowest and the fastest speech, spaces included (characters a second).
        speakers: only these; None for all.
        excluded_ids: none of these.
        name_unknown: names what of a transcript cannot be written, empty if nothing; None keeps all transcripts.
        hours: then so many hours, drawn by chance; None for all (hours).
        seed: of that draw.
    """

    durations: tuple[float, float]
    rates: tuple[float, float]
    speakers: frozenset[str] | None
    excluded_ids: frozenset[str]
    name_unknown: Callable[[str], str] | None
    hours: float | None
    seed: int

    def keep(self, utterances: Sequence[Utterance], left_out: Problems) -> list[Utterance]:
        """Those that are all of that, in the given order; each of the others is noted with its first reason."""
        kept = []
        for utterance in utterances:
            kind, detail = self._find_reason(utterance)
            if kind:
                left_out.add(kind, f"{utterance.id}{detail}")
            else:
                kept.append(utterance)
        if self.hours is None:
            return kept
        taken = {utterance.id for utterance in take_hours(kept, self.hours, self.seed)}
        for utterance in kept:
            if utterance.id not in taken:
                left_out.add("beyond the hours asked for", utterance.id)
        return [utterance for utterance in kept if utterance.id in taken]

    def _find_reason(self, utterance: Utterance) -> tuple[str, str]:
        """Why an utterance is left out, as kind and detail; both empty if it is not."""
        (shortest, longest), (slowest, fastest) = self.durations, self.rates
        rate = len(" ".join(utterance.transcript.split())) / utterance.duration_seconds
        unknown = self.name_unknown(utterance.transcript) if self.name_unknown else ""
        reasons = (
            (utterance.duration_seconds < shortest, f"shorter than {shortest:g} s", ""),
            (utterance.duration_seconds > longest, f"longer than {longest:g} s", ""),
            (rate < slowest, f"fewer than {slowest:g} characters a second", f" ({rate:.1f})"),
            (rate > fastest, f"more than {fastest:g} characters a second", f" ({rate:.1f})"),
            (self.speakers is not None and utterance.speaker not in self.speakers, "of another speaker", ""),
            (utterance.id in self.excluded_ids, "excluded by id", ""),
            (bool(unknown), "characters outside the alphabet", f" ({unknown})"),
        )
        return next(((kind, detail) for holds, kind, detail in reasons if holds), ("", ""))


def _draw(name: str, seed: int) -> bytes:
    """A random number that is always the same for a name and a seed, on every machine."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
