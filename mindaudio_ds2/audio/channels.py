"""What becomes of several channels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.sound_files import show_path
from mindaudio_ds2.errors import AudioError, ConfigError

Channels = Literal["mix", "split"] | int
"""The mean of all channels, each one for itself, or the one of this number (from 1)."""

LEAST_MIX_POWER = 0.01
"""Share of the channels' power below which their mean has lost them: one is the other turned over."""


def parse_channels(text: str) -> Channels:
    """Channels as a command line has them: mix, split, or a number from 1.

    Raises:
        ConfigError: anything else.
    """
    if text == "mix":
        return "mix"
    if text == "split":
        return "split"
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ConfigError(f"channels must be mix, split or a number from 1, found {text!r}")


def choose_rows(path: Path, num_channels: int, channels: Channels) -> list[int] | None:
    """Which channels (from 0) become waveforms; None for the mean of all.

    Raises:
        AudioError: there is no such channel.
    """
    if isinstance(channels, int):
        if channels > num_channels:
            raise AudioError(
                f"the last channel of {show_path(path)} is number {num_channels}, and number {channels} is asked for"
            )
        return [channels - 1]
    return list(range(num_channels)) if channels == "split" or num_channels == 1 else None


def find_antiphase(mix_power: float, powers: NDArray[np.float64], note: Callable[[str, str], None]) -> int | None:
    """The loudest of channels (from 0) that cancel in their mean; None where they do not."""
    if mix_power >= LEAST_MIX_POWER * powers.mean():
        return None
    loudest = int(powers.argmax())
    note("antiphase", f"its channels cancel each other, so channel {loudest + 1} alone is read")
    return loudest


def name_channels(numbers: Sequence[int]) -> str:
    """Channels in words, by their numbers in order, such as "channels 1, 3-300"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"channel{'' if len(numbers) == 1 else 's'} {', '.join(shown)}"
