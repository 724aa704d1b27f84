"""Which recordings can be used, and what is the matter with the others."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mindaudio_ds2.audio.io import Heard, listen
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.corpus.recordings import Recording
from mindaudio_ds2.corpus.selection import within_durations
from mindaudio_ds2.errors import AudioError, ManifestError
from mindaudio_ds2.text.characters import count_characters, name_character
from recipes.custom.choices import Choices

PROBLEMS_NAME = "problems.log"  # a .txt would be a text without audio, if the output is the source too


def make_utterances(
    recordings: Sequence[Recording], choices: Choices, output_frame_seconds: float, problems: Problems
) -> list[Utterance]:
    """Open the audio of all recordings; what cannot be used is added to `problems`."""
    heard = listen([recording.audio_path for recording in recordings], choices.workers)
    allowed = set(unicodedata.normalize("NFC", choices.characters))
    usable = []
    for recording, sound in zip(recordings, heard, strict=True):
        transcript = choices.clean(recording.transcript)
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
