"""From the command line to manifests."""

import argparse
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindaudio_ds2.corpus.manifest import write_manifest
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.corpus.selection import split_by_speaker, take_hours, within_durations
from mindaudio_ds2.errors import ConfigError, ManifestError, exit_on_error
from mindaudio_ds2.files import require_writable
from recipes.librispeech.originals import obtain
from recipes.librispeech.parts import Part, describe, digest_parts, measure, read_parts, read_stamp, write_stamp
from recipes.librispeech.subsets import BASE_URLS, SIZES, SUBSETS

REPORT_NAME = "problems.txt"


@dataclass(frozen=True)
class Choices:
    """What the command line says; see `main` for what each one means."""

    size: str
    source: Path | None = None
    train: tuple[str, ...] | None = None
    dev: tuple[str, ...] | None = None
    test: tuple[str, ...] | None = None
    extra: tuple[str, ...] | None = None
    corpus: Path = Path("data/librispeech_original")
    base_url: tuple[str, ...] = BASE_URLS
    remove_archives: bool = False
    output: Path | None = None
    hours: float | None = None
    dev_share: float | None = None
    seed: int = 1
    min_duration: float = 0.0
    max_duration: float = math.inf
    max_problem_share: float = 0.001
    workers: int = 8

    def __post_init__(self) -> None:
        if self.dev_share is not None and self.dev is not None:
            raise ConfigError("--dev names subsets and --dev_share takes dev out of train; choose one of them")
        if self.dev_share is not None and not 0 < self.dev_share < 1:
            raise ConfigError(f"--dev_share {self.dev_share:g} must be above 0 and below 1")
        if self.hours is not None and not self.hours > 0:
            raise ConfigError(f"--hours {self.hours:g} must be above 0")
        if not 0 <= self.min_duration < self.max_duration:
            raise ConfigError(
                f"--min_duration {self.min_duration:g} must be 0 or more and below --max_duration {self.max_duration:g}"
            )
        if not 0 <= self.max_problem_share <= 1:
            raise ConfigError(f"--max_problem_share {self.max_problem_share:g} must be 0 to 1")
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers} must be 1 or more")


def prepare(choices: Choices) -> None:
    """Write the manifests, and `problems.txt` where something could not be used; do nothing where all is done.

    Raises:
        ConfigError: subsets that do not go together, or that OpenSLR does not have.
        ManifestError: too much of the tree cannot be used, or nothing is left.
        DownloadError: an archive cannot be fetched or unpacked.
        OutputError: the disk is full, or cannot be written.
    """
    output = choices.output or SIZES[choices.size].output
    names = choose_subsets(choices)
    tree = _find_tree(choices, names)
    problems = Problems()
    parts = read_parts(tree, names, problems)
    source_digest = digest_parts(parts, _list_settings(choices), problems)
    table = read_stamp(output, source_digest)
    if table:
        print(f"{output} holds these manifests already\n{table}")
        return
    require_writable(output / REPORT_NAME)
    measure(parts, choices.workers, problems)
    _report(problems, parts, output, choices)
    parts = _select(parts, choices)
    for part in parts.values():
        write_manifest(output / f"{part.name}.jsonl", part.utterances)
    table = describe(parts)
    write_stamp(output, source_digest, parts, table)
    print(f"{output}\n{table}")


def choose_subsets(choices: Choices) -> dict[str, tuple[str, ...]]:
    """Names of the subsets of each manifest, train last, so that what is to be scored keeps a doubled id.

    Raises:
        ConfigError: a subset is named twice, or OpenSLR has none of its name.
    """
    size = SIZES[choices.size]
    names = {
        "test": choices.test or size.test,
        "dev": () if choices.dev_share else choices.dev or size.dev,
        "train": choices.train or size.train,
    }
    used = [name for members in names.values() for name in members]
    extra = choices.extra
    if extra is None:
        offered = size.extra if choices.source is None else [name for name in SUBSETS if not name.startswith("train")]
        extra = tuple(name for name in offered if name not in used and _is_there(choices.source, name))
    used += extra
    for name in used:
        if used.count(name) > 1:
            raise ConfigError(f"subset {name} is named {used.count(name)} times; each is for one manifest")
        if choices.source is None and name not in SUBSETS:
            raise ConfigError(f"OpenSLR has no subset {name!r}, only {', '.join(SUBSETS)}; others need --source")
        if name in (".", "..", "") or Path(name).name != name:
            raise ConfigError(f"{name!r} is no name of a folder in --source; name the folders that lie in it")
    for name in extra:
        if name in names:
            raise ConfigError(f"--extra {name} would be written over {name}.jsonl; rename the folder")
    chosen = {"test": names["test"]} | {name: (name,) for name in extra} | {"dev": names["dev"]}
    return {name: members for name, members in chosen.items() if members} | {"train": names["train"]}


def _is_there(source: Path | None, name: str) -> bool:
    return source is None or (source / name).is_dir()


def _find_tree(choices: Choices, names: Mapping[str, tuple[str, ...]]) -> Path:
    """The folder of the subsets, as an absolute path; without --source, they are made to be in it."""
    if choices.source is not None:
        return Path(os.path.abspath(choices.source))
    subsets = [SUBSETS[name] for members in names.values() for name in members]
    corpus = Path(os.path.abspath(choices.corpus))
    return obtain(subsets, corpus, choices.base_url, remove_archives=choices.remove_archives)


def _list_settings(choices: Choices) -> dict[str, Any]:
    """Choices that change the manifests, beside the subsets."""
    names = ("hours", "dev_share", "seed", "min_duration", "max_duration", "max_problem_share")
    return {name: getattr(choices, name) for name in names}


