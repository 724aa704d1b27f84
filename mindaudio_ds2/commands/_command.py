"""What every command is made of: options, a run, and a main that puts both behind the command line."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mindaudio_ds2.errors import ConfigError, exit_on_error
from mindaudio_ds2.familiar_names import TYPES, find_meant, say_in_words, say_type
from mindaudio_ds2.hparams import find_hparams

Parser = Any
"""argparse's or jsonargparse's: for options they are the same."""

WRITTEN = ("--output", "--report", "--json")
"""Options that name a file to write; "-" is standard output there, and what is said beside it goes to stderr."""
STDOUT = "/dev/stdout"


class _PlainParser(argparse.ArgumentParser):
    """argparse's, whose errors are ours, with types in words."""

    def error(self, message: str) -> NoReturn:
        types = {action.dest: say_type(action.type) for action in self._actions if action.type in TYPES}
        keys = [word.removeprefix("--") for action in self._actions for word in action.option_strings]
        text = f"{say_in_words(message, types)}{find_meant(message, keys)}"
        raise ConfigError(f"the command line: {text}; {self.prog} --help lists what there is")


def add_model_options(parser: Parser, text: str) -> None:
    """A network, named first or behind `--pre_trained_model_path`; `take_model` reads both.

    Args:
        parser: of a command that takes one network.
        text: what it may be, for the help.
    """
    parser.add_argument("named_network", nargs="?", metavar="MODEL", help=f"{text} (path)")
    parser.add_argument("--pre_trained_model_path", metavar="MODEL", help="the same (path)")


def add_weights_option(parser: Parser) -> None:
    """How a checkpoint's recurrent layers and convolutions are computed on the CPU."""
    text = "bf16, int8: faster, on a CPU (default: fp32)"
    parser.add_argument("--weights", default="fp32", choices=["fp32", "bf16", "int8"], help=text)


def take_model(options: Any) -> str | None:
    """The network that a command line names; None where it names none.

    Raises:
        ConfigError: it names two.
    """
    named = [each for each in (options.named_network, options.pre_trained_model_path) if each is not None]
    if len(named) > 1:
        raise ConfigError(f"two networks are named, {named[0]} and {named[1]}; leave one out")
    return named[0] if named else None


def require_model(options: Any) -> str:
    """As `take_model`, of a command that can do nothing without.

    Raises:
        ConfigError: it names none, or two.
    """
    model = take_model(options)
    if model is None:
        raise ConfigError(
            "no network is named; name a checkpoint, such as runs/an4/best.ckpt, or a model, such as english, before "
            "the options"
        )
    return model


def read_words(arguments: Sequence[str]) -> list[str]:
    """The words of a command line, with standard output for the file "-".

    Raises:
        ConfigError: one is empty, as of a variable that is not set, and not the value of a key of the configuration: an
            empty path would be the folder that one is in.
    """
    words: list[str] = []
    option = previous = ""
    for word in arguments:
        name, is_joined, value = word.partition("=") if word.startswith("--") else ("", "", word)
        option = name or option
        if value == "" and (is_joined or not name) and "." not in option:
            place = f"the value of {name}" if name else f"the word behind {previous}" if previous else "the first word"
            raise ConfigError(
                f"the command line: {place} is empty; is it a variable that is not set? Say what is meant, or leave it "
                "away (a dot is the folder that you are in)"
            )
        if value == "-" and (name or previous) in WRITTEN:
            word = f"{name}{is_joined}{STDOUT}"
        words.append(word)
        previous = word
    return words


@dataclass(frozen=True)
class Command:
    """A command; calling it is what its module's `main` does.

    Attributes:
        text: the module's, shown by `--help`: a first line that says what it does, then examples.
        add_options: adds its own options to a parser.
        run: does the work. It is given the options as attributes; before them, where the command has keys of the
            configuration as well, the `Config`, or None where it can do without (then `options.changes` has the keys
            that were given).
        takes_keys: whether it has `-c FILE` and `--section.key VALUE`.
        default: the name of the YAML without `-c`, such as "deepspeech2"; None where a checkpoint can stand for it.
    """

    text: str | None
    add_options: Callable[[Parser], None]
    run: Callable[..., None]
    takes_keys: bool = False
    default: str | None = None

    def make_parser(self) -> argparse.ArgumentParser:
        """The parser of its command line, the keys included."""
        if self.takes_keys:
            from mindaudio_ds2.config_reader import make_parser  # here, because recognising alone does without

            return make_parser(self.text or "", self.add_options)
        parser = _PlainParser(
            description=self.text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self.add_options(parser)
        return parser

    def __call__(self) -> None:
        """Parse the command line and run; an error of this package is one message and an exit status."""
        exit_on_error(self._start)()

    def _start(self) -> None:
        words = read_words(sys.argv[1:])
        beside = contextlib.redirect_stdout(sys.stderr) if words != sys.argv[1:] else contextlib.nullcontext()
        with beside:  # a file on standard output is there alone
            self._parse_and_run(words)

    def _parse_and_run(self, words: list[str]) -> None:
        if not self.takes_keys:
            self.run(self.make_parser().parse_args(words))
            return
        from mindaudio_ds2.config_reader import parse_command_line

        default = find_hparams(self.default) if self.default else None
        config, options = parse_command_line(self.text or "", words, self.add_options, default)
        self.run(config, options)
