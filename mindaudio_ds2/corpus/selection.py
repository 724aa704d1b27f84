"""Taking utterances out of a corpus: by duration, by hours, by speaker. Pure functions that keep the given order."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

from mindaudio_ds2.corpus.manifest import Utterance
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


def _draw(name: str, seed: int) -> bytes:
    """A random number that is always the same for a name and a seed, on every machine."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
