#!/usr/bin/env python3
"""`mindaudio-ds2 eval`, from a checkout: see mindaudio_ds2/commands/eval.py."""

from mindaudio_ds2.__main__ import run_command


def main() -> None:
    """Run it with the words of the command line."""
    run_command("eval")


if __name__ == "__main__":
    main()
