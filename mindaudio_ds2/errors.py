"""What can go wrong, said so that the reader knows what to do next.

Every error that bad input can cause is a `DeepSpeechError`. Its text names the file, key or utterance, the value
found, and the remedy. The verbs print the text and exit with status 2; a traceback always means a defect of ours.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from mindaudio_ds2 import console


class DeepSpeechError(Exception):
    """The root of all errors that input, configuration or the machine can cause."""

    exit_status = 2


class ConfigError(DeepSpeechError):
    """A configuration key is unknown, missing, of the wrong type or impossible. Names the dotted path."""


class ManifestError(DeepSpeechError):
    """A manifest or one of its utterances cannot be used. Names the file and the line or utterance id."""


class AudioError(DeepSpeechError):
    """An audio file is missing, unreadable, empty or holds samples that are not finite. Names the file."""


class LongAudioError(AudioError):
    """An audio file lasts longer than its caller expects.

    Args:
        message: names the file.
        seconds: at least so long it lasts.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message, seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return str(self.args[0])


class CheckpointError(DeepSpeechError):
    """A checkpoint is missing, damaged, foreign, or of another network or alphabet. Names the file."""


class LanguageModelError(DeepSpeechError):
    """A language model, its text or its hotwords are missing, damaged or of another alphabet. Names the file."""


class DeviceError(DeepSpeechError):
    """The device asked for is not there, or cannot do what was asked."""


class TrainingError(DeepSpeechError):
    """Training cannot go on: too many steps that were not finite, or nothing left to train on."""


class OutputError(DeepSpeechError):
    """A result cannot be written: no permission, no space, or something in the way. Names the path."""


class Interrupted(DeepSpeechError):
    """A signal ended the work in good order. Says how to go on.

    Args:
        message: what was saved, and how to continue.
        signal_number: the signal; the exit status is 128 more, as shells expect.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)
        self.exit_status = 128 + signal_number

    def __str__(self) -> str:
        return str(self.args[0])


def exit_on_error(main: Callable[[], Any]) -> Callable[[], None]:
    """Decorate a verb: print a `DeepSpeechError` as one message and exit with its status, without a traceback."""

    @functools.wraps(main)
    def run() -> None:
        console.protect()
        try:
            if signal.getsignal(signal.SIGINT) is leave_at_once:  # all is imported
                signal.signal(signal.SIGINT, signal.default_int_handler)
            main()
        except DeepSpeechError as error:
            kind = "stopped" if isinstance(error, Interrupted) else "error"
            console.write_line(f"{kind}: {error}")
            sys.exit(error.exit_status)
        except MemoryError as error:
            console.write_line(f"error: out of memory ({error}); make the network or its batches smaller")
            sys.exit(1)
        except KeyboardInterrupt:
            console.write_line("interrupted")
            sys.exit(130)

    return run


def leave_at_once(*_: object) -> None:
    """A handler of SIGINT for where there is nothing to lose: end with 130, and run nothing more."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def leave_at_once_until_a_command() -> None:
    """Ctrl-C while a program and its libraries are imported; `exit_on_error` takes it back."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave_at_once)


def require_possible(condition: bool, key: str, value: object, remedy: str) -> None:
    """Make sure that a value of the configuration makes sense.

    Raises:
        ConfigError: the condition is not met; names the key, its value and what to do.
    """
    if not condition:
        raise ConfigError(f"{key} is {value!r}, which is impossible: {remedy}")
