"""Make the built-in corpus: a machine speaks letters, numbers, dates and commands in many voices, without internet.

The sentences are of AN4's kind: a small vocabulary, freely combined. Voices of dev and test are never heard in train,
nor are their sentences of more than one word. The same settings give the same bytes, however many processes work.
"""

import argparse
import hashlib
import importlib.metadata
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mindaudio_ds2.audio.io import measure_duration_seconds
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.errors import DeepSpeechError, OutputError, exit_on_error
from mindaudio_ds2.files import write_text
from mindaudio_ds2.reading import parse_json

FORMAT = 1  # raise it when the same settings would give another corpus than before
STAMP_NAME = "corpus.json"
UTTERANCES_PER_PROCESS = 64  # each process begins with a fresh synthesizer, so this is part of the result

# eSpeak NG's variants are the voices, and each speaks with every accent. README.md says which are left out, and why.
VOICES = {
    "train": (
        *("adam", "Alex", "Andy", "aunty", "belinda", "boris", "Diogo", "ed", "edward", "edward2", "f3", "f4", "Gene"),
        *("Gene2", "grandpa", "gustave", "Henrique", "Hugo", "iven", "iven2", "iven3", "iven4"),
        *("Jacky", "john", "klatt3", "m2", "m3", "m4", "m5", "m6", "m7", "marcelo", "Michael", "michel"),
        *("miguel", "Mike", "mike2", "Mr serious", "Nguyen", "paul", "Reed", "rob", "robert", "sandro"),
        *("Storm", "travis"),
    ),
    "dev": ("Tweaky", "caleb", "f1", "linda", "max", "victor"),
    "test": ("Annie", "Denis", "Mario", "f2", "f5", "grandma", "m1", "m8", "pablo", "quincy"),
}
ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-scotland")

COMMANDS = ("YES", "NO", "GO", "STOP", "START", "HELP", "ENTER", "ERASE", "RUBOUT", "REPEAT")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ONES = (
    *("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN", "ELEVEN", "TWELVE"),
    *("THIRTEEN", "FOURTEEN", "FIFTEEN", "SIXTEEN", "SEVENTEEN", "EIGHTEEN", "NINETEEN"),
)
TENS = ("", "", "TWENTY", "THIRTY", "FORTY", "FIFTY", "SIXTY", "SEVENTY", "EIGHTY", "NINETY")
MONTHS = (
    *("JANUARY", "FEBRUARY", "MARCH", "APRIL", "MAY", "JUNE"),
    *("JULY", "AUGUST", "SEPTEMBER", "OCTOBER", "NOVEMBER", "DECEMBER"),
)
ODD_ORDINALS = {
    **{"ONE": "FIRST", "TWO": "SECOND", "THREE": "THIRD", "FIVE": "FIFTH", "EIGHT": "EIGHTH", "NINE": "NINTH"},
    **{"TWELVE": "TWELFTH", "TWENTY": "TWENTIETH", "THIRTY": "THIRTIETH"},
}
# Left to itself, eSpeak reads the letter as the article, and the command as one word.
PRONUNCIATIONS = {"A": "[['eI]]", "RUBOUT": "rub out"}


class SynthesisError(DeepSpeechError):
    """The speech synthesizer is missing or failed. Says what to install, or what it reported."""


@dataclass(frozen=True)
class PlannedUtterance:
    """An utterance that is yet to be spoken.

    Attributes:
        id: unique in the corpus.
        voice: the eSpeak variant that speaks it.
        transcript: what it says.
        request: what `speak.py` needs to know, without the path.
    """

    id: str
    voice: str
    transcript: str
    request: dict[str, Any]


