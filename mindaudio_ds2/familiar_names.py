"""What people type: options as other programs name them, slips of the fingers, and types in words."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from mindaudio_ds2.errors import ConfigError

SAME_MEANING = {
    "epochs": "training.epochs",
    "max_epochs": "training.epochs",
    "batch_size": "batching.max_batch_utterances",
    "learning_rate": "schedule.peak_learning_rate",
    "lr": "schedule.peak_learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "num_workers": "batching.num_workers",
    "train_manifest": "data.train_manifest",
    "dev_manifest": "data.dev_manifest",
    "val_manifest": "data.dev_manifest",
    "test_manifest": "data.test_manifest",
    "data_root": "data.root",
}
"""Options of deepspeech.pytorch, MindAudio and others that can mean one key only."""

PRECISIONS = {"16-mixed": "fp16", "16": "fp16", "fp16": "fp16", "bf16-mixed": "bf16", "bf16": "bf16", "32": "fp32"}
_DEVICES = "device_target and one process for each: mpirun -n N python train.py --device_target GPU"
_DEVICE = "device_target (CPU, GPU or Ascend)"
ANOTHER_WAY = {
    "gpus": _DEVICES,
    "num_gpus": _DEVICES,
    "devices": _DEVICES,
    "accelerator": _DEVICE,
    "device": _DEVICE,
    "data_path": "data.train_manifest, data.dev_manifest and data.test_manifest, which a recipe's prepare.py writes",
    "checkpoint_path": "pre_trained_model_path X.ckpt (weights to start from or to score), or --resume",
}
"""Options that need a decision, with the names of ours."""

TYPES: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
    Path: ("a path", "paths"),
    type(None): ("null", "null"),
}
"""One and many of a type."""

MISTYPED = re.compile(r'Parser key "(?P<key>[^"]+)":.*?(?:Got|Given) value: (?P<value>.*)', re.DOTALL)
REFUSED = re.compile(r"argument (?:-\w/)?--(?P<key>[\w.]+): invalid .+? value: '(?P<value>.*)'", re.DOTALL)


def translate(arguments: Sequence[str], keys: Iterable[str]) -> list[str]:
    """Options of other projects, replaced by ours where they can mean one key only.

    Args:
        arguments: of the command line.
        keys: ours, by dotted path, and the verb's own options.

    Raises:
        ConfigError: an option that could mean several of ours; it names them.
    """
    known = set(keys)
    translated: list[str] = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name in known:
            translated.append(argument)
        elif name == "precision":
            value = value or next(iter(arguments[place + 1 : place + 2]), "")
            translated += ["--precision.compute"] if not equals else [f"--precision.compute={_find_precision(value)}"]
        elif SAME_MEANING.get(name) in known:
            translated.append(f"--{SAME_MEANING[name]}{equals}{value}")
        elif name in ANOTHER_WAY:
            raise ConfigError(f"the command line: --{name} is another project's; here it is {ANOTHER_WAY[name]}")
        else:
            translated.append(argument)
        if place and arguments[place - 1] == "--precision":
            translated[-1] = _find_precision(argument)
    return translated


def _find_precision(value: str) -> str:
    if value not in PRECISIONS:
        raise ConfigError(f"the command line: --precision {value!r} is none of {', '.join(PRECISIONS)}")
    return PRECISIONS[value]


def suggest(name: str, keys: Iterable[str]) -> str:
    """ "; did you mean X?" for a name that is nearly one of the keys, or nearly the last part of one; else empty."""
    by_last_part = {key.rpartition(".")[2]: key for key in keys}
    by_name = {**by_last_part, **{key: key for key in keys}, **{k: v for k, v in SAME_MEANING.items() if v in keys}}
    found = difflib.get_close_matches(name, by_name, n=1, cutoff=0.75)
    return f"; did you mean {by_name[found[0]]}?" if found else ""


def find_meant(message: str, keys: Iterable[str]) -> str:
    """What was meant by the first option that a parser's message calls unrecognized; empty if there is none."""
    strangers = re.search(r"unrecognized arguments: (.*)", message, re.DOTALL)
    names = [word for word in strangers[1].split() if word.startswith("--")] if strangers else []
    if not names:
        return ""
    name = names[0].removeprefix("--").partition("=")[0]
    return f"; here it is --{ANOTHER_WAY[name]}" if name in ANOTHER_WAY else suggest(name, keys)


def say_type(kind: Any) -> str:
    """A type in words: `list[int]` is "a list of whole numbers"; a type that has no words is "text"."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is list:
        return f"a list of {_say_many(inner[0])}"
    if origin is tuple:
        return f"a list of {len(inner)} {_say_many(inner[0])}"
    if origin is dict:
        return f"a mapping of {_say_many(inner[0])} to {_say_many(inner[1])}, such as {{name: 0.3}}"
    if origin in (Union, UnionType):
        return " or ".join(map(say_type, inner))
    return TYPES.get(kind, TYPES[str])[0]


def _say_many(kind: Any) -> str:
    return TYPES[kind][1] if kind in TYPES else say_type(kind)


def say_in_words(message: str, types: Mapping[str, str], given: Mapping[str, Any] | None = None) -> str:
    """A message of jsonargparse about a value of the wrong type, as a sentence; other messages stay.

    Args:
        message: of the exception.
        types: what each key may be, in words.
        given: values as they were written, which the parser may read as others: `yes` as True.
    """
    found = MISTYPED.search(message) or REFUSED.search(message)
    if not found or found["key"] not in types:
        return message
    value = str((given or {}).get(found["key"], found["value"].strip()))
    return f"{found['key']} must be {types[found['key']]}, found {value!r}"
