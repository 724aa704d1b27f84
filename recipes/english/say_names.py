#!/usr/bin/env python3
"""Have names spoken by the synthetic voices, and sentences without any, to measure hotwords with.

    python recipes/english/say_names.py --text data/english/dev.jsonl
    python recipes/benchmark/benchmark_hotwords.py english data/english/hotwords/names.jsonl \\
        --hotwords recipes/english/names.txt --plain data/english/hotwords/plain.jsonl data/english/dev.jsonl

Each name is put into `CARRIERS`, which fit people and places, and said by hibari and, where its files are in
`--downloads`, by Kokoro; every time by another voice. Sentences without names are transcripts of a manifest that no
language model was built from. Every draw depends on the seed and its place only; clips are kept as FLAC.
"""

import argparse
import hashlib
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.corpus.seeds import parse_seed
from mindaudio_ds2.decoding.hotwords import read_hotwords
from mindaudio_ds2.errors import ConfigError, exit_on_error
from mindaudio_ds2.files import write_atomically
from recipes.english.downloads import find_kokoro
from recipes.english.sentences import LETTERS, punctuate
from recipes.english.voices import SAMPLE_RATE_HZ, Engine, HibariEngine, KokoroEngine

CARRIERS = (
    "They talked of {} until the fire went out.",
    "Nobody in the room had ever seen {}.",
    "{} was the first thing he wrote about.",
    "The letter about {} came too late.",
    "My father often dreamt of {} when he was ill.",
    "She asked me what I thought of {}.",
    "I shall never forget {} as long as I live.",
    "The news of {} surprised us all.",
    "There is a long chapter about {} in the book.",
    "He said that {} had changed very much.",
    "We heard a great deal of {} in those days.",
    "The old woman spoke of {} with tears in her eyes.",
)
MOST_PLAIN_WORDS = 20


@dataclass(frozen=True)
class Line:
    """What is said.

    Attributes:
        written: as a voice wants it.
        transcript: as it is recognised.
        turn: whose it is among the engines.
    """

    written: str
    transcript: str
    turn: int


def read_names(path: Path) -> list[str]:
    """Names of a file as `--hotwords` takes it.

    Raises:
        LanguageModelError: it cannot be read, or holds none.
        ConfigError: a name of other letters than the transcripts'.
    """
    names = [word.text for word in read_hotwords(path)]
    foreign = [name for name in names if not name or not LETTERS.issuperset(name.upper())]
    if foreign:
        raise ConfigError(f"--names {path} holds {foreign[0]!r}; write names in letters, spaces and apostrophes")
    return names


def fill_carriers(names: Sequence[str], times: int, seed: int) -> list[Line]:
    """Each name in `times` different carriers, one for each turn."""
    lines = []
    for name in names:
        carriers = random.Random(f"{seed} {name}").sample(CARRIERS, len(CARRIERS))[:times]
        written = [carrier.format(name.title()) for carrier in carriers]
        lines += [Line(text, text.rstrip(".").upper(), turn) for turn, text in enumerate(written)]
    return lines


def draw_plain(transcripts: Sequence[str], num_lines: int, seed: int) -> list[Line]:
    """Beginnings of drawn transcripts, `MOST_PLAIN_WORDS` at most."""
    rng = random.Random(seed)
    drawn = [" ".join(text.split()[:MOST_PLAIN_WORDS]) for text in rng.sample(transcripts, num_lines)]
    return [Line(punctuate([text], rng), text, turn) for turn, text in enumerate(drawn)]


def speak(lines: Sequence[Line], engines: Sequence[Engine], folder: Path, seed: int) -> Iterator[Utterance]:
    """Clips of all lines, said by the engines in turn; those that are there are not said again."""
    for index, line in enumerate(tqdm(lines, desc="speaking", disable=None)):
        engine = engines[line.turn % len(engines)]
        rng = random.Random(f"{seed} {engine.name} {index}")
        request = engine.draw(line.written, index, rng)
        digest = hashlib.sha256(repr(request).encode()).hexdigest()[:12]
        path = folder / "audio" / f"{engine.name}-{digest}.flac"
        if not path.exists():
            write_atomically(path, partial(_write_flac, speech=engine.speak(request)))
        duration_seconds = soundfile.info(path).duration
        yield Utterance(path.stem, str(path.absolute()), duration_seconds, line.transcript, request.voice)


def _write_flac(path: Path, speech: NDArray[np.float32]) -> None:
    soundfile.write(path, speech, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")


def open_engines(downloads: Path) -> list[Engine]:
    """hibari for three turns, Kokoro, which takes ten times as long, for the fourth if its files are there."""
    hibari = HibariEngine()
    if not (downloads / "kokoro.onnx").exists():
        print(f"Kokoro is not in {downloads}: hibari says everything; speak.py kokoro fetches it", flush=True)
        return [hibari]
    return [hibari, hibari, hibari, KokoroEngine(*find_kokoro(downloads))]


@exit_on_error
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--names",
        type=Path,
        default=Path(__file__).with_name("names.txt"),
        help="one a line, as --hotwords takes them (path)",
    )
    add("--text", type=Path, required=True, help="manifest whose transcripts are said without names (path)")
    add("--output", type=Path, default=Path("data/english/hotwords"), help="folder of clips and manifests")
    add("--downloads", type=Path, default=Path("data/english/downloads"), help="folder of the voices' weights")
    add("--times", type=int, default=4, help="how often each name is said, up to 12 (count; default: %(default)s)")
    add("--num_plain", type=int, default=60, help="sentences without names (count; default: %(default)s)")
    add("--seed", type=parse_seed, default=1, help="another one draws other sentences and voices")
    options = parser.parse_args()
    names = read_names(options.names)
    transcripts = [utterance.transcript for utterance in read_manifest(options.text)]
    if not (0 < options.times <= len(CARRIERS) and 0 < options.num_plain <= len(transcripts)):
        raise ConfigError(
            f"--times takes 1 to {len(CARRIERS)}, and --num_plain 1 to {len(transcripts)}, the transcripts of "
            f"{options.text}; found {options.times} and {options.num_plain}"
        )
    engines = open_engines(options.downloads)
    for name, said in (
        ("names", fill_carriers(names, options.times, options.seed)),
        ("plain", draw_plain(transcripts, options.num_plain, options.seed)),
    ):
        utterances = list(speak(said, engines, options.output, options.seed))
        path = options.output / f"{name}.jsonl"
        write_manifest(path, utterances)
        print(f"{path}: {len(utterances)} utterances, {sum(u.duration_seconds for u in utterances) / 60:.1f} min")


if __name__ == "__main__":
    main()
