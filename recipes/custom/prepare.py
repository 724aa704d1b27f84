"""Make manifests and a configuration from your own recordings, in any language that is written with characters.

SOURCE is a folder of audio at any depth with a .txt (UTF-8) beside each file, or a CSV or TSV with a header that names
the columns of audio (path, audio, wav_filename or file), text (transcript, text or sentence) and, if known, speaker
(speaker or client_id), as Common Voice has them.
"""

import argparse
import hashlib
import math
import shlex
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from mindaudio_ds2.audio.io import Heard, listen, read_rate_hz
from mindaudio_ds2.corpus import splitting
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.corpus.recordings import Recording, SpeakerSource, read_folder, read_table
from mindaudio_ds2.corpus.selection import within_durations
from mindaudio_ds2.corpus.splitting import Splits
from mindaudio_ds2.errors import AudioError, ConfigError, ManifestError, exit_on_error
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.reading import ReadError
from mindaudio_ds2.text import characters
from mindaudio_ds2.text.characters import LetterCase, count_characters, name_character
from mindaudio_ds2.yaml_reader import parse_yaml
from recipes.custom.yaml_text import drop_comments, edit_yaml, quote

ROOT = Path(__file__).resolve().parent.parent.parent
PROBLEMS_NAME = "problems.log"  # a .txt would be a text without audio, if the output is the source too
MAX_CHARACTERS_SHOWN = 60
MAX_FILES_ASKED_FOR_RATE = 500
MAX_BUCKETS = 16
UTTERANCES_PER_BUCKET = 50


@dataclass(frozen=True)
class Choices:
    """What the command line says; see `main` for what each one means."""

    source: Path
    output: Path
    base: Path = ROOT / "hparams" / "an4.yaml"
    dev_share: float = 0.1
    test_share: float = 0.1
    seed: int = 1
    letter_case: LetterCase = "upper"
    remove: str = ""
    characters: str = ""
    speaker_from: SpeakerSource | None = None
    min_duration: float = 0.2
    max_duration: float = 30.0
    max_problem_share: float = 0.01
    workers: int = 4

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers} must be 1 or more")
        if not 0 <= self.max_problem_share <= 1:
            raise ConfigError(f"--max_problem_share {self.max_problem_share:g} must be 0 to 1")
        if not (self.dev_share > 0 and self.test_share > 0 and self.dev_share + self.test_share < 1):
            raise ConfigError(
                f"--dev_share {self.dev_share:g} and --test_share {self.test_share:g} must be above 0 and leave "
                "something to train on"
            )
        if not 0 <= self.min_duration < self.max_duration:
            raise ConfigError(
                f"--min_duration {self.min_duration:g} must be 0 or more and below --max_duration {self.max_duration:g}"
            )


def prepare(choices: Choices) -> None:
    """Write `train.jsonl`, `dev.jsonl`, `test.jsonl`, `hparams.yaml`, `characters.tsv` and perhaps `problems.log`.

    Raises:
        ManifestError: the source cannot be used, too much of it is unusable (all of which is in the message and in
            `problems.log`), or too little is left.
        ConfigError: the base YAML lacks a key that is to be set.
        OutputError: the folder cannot be written.
    """
    base = read_base(choices.base)
    require_writable(choices.output / PROBLEMS_NAME)
    problems = Problems()
    read = read_folder if choices.source.is_dir() else read_table
    recordings = read(choices.source, choices.speaker_from, problems)
    utterances = make_utterances(recordings, choices, base.output_frame_seconds, problems)
    report_problems(problems, len(utterances), choices)
    splits = splitting.divide(utterances, choices.dev_share, choices.test_share, choices.seed)
    counts = {
        name: count_characters((utterance.transcript for utterance in members), choices.letter_case)
        for name, members in splits.by_name.items()
    }
    alphabet = choices.characters or "".join(sorted(counts["train"] | counts["dev"] | counts["test"]))
    values = choose_values(splits.train, alphabet, base, choices)
    hparams = drop_comments(edit_yaml(base.text, values, str(choices.base)))
    for name, members in splits.by_name.items():
        write_manifest(choices.output / f"{name}.jsonl", members)
    write_text(choices.output / "characters.tsv", _list_characters(counts))
    _write_hparams(choices.output / "hparams.yaml", make_header(splits, choices) + "\n" + hparams)
    show(splits, counts["train"], values, choices)