def spell_number(number: int) -> str:
    """Say a number from 0 to 999 in words: 345 is THREE HUNDRED FORTY FIVE."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return f"{TENS[number // 10]} {ONES[number % 10]}" if number % 10 else TENS[number // 10]
    hundreds = f"{ONES[number // 100]} HUNDRED"
    return f"{hundreds} {spell_number(number % 100)}" if number % 100 else hundreds


def spell_ordinal(number: int) -> str:
    """Say a place from 1 to 99 in words: 31 is THIRTY FIRST."""
    *front, last = spell_number(number).split()
    return " ".join([*front, ODD_ORDINALS.get(last, f"{last}TH")])


def draw_sentence(rng: random.Random) -> str:
    """Draw one sentence of the corpus's small grammar, in capitals."""

    def letters(least: int, most: int) -> str:
        return " ".join(rng.choices(LETTERS, k=rng.randint(least, most)))

    def digits(least: int, most: int) -> str:
        return " ".join(rng.choices(ONES[:10], k=rng.randint(least, most)))

    def number(most: int) -> str:
        return spell_number(rng.randint(0, rng.choice((20, most))))  # up to 20 each has a name of its own

    forms: dict[Callable[[], str], int] = {
        lambda: rng.choice(COMMANDS): 10,
        lambda: f"{rng.choice(COMMANDS)} {number(99)}": 10,
        lambda: f"{rng.choice(COMMANDS)} {letters(2, 4)} {number(99)}": 15,
        lambda: f"{rng.choice(COMMANDS)} {rng.choice(ONES[1:13])} O'CLOCK": 6,
        lambda: letters(3, 7): 20,
        lambda: digits(2, 6): 12,
        lambda: number(999): 7,
        lambda: f"{rng.choice(MONTHS)} {spell_ordinal(rng.randint(1, 31))}": 14,
        lambda: f"{rng.choice(MONTHS)} {spell_ordinal(rng.randint(1, 31))} NINETEEN {number(99)}": 6,
    }
    return rng.choices(list(forms), list(forms.values()))[0]()


def plan_split(split: str, num_utterances: int, seed: int, taken: set[str]) -> list[PlannedUtterance]:
    """Draw what is said in one split, by whom and how.

    Args:
        split: train, dev or test.
        num_utterances: how many, dealt out evenly over the split's voices.
        seed: any integer; each split draws from a generator of its own.
        taken: sentences of several words that may not come again; those drawn here are added.

    Returns:
        The utterances, in the order in which they are to be spoken.
    """
    rng = random.Random(f"{seed} {split}")
    planned = []
    for index in range(num_utterances):
        transcript = draw_sentence(rng)
        while transcript in taken:
            transcript = draw_sentence(rng)
        if " " in transcript:
            taken.add(transcript)
        voice = VOICES[split][index % len(VOICES[split])]
        request = {
            "text": " ".join(map(_write_for_synthesizer, transcript.split())),
            "voice": f"{rng.choice(ACCENTS)}+{voice}",
            "words_per_minute": rng.randint(110, 170),
            "pitch": rng.randint(35, 65),
            "word_gap_10ms": rng.randint(0, 5),
            "lead_seconds": rng.uniform(0.1, 0.4),
            "tail_seconds": rng.uniform(0.1, 0.4),
            "peak": rng.uniform(0.2, 0.9),
            "signal_to_noise_db": rng.uniform(20.0, 45.0),
            "seed": rng.randint(1, 2**31 - 2),
        }
        planned.append(PlannedUtterance(f"{split}-{index:05d}", voice, transcript, request))
    return planned


def _write_for_synthesizer(word: str) -> str:
    return PRONUNCIATIONS.get(word, word if len(word) == 1 else word.lower())


def build_corpus(
    output: Path,
    seed: int = 1,
    *,
    num_train_utterances: int = 1700,
    num_dev_utterances: int = 120,
    num_test_utterances: int = 140,
    num_processes: int = 2,
) -> None:
    """Write `train.jsonl`, `dev.jsonl`, `test.jsonl` and their audio; do nothing where they are already, whole.

    Args:
        output: the folder to make. A corpus that this recipe made there earlier, with other settings or now damaged,
            is made anew.
        seed: draws sentences, accents, speed, pitch, level, pauses and noise. The voices of a split are fixed.
        num_train_utterances: utterances in train, each about 2.1 seconds long.
        num_dev_utterances: utterances in dev; unchanged by the size of train.
        num_test_utterances: utterances in test; unchanged by the sizes of train and dev.
        num_processes: how many synthesizers run at a time; does not change the result.

    Raises:
        SynthesisError: eSpeak NG is not installed, or fails.
        OutputError: the folder holds something else, or cannot be written.
    """
    output = Path(output).resolve()
    num_utterances = {"test": num_test_utterances, "dev": num_dev_utterances, "train": num_train_utterances}
    stamp = {"format": FORMAT, "synthesizer": _find_synthesizer(), "seed": seed, "num_utterances": num_utterances}
    if _read_stamp(output) == stamp | {"sha256": _digest(output)}:
        print(f"{output} holds this corpus already")
        return
    _clear(output, stamp)
    taken: set[str] = set()
    for split, num in num_utterances.items():
        planned = plan_split(split, num, seed, taken)
        audio = output / "audio" / split
        _speak(planned, audio, num_processes)
        utterances = [
            Utterance(u.id, f"{path}", measure_duration_seconds(path), u.transcript, u.voice)
            for u, path in ((u, audio / f"{u.id}.flac") for u in planned)
        ]
        write_manifest(output / f"{split}.jsonl", utterances)
        minutes = sum(utterance.duration_seconds for utterance in utterances) / 60
        print(f"{split}: {num} utterances, {minutes:.1f} minutes, {len(VOICES[split])} voices")
    _write_stamp(output, stamp | {"sha256": _digest(output)})


