#!/usr/bin/env python3
"""Prove that nothing of dev and test is learnt: no reader, no chapter, no seven words in a row.

    python recipes/english/separation.py --train data/english/train.jsonl --text novels.txt.gz \\
        --held_out data/english/dev.jsonl data/english/test_mini.jsonl data/english/test_clean.jsonl

Texts are those that a language model or synthetic speech is made from. Ends with an error where anything is not zero.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.errors import ManifestError, exit_on_error
from recipes.english.readers import NEVER, TEST_CLEAN, list_runs
from recipes.english.sentences import read_sentences


@dataclass(frozen=True)
class Overlap:
    """What a held-out manifest shares with what is learnt; all counts are to be 0."""

    name: str
    num_utterances: int
    readers: int
    chapters: int
    train_runs: int
    text_runs: int
    never_readers: int

    @property
    def is_none(self) -> bool:
        """Whether nothing is shared."""
        return not (self.readers or self.chapters or self.train_runs or self.text_runs or self.never_readers)


def measure_overlap(
    name: str, held_out: Sequence[Utterance], train: Sequence[Utterance], texts: Sequence[str]
) -> Overlap:
    """Count shared readers, chapters, and utterances of `held_out` with seven words in a row of train or text.

    Args:
        name: of the held-out manifest, for the table.
        held_out: what is to be new to the network.
        train: what is learnt.
        texts: a sentence each, of language models and synthetic speech.
    """
    runs_of = [list_runs(utterance.transcript) for utterance in held_out]
    wanted: set[str] = set().union(*runs_of)
    in_train: set[str] = set().union(*(wanted & list_runs(utterance.transcript) for utterance in train))
    in_texts: set[str] = set().union(*(wanted & list_runs(text) for text in texts))
    return Overlap(
        name,
        len(held_out),
        readers=len({u.speaker for u in held_out} & {u.speaker for u in train} - {""}),
        chapters=len({_chapter(u) for u in held_out} & {_chapter(u) for u in train}),
        train_runs=sum(bool(runs & in_train) for runs in runs_of),
        text_runs=sum(bool(runs & in_texts) for runs in runs_of),
        never_readers=len({u.speaker for u in train} & (NEVER | TEST_CLEAN)),
    )


def _chapter(utterance: Utterance) -> str:
    """LibriSpeech's `<reader>-<chapter>`, LJSpeech's book and chapter, the whole id of anything else."""
    return utterance.id.rsplit("-", 1)[0] if not utterance.id.startswith(("kokoro-", "hibari-")) else utterance.id


def describe(overlaps: Sequence[Overlap]) -> str:
    """A table for the console."""
    rows = [f"{'held out':14} {'utterances':>10} {'readers':>8} {'chapters':>9} {'runs/train':>11} {'runs/text':>10}"]
    for one in overlaps:
        rows.append(
            f"{one.name:14} {one.num_utterances:10} {one.readers:8} {one.chapters:9} {one.train_runs:11} "
            f"{one.text_runs:10}"
        )
    num_never = max((one.never_readers for one in overlaps), default=0)
    rows.append(f"readers of test-clean, 1970 and 6848 in train: {num_never}")
    return "\n".join(rows)


@exit_on_error
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--train", type=Path, nargs="+", required=True, metavar="MANIFEST", help="what is learnt")
    add("--held_out", type=Path, nargs="+", required=True, metavar="MANIFEST", help="dev and test")
    add("--text", type=Path, nargs="*", default=[], help="of language models and synthetic speech, a sentence a line")
    arguments = parser.parse_args()
    print("comparing every seven words in a row", flush=True)
    train = [utterance for path in arguments.train for utterance in read_manifest(path)]
    texts = read_sentences(arguments.text) if arguments.text else []
    overlaps = [measure_overlap(path.stem, read_manifest(path), train, texts) for path in arguments.held_out]
    print(describe(overlaps))
    if not all(overlap.is_none for overlap in overlaps):
        raise ManifestError("dev or test overlaps with what is learnt; the table says where")


if __name__ == "__main__":
    main()