# What can be used ---------------------------------------------------------------------------------------------------


def make_utterances(
    recordings: Sequence[Recording], choices: Choices, output_frame_seconds: float, problems: Problems
) -> list[Utterance]:
    """Open the audio of all recordings; what cannot be used is added to `problems`."""
    heard = listen([recording.audio_path for recording in recordings], choices.workers)
    blanks = str.maketrans(dict.fromkeys(unicodedata.normalize("NFC", choices.remove), " "))
    allowed = set(unicodedata.normalize("NFC", choices.characters))
    usable = []
    for recording, sound in zip(recordings, heard, strict=True):
        transcript = " ".join(recording.transcript.translate(blanks).split())
        strange = set(count_characters([transcript], choices.letter_case)) - allowed if allowed else set()
        if isinstance(sound, AudioError):
            problems.add("audio that cannot be used", str(sound))
        elif silence := [note.text for note in sound.notes if note.kind == "silence"]:
            problems.add("silence with a text", silence[0])
        elif strange:
            listed = ", ".join(name_character(c) for c in sorted(strange))
            problems.add("text with characters outside of --characters", f"{recording.audio_path}: {listed}")
        elif not transcript:
            problems.add("empty text after --remove", f"{recording.audio_path}: {recording.transcript!r}")
        elif len(transcript) * output_frame_seconds > sound.duration_seconds:
            problems.add(
                "text too long for its audio (is it this recording's?)",
                f"{recording.audio_path}: {len(transcript)} characters in {sound.duration_seconds:.2f} s: "
                f"{transcript[:60]!r}",
            )
        else:
            path = str(recording.audio_path)
            usable.append(Utterance(recording.name, path, sound.duration_seconds, transcript, recording.speaker))
    _tell_strange(heard)
    usable, outside = within_durations(usable, choices.min_duration, choices.max_duration)
    for utterance in outside:
        kind = f"outside of {choices.min_duration:g} to {choices.max_duration:g} s (--min_duration, --max_duration)"
        problems.add(kind, f"{utterance.audio_path}: {utterance.duration_seconds:.2f} s")
    return _drop_copies(usable, problems)


def _tell_strange(heard: Sequence[Heard | AudioError]) -> None:
    """Count by kind what is strange about recordings that can be used all the same."""
    notes = [note for sound in heard if isinstance(sound, Heard) for note in sound.notes if note.kind != "silence"]
    for kind, num in Counter(note.kind for note in notes).items():
        print(f"* {num} recordings ({kind}), such as {next(note.text for note in notes if note.kind == kind)}\n")


def _drop_copies(utterances: list[Utterance], problems: Problems) -> list[Utterance]:
    """Leave out files whose bytes are those of one before; else they might stand in train and in test."""
    sizes = {utterance.id: Path(utterance.audio_path).stat().st_size for utterance in utterances}
    num_of_size = Counter(sizes.values())
    first_of: dict[bytes, Utterance] = {}
    kept = []
    for utterance in utterances:
        if num_of_size[sizes[utterance.id]] > 1:
            content = hashlib.sha256(Path(utterance.audio_path).read_bytes()).digest()
            first = first_of.setdefault(content, utterance)
            if first is not utterance:
                problems.add("the same sound twice", f"{utterance.audio_path} is a copy of {first.audio_path}")
                continue
        kept.append(utterance)
    return kept


def report_problems(problems: Problems, num_usable: int, choices: Choices) -> None:
    """Write all problems into problems.log and show the first of them.

    Raises:
        ManifestError: they are more than `max_problem_share` of everything, or nothing is left.
    """
    path = choices.output / PROBLEMS_NAME
    problems.write(path)
    remedy = f"Mend them ({path} lists all), or allow a larger --max_problem_share"
    problems.check(num_usable + problems.num, choices.max_problem_share, remedy)
    if problems:
        print(f"{problems.num} cannot be used and are left out; {path} lists all:\n{problems.summary()}\n")
    if not num_usable:
        raise ManifestError(f"nothing of {choices.source} can be used; see {path}")


