#!/usr/bin/env python3
"""Look at manifests, check them, put them together, choose from them, and convert those of other projects.

    mindaudio-ds2 manifest stats data/an4/train.jsonl data/an4/dev.jsonl -c hparams/an4.yaml --plot an4.png
    mindaudio-ds2 manifest verify data/an4/train.jsonl
    mindaudio-ds2 manifest merge data/an4/train.jsonl data/mine/train.jsonl --output data/both/train.jsonl
    mindaudio-ds2 manifest filter data/both/train.jsonl --output data/short.jsonl --max_duration 10 --hours 2
    mindaudio-ds2 manifest convert train_manifest.json --output data/theirs/train.jsonl

`COMMAND --help` lists the options of each. Nothing is left out in silence: what is, is counted and listed.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindaudio_ds2.audio.io import measure_durations
from mindaudio_ds2.audio.verification import AudioLimits, verify_audio
from mindaudio_ds2.config import TextConfig
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.charts import draw_histograms
from mindaudio_ds2.corpus.format_writers import write_any_manifest
from mindaudio_ds2.corpus.formats import FORMATS, read_any_manifest
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.corpus.naming import name_uniquely
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.corpus.reports import describe, to_json
from mindaudio_ds2.corpus.selection import take_hours, within_durations
from mindaudio_ds2.corpus.statistics import SuspicionLimits, measure_corpus
from mindaudio_ds2.errors import ConfigError, ManifestError, exit_on_error
from mindaudio_ds2.files import write_text
from mindaudio_ds2.text.alphabet import Alphabet
from mindaudio_ds2.text.characters import name_character

DEFAULT_SAMPLE_RATE_HZ = 16000
MAX_LISTED = 10


# stats ----------------------------------------------------------------------------------------------------------------


def show_statistics(options: argparse.Namespace) -> int:
    """`stats`: print what manifests consist of and what in them looks like a mistake; with files on request."""
    alphabet = _make_alphabet(options)
    normalize = alphabet.normalize if alphabet else (lambda transcript: " ".join(transcript.split()))
    names = name_uniquely(options.manifests)
    corpora = {name: read_manifest(path) for name, path in zip(names, options.manifests, strict=True)}
    characters = alphabet.characters if alphabet else None
    limits = SuspicionLimits(
        options.min_duration,
        options.max_duration,
        options.min_characters_per_second,
        options.max_characters_per_second,
        options.max_deviations,
    )
    all_statistics = {
        name: measure_corpus(utterances, normalize, characters, limits) for name, utterances in corpora.items()
    }
    for name, statistics in all_statistics.items():
        print(f"{name}\n{describe(statistics)}\n")
    for one, other in itertools.combinations(corpora, 2):
        _print_shared(corpora, one, other)
    if options.json:
        rows = {name: to_json(statistics) for name, statistics in all_statistics.items()}
        write_text(options.json, json.dumps(rows, ensure_ascii=False, indent=2) + "\n")
        print(f"numbers in {options.json}")
    if options.plot:
        draw_histograms(all_statistics, options.plot)
        print(f"picture in {options.plot}")
    return 0


def _make_alphabet(options: argparse.Namespace) -> Alphabet | None:
    if options.config:
        return Alphabet(read_config(options.config).text)
    if options.characters:
        return Alphabet(TextConfig(options.characters, "first", options.letter_case, "error"))
    return None


def _print_shared(corpora: dict[str, list[Utterance]], one: str, other: str) -> None:
    """Speakers and files that stand in two manifests: a test set that shares them with training proves little."""
    speakers = {u.speaker for u in corpora[one]} & {u.speaker for u in corpora[other]} - {""}
    files = {u.audio_path for u in corpora[one]} & {u.audio_path for u in corpora[other]}
    for what, shared in (("speakers", speakers), ("audio files", files)):
        first = "".join(f"\n    {name}" for name in sorted(shared)[:MAX_LISTED])
        print(f"in both {one} and {other}: {len(shared):,} {what}{first}")


# verify ---------------------------------------------------------------------------------------------------------------


def verify(options: argparse.Namespace) -> int:
    """`verify`: read every audio file to its end; 1 when something is wrong."""
    rate_hz = read_config(options.config).features.sample_rate_hz if options.config else options.sample_rate
    limits = AudioLimits(rate_hz, options.silence, options.max_clipped_share)
    problems, num_utterances, hours = Problems(), 0, 0.0
    start = time.perf_counter()
    for path in options.manifests:
        utterances = read_manifest(path)
        num_utterances += len(utterances)
        hours += sum(utterance.duration_seconds for utterance in utterances) / 3600
        verify_audio(utterances, limits, options.workers, problems)
    seconds = time.perf_counter() - start
    print(f"{num_utterances:,} utterances, {hours:,.2f} hours, read in {seconds:.1f} s", end="")
    print(f" ({3600 * hours / seconds:,.0f} hours of audio an hour)")
    print(problems.summary(MAX_LISTED) if problems else "nothing is wrong")
    _write_list(problems, options.output)
    return 1 if problems else 0


def _write_list(problems: Problems, path: Path | None) -> None:
    if path:
        problems.write(path)
        print(f"all of them in {path}" if problems else f"no {path}, as it would be empty")


# merge ----------------------------------------------------------------------------------------------------------------


def merge(options: argparse.Namespace) -> int:
    """`merge`: put manifests together, in the order given."""
    names = name_uniquely([Path(os.path.abspath(path)) for path in options.manifests])
    merged: list[Utterance] = []
    first_names: dict[str, str] = {}
    clashes = Problems()
    for name, path in zip(names, options.manifests, strict=True):
        for utterance in read_manifest(path):
            if options.prefix_ids:
                utterance = dataclasses.replace(utterance, id=f"{name}/{utterance.id}")
            first = first_names.setdefault(utterance.id, name)
            if first != name:
                clashes.add("id in two manifests", f"{utterance.id!r}: in {first} and {name}")
            merged.append(utterance)
    clashes.check(len(merged), 0.0, "ids must differ; --prefix_ids puts each manifest's name before its ids")
    num_repeated = len(merged) - len({utterance.audio_path for utterance in merged})
    if num_repeated:
        print(f"note: {num_repeated:,} utterances share their audio file with another; `stats` lists them")
    return _write(options.output, merged)


def _write(path: Path, utterances: Sequence[Utterance]) -> int:
    write_manifest(path, utterances)
    hours = sum(utterance.duration_seconds for utterance in utterances) / 3600
    num_speakers = len({utterance.speaker for utterance in utterances} - {""})
    print(f"{path}: {len(utterances):,} utterances, {hours:,.3f} hours, {num_speakers:,} known speakers")
    return 0


# filter ---------------------------------------------------------------------------------------------------------------


def choose(options: argparse.Namespace) -> int:
    """`filter`: keep what all options allow, in the manifest's order; print how much was left out, and why."""
    utterances = read_manifest(options.manifest)
    left_out = Problems()
    kept = _keep_durations(utterances, options, left_out)
    kept = [u for u in kept if _is_allowed(u, options, left_out)]
    kept = _keep_named(kept, utterances, options, left_out)
    kept = _keep_known_characters(kept, options, left_out)
    if options.hours is not None:
        taken = {utterance.id for utterance in take_hours(kept, options.hours, options.seed)}
        _note(left_out, "beyond the hours asked for", [u for u in kept if u.id not in taken])
        kept = [utterance for utterance in kept if utterance.id in taken]
    print(f"left out {left_out.num:,} of {len(utterances):,} utterances")
    if left_out:
        print(left_out.summary(MAX_LISTED))
    _write_list(left_out, options.report)
    if not kept:
        raise ManifestError(f"nothing of {options.manifest} is left; allow more")
    return _write(options.output, kept)


