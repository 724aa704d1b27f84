"""The only reader of YAML and of command lines: from text to a validated `Config`."""

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, set_parsing_settings

from mindaudio_ds2.config import Config, flatten, listed, to_mapping
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.familiar_names import find_meant, say_in_words, say_type, suggest, translate
from mindaudio_ds2.hparams import find_hparams, suggest_hparams
from mindaudio_ds2.reading import ReadError
from mindaudio_ds2.yaml_reader import parse_yaml

MAX_NUMBER = 2**53  # above, a float does not hold every integer


def from_mapping(mapping: Mapping[str, Any], source: str, cls: type = Config) -> Any:
    """Build a `cls` from nested plain values, strictly.

    Args:
        mapping: every key of `cls`, nested as in the YAML.
        source: where it comes from, for the error's text.
        cls: `Config` or one of its sections.

    Raises:
        ConfigError: unknown, missing, mistyped or impossible keys, by dotted path.
    """
    _check_keys(mapping, cls, source)
    parser = _make_mapping_parser(cls)
    namespace = _parse(parser, lambda: parser.parse_object(dict(mapping), defaults=False), source, flatten(mapping))
    found = parser.instantiate(namespace)
    return cls(**{field.name: found[field.name] for field in dataclasses.fields(cls)})


@lru_cache
def _make_mapping_parser(cls: type) -> ArgumentParser:
    """One for each class: making it takes longer than reading a mapping with it."""
    parser = _new_parser("", has_texts=False)
    parser.add_class_arguments(cls, None)
    return parser


def read_config(path: str | Path) -> Config:
    """Read a YAML file into a `Config`, strictly.

    Raises:
        ConfigError: no such file, not YAML, or unknown, missing, mistyped or impossible keys, by dotted path.
    """
    config: Config = from_mapping(_read_yaml(path), str(path))
    return config


def parse_command_line(
    description: str,
    arguments: Sequence[str],
    add_options: Callable[[ArgumentParser], None],
    default_path: Path | None,
) -> tuple[Config | None, Any]:
    """Parse a verb's command line: `-c FILE`, the verb's own options, and `--any.key VALUE` overrides.

    Args:
        description: the first lines of `--help`.
        arguments: without the program's name.
        add_options: adds the verb's own options to the parser.
        default_path: the YAML used without `-c`; None where the verb can take a checkpoint's own configuration.

    Returns:
        The configuration (None without a YAML) and the verb's own options as attributes; without a YAML, `changes` is
        one of them: the values of the keys that were given, by dotted path, for `override`.

    Raises:
        ConfigError: see `read_config`; also for unknown options.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("-c", "--config")
    path = _find_yaml(finder.parse_known_args(list(arguments))[0].config) or default_path
    arguments, section = _take_section(arguments)
    is_help = not {"-h", "--help"}.isdisjoint(arguments)
    parser = make_parser(description, add_options, default_path, has_texts=is_help)
    own = [action for action in parser._actions if not _is_key(action)]
    options, defaults = {action.dest for action in own}, {action.dest: action.default for action in own}
    if path is not None:
        mapping = _read_yaml(path)
        from_mapping(mapping, str(path))  # the file must be right by itself, before anything overrides it
        parser.set_defaults(flatten(mapping))
    else:
        for action in filter(_is_key, parser._actions):
            action.default = argparse.SUPPRESS  # in the help, too: it is the checkpoint's
    _tidy_help(parser, options, section, hidden=set() if path is not None else OF_TRAINING)
    namespace = _parse_arguments(parser, arguments, with_defaults=path is not None)
    chosen = listed({key: value for key, value in namespace.as_dict().items() if key not in options})
    if path is None:
        given = {key: namespace.get(key, default) for key, default in defaults.items()}
        return None, argparse.Namespace(**given, changes=flatten(chosen))
    config: Config = from_mapping(chosen, "the command line")
    return config, namespace


def make_parser(
    description: str,
    add_options: Callable[[ArgumentParser], None],
    default_path: Path | None = None,
    has_texts: bool = True,
) -> ArgumentParser:
    """The parser of a verb's command line, before a YAML has given the keys their values.

    `has_texts`: whether its keys have their texts, which only help needs; to find them the sources are read.
    """
    parser = _new_parser(description, has_texts)
    parser.add_argument("-c", "--config", metavar="FILE", default=default_path, help="YAML with every key (path)")
    add_options(parser)
    parser.add_class_arguments(Config, None)
    return parser


def _is_key(action: argparse.Action) -> bool:
    """Whether an action stands for a key or section of the configuration, and not for an option of the verb."""
    return action.dest.partition(".")[0] in KEYS


def override(config: Config, changes: Mapping[str, Any], fixed: Sequence[str] = ()) -> Config:
    """A configuration with other values, checked as a whole.

    Args:
        config: of a checkpoint.
        changes: by dotted path.
        fixed: sections whose values are the checkpoint's and cannot be others.

    Raises:
        ConfigError: an impossible value, or one of a fixed section.
    """
    if foreign := [key for key in changes if key.partition(".")[0] in fixed]:
        raise ConfigError(f"the command line: {', '.join(foreign)} cannot be changed: the checkpoint's weights fix it")
    mapping = to_mapping(config)
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (mapping[section] if section else mapping)[name] = value
    changed: Config = from_mapping(mapping, "the command line")
    return changed


def _find_yaml(named: str | None) -> str | Path | None:
    """`-c an4` is the package's own hparams/an4.yaml where there is no file of that name."""
    if named is None or Path(named).is_file():
        return named
    found = find_hparams(named)
    return found if found.is_file() else named


