"""What stands in an ONNX file beside the network: features, labels, origin. Read without trust, with plain JSON."""

import dataclasses
import json
import math
import typing
from dataclasses import dataclass, field
from typing import Any

from mindaudio_ds2.config import to_mapping
from mindaudio_ds2.errors import CheckpointError, ConfigError
from mindaudio_ds2.network_config import FeatureConfig, ModelConfig, TextConfig
from mindaudio_ds2.reading import parse_json

ENTRY = "mindaudio_ds2"
FORMAT_VERSION = 3
LONGEST_SECONDS_BEFORE_2 = 15.0
"""Files of format 1 do not tell what their networks have learnt from; most of LibriSpeech is no longer."""

Input = typing.Literal["waveform", "features"]
WeightKind = typing.Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Description:
    """What belongs to an exported network.

    Attributes:
        features: what it was trained on.
        text: its characters and units.
        input: what it takes.
        weights: how its weights are stored.
        is_stream: whether it takes chunks of features, and carries its state from one to the next.
        time_stride: frames of features for one frame of output.
        seconds_per_output_frame: their distance (seconds).
        longest_seconds: of the recordings that it was trained on (seconds).
        licence: of the weights, in the words of whoever exported them; may be empty.
        decoder: which decoder its scores were made with, and its settings.
        scores: rates by name of the scored manifest, as `eval.py` found them beside the checkpoint.
        network: the `ModelConfig`, for people.
    """

    features: FeatureConfig
    text: TextConfig
    input: Input
    weights: WeightKind
    is_stream: bool
    time_stride: int
    seconds_per_output_frame: float
    longest_seconds: float
    licence: str = ""
    decoder: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """As one line of JSON."""
        return json.dumps({"format_version": FORMAT_VERSION, **to_mapping(self)}, ensure_ascii=False)


def read_description(text: str, source: str) -> Description:
    """The inverse of `Description.to_json`, strict about names, types and ranges.

    Args:
        text: the metadata entry; empty where there is none.
        source: the file, for the error's text.

    Raises:
        CheckpointError: it is not one, or another version's.
    """
    try:
        mapping = parse_json(text)
        version = mapping.pop("format_version")
        if type(version) is not int or version not in range(1, FORMAT_VERSION + 1):
            raise ValueError(f"its format is {version!r}, this package reads 1 to {FORMAT_VERSION}")
        if version < 2:
            mapping = {"longest_seconds": LONGEST_SECONDS_BEFORE_2, **mapping}
            mapping["features"] |= {"normalization": "utterance", "corpus_mean": [], "corpus_deviation": []}
        if version < 3:
            mapping["text"] |= {"tokenizer": None, "units": [], "unit_scores": []}
        description: Description = _build(Description, mapping, "")
        if description.text.tokenizer and not description.text.units:
            raise ValueError("it names a tokenizer's file, and has no units")
        stride = description.time_stride
        if not 0 < stride <= 64 or not 0 < description.seconds_per_output_frame < math.inf:
            raise ValueError(f"a time stride of {stride} is impossible")
        if not 0 < description.longest_seconds < math.inf:
            raise ValueError(f"recordings of {description.longest_seconds} s are impossible")
    except (ValueError, TypeError, AttributeError, KeyError, ConfigError) as error:
        raise CheckpointError(
            f"{source} is not a network of this package, or damaged: its metadata entry {ENTRY!r} cannot be used "
            f"({error}); export it again from its checkpoint"
        ) from None
    return description


def read_sizes(network: dict[str, Any], source: str) -> ModelConfig:
    """The sizes of a network, of `Description.network`.

    Raises:
        CheckpointError: they are impossible, or not told.
    """
    try:
        return ModelConfig(**network)
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source} does not tell its network's sizes ({error}); export it again") from None


def _build(cls: Any, mapping: Any, prefix: str) -> Any:
    """A dataclass from plain values of exactly its fields."""
    kinds = typing.get_type_hints(cls)
    if not isinstance(mapping, dict) or mapping.keys() != kinds.keys():
        raise ValueError(f"{prefix or 'the entry'} should have the keys {', '.join(kinds)}")
    values = {}
    for name, kind in kinds.items():
        value, path = mapping[name], f"{prefix}{name}"
        if dataclasses.is_dataclass(kind):
            value = _build(kind, value, f"{path}.")
        elif typing.get_origin(kind) is typing.Literal:
            if value not in typing.get_args(kind):
                raise ValueError(f"{path} is {value!r}, not one of {typing.get_args(kind)}")
        elif kind is float and type(value) in (int, float):
            value = float(value)
        elif kind == str | None and value is None:
            pass
        elif type(value) is not (str if kind == str | None else typing.get_origin(kind) or kind):
            raise ValueError(f"{path} is {value!r}")
        values[name] = value
    return cls(**values)
