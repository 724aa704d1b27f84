"""Train, dev, test and the other manifests to make: their utterances, and what was left out of them and why."""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindaudio_ds2.audio.io import measure_durations
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import AudioError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.reading import parse_json
from recipes.librispeech.subsets import SUBSETS
from recipes.librispeech.tree import Entry, read_tree

STAMP_NAME = "prepared.json"


@dataclass
class Part:
    """What becomes one manifest.

    Attributes:
        name: of the manifest, without its suffix.
        entries: as they stand in the tree.
        utterances: those to write.
        left_out: how many are not written (count), by reason.
    """

    name: str
    entries: list[Entry] = field(default_factory=list)
    utterances: list[Utterance] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, num: int, reason: str) -> None:
        """Count what is not written."""
        if num:
            self.left_out[reason] = self.left_out.get(reason, 0) + num


def read_parts(tree: Path, names: Mapping[str, Sequence[str]], problems: Problems) -> dict[str, Part]:
    """Read the subsets of all parts; an id that was read already is left out.

    Args:
        tree: the folder in which each subset is a folder.
        names: of the subsets, by part. An id in several of them stays in the first.
        problems: gets all that cannot be used, and what a subset lacks to its official count.

    Raises:
        ManifestError: there is no such subset.
    """
    parts: dict[str, Part] = {}
    subset_of: dict[str, str] = {}
    for part_name, subset_names in names.items():
        part = parts[part_name] = Part(part_name)
        for subset_name in subset_names:
            num_before = problems.num
            entries = read_tree(tree / subset_name, problems)
            _check_count(subset_name, len(entries), problems.num - num_before, problems)
            for entry in entries:
                first = subset_of.setdefault(entry.id, subset_name)
                if first == subset_name:
                    part.entries.append(entry)
                else:
                    problems.add("id in two subsets", f"{entry.id} of {subset_name} is in {first}, too")
            part.leave_out(problems.num - num_before, "problems")
    return parts


def _check_count(name: str, num_good: int, num_bad: int, problems: Problems) -> None:
    """Compare a subset of OpenSLR's with its official count; what is bad has been counted already."""
    subset = SUBSETS.get(name)
    if subset is None:
        return
    num_missing = subset.num_utterances - num_good - num_bad
    if num_missing > 0:
        what = f"{name} has {num_missing} utterances less than its official {subset.num_utterances}"
        problems.add("utterances of which nothing is there", what, num=num_missing)
    if num_good > subset.num_utterances:
        what = f"{name} has {num_good} utterances instead of its official {subset.num_utterances}"
        problems.add("utterances that the official subset has not", what, num=num_good - subset.num_utterances)


def measure(parts: Mapping[str, Part], num_workers: int, problems: Problems) -> None:
    """Fill in the utterances of all parts; audio that cannot be used is added to `problems`."""
    entries = [entry for part in parts.values() for entry in part.entries]
    durations = iter(measure_durations([Path(entry.audio_path) for entry in entries], num_workers))
    for part in parts.values():
        for entry, duration in zip(part.entries, durations, strict=False):
            if isinstance(duration, AudioError):
                problems.add("audio that cannot be used", f"{duration}")
                part.leave_out(1, "problems")
            else:
                part.utterances.append(Utterance(entry.id, entry.audio_path, duration, entry.transcript, entry.reader))


def describe(parts: Mapping[str, Part]) -> str:
    """A table of what each manifest holds and what was left out, for a console, and warnings."""
    rows = [f"{'manifest':20} {'utterances':>10} {'hours':>8} {'speakers':>8}  left out"]
    for part in parts.values():
        hours = math.fsum(utterance.duration_seconds for utterance in part.utterances) / 3600
        left_out = ", ".join(f"{num} {reason}" for reason, num in part.left_out.items()) or "nothing"
        num_speakers = len(_find_speakers(part))
        rows.append(f"{part.name + '.jsonl':20} {len(part.utterances):10} {hours:8.2f} {num_speakers:8}  {left_out}")
    for one, other in itertools.combinations(parts.values(), 2):
        if {one.name, other.name} & {"train", "dev"} and (shared := _find_speakers(one) & _find_speakers(other)):
            rows.append(
                f"WARNING: {one.name} and {other.name} share {len(shared)} speakers "
                f"({', '.join(sorted(shared)[:10])}{', ...' if len(shared) > 10 else ''}): voices that training has "
                "heard, or that the best epoch was chosen by, are recognised better than a stranger's"
            )
    return "\n".join(rows)


def _find_speakers(part: Part) -> set[str]:
    return {utterance.speaker for utterance in part.utterances}


def digest_parts(parts: Mapping[str, Part], settings: Mapping[str, Any], problems: Problems) -> str:
    """A checksum of all that the manifests are made from: the choices, and the tree with sizes and times of files."""
    digest = hashlib.sha256(json.dumps([settings, problems.summary(max_listed=0)]).encode())
    for part in parts.values():
        digest.update(f"{part.name}\n".encode())
        for entry in part.entries:
            line = f"{entry.id} {entry.audio_path} {entry.stamp} {entry.transcript}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_stamp(output: Path, source_digest: str) -> str | None:
    """The table of an earlier run, if it made its manifests from the same, and they are unchanged."""
    try:
        stamp = parse_json((output / STAMP_NAME).read_text(encoding="utf-8"))
        if stamp["source"] == source_digest and stamp["manifests"] == _digest_manifests(output, stamp["manifests"]):
            return str(stamp["table"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def write_stamp(output: Path, source_digest: str, parts: Mapping[str, Part], table: str) -> None:
    """Note from what the manifests were made, so that the next run can tell that nothing is to be done."""
    manifests = _digest_manifests(output, parts)
    text = json.dumps({"source": source_digest, "manifests": manifests, "table": table}, indent=2)
    write_text(output / STAMP_NAME, text + "\n")


def _digest_manifests(output: Path, names: Mapping[str, Any]) -> dict[str, str]:
    return {name: hashlib.sha256((output / f"{name}.jsonl").read_bytes()).hexdigest() for name in names}