def _note(left_out: Problems, kind: str, utterances: Sequence[Utterance]) -> None:
    for utterance in utterances:
        left_out.add(kind, utterance.id)


def _keep_durations(utterances: list[Utterance], options: argparse.Namespace, left_out: Problems) -> list[Utterance]:
    kept, others = within_durations(utterances, options.min_duration, options.max_duration)
    shorter = f"shorter than {options.min_duration:g} s"
    _note(left_out, shorter, [u for u in others if u.duration_seconds < options.min_duration])
    longer = f"longer than {options.max_duration:g} s"
    _note(left_out, longer, [u for u in others if u.duration_seconds > options.max_duration])
    return kept


def _is_allowed(utterance: Utterance, options: argparse.Namespace, left_out: Problems) -> bool:
    rate = len(" ".join(utterance.transcript.split())) / utterance.duration_seconds
    slow, fast = options.min_characters_per_second, options.max_characters_per_second
    if slow <= rate <= fast:
        return True
    kind = f"fewer than {slow:g} characters a second" if rate < slow else f"more than {fast:g} characters a second"
    left_out.add(kind, f"{utterance.id} ({rate:.1f})")
    return False


def _keep_named(
    kept: list[Utterance], utterances: list[Utterance], options: argparse.Namespace, left_out: Problems
) -> list[Utterance]:
    """Those of the speakers, and not of the ids, that the options name."""
    if options.speakers:
        speakers = _read_names(options.speakers)
        if unknown := speakers - {utterance.speaker for utterance in utterances}:
            raise ManifestError(
                f"{options.manifest} has no speakers {sorted(unknown)[:MAX_LISTED]}; see `stats --json`"
            )
        _note(left_out, "of another speaker", [u for u in kept if u.speaker not in speakers])
        kept = [utterance for utterance in kept if utterance.speaker in speakers]
    if options.exclude_ids:
        ids = _read_names(options.exclude_ids)
        absent = ids - {utterance.id for utterance in utterances}
        if absent:  # one list may serve several manifests
            print(f"note: {len(absent):,} of the {len(ids):,} ids to exclude are not in {options.manifest}")
        _note(left_out, "excluded by id", [u for u in kept if u.id in ids])
        kept = [utterance for utterance in kept if utterance.id not in ids]
    return kept


