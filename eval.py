#!/usr/bin/env python3
"""`mindaudio-ds2 eval`, from a checkout: see mindaudio_ds2/commands/eval.py."""

from mindaudio_ds2.commands.eval import main

if __name__ == "__main__":
    main()