def _report(problems: Problems, parts: Mapping[str, Part], output: Path, choices: Choices) -> None:
    """Write all problems beside the manifests and show the first of each kind.

    Raises:
        ManifestError: they are more than `max_problem_share` of all.
    """
    path = output / REPORT_NAME
    problems.write(path)
    num_total = sum(len(part.utterances) for part in parts.values()) + problems.num
    remedy = f"{path} lists all. Mend them, or leave them out with a larger --max_problem_share."
    problems.check(num_total, choices.max_problem_share, remedy)
    if problems:
        print(f"{problems.num} of {num_total} are left out; {path} lists all:\n{problems.summary()}\n")


def _select(parts: dict[str, Part], choices: Choices) -> dict[str, Part]:
    """Take dev out of train if so chosen, then out of train what is too short, too long, or beyond the hours."""
    train, others = parts["train"], {name: part for name, part in parts.items() if name != "train"}
    if choices.dev_share is not None:
        dev = Part("dev")
        train.utterances, dev.utterances = split_by_speaker(train.utterances, choices.dev_share, choices.seed)
        train.leave_out(len(dev.utterances), "taken for dev")
        others = {"dev": dev} | others
    train.utterances, outside = within_durations(train.utterances, choices.min_duration, choices.max_duration)
    num_short = sum(utterance.duration_seconds < choices.min_duration for utterance in outside)
    train.leave_out(num_short, f"shorter than {choices.min_duration:g} s")
    train.leave_out(len(outside) - num_short, f"longer than {choices.max_duration:g} s")
    if choices.hours is not None:
        num_hours = math.fsum(utterance.duration_seconds for utterance in train.utterances) / 3600
        if num_hours < choices.hours:
            raise ManifestError(f"--hours {choices.hours:g} asks for more than train has left: {num_hours:.3f} hours")
        drawn = take_hours(train.utterances, choices.hours, choices.seed)
        train.leave_out(len(train.utterances) - len(drawn), f"beyond {choices.hours:g} hours")
        train.utterances = drawn
    for part in (train, *others.values()):
        if not part.utterances:
            raise ManifestError(f"nothing is left for {part.name}.jsonl; left out were {part.left_out or 'none'}")
    order = ["train", "dev", "test"]
    return {"train": train} | dict(sorted(others.items(), key=lambda item: (item[0] not in order, item[0])))


@exit_on_error
def main() -> None:
    """The command line of this recipe."""
    parser = argparse.ArgumentParser(
        description="Make manifests of LibriSpeech: download what is missing, or read a tree that you have (--source).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_describe_sizes(),
    )
    add = parser.add_argument
    add("size", choices=list(SIZES), help="which of the sizes below; the other options change it")
    _add_origin(parser)
    text = "subsets of train.jsonl; with --source, any names of folders"
    add("--train", nargs="+", metavar="SUBSET", help=text)
    add("--dev", nargs="+", metavar="SUBSET", help="subsets of dev.jsonl, by which the best epoch is chosen")
    add("--test", nargs="+", metavar="SUBSET", help="subsets of test.jsonl")
    text = "subsets that get a manifest of their own name; with --source, if not given, all dev and test that are there"
    add("--extra", nargs="*", metavar="SUBSET", help=text)
    add("--output", type=Path, metavar="DIR", help="folder of the manifests to make (default: see below)")
    add("--hours", type=float, help="draw so many hours of train; fewer hours are always part of more (default: all)")
    add("--dev_share", type=float, metavar="X", help="take dev out of train: whole speakers, this share of its hours")
    add("--seed", type=parse_seed, default=1, help="of --hours and --dev_share (default: %(default)s)")
    add(
        "--min_duration", type=float, default=0.0, metavar="S", help="shortest in train (seconds; default: %(default)s)"
    )
    add("--max_duration", type=float, default=math.inf, metavar="S", help="longest in train (seconds; default: no end)")
    text = "the share of the utterances that may be unusable and are left out (default: %(default)s)"
    add("--max_problem_share", type=float, default=0.001, metavar="X", help=text)
    add("--workers", type=int, default=8, help="files to measure at a time (count; default: %(default)s)")
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in vars(parser.parse_args()).items()
    }
    prepare(Choices(**arguments))


def _add_origin(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "a tree that you have, with folders <subset>/<reader>/<chapter>; nothing is downloaded"
    add("--source", type=Path, metavar="DIR", help=text)
    text = "folder of the archives and their tree, which all sizes share (default: %(default)s)"
    add("--corpus", type=Path, default=Path("data/librispeech_original"), metavar="DIR", help=text)
    text = "addresses to download from, in the order in which to try them (default: OpenSLR and its mirrors)"
    add("--base_url", nargs="+", default=BASE_URLS, metavar="URL", help=text)
    add("--remove_archives", action="store_true", help="delete each archive once it is unpacked")


def _describe_sizes() -> str:
    """The three sizes, and what each takes on a disk, for the help."""
    lines = ["sizes:"]
    for name, size in SIZES.items():
        subsets = [SUBSETS[member] for member in (*size.train, *size.dev, *size.test, *size.extra)]
        download_gb = sum(subset.num_bytes for subset in subsets) / 1e9
        unpacked_gb = sum(subset.num_unpacked_bytes for subset in subsets) / 1e9
        lines.append(f"  {name:9} {' '.join(subset.name for subset in subsets)}")
        lines.append(f"  {'':9} into {size.output}; {download_gb:.1f} GB to download, {unpacked_gb:.1f} GB unpacked")
    return "\n".join(lines)
