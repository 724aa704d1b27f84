#!/usr/bin/env python3
"""`mindaudio-ds2 transcribe`, from a checkout: see mindaudio_ds2/commands/transcribe.py."""

from mindaudio_ds2.commands.transcribe import main

if __name__ == "__main__":
    main()
