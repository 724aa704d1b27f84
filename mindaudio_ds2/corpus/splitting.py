"""Dividing a corpus that has no official parts into train, dev and test, and what its scores then mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.selection import split_by_speaker, take_hours
from mindaudio_ds2.errors import ManifestError

LEAST_TRAIN_SHARE = 0.6
"""Train keeps so much of what was asked for it, before whole speakers are held out."""


@dataclass(frozen=True, slots=True)
class Splits:
    """A corpus in three parts, none of them empty, each in the given order.

    Attributes:
        train: to learn from.
        dev: to choose the best epoch with.
        test: to score with, once.
        strangers: which of dev and test no voice of train is in.
    """

    train: list[Utterance]
    dev: list[Utterance]
    test: list[Utterance]
    strangers: tuple[str, ...]

    @property
    def by_name(self) -> dict[str, list[Utterance]]:
        """The parts by the names of their manifests."""
        return {"train": self.train, "dev": self.dev, "test": self.test}

    @property
    def utterances(self) -> list[Utterance]:
        """All of them."""
        return [*self.train, *self.dev, *self.test]


def divide(utterances: list[Utterance], dev_share: float, test_share: float, seed: int) -> Splits:
    """Divide by whole speakers as far as train keeps enough, else by utterance.

    First test is given whole speakers, then dev, each only where train is left with `LEAST_TRAIN_SHARE` of what was
    asked for it: of three equal speakers one is test, and dev is taken from what the other two say.

    Args:
        utterances: of the whole corpus.
        dev_share: of the hours (0 to 1).
        test_share: of the hours (0 to 1).
        seed: another integer divides otherwise.

    Raises:
        ManifestError: there are too few to make three parts.
    """
    least_seconds = LEAST_TRAIN_SHARE * (1 - dev_share - test_share) * sum_seconds(utterances)
    share_of_rest = dev_share / (1 - test_share)
    strangers = []
    rest, test = utterances, list[Utterance]()
    if len(find_speakers(utterances)) > 2:
        rest, test = split_by_speaker(utterances, test_share, seed)
        if sum_seconds(rest) * (1 - share_of_rest) >= least_seconds:
            strangers.append("test")
    if not strangers:
        rest, test = _split_by_utterance(utterances, test_share, seed)
    if strangers and len(find_speakers(rest)) > 1:
        train, dev = split_by_speaker(rest, share_of_rest, seed)
        if sum_seconds(train) >= least_seconds:
            return Splits(train, dev, test, ("dev", "test"))
    train, dev = _split_by_utterance(rest, share_of_rest, seed)
    if not (train and dev and test):
        raise ManifestError(
            f"{len(utterances)} utterances are too few to be divided into train, dev and test; record more, or ask for "
            "larger shares of dev and test"
        )
    return Splits(train, dev, test, tuple(strangers))


def _split_by_utterance(
    utterances: list[Utterance], share: float, seed: int
) -> tuple[list[Utterance], list[Utterance]]:
    taken = {utterance.id for utterance in take_hours(utterances, share * sum_seconds(utterances) / 3600, seed)}
    rest = [utterance for utterance in utterances if utterance.id not in taken]
    return rest, [utterance for utterance in utterances if utterance.id in taken]


def find_speakers(utterances: Sequence[Utterance]) -> set[str]:
    """The known speakers of utterances."""
    return {utterance.speaker for utterance in utterances} - {""}


def sum_seconds(utterances: Sequence[Utterance]) -> float:
    """How long utterances last together (seconds)."""
    return math.fsum(utterance.duration_seconds for utterance in utterances)


def make_table(splits: Splits) -> str:
    """Utterances, hours, speakers and the longest utterance of each part, for a console."""
    rows = [f"{'':6} {'utterances':>10} {'hours':>8} {'share':>7} {'speakers':>8} {'longest':>9}"]
    total_seconds = sum_seconds(splits.utterances)
    for name, members in splits.by_name.items():
        seconds = sum_seconds(members)
        longest = max(utterance.duration_seconds for utterance in members)
        num_speakers = len(find_speakers(members)) or "unknown"
        row = f"{len(members):10} {seconds / 3600:8.2f} {100 * seconds / total_seconds:5.1f} % {num_speakers:>8}"
        rows.append(f"{name:6} {row} {longest:7.2f} s")
    return "\n".join(rows)


def find_doubts(splits: Splits, dev_share: float, test_share: float) -> list[str]:
    """What makes scores on dev and test better than those on new voices and sentences, or less sure.

    Args:
        splits: from `divide`.
        dev_share: that was asked for.
        test_share: that was asked for.

    Returns:
        A message each.
    """
    doubts = []
    if splits.strangers == ("test",):
        doubts.append(
            f"Dev is divided by utterance: {len(find_speakers(splits.utterances))} speakers are too few to give up one "
            "more. Its voices are heard in training, so its score is better than that of test, whose are not."
        )
    elif not splits.strangers:
        num_speakers = len(find_speakers(splits.utterances))
        doubts.append(
            f"Divided by utterance, not by speaker: {num_speakers or 'no'} speakers are known, and it takes three, "
            "none with nearly all of the speech. The voices of dev and test are heard in training, so their scores "
            "are better than a stranger's will be."
        )
    elif num_unknown := sum(not utterance.speaker for utterance in splits.utterances):
        doubts.append(
            f"{num_unknown} utterances have no speaker; if one of dev or test spoke them, its score flatters."
        )
    for name, wanted in (("dev", dev_share), ("test", test_share)):
        share = sum_seconds(splits.by_name[name]) / sum_seconds(splits.utterances)
        if not wanted / 2 <= share <= 2 * wanted:
            doubts.append(
                f"{name} has {100 * share:.1f} % of the hours instead of {100 * wanted:g} %; utterances and speakers "
                "are taken whole, so it comes closer with more of them."
            )
    known = {utterance.transcript.casefold() for utterance in splits.train}
    num_known = sum(utterance.transcript.casefold() in known for utterance in splits.test)
    if num_known:
        doubts.append(
            f"{num_known} of test's {len(splits.test)} sentences also stand in train. Its score tells how well these "
            "are heard, and less about new ones."
        )
    return doubts
