#!/usr/bin/env python3
"""Make the manifests of real English speech, and mix them with synthetic speech.

    python recipes/english/prepare.py real --source DIR
    python recipes/english/prepare.py mix --synthetic data/english/synthetic/*/manifest.jsonl

DIR holds LibriSpeech's subsets, as `<subset>/` or `LibriSpeech/<subset>/`, and perhaps `LJSpeech-1.1/`; README.md says
where they come from. `real` writes train_real, dev, test_mini and test_clean; `mix` writes train.jsonl. Both
leave out of training, and count, what shares a reader or seven words in a row with dev or test.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.corpus.selection import take_hours
from mindaudio_ds2.errors import ConfigError, ManifestError, exit_on_error
from recipes.english.readers import choose_part, refuse_held_out, split_by_overlap
from recipes.english.sources import find_sources, read_sources

HELD_OUT = ("dev", "test_mini", "test_clean")
LEAST_REAL_SHARE = 0.4


def prepare_real(source: Path, output: Path, labelled: Sequence[Path] = ()) -> None:
    """Write the manifests of real speech and say what each holds, what is missing, and what was left out.

    Args:
        source: folder of the corpora.
        output: folder of the manifests.
        labelled: manifests of `label.py`, which train, too.

    Raises:
        ManifestError: no speech at all for train or dev; or more problems than one in a hundred.
    """
    problems = Problems()
    utterances = read_sources(find_sources(source), problems)
    problems.check(len(utterances), 0.01, f"Mend {source}, or take the broken part out of it.")
    problems.write(output / "problems.txt")
    parts: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        parts[choose_part(utterance.speaker)].append(utterance)
    kept_back = parts.pop("", [])
    print(f"kept back for ever: {len(kept_back)} utterances")
    for name in ("train_real", "dev"):
        if not parts[name]:
            raise ManifestError(f"{source} has no speech for {name}; README.md says which subsets it takes")
    for path in labelled:
        parts["train_real"] += _leave_out_known(read_manifest(path), utterances, str(path))
    held_out = [utterance for name in HELD_OUT for utterance in parts[name]]
    parts["train_real"] = _keep_separate(parts["train_real"], held_out, "train_real")
    for name, members in parts.items():
        if members:
            write_manifest(output / f"{name}.jsonl", members)
            print(_describe(name, members))
        else:
            print(f"{name}: nothing of it in {source}")


def mix(output: Path, synthetic: Sequence[Path], hours: float | None, real_share: float, seed: int) -> None:
    """Write train.jsonl: real speech, repeated as often as its share asks for, and synthetic speech.

    Args:
        output: folder of the manifests of real speech.
        synthetic: manifests of `speak.py`.
        hours: of synthetic speech, in equal parts of each manifest; None takes all (hours).
        real_share: of all hours, at least, by repeating real utterances whole (0 to 1).
        seed: of the draw of hours.

    Raises:
        ConfigError: a share that is none.
        ManifestError: a held-out reader among what is to be learnt.
    """
    if not 0 <= real_share < 1:
        raise ConfigError(f"--real_share {real_share:g} must be 0 or more and below 1")
    real = read_manifest(output / "train_real.jsonl")
    held_out = [u for name in HELD_OUT if (output / f"{name}.jsonl").exists() for u in _read(output, name)]
    spoken: list[Utterance] = []
    for path in synthetic:
        members = _keep_separate(read_manifest(path), held_out, str(path))
        spoken += members if hours is None else take_hours(members, hours / len(synthetic), seed)
    num_times = 1
    while _hours(real) * num_times < real_share * (_hours(real) * num_times + _hours(spoken)):
        num_times += 1
    repeated = [_name_again(utterance, turn) for turn in range(num_times) for utterance in real]
    refuse_held_out(repeated + spoken)
    write_manifest(output / "train.jsonl", repeated + spoken)
    print(_describe(f"train: real speech {num_times} times", repeated))
    print(_describe("train: synthetic speech", spoken))


def _read(output: Path, name: str) -> list[Utterance]:
    return read_manifest(output / f"{name}.jsonl")


def _leave_out_known(labelled: Sequence[Utterance], utterances: Sequence[Utterance], name: str) -> list[Utterance]:
    """Those that no corpus has with its own transcript; nobody who is held out is among them."""
    refuse_held_out(labelled)
    known = {utterance.id for utterance in utterances}
    new = [utterance for utterance in labelled if utterance.id not in known]
    print(f"{name}: {len(new)} utterances train, {len(labelled) - len(new)} left out, whose transcripts are known")
    return new


def _keep_separate(utterances: Sequence[Utterance], held_out: Sequence[Utterance], name: str) -> list[Utterance]:
    separate, overlapping = split_by_overlap(utterances, held_out)
    if overlapping:
        print(f"{name}: {len(overlapping)} utterances left out, which share seven words in a row with dev or test")
    return separate


def _name_again(utterance: Utterance, turn: int) -> Utterance:
    """The same recording under another id, so that augmentation is drawn anew."""
    if not turn:
        return utterance
    name = f"{utterance.id}~{turn + 1}"
    return Utterance(name, utterance.audio_path, utterance.duration_seconds, utterance.transcript, utterance.speaker)


def _hours(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.duration_seconds for utterance in utterances) / 3600


def _describe(name: str, utterances: Sequence[Utterance]) -> str:
    num_speakers = len({utterance.speaker for utterance in utterances})
    return f"{name}: {len(utterances)} utterances, {_hours(utterances):.2f} h, {num_speakers} speakers"


@exit_on_error
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    real = verbs.add_parser("real", help="manifests of real speech")
    real.add_argument("--source", type=Path, required=True, metavar="DIR", help="folder of the corpora")
    text = "speech that label.py gave transcripts"
    real.add_argument("--labelled", type=Path, nargs="*", default=[], metavar="MANIFEST", help=text)
    mixing = verbs.add_parser("mix", help="train.jsonl of real and synthetic speech")
    mixing.add_argument("--synthetic", type=Path, nargs="*", default=[], metavar="MANIFEST", help="by speak.py")
    text = "of synthetic speech, in equal parts of each manifest (hours; default: all)"
    mixing.add_argument("--hours", type=float, help=text)
    text = "of the hours are real at least, by repeating them (0 to 1; default: %(default)s)"
    mixing.add_argument("--real_share", type=float, default=LEAST_REAL_SHARE, help=text)
    mixing.add_argument("--seed", type=parse_seed, default=1, help="of the draw (default: %(default)s)")
    for verb in (real, mixing):
        verb.add_argument("--output", type=Path, default=Path("data/english"), help="folder of the manifests")
    arguments = vars(parser.parse_args())
    if arguments.pop("verb") == "real":
        prepare_real(**arguments)
    else:
        mix(**arguments)


if __name__ == "__main__":
    main()
