#!/usr/bin/env python3
"""How often names unknown to the language model are found with hotwords, and how often they are heard where none is.

    python recipes/benchmark/benchmark_hotwords.py english data/english/hotwords/names.jsonl \\
        --hotwords recipes/english/names.txt --plain data/english/hotwords/plain.jsonl data/english/dev.jsonl

Names that the model knows are left out, and named. The weight of a letter is chosen on every other name and every other
utterance without names: where most names are found while at most `MOST_FALSE` of the words of text without names become
one. The rest, whose names are others, is what is reported; with one of --weights nothing is chosen, and all of it is.
"none" is a search without hotwords. Weights of the file do not count.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.decoding.choice import DecoderChoice, add_decoding_options, read_choice
from mindaudio_ds2.decoding.hotwords import Hotword, check_hotwords, choose_weight, read_hotwords
from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.decoding.metrics import ErrorCounts, count_errors
from mindaudio_ds2.errors import ConfigError, exit_on_error
from mindaudio_ds2.ops.library import find_kernels
from mindaudio_ds2.transcribe import Recognizer

MOST_FALSE = 0.005
WEIGHTS = (0.5, 1.0, 1.25, 1.5, 2.0)


@dataclass(frozen=True)
class Heard:
    """An utterance: what was said, and `(S, V)` log probabilities."""

    reference: str
    log_probs: NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """A line of the table, in counts.

    Attributes:
        found, said: names, in utterances with one.
        false: names heard where none was said, in utterances without.
        disturbed, utterances: those in which that happened, of how many.
        word_errors, words: of the utterances without names.
    """

    found: int
    said: int
    false: int
    disturbed: int
    utterances: int
    word_errors: int
    words: int

    def show(self, title: str) -> str:
        """As a row of Markdown."""
        return (
            f"| {title} | {self.found / self.said:.1%} | {self.false / self.words:.2%} | "
            f"{self.disturbed / self.utterances:.1%} | {self.word_errors / self.words:.2%} |"
        )


HEAD = (
    "| nats a letter | names found | words that became a name | utterances with one | WER without names |\n"
    "| --- | --- | --- | --- | --- |"
)


class Bench:
    """A network and its decoder.

    Args:
        recognizer: the network.
        choice: a beam, without hotwords.
    """

    def __init__(self, recognizer: Recognizer, choice: DecoderChoice) -> None:
        self._network, self._choice = recognizer.network, choice

    def read_names(self, path: Path) -> list[Hotword]:
        """The hotwords of a file, as the network's transcripts have them."""
        return check_hotwords(self._network.tokenizer, read_hotwords(path))

    def hear(self, manifest: Path, most: int | None = None) -> list[Heard]:
        """Utterances of a manifest in their order: all, or about `most` of them, evenly drawn."""
        utterances = read_manifest(manifest)
        step = -(-len(utterances) // most) if most else 1
        heard = []
        for utterance in tqdm(utterances[::step], desc=f"hearing {manifest.name}", disable=None):
            waveform = read_audio(utterance.audio_path, self._network.features.sample_rate_hz)
            log_probs, lengths = self._network.recognize([waveform])
            reference = self._network.tokenizer.normalize(utterance.transcript)
            heard.append(Heard(reference, log_probs[0, : lengths[0]]))
        return heard

    def measure(
        self, named: Sequence[Heard], plain: Sequence[Heard], hotwords: Sequence[Hotword], weight: float | None
    ) -> Row:
        """Decode with hotwords of so many nats a letter; None for none; they are looked for anyhow."""
        names = [word.text for word in hotwords]
        listed = [dataclasses.replace(word, weight=choose_weight(word.text, weight or 0.0)) for word in hotwords]
        choice = dataclasses.replace(self._choice, hotwords=() if weight is None else tuple(listed))
        decoder = choice.open(
            self._network.tokenizer, self._network.seconds_per_output_frame, find_kernels("auto", "CPU")
        )
        found = said = 0
        for heard in named:
            expected = [name for name in names if count(name, heard.reference)]
            said += len(expected)
            text = decoder.decode(heard.log_probs)[0].text
            found += sum(count(name, text) > 0 for name in expected)
        texts = [decoder.decode(heard.log_probs)[0].text for heard in plain]
        false = [sum(count(name, text) for name in names) for text in texts]
        errors = ErrorCounts()
        for heard, text in zip(plain, texts, strict=True):
            errors += count_errors(heard.reference, text)
        disturbed = sum(num > 0 for num in false)
        return Row(found, said, sum(false), disturbed, len(plain), errors.word_errors, errors.num_words)


def count(phrase: str, text: str) -> int:
    """How often whole words of a text are a phrase."""
    return f" {text.replace(' ', '  ')} ".count(f" {phrase.replace(' ', '  ')} ")


def leave_out_known(hotwords: Sequence[Hotword], model_path: Path | None) -> list[Hotword]:
    """Names of which the language model knows not every word; says which it knows."""
    if model_path is None:
        return list(hotwords)
    model = LanguageModel(model_path)
    known = [name.text for name in hotwords if all(model.find(word) for word in name.text.split())]
    print(f"left out, since {model_path.name} knows them: {', '.join(known) or 'none'}")
    return [name for name in hotwords if name.text not in known]


def only_written(hotwords: Sequence[Hotword]) -> list[Hotword]:
    """Hotwords without what they sound like."""
    return [dataclasses.replace(word, sounds_like=()) for word in hotwords]


def require_halves(names: Sequence[str], named: Sequence[Heard], plain: dict[Path, list[Heard]]) -> None:
    """Make sure that there is something to count in both halves, that of the choice and that which is reported.

    Raises:
        ConfigError: no name of a half is said, or no word without names.
    """
    for place, half in enumerate(("choice", "report")):
        own = names[place::2]
        if not any(count(name, heard.reference) for heard in named for name in own):
            raise ConfigError(
                f"none of the names for the {half} is said ({', '.join(own) or 'none is left'}): it takes every other "
                "name; give more --hotwords, which the language model does not know, and utterances with them"
            )
        for path, each in plain.items():
            if not any(heard.reference for heard in each[place::2]):
                raise ConfigError(
                    f"{path} has no words for the {half}, which takes every other utterance; give more of them, or a "
                    "larger --max_utterances"
                )


def choose(rows: dict[float, Row]) -> float:
    """The lightest weight with which most names are found while few words become one."""
    bearable = {weight: row for weight, row in rows.items() if row.false <= MOST_FALSE * row.words}
    if not bearable:
        raise ConfigError(f"with every weight more than {MOST_FALSE:.1%} of words become a name; try lighter --weights")
    return max(bearable, key=lambda weight: (bearable[weight].found, -weight))


def report(
    bench: Bench, names: Sequence[Hotword], named: Sequence[Heard], plain: dict[Path, list[Heard]], weight: float
) -> None:
    """Measure names and utterances that chose nothing, and print a table for each manifest without names."""
    own = [heard for heard in named if any(count(name.text, heard.reference) for name in names)]
    if not own or not all(any(heard.reference for heard in each) for each in plain.values()):
        raise ConfigError("none of the names is said, or a manifest without names has no words; give others")
    for path, each in plain.items():
        print(f"\nreported: {len(names)} names in {len(own)} utterances, without names {path}\n{HEAD}")
        for title, listed, nats in (
            ("none", names, None),
            (f"{weight:g}", names, weight),
            (f"{weight:g}, only as they are written", only_written(names), weight),
        ):
            print(bench.measure(own, each, listed, nats).show(title))


@exit_on_error
def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="checkpoint, .onnx or name of a model")
    parser.add_argument("named", metavar="NAMES.jsonl", type=Path, help="utterances with one of the names each (path)")
    parser.add_argument("--plain", metavar="M.jsonl", type=Path, nargs="+", required=True, help="ones without (paths)")
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS, help="of a letter, to try (nats)")
    text = "of each manifest without names, evenly drawn (count; default: %(default)s)"
    parser.add_argument("--max_utterances", metavar="N", type=int, default=80, help=text)
    add_decoding_options(parser)
    options = parser.parse_args()
    choice = read_choice(options, options.model)
    if choice is None or choice.kind != "beam" or choice.hotwords_path is None:
        raise ConfigError("there are no hotwords to measure: give --hotwords, and --decoder beam or a decoder.json")
    if options.max_utterances < 2:
        raise ConfigError(f"--max_utterances is {options.max_utterances}; half of them choose, so give at least 2")
    bench = Bench(Recognizer.load(options.model), dataclasses.replace(choice, hotwords_path=None))
    names = leave_out_known(bench.read_names(choice.hotwords_path), choice.model_path)
    named = bench.hear(options.named)
    plain = {path: bench.hear(path, options.max_utterances) for path in options.plain}
    if len(options.weights) == 1:
        report(bench, names, named, plain, options.weights[0])
        return
    require_halves([name.text for name in names], named, plain)
    for_choice = [heard for each in plain.values() for heard in each[::2]]
    rows = {weight: bench.measure(named, for_choice, names[::2], weight) for weight in options.weights}
    print(f"\nfor the choice: {', '.join(name.text for name in names[::2])}\n{HEAD}")
    print(bench.measure(named, for_choice, names[::2], None).show("none"))
    for weight, row in rows.items():
        print(row.show(f"{weight:g}"))
    report(bench, names[1::2], named, {path: each[1::2] for path, each in plain.items()}, choose(rows))


if __name__ == "__main__":
    main()