# The configuration --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """The YAML that all but a few values are taken from.

    Attributes:
        text: all of it.
        output_frame_seconds: how far the network's output frames are apart; CTC writes one character a frame at most.
        sample_rate_hz: of its features.
        max_batch_padded_seconds: of its batches.
        join_max_seconds: of utterances that are joined in training.
    """

    text: str
    output_frame_seconds: float
    sample_rate_hz: int
    max_batch_padded_seconds: float
    join_max_seconds: float


def read_base(path: Path) -> Base:
    """Read the YAML that all but a few values are taken from.

    Raises:
        ConfigError: it cannot be read, or lacks what is needed here.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        sections = parse_yaml(text)
    except (OSError, UnicodeDecodeError, ReadError) as error:
        raise ConfigError(f"--base {path} cannot be read as YAML: {error}") from error
    try:
        features = sections["features"]
        frame_seconds = float(features["hop_seconds"]) * math.prod(sections["model"]["conv_stride_time"])
        padded_seconds = float(sections["batching"]["max_batch_padded_seconds"])
        joined_seconds = float(sections["augmentation"]["join_max_seconds"])
        return Base(text, frame_seconds, int(features["sample_rate_hz"]), padded_seconds, joined_seconds)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--base {path} is no configuration ({error}); take one of hparams/*.yaml") from None


def name_run(choices: Choices) -> str:
    """The run folder, named after the folder of the manifests."""
    return f"runs/{choices.output.resolve().name}"


def choose_values(train: Sequence[Utterance], alphabet: str, base: Base, choices: Choices) -> dict[str, str]:
    """What the corpus decides, as YAML text by dotted path."""
    durations = [utterance.duration_seconds for utterance in train]
    longest = math.ceil(2 * max(durations)) / 2
    if longest <= choices.min_duration:
        longest += 0.5
    num_buckets = min(MAX_BUCKETS, max(1, len(train) // UTTERANCES_PER_BUCKET))
    quantiles = np.quantile(durations, np.arange(1, num_buckets) / num_buckets)
    edges = sorted({math.ceil(10 * quantile) / 10 for quantile in quantiles if quantile < longest - 0.1} | {longest})
    padded = max(base.max_batch_padded_seconds, longest)
    manifests = {
        f"data.{name}_manifest": quote((choices.output / f"{name}.jsonl").as_posix())
        for name in ("train", "dev", "test")
    }
    return {
        "run_dir": quote(name_run(choices)),
        **manifests,
        "data.min_duration_seconds": f"{choices.min_duration:.12g}",
        "data.max_duration_seconds": f"{longest:.1f}",
        "text.characters": quote(unicodedata.normalize("NFC", alphabet)),
        "text.letter_case": choices.letter_case,
        "features.sample_rate_hz": str(_choose_sample_rate_hz(train, base.sample_rate_hz)),
        "augmentation.join_max_seconds": f"{min(base.join_max_seconds, longest):.1f}",
        "batching.bucket_edges_seconds": "[" + ", ".join(f"{edge:.1f}" for edge in edges) + "]",
        "batching.max_batch_padded_seconds": f"{padded:.1f}",
    }


def _choose_sample_rate_hz(train: Sequence[Utterance], base_hz: int) -> int:
    """The base's rate, unless most of the audio has a lower one: what was not recorded cannot be heard."""
    step = max(1, len(train) // MAX_FILES_ASKED_FOR_RATE)
    rates: Counter[int] = Counter(read_rate_hz(utterance.audio_path) for utterance in train[::step])
    return min(base_hz, rates.most_common(1)[0][0])


def make_header(splits: Splits, choices: Choices) -> str:
    """The comment at the head of the YAML: what it is for and where its values come from."""
    hours = splitting.sum_seconds(splits.utterances) / 3600
    name = choices.output.resolve().name
    base = choices.base.name
    return f"""\
# {name}: {len(splits.utterances)} utterances, {hours:.2f} hours. Made by recipes/custom/prepare.py from {base}.
#
#     python train.py -c {choices.output.as_posix()}/hparams.yaml
#     python eval.py --pre_trained_model_path {name_run(choices)}/best.ckpt
#
# The recordings decided run_dir, the manifests, the limits of duration, the alphabet, the sample rate and the buckets.
# All else is {base}'s, whose comments say why it is so there. A new prepare.py makes this file anew and keeps
# a changed one as hparams.previous.yaml. `python train.py --help` tells what each key means, with its unit.
"""


def _write_hparams(path: Path, text: str) -> None:
    """Write the YAML; an earlier one may hold somebody's changes, so it is kept under another name."""
    previous = path.read_text(encoding="utf-8") if path.exists() else text
    if previous != text:
        write_text(path.with_name("hparams.previous.yaml"), previous)
        print(f"{path} was there and is kept as hparams.previous.yaml\n")
    write_text(path, text)


# What is shown ------------------------------------------------------------------------------------------------------


def _list_characters(counts: Mapping[str, Counter[str]]) -> str:
    rows = ["character\tname\ttrain\tdev\ttest"]
    for character in sorted(set().union(*counts.values())):
        numbers = "\t".join(str(counts[name][character]) for name in ("train", "dev", "test"))
        rows.append(f"{quote(character)}\t{name_character(character)}\t{numbers}")
    return "\n".join(rows) + "\n"


def show(splits: Splits, train: Counter[str], values: Mapping[str, str], choices: Choices) -> None:
    """Print the table of splits, the alphabet, what deserves a look, and what to type next."""
    print(splitting.make_table(splits))
    shown = "  ".join(f"{'space' if c == ' ' else c} {n}" for c, n in train.most_common(MAX_CHARACTERS_SHOWN))
    all_characters = characters.count_characters([u.transcript for u in splits.utterances], choices.letter_case)
    num_others = len(set(all_characters) - set(train))
    others = f", and {num_others} that stand in dev or test alone" if num_others else ""
    print(f"\nalphabet: {len(train)} characters of train, with their counts{others}:\n  {shown}")
    if len(train) > MAX_CHARACTERS_SHOWN:
        print(f"  and {len(train) - MAX_CHARACTERS_SHOWN} more, see {choices.output / 'characters.tsv'}")
    print(f"sample rate {values['features.sample_rate_hz']} Hz")
    held_out = [utterance.transcript for utterance in [*splits.dev, *splits.test]]
    doubts = splitting.find_doubts(splits, choices.dev_share, choices.test_share)
    doubts += characters.find_doubts([u.transcript for u in splits.train], held_out, choices.letter_case)
    for doubt in doubts:
        print(f"\n* {doubt}")
    hparams = shlex.quote(f"{choices.output / 'hparams.yaml'}")
    print(f"""
Next:
  mindaudio-ds2 manifest stats {shlex.quote(f"{choices.output / 'train.jsonl'}")}
  python train.py -c {hparams}
  python eval.py --pre_trained_model_path {shlex.quote(f"{name_run(choices)}/best.ckpt")}""")


@exit_on_error
def main() -> None:
    """The command line of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="folder of audio with texts, or a CSV or TSV (path)")
    add("--output", type=Path, required=True, help="folder to make; its last name names the run: data/NAME (path)")
    add("--base", type=Path, default=Choices.base, help="YAML that all else is taken from (path)")
    add("--dev_share", type=float, default=Choices.dev_share, help="of the hours, to choose the best epoch (0 to 1)")
    add("--test_share", type=float, default=Choices.test_share, help="of the hours, to score with (0 to 1)")
    add("--seed", type=int, default=Choices.seed, help="another integer splits otherwise")
    add("--letter_case", choices=("upper", "lower", "keep"), default=Choices.letter_case, help="of the transcripts")
    add("--remove", default="", metavar="CHARACTERS", help="taken out of the transcripts, such as '.,!?' (text)")
    about = "the alphabet, where it is not to be made of all texts; other texts are left out (text)"
    add("--characters", default="", metavar="CHARACTERS", help=about)
    about = "what names the speaker: a column, the first folder in which files differ, a file's name up to _ or -"
    add("--speaker_from", choices=("column", "folder", "prefix", "none"), help=f"{about}; else column, or folder")
    add("--min_duration", type=float, default=Choices.min_duration, help="shorter ones are left out (seconds)")
    add("--max_duration", type=float, default=Choices.max_duration, help="longer ones are left out (seconds)")
    share = "of the recordings that may be unusable before it is an error (0 to 1)"
    add("--max_problem_share", type=float, default=Choices.max_problem_share, help=share)
    add("--workers", type=int, default=Choices.workers, help="files measured at a time (count)")
    prepare(Choices(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
