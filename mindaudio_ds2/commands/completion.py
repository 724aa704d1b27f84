#!/usr/bin/env python3
"""Print what makes a shell complete commands, options, and what these may be.

    mindaudio-ds2 completion bash > ~/.local/share/bash-completion/completions/mindaudio-ds2
    mindaudio-ds2 completion zsh > ~/.zfunc/_mindaudio-ds2

Begin a new shell afterwards; zsh needs `fpath+=~/.zfunc` before `compinit` in ~/.zshrc. Needs shtab:
`pip install 'mindaudio_ds2[completion]'`.
"""

import argparse
import importlib
import re
from typing import Literal, get_args, get_origin

from mindaudio_ds2 import console
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.errors import OutputError

PROGRAM = "mindaudio-ds2"


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument("shell", choices=["bash", "zsh"], help="whose language")


def make_whole_parser() -> argparse.ArgumentParser:
    """One parser for all commands, with a parser for each as it parses its own command line."""
    from mindaudio_ds2.__main__ import list_commands

    whole = argparse.ArgumentParser(prog=PROGRAM)
    commands = whole.add_subparsers(metavar="COMMAND")
    for name, text in list_commands().items():
        commands.add_parser(name, help=text)
        command: Command = importlib.import_module(f"mindaudio_ds2.commands.{name}").main
        commands.choices[name] = _mark(command.make_parser())
    return whole


def _mark(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Tell what an option may be: file names where its help says that it is a path, and the words of its type."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _mark(inner)
        elif re.search(r"\bpaths?\b", str(action.help)):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif kind := getattr(action, "_typehint", None):  # of a key
            action.choices = (
                ["true", "false"] if kind is bool else get_args(kind) if get_origin(kind) is Literal else None
            )
    return parser


def run(options: argparse.Namespace) -> None:
    """Print the script."""
    try:
        import shtab
    except ImportError:
        raise OutputError(
            "completion needs shtab, which is not installed; pip install 'mindaudio_ds2[completion]'"
        ) from None
    script = shtab.complete(make_whole_parser(), shell=options.shell)
    console.write_line(script, to_stdout=True)


main = Command(__doc__, add_options, run)
