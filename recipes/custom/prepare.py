"""Make manifests and a configuration from your own recordings, in any language that is written with characters.

SOURCE is a folder of audio at any depth with a .txt (UTF-8) beside each file, or a CSV or TSV with a header that names
the columns of audio (path, audio, wav_filename or file), text (transcript, text or sentence) and, if known, speaker
(speaker or client_id), as Common Voice has them.
"""

import argparse
import shlex
import sys
import typing
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from mindaudio_ds2.corpus import splitting
from mindaudio_ds2.corpus.manifest import write_manifest
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.corpus.recordings import read_folder, read_table
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.corpus.splitting import Splits
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.text import characters
from mindaudio_ds2.text.characters import count_characters, name_character
from recipes.custom.choices import Choices, Start
from recipes.custom.configuration import (
    HPARAMS_NAME,
    Base,
    choose_base,
    choose_values,
    make_header,
    show_training,
    write_hparams,
)
from recipes.custom.usable import PROBLEMS_NAME, make_utterances, report_problems
from recipes.custom.yaml_text import drop_comments, edit_yaml, quote

MAX_CHARACTERS_SHOWN = 60


def prepare(choices: Choices) -> None:
    """Write `train.jsonl`, `dev.jsonl`, `test.jsonl`, `hparams.yaml`, `characters.tsv` and perhaps `problems.log`.

    Raises:
        ManifestError: the source cannot be used, too much of it is unusable (all of which is in the message and in
            `problems.log`), or too little is left.
        ConfigError: the base YAML lacks a key that is to be set.
        OutputError: the folder cannot be written.
    """
    require_writable(choices.output / PROBLEMS_NAME)
    problems = Problems()
    read = read_folder if choices.source.is_dir() else read_table
    recordings = read(choices.source, choices.speaker_from, problems)
    base = choose_base([choices.clean(recording.transcript) for recording in recordings], choices)
    utterances = make_utterances(recordings, choices, base.output_frame_seconds, problems)
    report_problems(problems, len(utterances), choices)
    splits = splitting.divide(utterances, choices.dev_share, choices.test_share, choices.seed)
    counts = {
        name: count_characters((utterance.transcript for utterance in members), choices.letter_case)
        for name, members in splits.by_name.items()
    }
    alphabet = choices.characters or "".join(sorted(counts["train"] | counts["dev"] | counts["test"]))
    values = choose_values(splits.train, alphabet, base, choices)
    hparams = drop_comments(edit_yaml(base.text, values, str(base.path)))
    for name, members in splits.by_name.items():
        write_manifest(choices.output / f"{name}.jsonl", members)
    write_text(choices.output / "characters.tsv", _list_characters(counts))
    write_hparams(choices.output / HPARAMS_NAME, make_header(splits, base, choices) + "\n" + hparams)
    show(splits, counts["train"], base, choices)
    print(f"""sample rate {values["features.sample_rate_hz"]} Hz

Next:
  mindaudio-ds2 manifest stats {shlex.quote(f"{choices.output / 'train.jsonl'}")}
  {show_training(base, choices)}
  python eval.py --pre_trained_model_path {shlex.quote(f"{choices.run_dir}/best.ckpt")}""")


def _list_characters(counts: Mapping[str, Counter[str]]) -> str:
    rows = ["character\tname\ttrain\tdev\ttest"]
    for character in sorted(set().union(*counts.values())):
        numbers = "\t".join(str(counts[name][character]) for name in ("train", "dev", "test"))
        rows.append(f"{quote(character)}\t{name_character(character)}\t{numbers}")
    return "\n".join(rows) + "\n"


def show(splits: Splits, train: Counter[str], base: Base, choices: Choices) -> None:
    """Print the table of splits, the alphabet, and whatever deserves a look."""
    print(splitting.make_table(splits))
    shown = "  ".join(f"{'space' if c == ' ' else c} {n}" for c, n in train.most_common(MAX_CHARACTERS_SHOWN))
    all_characters = characters.count_characters([u.transcript for u in splits.utterances], choices.letter_case)
    num_others = len(set(all_characters) - set(train))
    others = f", and {num_others} that stand in dev or test alone" if num_others else ""
    print(f"\nalphabet: {len(train)} characters of train, with their counts{others}:\n  {shown}")
    if len(train) > MAX_CHARACTERS_SHOWN:
        print(f"  and {len(train) - MAX_CHARACTERS_SHOWN} more, see {choices.output / 'characters.tsv'}")
    # English has learnt all its letters already
    held_out = [] if base.is_english else [utterance.transcript for utterance in [*splits.dev, *splits.test]]
    doubts = splitting.find_doubts(splits, choices.dev_share, choices.test_share)
    doubts += characters.find_doubts([u.transcript for u in splits.train], held_out, choices.letter_case)
    for doubt in doubts:
        print(f"\n* {doubt}")
    print()


@exit_on_error
def main() -> None:
    """The command line of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="folder of audio with texts, or a CSV or TSV (path)")
    add("--output", type=Path, required=True, help="folder to make; its last name names the run: data/NAME (path)")
    add("--base", type=Path, help="YAML that all else is taken from (path; None: by --start)")
    about = "weights to begin with: english goes on from the model of that name, auto does where its letters suffice"
    add("--start", choices=typing.get_args(Start), default=Choices.start, help=about)
    add("--dev_share", type=float, default=Choices.dev_share, help="of the hours, to choose the best epoch (0 to 1)")
    add("--test_share", type=float, default=Choices.test_share, help="of the hours, to score with (0 to 1)")
    add("--seed", type=parse_seed, default=Choices.seed, help="another integer splits otherwise")
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
