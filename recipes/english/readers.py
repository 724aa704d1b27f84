"""Who is heard where. Everybody is in one part only, and nobody else may decide it.

Readers 1970 and 6848 and all of test-clean are for final scores: never trained, tuned or chosen on.
"""

from collections.abc import Iterable, Sequence

from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import ManifestError

NEVER = frozenset({"1970", "6848"})
"""Of train-clean-5; kept back for a test outside of this recipe, and in none of its manifests."""

TEST_MINI = frozenset({"226", "2136"})
"""Of train-clean-5; the test set of `recipes/librispeech`'s five hours."""

DEV = frozenset({"19", "3664", "84", "251", "652", "1673", "2428", "2803"})
"""Two of train-clean-5 and six of dev-clean, by which epochs and settings are chosen."""

TEST_CLEAN = frozenset(
    (
        *("61", "121", "237", "260", "672", "908", "1089", "1188", "1221", "1284"),
        *("1320", "1580", "1995", "2094", "2300", "2830", "2961", "3570", "3575", "3729"),
        *("4077", "4446", "4507", "4970", "4992", "5105", "5142", "5639", "5683", "6829"),
        *("6930", "7021", "7127", "7176", "7729", "8224", "8230", "8455", "8463", "8555"),
    )
)
"""The forty readers of LibriSpeech's test-clean."""

RUN_WORDS = 7


def choose_part(reader: str) -> str:
    """The manifest that a reader's utterances go into: train_real, dev, test_mini, test_clean; empty for none."""
    if reader in NEVER:
        return ""
    for name, readers in (("test_clean", TEST_CLEAN), ("test_mini", TEST_MINI), ("dev", DEV)):
        if reader in readers:
            return name
    return "train_real"


def refuse_held_out(utterances: Iterable[Utterance]) -> None:
    """The door to training: whoever's speech comes through here may be learnt from.

    Raises:
        ManifestError: somebody of `NEVER`, `TEST_CLEAN`, `TEST_MINI` or `DEV` is among them.
    """
    held_out = NEVER | TEST_CLEAN | TEST_MINI | DEV
    found = sorted(u.id for u in utterances if u.speaker in held_out or u.id.partition("-")[0] in held_out)
    if found:
        raise ManifestError(
            f"{len(found)} utterances of readers who are held out would be trained on: {', '.join(found[:5])}; "
            "take them out of the manifest"
        )


def list_runs(transcript: str) -> set[str]:
    """Every seven words in a row."""
    words = transcript.upper().split()
    return {" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1)}


def split_by_overlap(
    utterances: Sequence[Utterance], held_out: Iterable[Utterance]
) -> tuple[list[Utterance], list[Utterance]]:
    """Those that share no seven words in a row with what is held out, and those that do."""
    forbidden: set[str] = set().union(*(list_runs(utterance.transcript) for utterance in held_out))
    separate: list[Utterance] = []
    overlapping: list[Utterance] = []
    for utterance in utterances:
        (overlapping if forbidden & list_runs(utterance.transcript) else separate).append(utterance)
    return separate, overlapping
