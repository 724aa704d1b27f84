"""What every command is made of: options, a run, and a main that puts both behind the command line."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.familiar_names import TYPES, say_in_words, say_type
from mindaudio_ds2.hparams import find_hparams

Parser = Any
"""argparse's or jsonargparse's: for options they are the same."""


class _PlainParser(argparse.ArgumentParser):
    """argparse's, whose errors say types in words."""

    def error(self, message: str) -> NoReturn:
        types = {action.dest: say_type(action.type) for action in self._actions if action.type in TYPES}
        super().error(say_in_words(message, types))


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
        exit_on_error(self._parse_and_run)()

    def _parse_and_run(self) -> None:
        if not self.takes_keys:
            self.run(self.make_parser().parse_args())
            return
        from mindaudio_ds2.config_reader import parse_command_line

        default = find_hparams(self.default) if self.default else None
        config, options = parse_command_line(self.text or "", sys.argv[1:], self.add_options, default)
        self.run(config, options)
