#!/usr/bin/env python3
"""Show what augmentation does to a recording: spectrograms as pictures, and sound to listen to.

    mindaudio-ds2 show_augmentation -c hparams/an4.yaml data/an4/wav/an406.flac --output augmentation
    mindaudio-ds2 show_augmentation AUDIO --output DIR --augmentation.noise_path noise --augmentation.rir_path rooms

alone.png has each change alone at both ends of its range, whether or not it is switched on; together.png has draws as
training makes them, one an epoch. Beside them lies a .wav for each picture whose sound is another. Needs matplotlib:
`pip install -e '.[plots]'`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.augment import Draw, NoiseDraw, TimeWarp
from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.commands._command import Command
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import require_writable, write_atomically

WIDTH_INCHES, ROW_INCHES, DOTS_PER_INCH = 12.0, 1.7, 90
COLOR_RANGE = (-2.0, 3.0)
"""Normalised features that are black and white; the same in all pictures, so that they can be compared."""

MAX_FILES_SHOWN = 3


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
    parser.add_argument("--num_draws", type=int, default=6, help="rows of together.png (count)")


def list_single_draws(config: Config, num_rirs: int, num_noises: int) -> list[tuple[str, Draw]]:
    """Each change of the waveform or of time alone, at both ends of its range, by a name for files."""
    augmentation = config.augmentation
    draws = [("original", Draw())]
    draws += [(f"speed_{factor:g}", Draw(speed=factor)) for factor in augmentation.speed_range]
    seconds = augmentation.max_shift_seconds
    draws += [(f"shift_{seconds:g}s", Draw(shift_seconds=seconds))]
    draws += [(f"room_{index}", Draw(rir=index)) for index in range(min(num_rirs, MAX_FILES_SHOWN))]
    for index in range(0, num_noises, max(1, num_noises // MAX_FILES_SHOWN))[:MAX_FILES_SHOWN]:
        for snr_db in augmentation.noise_snr_range_db:
            draws.append((f"noise_{index}_{snr_db:g}dB", Draw(noise=NoiseDraw(index, 0.0, snr_db))))
    draws += [(f"gain_{gain_db:g}dB", Draw(gain_db=gain_db)) for gain_db in augmentation.gain_range_db]
    draws += [(f"vocal_tract_{factor:g}", Draw(vtlp=factor)) for factor in augmentation.vtlp_range]
    share = augmentation.max_time_warp_share
    draws += [(f"time_warp_{by:+g}", Draw(time_warp=TimeWarp(0.5, 0.5 + by))) for by in (-share, share)]
    return [*draws, ("masks", Draw(is_masked=True))]


def describe(draw: Draw, augmenter: Augmenter) -> str:
    """What was drawn, in words."""
    parts = [f"speed {draw.speed:.3f}"] if draw.speed != 1 else []
    parts += [f"{1000 * draw.shift_seconds:.0f} ms later"] if draw.shift_seconds else []
    parts += [f"room {augmenter.rirs.paths[draw.rir].name}"] if draw.rir is not None else []
    if draw.noise:
        parts.append(f"noise {augmenter.noises.paths[draw.noise.index].name} at {draw.noise.snr_db:.1f} dB")
    parts += [f"gain {draw.gain_db:+.1f} dB"] if draw.gain_db else []
    parts += [f"formants {draw.vtlp:.3f}"] if draw.vtlp != 1 else []
    if draw.time_warp:
        parts.append(f"time warped from {draw.time_warp.origin:.2f} to {draw.time_warp.target:.2f}")
    parts += ["masks"] if draw.is_masked else []
    return ", ".join(parts) or "as it was recorded"


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


def run(config: Config, options: Any) -> None:
    """Draw, write."""
    if options.num_draws < 1:
        raise OutputError(f"--num_draws {options.num_draws} leaves nothing to show; choose at least 1")
    path, folder = Path(options.audio), Path(options.output)
    require_writable(folder / "alone.png")
    waveform = read_audio(path, config.features.sample_rate_hz)
    utterance = Utterance(path.stem, str(path), len(waveform) / config.features.sample_rate_hz, "unknown")
    augmenter = Augmenter(config, [utterance], [np.zeros(0, dtype=np.int32)])
    singles = list_single_draws(config, len(augmenter.rirs), len(augmenter.noises))
    draws = [(f"epoch_{epoch + 1}", augmenter.draw(epoch, 0)) for epoch in range(options.num_draws)]
    show(folder, "alone", [make_picture(name, draw, 0, augmenter, waveform) for name, draw in singles], config)
    together = [make_picture(name, draw, epoch, augmenter, waveform) for epoch, (name, draw) in enumerate(draws)]
    show(folder, "together", together, config)
    print(f"{folder}: alone.png, together.png and their sounds. In training: {augmenter.describe()}")


main = Command(__doc__, add_options, run, takes_keys=True, default="deepspeech2")

if __name__ == "__main__":
    main()