_SECOND_BRACKETS = re.compile(r"(?P<own>\([^()]*)\) \((?:type: [^()]*?)?(?:, )?(?P<default>default: [^()]*)?\)$")


def _join_brackets(found: re.Match[str]) -> str:
    own, default = found["own"], found["default"]
    return f"{own})" if default is None or "default: " in own else f"{own}; {default})"


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """jsonargparse's, but the description keeps its lines, types are words, no default is none, and a text ends with at
    most one pair of brackets.
    """

    def _expand_help(self, action: argparse.Action) -> str:
        text = re.sub(r" \(default: null\)|, default: null(?=\))", "", super()._expand_help(action))
        return _SECOND_BRACKETS.sub(_join_brackets, text)

    def _get_type_str(self, action: argparse.Action) -> str | None:
        return None if super()._get_type_str(action) is None else _say_type_of(action)


def _say_type_of(action: argparse.Action) -> str:
    if action.choices is not None:
        return f"one of {', '.join(map(str, action.choices))}"
    return say_type(getattr(action, "_typehint", None) or action.type)


def _new_parser(description: str, has_texts: bool) -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=has_texts)
    return ArgumentParser(
        usage="%(prog)s [-c FILE] [OPTION ...] [--section.key VALUE ...]",
        description=description,
        formatter_class=_HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


OF_TRAINING = {"run_dir", "seed"}
"""Keys that mean nothing to verbs that take a checkpoint's configuration."""

KEYS = {field.name for field in dataclasses.fields(Config)}
SECTIONS: dict[str, type] = {
    field.name: field.type
    for field in dataclasses.fields(Config)
    if isinstance(field.type, type) and dataclasses.is_dataclass(field.type)
}


def _take_section(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without the section behind `--help`, and that section."""
    kept = list(arguments)
    for place, argument in enumerate(kept[:-1]):
        if argument not in ("-h", "--help"):
            continue
        if kept[place + 1] in SECTIONS:
            return kept[: place + 1], kept[place + 1]
        if not kept[place + 1].startswith("-"):
            close = suggest(kept[place + 1], SECTIONS)
            raise ConfigError(
                f"--help: there is no section {kept[place + 1]!r}{close}; there are {', '.join(SECTIONS)}"
            )
    return kept, None


def _tidy_help(parser: ArgumentParser, options: set[str], section: str | None, hidden: set[str]) -> None:
    """Of the keys, `--help` shows those of one section, or of none but the run; all sections are listed behind them.

    The YAML or a checkpoint gives every key, so none is required; and a section has no file of its own.
    """
    for action in parser._actions:
        if action.dest in options:
            action.help = argparse.SUPPRESS if section else action.help
            continue
        action.required = False
        is_shown = action.dest.startswith(f"{section}.") if section else "." not in action.dest
        if action.dest in SECTIONS or action.dest in hidden or not is_shown:
            action.help = argparse.SUPPRESS
    lines = [f"  {name:<14} {(cls.__doc__ or '').splitlines()[0]}" for name, cls in SECTIONS.items()]
    parser.epilog = "\n".join(["keys of the configuration, by section; `--help SECTION` lists them:", *lines])
    if section:
        parser.description = parser.epilog = None


def _parse_arguments(parser: ArgumentParser, arguments: Sequence[str], with_defaults: bool) -> Any:
    keys = [word.removeprefix("--") for action in parser._actions for word in action.option_strings]
    translated = translate(arguments, [key for key in keys if key not in SECTIONS])
    return _parse(parser, lambda: parser.parse_args(translated, defaults=with_defaults), "the command line")


def _read_yaml(path: str | Path) -> dict[str, Any]:
    if Path(path).suffix in (".ckpt", ".pth", ".pt", ".mindir", ".onnx"):
        raise ConfigError(f"{path} is a model, and a YAML is expected here; name it with --pre_trained_model_path")
    if Path(path).suffix in (".jsonl", ".csv", ".tsv"):
        raise ConfigError(
            f"{path} is a manifest, and a YAML is expected here; name the manifest with --data.train_manifest"
        )
    try:
        mapping = parse_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; {suggest_hparams(str(path))}") from None
    except IsADirectoryError:
        inside = sorted(Path(path).glob("*.y*ml"))
        remedy = f"give -c {inside[0]}" if inside else suggest_hparams(str(path))
        raise ConfigError(f"{path} is a folder, and a YAML is expected here; {remedy}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not readable YAML: it is no text ({error.reason}); a checkpoint is named with "
            "--pre_trained_model_path"
        ) from None
    except (OSError, ReadError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} is not readable YAML: {reason}") from error
    if not isinstance(mapping, dict):
        raise ConfigError(f"{path} must be a mapping of keys to values; copy one of hparams/*.yaml")
    return mapping


def _check_keys(mapping: Mapping[str, Any], cls: type, source: str) -> None:
    _check_shape(mapping, cls, source)
    unknown, missing = _compare_keys(mapping, cls, "")
    if unknown:
        keys = _list_keys(cls, "")
        listed_keys = ", ".join(f"{key}{suggest(key, keys)}" for key in unknown)
        raise ConfigError(f"{source}: unknown key {listed_keys}; --help SECTION lists all keys")
    if missing:
        raise ConfigError(f"{source}: missing key {', '.join(missing)}; every key must be given, see hparams/*.yaml")
    _check_nulls(mapping, cls, source)


def _list_keys(cls: type, prefix: str) -> list[str]:
    keys: list[str] = []
    for field in dataclasses.fields(cls):
        is_section = isinstance(field.type, type) and dataclasses.is_dataclass(field.type)
        keys += _list_keys(field.type, f"{prefix}{field.name}.") if is_section else [f"{prefix}{field.name}"]  # type: ignore[arg-type]
    return keys


def _check_nulls(mapping: Mapping[str, Any], cls: type, source: str, prefix: str = "") -> None:
    for field in dataclasses.fields(cls):
        key, value = f"{prefix}{field.name}", mapping[field.name]
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            _check_nulls(value, field.type, source, f"{key}.")
        elif value is None and type(None) not in get_args(field.type):
            raise ConfigError(f"{source}: {key} must be {say_type(field.type)}, found null")


def _check_shape(mapping: Mapping[str, Any], cls: type, source: str) -> None:
    sections = {field.name for field in dataclasses.fields(cls) if dataclasses.is_dataclass(field.type)}
    for key, value in mapping.items():
        if key in sections and not isinstance(value, Mapping):
            raise ConfigError(f"{source}: {key} is {value!r}, but must be a mapping of keys; see hparams/*.yaml")
    for key, value in flatten(mapping).items():
        if not all(abs(number) <= MAX_NUMBER for number in _list_numbers(value)):  # NaN is not, either
            raise ConfigError(f"{source}: {key} is {value!r:.80}; give a finite number")


def _list_numbers(value: Any) -> Iterator[int | float]:
    """All numbers in nested values."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _list_numbers(inner)


def _compare_keys(mapping: Mapping[str, Any], cls: type, prefix: str) -> tuple[list[str], list[str]]:
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    unknown = [f"{prefix}{key}" for key in mapping if key not in fields]
    missing = [f"{prefix}{key}" for key in fields if key not in mapping]
    for key, kind in fields.items():
        section = mapping.get(key)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(section, Mapping):
            inner_unknown, inner_missing = _compare_keys(section, kind, f"{prefix}{key}.")
            unknown += inner_unknown
            missing += inner_missing
    return unknown, missing


def _parse(
    parser: ArgumentParser, parse: Callable[[], Any], source: str, given: Mapping[str, Any] | None = None
) -> Any:
    try:
        return parse()
    except ArgumentError as error:
        types = {action.dest: _say_type_of(action) for action in parser._actions}
        message = say_in_words(str(error), types, given)
        keys = [word.removeprefix("--") for action in parser._actions for word in action.option_strings]
        raise ConfigError(f"{source}: {message}{find_meant(message, keys)}") from None
