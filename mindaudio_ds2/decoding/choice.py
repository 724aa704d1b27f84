"""Which decoder: greedy, a beam search by a YAML or its options, or what `tune` found, from its `decoder.json`."""

import argparse
import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.config import DecodingConfig
from mindaudio_ds2.decoding.beam import BeamDecoder, BeamSettings
from mindaudio_ds2.decoding.confidence import Calibration
from mindaudio_ds2.decoding.greedy import GreedyDecoder
from mindaudio_ds2.decoding.hotwords import Hotword, read_hotwords
from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.decoding.label_prior import LabelPrior
from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.errors import ConfigError, LanguageModelError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.reading import parse_json
from mindaudio_ds2.text.tokenizer import Tokenizer

LARGEST_NUMBER = 1e6
"""Of a decoder.json: wider beams and heavier weights than this are asked for to fill memory, or by mistake."""


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
        hotwords: names and phrases beside those of the file.
        label_prior: of the network's labels, or None; `settings.prior_weight` says how much of it counts.
    """

    kind: str = "greedy"
    settings: BeamSettings = dataclasses.field(default_factory=BeamSettings)
    model_path: Path | None = None
    hotwords_path: Path | None = None
    calibration: Calibration | None = None
    hotwords: tuple[Hotword, ...] = ()
    label_prior: LabelPrior | None = None

    def open(self, tokenizer: Tokenizer, seconds_per_frame: float, library: Path | None) -> Decoder:
        """The decoder.

        Args:
            tokenizer: of the network.
            seconds_per_frame: distance between output frames (seconds).
            library: the native kernels, of `ops.library.find_kernels`; None where there are none: a beam is slow then.

        Raises:
            LanguageModelError: model, hotwords or label prior cannot be used.
        """
        if self.kind == "greedy":
            return GreedyDecoder(tokenizer, seconds_per_frame)
        model = LanguageModel(self.model_path) if self.model_path else None
        if model:
            model.verify()  # a hundredth of a second for 30 MB; a changed byte would only change words
        return BeamDecoder(
            tokenizer,
            seconds_per_frame,
            self.settings,
            library,
            model=model,
            hotwords=[*(read_hotwords(self.hotwords_path) if self.hotwords_path else ()), *self.hotwords],
            calibration=self.calibration,
            label_prior=self.label_prior,
        )

    def describe(self) -> dict[str, str | None]:
        """`decoder` and `language_model` of a line of results."""
        if self.kind == "greedy":
            return {"decoder": "greedy", "language_model": None}
        s = self.settings
        prior = f", prior {s.prior_weight:g}" if s.prior_weight else ""
        weights = f"weight {s.weight:g}, bonus {s.bonus:g}, unknown {s.unknown:g}{prior}"
        hot = f", hotwords of {self.hotwords_path.name}" if self.hotwords_path else ""
        model = self.model_path.name if self.model_path else None
        return {"decoder": f"beam {s.beam_width}, {weights}{hot}", "language_model": model}


def add_decoding_options(parser: Any, has_nbest: bool = True) -> None:
    """The options that `read_choice` reads, each named as its key in `DecodingConfig`.

    Args:
        parser: gets them.
        has_nbest: False where there is one text: `--nbest` is not listed then, and `refuse_nbest` answers it.
    """
    parser.add_argument(
        "--decoder",
        help="greedy, beam, or a decoder.json of mindaudio-ds2 tune (default: that beside the network, or greedy)",
    )
    parser.add_argument("--lm", metavar="X.lm", help="language model of mindaudio-ds2 build_lm (path)")
    parser.add_argument(
        "--hotwords",
        metavar="FILE",
        help="names and phrases to expect, one a line; tab, weight, tab, what it sounds like may follow (path)",
    )
    nbest_help = "hypotheses kept for each utterance (count; default: 1)" if has_nbest else argparse.SUPPRESS
    parser.add_argument("--nbest", metavar="N", type=int, help=nbest_help)
    parser.add_argument(
        "--beam_width", metavar="N", type=int, help="prefixes kept after each frame (count; default: 100)"
    )
    parser.add_argument(
        "--lm_weight", metavar="X", type=float, help="of the language model (default: 1, or of decoder.json)"
    )
    parser.add_argument(
        "--word_bonus", metavar="X", type=float, help="for each word (nats; default: 1, or of decoder.json)"
    )


def refuse_nbest(options: Any, reason: str) -> None:
    """Refuse `--nbest` where there is one text; to be asked before `read_choice`, which may ask for a beam instead.

    Raises:
        ConfigError: it was given, with this reason and remedy.
    """
    if options.nbest is not None:
        raise ConfigError(reason)


def find_choice(model_path: Path) -> DecoderChoice:
    """What was chosen for a network: the decoder.json beside it, or greedy where there is none."""
    path = models.find_decoder(model_path)
    return load_choice(path) if path else DecoderChoice()


def read_choice(options: Any, model: str | Path | None, section: DecodingConfig | None = None) -> DecoderChoice | None:
    """The decoder that a command line asks for; None where neither it nor the YAML says anything, see `find_choice`.

    Args:
        options: of `add_decoding_options`.
        model: path or name of the network. Where no decoder is named, options change the decoder.json beside it.
        section: of the YAML, where there is one; each option given wins over its key, and greedy over all of them.

    Raises:
        ConfigError: the options contradict each other.
        LanguageModelError: decoder.json cannot be read.
    """
    keys = (field.name for field in dataclasses.fields(DecodingConfig))
    given = {key: value for key in keys if (value := getattr(options, key)) is not None}
    base = section if section and options.decoder != "greedy" else DecodingConfig()
    section = dataclasses.replace(base, **given)
    if section.decoder is None and section.of_the_beam:
        beside = models.find_decoder(models.find_file(model, "recognition"))
        section = dataclasses.replace(section, decoder=str(beside) if beside else "greedy")
    return make_choice(section)


def _open_choice(decoder: str) -> DecoderChoice:
    """A decoder.json by its path, or that of a model by the model's name."""
    if not Path(decoder).exists() and decoder in (model.name for model in models.list_models()):
        beside = models.find_decoder(models.find_file(decoder, "recognition"))
        if not beside:
            raise ConfigError(f"the model {decoder} has no decoder.json; --decoder greedy, or name another's")
        return load_choice(beside)
    return load_choice(Path(decoder))


