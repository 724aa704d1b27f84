#!/usr/bin/env python3
"""`mindaudio-ds2 export`, from a checkout: see mindaudio_ds2/commands/export.py."""

from mindaudio_ds2.commands.export import main

if __name__ == "__main__":
    main()
