#!/usr/bin/env python3
"""Give recordings without transcripts those of a teacher, where another recogniser hears the same.

    python recipes/english/label.py RECORDINGS --output data/english/labelled

Moonshine base writes what it hears in each recording below the folder; Whisper tiny.en listens, too, and what the two
disagree on is left out and counted. The reader is the file's name up to its first hyphen, as in LibriSpeech. What was
heard is kept as it comes, so that a run killed at any time goes on with the next recording. Writes `manifest.jsonl`.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from mindaudio_ds2.audio.io import measure_durations
from mindaudio_ds2.audio.sound_files import find_sounds
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.errors import AudioError, ManifestError, exit_on_error
from recipes.english.listener import measure_disagreement
from recipes.english.peers import run_peer
from recipes.english.readers import refuse_held_out
from recipes.english.recognisers import open_peer
from recipes.english.sources import write_as_librispeech

TEACHER, CHECKER = "moonshine-base", "whisper-tiny.en"
UNKNOWN = "UNKNOWN"
MOST_SECONDS = 30.0  # Whisper hears no more
WORKERS = 2


def find_recordings(folder: Path) -> list[Utterance]:
    """Every sound file below a folder, its transcript yet unknown; what cannot be read or is too long is said.

    Raises:
        AudioError: there is none.
        ManifestError: a reader who is held out from training is among them.
    """
    found = find_sounds([folder])
    utterances = []
    for path, duration in zip(found.paths, measure_durations(found.paths, WORKERS), strict=True):
        if isinstance(duration, AudioError):
            print(f"left out: {duration}")
        elif duration > MOST_SECONDS:
            print(f"left out: {path} lasts {duration:.1f} s, more than {MOST_SECONDS:g} s")
        else:
            utterances.append(
                Utterance(path.stem, str(path.absolute()), duration, UNKNOWN, path.stem.partition("-")[0])
            )
    refuse_held_out(utterances)
    return utterances


def label(
    utterances: Sequence[Utterance], taught: Sequence[str], heard: Sequence[str], most: float
) -> tuple[list[Utterance], Counter[str]]:
    """The utterances whose text two recognisers agree on, and how many were left out for which reason.

    Args:
        utterances: without their transcripts.
        taught: what the teacher wrote, with punctuation.
        heard: what the other heard.
        most: they may differ (character errors by characters).
    """
    labelled, left_out = [], Counter[str]()
    for one, text, other in zip(utterances, taught, heard, strict=True):
        transcript = write_as_librispeech(text)
        if transcript is None:
            left_out["written with digits or signs, or not at all"] += 1
        elif measure_disagreement(text, other) > most:
            left_out["heard otherwise by the two"] += 1
        else:
            labelled.append(Utterance(one.id, one.audio_path, one.duration_seconds, transcript, one.speaker))
    return labelled, left_out


@exit_on_error
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("recordings", type=Path, metavar="RECORDINGS", help="folder of sound files")
    add("--output", type=Path, default=Path("data/english/labelled"), help="folder to write (default: %(default)s)")
    text = "the two may differ (character errors by characters, without spaces; default: %(default)s)"
    add("--max_disagreement", type=float, default=0.1, help=text)
    text = "folder of the recognisers' weights (default: %(default)s)"
    add("--downloads", type=Path, default=Path("data/english/downloads"), help=text)
    arguments = parser.parse_args()
    utterances = find_recordings(arguments.recordings)
    taught, heard = (
        run_peer(open_peer(name, arguments.downloads), utterances, arguments.output / f"{name}.jsonl")[0]
        for name in (TEACHER, CHECKER)
    )
    labelled, left_out = label(utterances, taught, heard, arguments.max_disagreement)
    if not labelled:
        raise ManifestError(f"nothing in {arguments.recordings} is heard alike by both; is it English speech?")
    write_manifest(arguments.output / "manifest.jsonl", labelled)
    hours = sum(one.duration_seconds for one in labelled) / 3600
    print(f"{arguments.output / 'manifest.jsonl'}: {len(labelled)} of {len(utterances)} utterances, {hours:.2f} h")
    for reason, count in left_out.most_common():
        print(f"left out: {count} {reason}")


if __name__ == "__main__":
    main()
