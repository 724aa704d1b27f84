#!/usr/bin/env python3
"""Show what augmentation does to a recording: spectrograms as pictures, and sound to listen to.

    mindaudio-ds2 show_augmentation -c hparams/an4.yaml data/an4/wav/an406.flac --output augmentation
    mindaudio-ds2 show_augmentation AUDIO --output DIR --augmentation.noise_path noise --augmentation.rir_path rooms

alone.png has each change alone at both ends of its range, whether or not it is switched on; together.png has draws as
training makes them, one an epoch. Beside them lies a .wav for each picture whose sound is another; --cost adds
what each change costs. Needs matplotlib: `pip install -e '.[plots]'`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.draws import Draw
from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.batching.augmentation_text import describe_augmentation
from mindaudio_ds2.commands._command import Command
from mindaudio_ds2.commands._single_draws import describe, list_single_draws
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import require_writable, write_atomically

WIDTH_INCHES, ROW_INCHES, DOTS_PER_INCH = 12.0, 1.7, 90
COLOR_RANGE = (-2.0, 3.0)
"""Normalised features that are black and white; the same in all pictures, so that they can be compared."""

COST_SECONDS = 10.0
"""What the recording is repeated to, before the time of each change is taken."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One row.

    Attributes:
        name: of the sound file, without its suffix.
        title: what was done.
        waveform: (num_samples,) float32; None where the sound is that of the recording.
        features: (T, F) float32.
    """

    name: str
    title: str
    waveform: NDArray[np.float32] | None
    features: NDArray[np.float32]


def add_options(parser: Any) -> None:
    """The script's own options."""
    parser.add_argument("audio", metavar="AUDIO", help="a recording of speech (path)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the pictures and sounds (path)")
    parser.add_argument("--cost", action="store_true", help="also print what each change costs (switch)")
    parser.add_argument("--num_draws", type=int, default=6, help="rows of together.png (count)")


def make_picture(name: str, draw: Draw, epoch: int, augmenter: Augmenter, waveform: NDArray[np.float32]) -> Picture:
    """Do what a draw says to a recording."""
    changed = augmenter.change_waveform(waveform, draw)
    features = augmenter.change_features(compute_features(changed, augmenter.config.features), draw, epoch, 0)
    return Picture(name, describe(draw, augmenter), changed if draw.changes_waveform else None, features)


def draw_pictures(pictures: Sequence[Picture], config: Config) -> Any:
    """One spectrogram below the other, over the same seconds.

    Returns:
        A matplotlib `Figure`.

    Raises:
        OutputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise OutputError(f"drawing needs {error.name}; `pip install -e '.[plots]'` brings it") from error

    size = (WIDTH_INCHES, ROW_INCHES * len(pictures))
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(len(pictures), 1, sharex=True, squeeze=False)[:, 0]
    hop_seconds = config.features.hop_seconds
    for axis, picture in zip(axes, pictures, strict=True):
        num_frames, num_bins = picture.features.shape
        extent = (-hop_seconds / 2, (num_frames - 0.5) * hop_seconds, 0, num_bins)
        low, high = COLOR_RANGE
        axis.imshow(picture.features.T, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=low, vmax=high)
        axis.set_title(f"{picture.name}: {picture.title}", fontsize=9, loc="left")
        axis.set_ylabel("bin")
    axes[0].set_xlim(0, max(len(picture.features) for picture in pictures) * hop_seconds)
    axes[-1].set_xlabel("seconds")
    return figure


def write_sound(path: Path, waveform: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write 16-bit WAV; sound beyond full scale, which training takes as it is, is made softer for the file only."""
    loudest = max(1.0, float(np.abs(waveform).max()))
    write_atomically(path, lambda partial: soundfile.write(partial, waveform / loudest, sample_rate_hz, format="WAV"))


def show(folder: Path, name: str, pictures: Sequence[Picture], config: Config) -> None:
    """Write one picture file and the sounds that belong to it."""
    figure = draw_pictures(pictures, config)
    write_atomically(folder / f"{name}.png", lambda partial: figure.savefig(partial, format="png"))
    for picture in pictures:
        if picture.waveform is not None:
            write_sound(folder / f"{picture.name}.wav", picture.waveform, config.features.sample_rate_hz)


def print_costs(draws: Sequence[tuple[str, Draw]], augmenter: Augmenter, waveform: NDArray[np.float32]) -> None:
    """A table of the milliseconds of one core that each change takes for a second of sound, the median of five."""
    long = np.resize(waveform, round(COST_SECONDS * augmenter.config.features.sample_rate_hz))
    features = compute_features(long, augmenter.config.features)
    print("| change | ms for 1 s of sound |\n| --- | --- |")
    for name, draw in draws:
        times = []
        for _ in range(6):  # the first one also imports and plans
            started = time.process_time()
            augmenter.change_waveform(long, draw)
            augmenter.change_features(features, draw, 0, 0)
            times.append(time.process_time() - started)
        print(f"| {name} | {1000 * float(np.median(times[1:])) / COST_SECONDS:.2f} |", flush=True)


def run(config: Config, options: Any) -> None:
    """Draw, write."""
    if options.num_draws < 1:
        raise OutputError(f"--num_draws {options.num_draws} leaves nothing to show; choose at least 1")
    path, folder = Path(options.audio), Path(options.output)
    waveform = read_audio(path, config.features.sample_rate_hz)
    utterance = Utterance(path.stem, str(path), len(waveform) / config.features.sample_rate_hz, "unknown")
    augmenter = Augmenter(config, [utterance], [np.zeros(0, dtype=np.int32)])
    require_writable(folder / "alone.png")  # makes the folder, so not before what is read is known to be good
    singles = list_single_draws(config, len(augmenter.rirs), len(augmenter.noises))
    draws = [(f"epoch_{epoch + 1}", augmenter.draw(epoch, 0)) for epoch in range(options.num_draws)]
    show(folder, "alone", [make_picture(name, draw, 0, augmenter, waveform) for name, draw in singles], config)
    together = [make_picture(name, draw, epoch, augmenter, waveform) for epoch, (name, draw) in enumerate(draws)]
    show(folder, "together", together, config)
    if options.cost:
        print_costs(singles, augmenter, waveform)
    print(f"{folder}: alone.png, together.png and their sounds. In training: {describe_augmentation(augmenter)}")


main = Command(__doc__, add_options, run, takes_keys=True, default="deepspeech2")

if __name__ == "__main__":
    main()