def make_choice(section: DecodingConfig) -> DecoderChoice | None:
    """The decoder of a configuration; None where it leaves that to the network's decoder.json.

    Raises:
        ConfigError: impossible settings.
        LanguageModelError: decoder.json cannot be read.
    """
    kind = section.decoder or "greedy"
    choice = DecoderChoice(kind) if kind in ("greedy", "beam") else _open_choice(kind)
    if choice.kind == "greedy" and section.of_the_beam:
        named = f" ({section.decoder})" if kind != "greedy" else ""
        raise ConfigError(
            f"greedy decoding{named} has no use for {', '.join(section.of_the_beam)}; add --decoder beam "
            "(decoding.decoder: beam), or leave that out"
        )
    if choice.kind == "greedy":
        return choice if section.decoder else None
    if section.lm_weight is not None and not (section.lm or choice.model_path):
        raise ConfigError(
            f"lm_weight {section.lm_weight:g} weighs a language model, and there is none; add --lm X.lm "
            "(decoding.lm: X.lm), or leave that out"
        )
    given: dict[str, Any] = {
        "beam_width": section.beam_width,
        "num_best": section.nbest or 1,
        "weight": section.lm_weight,
        "bonus": section.word_bonus,
    }
    settings = dataclasses.replace(choice.settings, **{key: value for key, value in given.items() if value is not None})
    return dataclasses.replace(
        choice,
        settings=settings,
        model_path=Path(section.lm) if section.lm else choice.model_path,
        hotwords_path=Path(section.hotwords) if section.hotwords else None,
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
    prior = choice.label_prior
    row = {
        "kind": choice.kind,
        "settings": dataclasses.asdict(choice.settings),
        "language_model": str(model) if model else None,
        "calibration": dataclasses.asdict(choice.calibration) if choice.calibration else None,
        "label_prior": dict(zip(prior.labels, prior.log_probs, strict=True)) if prior else None,
        "found": found,
    }
    write_text(path, json.dumps(row, indent=2) + "\n")


def load_choice(path: Path) -> DecoderChoice:
    """Read a decoder.json.

    Raises:
        LanguageModelError: it is missing or not one of ours.
    """
    try:
        row = _require_object("it", parse_json(path.read_text(encoding="utf-8")))
        if row["kind"] not in ("greedy", "beam"):
            raise ValueError(f"{row['kind']!r:.40} is no decoder")
        if not isinstance(row["language_model"], str | None):
            raise ValueError(f"'language_model' is {row['language_model']!r:.40}, and no path")
        model = path.parent / row["language_model"] if row["language_model"] else None
        if model and not model.is_file():
            raise LanguageModelError(
                f"{path} decodes with the language model {model}, which does not exist; bring it back, run "
                "mindaudio-ds2 tune again, or decode with --decoder greedy"
            )
        calibration = _read_numbers(Calibration, "calibration", row["calibration"]) if row["calibration"] else None
        settings = _read_numbers(BeamSettings, "settings", row["settings"])
        told = row.get("label_prior")  # older files have none
        prior = None
        if told is not None:
            prior = LabelPrior(tuple(_require_object("label_prior", told)), tuple(told.values()))
        if settings.prior_weight and prior is None:
            raise ValueError(f"the prior weight is {settings.prior_weight:g}, and there is no label prior")
        return DecoderChoice(row["kind"], settings, model, None, calibration, label_prior=prior)
    except FileNotFoundError:
        raise LanguageModelError(
            f"decoder {str(path)!r} is neither greedy nor beam, and no such file exists; name a decoder.json of tune"
        ) from None
    except KeyError as error:
        raise LanguageModelError(f"{path} is no decoder.json of ours (it lacks {error}); make it with tune") from None
    except (OSError, ValueError, TypeError, ConfigError) as error:
        raise LanguageModelError(f"{path} is no decoder.json of ours ({error}); make it with tune") from None


def _require_object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r:.40}, and no object with keys")
    return value


def _read_numbers(cls: Any, place: str, values: Any) -> Any:
    """A dataclass of numbers, each of its field's kind, and none larger than anybody would choose."""
    kinds = typing.get_type_hints(cls)
    for name, value in _require_object(place, values).items():
        if name not in kinds:
            raise ValueError(f"{place} has {name!r:.40}, which is none of {', '.join(kinds)}")
        is_number = type(value) is int or (type(value) is float and kinds.get(name) is float)
        if not is_number or not abs(value) <= LARGEST_NUMBER:
            raise ValueError(f"{name!r:.40} is {value!r:.40}")
    lacking = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.name not in values]
    if lacking:
        raise ValueError(f"{place} lacks {', '.join(lacking)}")
    return cls(**values)
