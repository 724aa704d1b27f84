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
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mindaudio_ds2.audio.io import measure_durations
from mindaudio_ds2.audio.verification import AudioLimits, verify_audio
from mindaudio_ds2.commands import _manifest_options as options_of
from mindaudio_ds2.commands._command import Command
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.charts import draw_histograms
from mindaudio_ds2.corpus.format_writers import write_any_manifest
from mindaudio_ds2.corpus.formats import read_any_manifest
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.corpus.naming import name_uniquely
from mindaudio_ds2.corpus.opening import add_data_root, open_manifest
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.corpus.reports import describe, to_json
from mindaudio_ds2.corpus.selection import Choice
from mindaudio_ds2.corpus.statistics import SuspicionLimits, measure_corpus
from mindaudio_ds2.errors import ConfigError, ManifestError
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.reading import explain_foreign
from mindaudio_ds2.text.characters import name_character
from mindaudio_ds2.text.tokenizer import Tokenizer

MAX_LISTED = 10


# stats ----------------------------------------------------------------------------------------------------------------


def show_statistics(options: argparse.Namespace) -> int:
    """`stats`: print what manifests consist of and what in them looks like a mistake; with files on request."""
    tokenizer = _make_tokenizer(options)
    normalize = tokenizer.normalize if tokenizer else (lambda transcript: " ".join(transcript.split()))
    names = name_uniquely(options.manifests)
    read = [open_manifest(path, options.data_root) for path in options.manifests]
    corpora = dict(zip(names, read, strict=True))
    characters = tokenizer.characters if tokenizer else None
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


def _make_tokenizer(options: argparse.Namespace) -> Tokenizer | None:
    if options.config:
        return Tokenizer(read_config(options.config).text)
    if options.characters:
        return Tokenizer(TextConfig(options.characters, "first", options.letter_case, "error"))
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
        utterances = open_manifest(path, options.data_root)
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
        for utterance in open_manifest(path, options.data_root):
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
    utterances = open_manifest(options.manifest, options.data_root)
    left_out = Problems()
    kept = _make_choice(options, utterances).keep(utterances, left_out)
    print(f"left out {left_out.num:,} of {len(utterances):,} utterances")
    if left_out:
        print(left_out.summary(MAX_LISTED))
    _write_list(left_out, options.report)
    if not kept:
        raise ManifestError(f"nothing of {options.manifest} is left; allow more")
    return _write(options.output, kept)


def _make_choice(options: argparse.Namespace, utterances: Sequence[Utterance]) -> Choice:
    speakers, ids = _read_names(options.speakers or ()), _read_names(options.exclude_ids or ())
    if unknown := speakers - {utterance.speaker for utterance in utterances}:
        raise ManifestError(f"{options.manifest} has no speakers {sorted(unknown)[:MAX_LISTED]}; see `stats --json`")
    absent = ids - {utterance.id for utterance in utterances}
    if absent:  # one list may serve several manifests
        print(f"note: {len(absent):,} of the {len(ids):,} ids to exclude are not in {options.manifest}")
    tokenizer = _make_tokenizer(options)
    if options.drop_unknown_characters and tokenizer is None:
        raise ConfigError("--drop_unknown_characters needs an alphabet: give -c HPARAMS.yaml or --characters TEXT")
    return Choice(
        (options.min_duration, options.max_duration),
        (options.min_characters_per_second, options.max_characters_per_second),
        frozenset(speakers) if options.speakers else None,
        frozenset(ids),
        functools.partial(_name_unknown, tokenizer) if tokenizer and options.drop_unknown_characters else None,
        options.hours,
        options.seed,
    )


def _name_unknown(tokenizer: Tokenizer, transcript: str) -> str:
    unknown = set(tokenizer.normalize(transcript)) - set(tokenizer.characters)
    return ", ".join(map(name_character, sorted(unknown)))


def _read_names(values: Sequence[str]) -> set[str]:
    """Names as given; @FILE stands for the lines of a file."""
    names: set[str] = set()
    for value in values:
        if not value.startswith("@"):
            names.add(value)
            continue
        try:
            lines = Path(value[1:]).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            reason = explain_foreign(Path(value[1:]))
            raise ManifestError(f"the list of names {value[1:]} is not UTF-8: {reason}") from None
        except OSError as error:
            raise ManifestError(f"the list of names {value[1:]} cannot be read: {error}") from error
        names |= {line.strip() for line in lines if line.strip()}
    return names


# convert --------------------------------------------------------------------------------------------------------------


def convert(options: argparse.Namespace) -> int:
    """`convert`: from any format to any, measuring the audio where the format has no durations."""
    problems = Problems()
    measure = functools.partial(measure_durations, num_workers=options.workers)
    utterances = read_any_manifest(options.manifest, options.source_format, measure, problems, options.data_root)
    num_rows = len(utterances) + problems.num
    if problems:
        problems.check(num_rows, options.max_problem_share, "mend these rows, or allow more with --max_problem_share")
        print(f"left out {problems.num:,} of {num_rows:,} rows\n{problems.summary(MAX_LISTED)}")
    if not utterances:
        raise ManifestError(f"{options.manifest} has no row that can be used; nothing was written")
    if options.target_format == "ours":
        return _write(options.output, utterances)
    write_any_manifest(options.output, utterances, options.target_format)
    lost = "ids or speakers" if options.target_format == "nemo" else "ids, speakers or durations"
    print(f"{options.output}: {len(utterances):,} utterances; the format holds no {lost}")
    num_others = sum(not utterance.audio_path.lower().endswith(".wav") for utterance in utterances)
    if num_others and options.target_format != "mindspore":  # whose reader takes what libsndfile takes
        print(f"note: {num_others:,} audio files are not .wav; not all programs that read this format take others")
    return 0


# The command line -----------------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None]]] = {
    "stats": (show_statistics, options_of.add_stats),
    "verify": (verify, options_of.add_verify),
    "merge": (merge, options_of.add_merge),
    "filter": (choose, options_of.add_filter),
    "convert": (convert, options_of.add_convert),
}
TAKES_MANY = ("stats", "verify", "merge")
WRITES = ("merge", "filter", "convert")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but for options that do nothing unless they are given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def add_options(parser: argparse.ArgumentParser) -> None:
    """A parser for each command."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (run_command, add) in COMMANDS.items():
        text = (run_command.__doc__ or "").partition(": ")[2]
        command = commands.add_parser(name, help=text, description=text, formatter_class=_HelpFormatter)
        command.set_defaults(run=run_command)
        if name in TAKES_MANY:
            command.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST", help="manifests (paths)")
        else:
            command.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest (path)")
        if name in WRITES:
            text = "the manifest to write (path)"
            command.add_argument("--output", type=Path, required=True, metavar="FILE", help=text)
        add_data_root(command)
        add(command)


def run(options: argparse.Namespace) -> None:
    """Run one of them, if what it reads stays."""
    named = vars(options)
    inputs = [*named.get("manifests", ()), named.get("manifest"), named.get("config")]
    lists = [value for name in ("speakers", "exclude_ids") for value in named.get(name) or ()]
    inputs += [value[1:] for value in lists if value.startswith("@")]
    for output in filter(None, (named.get(name) for name in ("output", "report", "json", "plot"))):
        require_writable(output, inputs)
    sys.exit(options.run(options))


main = Command(__doc__, add_options, run)


if __name__ == "__main__":
    main()