def _read_names(values: Sequence[str]) -> set[str]:
    """Names as given; @FILE stands for the lines of a file."""
    names: set[str] = set()
    for value in values:
        if not value.startswith("@"):
            names.add(value)
            continue
        try:
            lines = Path(value[1:]).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"the list of names {value[1:]} cannot be read: {error}") from error
        names |= {line.strip() for line in lines if line.strip()}
    return names


def _keep_known_characters(kept: list[Utterance], options: argparse.Namespace, left_out: Problems) -> list[Utterance]:
    alphabet = _make_alphabet(options)
    if options.drop_unknown_characters and alphabet is None:
        raise ConfigError("--drop_unknown_characters needs an alphabet: give -c HPARAMS.yaml or --characters TEXT")
    if alphabet is None or not options.drop_unknown_characters:
        return kept
    known = set(alphabet.characters)
    unknown = {u.id: sorted(set(alphabet.normalize(u.transcript)) - known) for u in kept}
    for utterance_id, found in unknown.items():
        if found:
            left_out.add("characters outside the alphabet", f"{utterance_id} ({', '.join(map(name_character, found))})")
    return [utterance for utterance in kept if not unknown[utterance.id]]


# convert --------------------------------------------------------------------------------------------------------------


def convert(options: argparse.Namespace) -> int:
    """`convert`: from any format to any, measuring the audio where the format has no durations."""
    problems = Problems()
    measure = functools.partial(measure_durations, num_workers=options.workers)
    utterances = read_any_manifest(options.manifest, options.source_format, measure, problems)
    num_rows = len(utterances) + problems.num
    if problems:
        problems.check(num_rows, options.max_problem_share, "mend these rows, or allow more with --max_problem_share")
        print(f"left out {problems.num:,} of {num_rows:,} rows\n{problems.summary(MAX_LISTED)}")
    if not utterances:
        raise ManifestError(f"{options.manifest} has no row that can be used; nothing was written")
    if options.target_format == "ours":
        return _write(options.output, utterances)
    write_any_manifest(options.output, utterances, options.target_format)
    print(f"{options.output}: {len(utterances):,} utterances; the format holds no ids, speakers or durations")
    num_others = sum(not utterance.audio_path.lower().endswith(".wav") for utterance in utterances)
    if num_others and options.target_format != "mindspore":  # whose reader takes what libsndfile takes
        print(f"note: {num_others:,} audio files are not .wav; not all programs that read this format take others")
    return 0


# The command line -----------------------------------------------------------------------------------------------------


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but for options that do nothing unless they are given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def _add_command(commands: Any, name: str, run: Any, one_manifest: bool, output: str | None) -> argparse.ArgumentParser:
    text = (run.__doc__ or "").partition(": ")[2]
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, formatter_class=_HelpFormatter
    )
    parser.set_defaults(run=run)
    if one_manifest:
        parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest (path)")
    else:
        parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST", help="manifests (paths)")
    if output:
        parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=output)
    return parser


