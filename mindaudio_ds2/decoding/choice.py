"""Which decoder: greedy, a beam search by its options, or what `tune` found, from its `decoder.json`."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.decoding.beam import BeamDecoder, BeamSettings, Units
from mindaudio_ds2.decoding.confidence import Calibration
from mindaudio_ds2.decoding.greedy import GreedyDecoder
from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.errors import ConfigError, LanguageModelError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.text.alphabet import Alphabet

HOTWORD_WEIGHT = 6.0
"""Of a hotword whose line names none (nats): it wins over what is up to e^6 times as likely."""


class DecodingStream(Protocol):
    """An utterance on its way to a decoder. However it is cut, the result is that of `Decoder.decode`."""

    def feed(self, log_probs: NDArray[np.float32]) -> None:
        """Go on with `(S, V)` float32 natural log probabilities; S may be 0."""

    def take(self) -> tuple[Word, ...]:
        """The words that nothing can change any more, each once; `read` and `finish` no longer have them."""

    def settle(self) -> None:
        """Decide for the best hypothesis up to its last whole word, so that `take` gives what stands there."""

    def read(self) -> list[Hypothesis]:
        """What has been recognised so far, best first; the last word may be unfinished."""

    def finish(self) -> list[Hypothesis]:
        """The best hypotheses, best first."""


class Decoder(Protocol):
    """From log probabilities to text."""

    def decode(self, log_probs: NDArray[np.float32]) -> list[Hypothesis]:
        """The best hypotheses of `(S, V)` float32 natural log probabilities, best first; at least one."""

    def start(self) -> DecodingStream:
        """A new utterance, to be fed in chunks."""


@dataclass(frozen=True)
class DecoderChoice:
    """A decoder that is yet to be opened.

    Attributes:
        kind: "greedy" or "beam".
        settings: of the beam.
        model_path: the language model, or None.
        hotwords_path: a file of hotwords, or None.
        calibration: of confidences, or None.
        hotwords: phrases beside those of the file, with their weights (nats).
    """

    kind: str = "greedy"
    settings: BeamSettings = dataclasses.field(default_factory=BeamSettings)
    model_path: Path | None = None
    hotwords_path: Path | None = None
    calibration: Calibration | None = None
    hotwords: tuple[tuple[str, float], ...] = ()

    def open(self, alphabet: Alphabet, seconds_per_frame: float, library: Path | None) -> Decoder:
        """The decoder.

        Args:
            alphabet: of the network.
            seconds_per_frame: distance between output frames (seconds).
            library: the native kernels, of `ops.library.find_kernels`; None where there are none: a beam is slow then.

        Raises:
            LanguageModelError: model or hotwords cannot be used.
        """
        if self.kind == "greedy":
            return GreedyDecoder(alphabet, seconds_per_frame)
        return BeamDecoder(
            Units.of_alphabet(alphabet),
            seconds_per_frame,
            self.settings,
            library,
            model=LanguageModel(self.model_path) if self.model_path else None,
            hotwords=[*(read_hotwords(self.hotwords_path) if self.hotwords_path else ()), *self.hotwords],
            calibration=self.calibration,
        )

    def describe(self) -> dict[str, str | None]:
        """`decoder` and `language_model` of a line of results."""
        if self.kind == "greedy":
            return {"decoder": "greedy", "language_model": None}
        s = self.settings
        weights = f"weight {s.weight:g}, bonus {s.bonus:g}, unknown {s.unknown:g}"
        hot = f", hotwords of {self.hotwords_path.name}" if self.hotwords_path else ""
        model = self.model_path.name if self.model_path else None
        return {"decoder": f"beam {s.beam_width}, {weights}{hot}", "language_model": model}


def add_decoding_options(parser: Any) -> None:
    """The options that `read_choice` reads."""
    parser.add_argument(
        "--decoder",
        help="greedy, beam, or a decoder.json of mindaudio-ds2 tune (default: that beside the network, or greedy)",
    )
    parser.add_argument("--lm", metavar="X.lm", help="language model for the beam, of mindaudio-ds2 build_lm (path)")
    parser.add_argument(
        "--hotwords",
        metavar="FILE",
        help="names and phrases to expect, one a line, a tab and a weight may follow (path)",
    )
    parser.add_argument("--nbest", metavar="N", type=int, default=1, help="hypotheses kept for each utterance (count)")
    parser.add_argument(
        "--beam_width", metavar="N", type=int, help="prefixes kept after each frame (count; default: 100)"
    )
    parser.add_argument(
        "--lm_weight", metavar="X", type=float, help="of the language model (default: 1, or of decoder.json)"
    )
    parser.add_argument(
        "--word_bonus", metavar="X", type=float, help="for each word (nats; default: 1, or of decoder.json)"
    )


def find_choice(model_path: Path) -> DecoderChoice:
    """What was chosen for a network: the decoder.json beside it, or greedy where there is none."""
    path = models.find_decoder(model_path)
    return load_choice(path) if path else DecoderChoice()


def read_choice(options: Any) -> DecoderChoice | None:
    """The decoder that a command line asks for; None where it says nothing, see `find_choice`.

    Raises:
        ConfigError: the options contradict each other.
        LanguageModelError: decoder.json cannot be read.
    """
    given = {"beam_width": options.beam_width, "weight": options.lm_weight, "bonus": options.word_bonus}
    given = {key: value for key, value in given.items() if value is not None}
    if options.decoder in (None, "greedy"):
        if given or options.lm or options.hotwords or options.nbest != 1:
            raise ConfigError("language model, hotwords, n-best and weights need the beam; add --decoder beam")
        return DecoderChoice() if options.decoder else None
    choice = DecoderChoice("beam") if options.decoder == "beam" else load_choice(Path(options.decoder))
    return dataclasses.replace(
        choice,
        settings=dataclasses.replace(choice.settings, num_best=options.nbest, **given),
        model_path=Path(options.lm) if options.lm else choice.model_path,
        hotwords_path=Path(options.hotwords) if options.hotwords else None,
    )


def save_choice(path: Path, choice: DecoderChoice, found: dict[str, Any]) -> None:
    """Write a decoder.json; a model in its folder or below is named from there.

    Args:
        path: where to.
        choice: the decoder; hotwords do not travel.
        found: what else is worth knowing: how it was chosen.

    Raises:
        OutputError: it cannot be written.
    """
    model = choice.model_path.resolve() if choice.model_path else None
    folder = path.resolve().parent
    if model and model.is_relative_to(folder):
        model = model.relative_to(folder)
    row = {
        "kind": choice.kind,
        "settings": dataclasses.asdict(choice.settings),
        "language_model": str(model) if model else None,
        "calibration": dataclasses.asdict(choice.calibration) if choice.calibration else None,
        "found": found,
    }
    write_text(path, json.dumps(row, indent=2) + "\n")


def load_choice(path: Path) -> DecoderChoice:
    """Read a decoder.json.

    Raises:
        LanguageModelError: it is missing or not one of ours.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        model = path.parent / row["language_model"] if row["language_model"] else None
        calibration = Calibration(**row["calibration"]) if row["calibration"] else None
        return DecoderChoice(row["kind"], BeamSettings(**row["settings"]), model, None, calibration)
    except FileNotFoundError:
        raise LanguageModelError(
            f"decoder {str(path)!r} is neither greedy nor beam, and no such file exists; name a decoder.json of tune"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LanguageModelError(f"{path} is no decoder.json of ours ({error}); make it with tune") from None


def read_hotwords(path: Path) -> Sequence[tuple[str, float]]:
    """Phrases with their weights (nats): one a line, where a tab and a weight may follow; # begins a comment.

    Raises:
        LanguageModelError: the file cannot be read, is empty, or a weight is no number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LanguageModelError(f"hotwords {path} cannot be read: {error}; correct the path") from None
    found = parse_hotwords(lines, f"hotwords {path}")
    if not found:
        raise LanguageModelError(f"hotwords {path} holds none; write one a line, or leave out --hotwords")
    return found


def parse_hotwords(lines: Sequence[str], source: str) -> list[tuple[str, float]]:
    """Phrases with their weights (nats) from lines, as `read_hotwords` has them; `source` names them in errors.

    Raises:
        LanguageModelError: a weight is no number.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        phrase, _, weight = line.partition("\t")
        try:
            found.append((phrase.strip(), float(weight) if weight.strip() else HOTWORD_WEIGHT))
        except ValueError:
            raise LanguageModelError(f"{source}, line {number}: {weight!r} is no weight; give a number") from None
    return found
