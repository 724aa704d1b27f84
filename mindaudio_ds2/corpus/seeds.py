"""What `--seed` of every command takes."""

import argparse


def parse_seed(text: str) -> int:
    """A seed as a command line has it.

    Raises:
        ArgumentTypeError: no whole number, or a negative one, from which NumPy draws nothing.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, found {text!r}")