def _add_alphabet(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("-c", "--config", type=Path, metavar="YAML", help="hparams with the alphabet (path)")
    source.add_argument("--characters", metavar="TEXT", help="the alphabet, without the blank (characters)")
    parser.add_argument(
        "--letter_case", choices=("upper", "lower", "keep"), default="keep", help="of transcripts, with --characters"
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    workers = os.cpu_count() or 1
    parser.add_argument("--workers", type=_count, default=workers, metavar="N", help="files read at a time (count)")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, found {number}")
    return number


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_stats(commands)
    _add_verify(commands)
    command = _add_command(commands, "merge", merge, False, "the manifest to write (path)")
    command.add_argument("--prefix_ids", action="store_true", help="put each manifest's name and / before its ids")
    _add_filter(commands)
    _add_convert(commands)
    return parser


def _add_stats(commands: Any) -> None:
    command = _add_command(commands, "stats", show_statistics, False, None)
    _add_alphabet(command)
    command.add_argument("--min_duration", type=float, default=0.5, metavar="S", help="shorter is listed (seconds)")
    command.add_argument("--max_duration", type=float, default=30.0, metavar="S", help="longer is listed (seconds)")
    command.add_argument(
        "--max_deviations", type=float, default=4.0, metavar="X",
        help="a rate of speech is suspicious if its logarithm is so many robust standard deviations from the median",
    )  # fmt: skip
    for name, word in (("min", "fewer"), ("max", "more")):
        text = f"suspicious are {word} than this, instead of what --max_deviations finds (characters a second)"
        command.add_argument(f"--{name}_characters_per_second", type=float, metavar="X", help=text)
    command.add_argument("--plot", type=Path, metavar="PNG", help="draw histograms; needs matplotlib (path)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all numbers and all ids (path)")


def _add_verify(commands: Any) -> None:
    command = _add_command(commands, "verify", verify, False, None)
    command.add_argument("-c", "--config", type=Path, metavar="YAML", help="hparams that name the sample rate (path)")
    command.add_argument(
        "--sample_rate", type=int, default=DEFAULT_SAMPLE_RATE_HZ, metavar="HZ", help="least rate, without -c (Hz)"
    )
    command.add_argument(
        "--silence", type=float, default=-60.0, metavar="DB", help="audio must peak above (dB below full scale)"
    )
    command.add_argument(
        "--max_clipped_share", type=float, default=0.01, metavar="X", help="samples at full scale (fraction)"
    )
    _add_workers(command)
    command.add_argument("--output", type=Path, metavar="FILE", help="list everything that is wrong (path)")


def _add_filter(commands: Any) -> None:
    command = _add_command(commands, "filter", choose, True, "the manifest to write (path)")
    command.add_argument("--min_duration", type=float, default=0.0, metavar="S", help="no shorter (seconds)")
    command.add_argument("--max_duration", type=float, default=math.inf, metavar="S", help="no longer (seconds)")
    command.add_argument(
        "--min_characters_per_second", type=float, default=0.0, metavar="X", help="spaces included (characters/second)"
    )
    command.add_argument(
        "--max_characters_per_second", type=float, default=math.inf, metavar="X", help="likewise (characters/second)"
    )
    command.add_argument("--hours", type=float, metavar="H", help="then a random subset of this length (hours)")
    command.add_argument("--seed", type=int, default=1, metavar="N", help="of the random subset")
    for name, text in (("speakers", "only these speakers"), ("exclude_ids", "but for these utterances")):
        command.add_argument(f"--{name}", nargs="+", metavar="NAME", help=f"{text}; @FILE stands for a file's lines")
    _add_alphabet(command)
    command.add_argument(
        "--drop_unknown_characters", action="store_true", help="only transcripts that the alphabet can write"
    )
    command.add_argument("--report", type=Path, metavar="FILE", help="list all that is left out (path)")


def _add_convert(commands: Any) -> None:
    command = _add_command(commands, "convert", convert, True, "the manifest to write (path)")
    command.add_argument(
        "--from", choices=FORMATS, dest="source_format", help="format of MANIFEST; without it, what it looks like"
    )
    command.add_argument("--to", choices=FORMATS, dest="target_format", default="ours", help="format of the output")
    command.add_argument(
        "--max_problem_share", type=float, default=0.0, metavar="X", help="rows that may be unusable (fraction)"
    )
    _add_workers(command)


@exit_on_error
def main() -> None:
    """Parse the command line and run the command."""
    options = _make_parser().parse_args()
    sys.exit(options.run(options))


if __name__ == "__main__":
    main()