def _find_synthesizer() -> str:
    try:
        return f"espeakng-loader {importlib.metadata.version('espeakng-loader')}"
    except importlib.metadata.PackageNotFoundError:
        raise SynthesisError(
            "the built-in corpus is spoken by eSpeak NG, which is not installed; "
            "run `pip install 'mindaudio_ds2[demo]'`, or in a clone of the project `pip install -e '.[demo]'`"
        ) from None


def _read_stamp(output: Path) -> object:
    """What an earlier run noted about the corpus in `output`; None where nothing is, or where it did not finish."""
    stamp = output / STAMP_NAME
    try:
        if not output.exists() or not any(output.iterdir()):
            return None
        if not stamp.exists():
            raise OutputError(f"{output} holds files that are not of this corpus; choose another folder")
        return parse_json(stamp.read_text(encoding="utf-8"))
    except OSError as error:
        raise OutputError(f"{output} cannot be used: {error.strerror}; choose another folder") from error
    except ValueError:
        return None


def _write_stamp(output: Path, stamp: dict[str, Any]) -> None:
    write_text(output / STAMP_NAME, json.dumps(stamp, indent=2) + "\n")


def _clear(output: Path, stamp: dict[str, Any]) -> None:
    """Remove what is there of this corpus, and mark the folder as ours but unfinished."""
    _write_stamp(output, stamp | {"sha256": "unfinished"})
    try:
        for split in VOICES:
            (output / f"{split}.jsonl").unlink(missing_ok=True)
        if (output / "audio").exists():
            shutil.rmtree(output / "audio")
    except OSError as error:
        raise OutputError(f"cannot replace the old corpus in {output}: {error}; remove it by hand") from error


def _digest(output: Path) -> str:
    """A checksum over manifests and audio, by which damage is found."""
    digest = hashlib.sha256()
    for path in sorted(output.glob("*.jsonl")) + sorted(output.glob("audio/*/*.flac")):
        digest.update(f"{path.relative_to(output)} {path.stat().st_size} ".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _speak(planned: list[PlannedUtterance], folder: Path, num_processes: int) -> None:
    """Write `<id>.flac` for every utterance: a fresh process for every block, several blocks at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    requests = [u.request | {"path": f"{folder / u.id}.flac"} for u in planned]
    blocks = [requests[i : i + UTTERANCES_PER_PROCESS] for i in range(0, len(requests), UTTERANCES_PER_PROCESS)]
    executor = ThreadPoolExecutor(num_processes)
    try:
        for _ in tqdm(executor.map(_speak_block, blocks), desc=folder.name, total=len(blocks), disable=None):
            pass
    finally:
        executor.shutdown(cancel_futures=True)


def _speak_block(requests: list[dict[str, Any]]) -> None:
    command = [sys.executable, f"{Path(__file__).with_name('speak.py')}"]
    result = subprocess.run(command, input=json.dumps(requests), text=True, capture_output=True, check=False)
    if result.returncode:
        report = (result.stderr.strip().splitlines() or [f"it ended with status {result.returncode}"])[-1]
        raise SynthesisError(
            f"the synthesizer failed: {report}. Free space if the disk is full; if not, "
            "`pip install --force-reinstall espeakng-loader` mends a damaged installation"
        )


@exit_on_error
def main() -> None:
    """The command line of this recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("data/synthetic"), help="folder to make")
    parser.add_argument("--seed", type=parse_seed, default=1, help="another integer draws another corpus")
    about = "utterances in {} (count; about 2.1 seconds each)"
    parser.add_argument("--num_train_utterances", type=_positive, default=1700, help=about.format("train"))
    parser.add_argument("--num_dev_utterances", type=_positive, default=120, help=about.format("dev"))
    parser.add_argument("--num_test_utterances", type=_positive, default=140, help=about.format("test"))
    parser.add_argument("--num_processes", type=_positive, default=2, help="synthesizers at a time (count)")
    build_corpus(**vars(parser.parse_args()))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, found {number}")
    return number


if __name__ == "__main__":
    main()
