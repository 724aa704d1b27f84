"""The options of `mindaudio-ds2 manifest`, a function for each of its commands."""

import argparse
import math
import os
from pathlib import Path

from mindaudio_ds2.corpus.formats import FORMATS
from mindaudio_ds2.corpus.seeds import parse_seed

DEFAULT_SAMPLE_RATE_HZ = 16000


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
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, found {text!r}") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, found {number}")
    return number


def add_stats(command: argparse.ArgumentParser) -> None:
    """Options of `stats`."""
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


def add_verify(command: argparse.ArgumentParser) -> None:
    """Options of `verify`."""
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


def add_filter(command: argparse.ArgumentParser) -> None:
    """Options of `filter`."""
    command.add_argument("--min_duration", type=float, default=0.0, metavar="S", help="no shorter (seconds)")
    command.add_argument("--max_duration", type=float, default=math.inf, metavar="S", help="no longer (seconds)")
    command.add_argument(
        "--min_characters_per_second", type=float, default=0.0, metavar="X", help="spaces included (characters/second)"
    )
    command.add_argument(
        "--max_characters_per_second", type=float, default=math.inf, metavar="X", help="likewise (characters/second)"
    )
    command.add_argument("--hours", type=float, metavar="H", help="then a random subset of this length (hours)")
    command.add_argument("--seed", type=parse_seed, default=1, metavar="N", help="of the random subset")
    for name, text in (("speakers", "only these speakers"), ("exclude_ids", "but for these utterances")):
        command.add_argument(f"--{name}", nargs="+", metavar="NAME", help=f"{text}; @FILE stands for a file's lines")
    _add_alphabet(command)
    command.add_argument(
        "--drop_unknown_characters", action="store_true", help="only transcripts that the alphabet can write"
    )
    command.add_argument("--report", type=Path, metavar="FILE", help="list all that is left out (path)")


def add_convert(command: argparse.ArgumentParser) -> None:
    """Options of `convert`."""
    command.add_argument(
        "--from", choices=FORMATS, dest="source_format", help="format of MANIFEST; without it, what it looks like"
    )
    command.add_argument("--to", choices=FORMATS, dest="target_format", default="ours", help="format of the output")
    command.add_argument(
        "--max_problem_share", type=float, default=0.0, metavar="X", help="rows that may be unusable (fraction)"
    )
    _add_workers(command)


def add_merge(command: argparse.ArgumentParser) -> None:
    """Options of `merge`."""
    command.add_argument("--prefix_ids", action="store_true", help="put each manifest's name and / before its ids")
