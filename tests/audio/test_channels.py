"""Channels in words."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.audio.channels import name_channels
from mindaudio_ds2.audio.io import read_sound


def test_channels_that_follow_each_other_are_named_together() -> None:
    assert name_channels([2]) == "channel 2"
    assert name_channels([1, 3, 4, 5, 9]) == "channels 1, 3-5, 9"
    assert name_channels(range(2, 301)) == "channels 2-300"


@pytest.mark.parametrize(
    ("offsets", "channels", "text"),
    [
        ([0.05, 0, 0.1, -0.2], "split", "a constant of up to -0.2 is taken away from channels 1, 3-4"),
        ([0.0, 0.1], "split", "a constant of 0.1 is taken away from channel 2"),
        ([0.0, 0.1], 2, "a constant of 0.1 is taken away from it"),
    ],
)
def test_constants_of_channels_are_told_in_one_line(
    offsets: list[float], channels: int, text: str, tmp_path: Path
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((8000, len(offsets)))
    soundfile.write(tmp_path / "a.wav", noise - noise.mean(axis=0) + offsets, 16000, subtype="FLOAT")
    sound = read_sound(tmp_path / "a.wav", channels=channels)  # type: ignore[arg-type]
    assert [note.text for note in sound.notes] == [f"{tmp_path / 'a.wav'}: {text}"]
    assert np.abs(sound.waveforms.mean(axis=1)).max() < 1e-6
