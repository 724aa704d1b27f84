"""What each change buys: from the original's step to the smallest recipe, as hours for 100 hours of LibriSpeech."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recipes.benchmark.contender import MINDSPORE_OFFICIAL, OURS_NATIVE, OURS_STOCK

MEAN_SECONDS = 100.59 * 3600 / 28539  # an utterance of LibriSpeech's train-clean-100 (hours and count: openslr.org/12)
PADDED_SECONDS = 15.0  # what the original pads every utterance to
REAL_DURATIONS = "train, durations of librispeech_mini/train.jsonl"


@dataclass(frozen=True)
class Rung:
    """One line of the table.

    Attributes:
        change: what is new in it.
        hparams: the YAML's name, with which the network's name begins.
        case, contender: of the line in results.jsonl.
    """

    change: str
    hparams: str
    case: str
    contender: str


LADDER = (
    Rung(
        "the original as it is: MindSpore's model zoo, one utterance a step, padded to 15 s",
        "deepspeech2",
        "train, 1 x 15 s",
        MINDSPORE_OFFICIAL,
    ),
    Rung("the original, 16 utterances a step", "deepspeech2", "train, 16 x 15 s", MINDSPORE_OFFICIAL),
    Rung("ours, 16 utterances a step, MindSpore's operators", "deepspeech2", "train, 16 x 15 s", OURS_STOCK),
    Rung("ours, 16 utterances a step, native kernels", "deepspeech2", "train, 16 x 15 s", OURS_NATIVE),
    Rung(
        "batches by duration, not padded to 15 s: `hparams/deepspeech2.yaml`",
        "deepspeech2",
        REAL_DURATIONS,
        OURS_NATIVE,
    ),
    Rung(
        "half the width, time strided twice: `hparams/deepspeech2_clean100.yaml`",
        "deepspeech2_clean100",
        REAL_DURATIONS,
        OURS_NATIVE,
    ),
    Rung(
        "mel bands, three narrow layers: `hparams/deepspeech2_mini.yaml`",
        "deepspeech2_mini",
        REAL_DURATIONS,
        OURS_NATIVE,
    ),
)


def make_ladder_table(lines: Sequence[dict[str, Any]]) -> str:
    """The rungs that have been measured, as Markdown; each rung has its newest line. Empty without the first.

    Audio counts without padding: an utterance that is padded to 15 s has 12.7 s of it on average.
    """
    rates = [(rung, _find_rate(rung, lines)) for rung in LADDER]
    first = rates[0][1]
    if first is None:
        return ""
    rows = [
        "| | seconds of audio a second | one epoch of 100 h | times as fast |",
        "| --- | --- | --- | --- |",
    ]
    rows += [
        f"| {rung.change} | {rate:.1f} | {100 / rate:.1f} h | {rate / first:.1f} |"
        for rung, rate in rates
        if rate is not None
    ]
    return "\n".join(rows)


def _find_rate(rung: Rung, lines: Sequence[dict[str, Any]]) -> float | None:
    """Seconds of audio, without padding, for a second of work."""
    for line in reversed(lines):
        if (
            line.get("network", "").startswith(f"{rung.hparams}:")
            and (line["case"], line["contender"]) == (rung.case, rung.contender)
            and "audio_seconds_per_second" in line  # neither a failure nor a line of pieces
        ):
            rate: float = line["audio_seconds_per_second"]
            return rate if rung.case == REAL_DURATIONS else rate * MEAN_SECONDS / PADDED_SECONDS
    return None
