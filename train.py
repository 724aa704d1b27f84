#!/usr/bin/env python3
"""`mindaudio-ds2 train`, from a checkout: see mindaudio_ds2/commands/train.py."""

from mindaudio_ds2.commands.train import main

if __name__ == "__main__":
    main()
