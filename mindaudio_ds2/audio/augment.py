"""Changes to the sound of training utterances that leave their words intelligible.

What happens to an utterance is drawn first, as plain numbers, and then done: both are pure functions. The drawing
depends on the run's seed, the epoch and the utterance's id, and so neither on the order of utterances nor on who loads
them; a run that is taken up again draws the same.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.resampling import resample
from mindaudio_ds2.config import AugmentationConfig

LEAST_POWER = 1e-10
"""Mean square below which sound counts as silence; the rounding of 16-bit samples makes 8e-11."""

BACKGROUND_SECONDS = 0.1
"""Length of the quietest stretch of a recording, which is taken for its background (seconds)."""

Waveform = NDArray[np.float32]
"""(num_samples,) float32."""


@dataclass(frozen=True, slots=True)
class NoiseDraw:
    """Which noise an utterance gets.

    Attributes:
        index: of the recording among all noises.
        place: where in it the noise begins, as a share of the places where it can (0 to 1).
        snr_db: power of the utterance over that of the noise (dB).
    """

    index: int
    place: float
    snr_db: float


@dataclass(frozen=True, slots=True)
class TimeWarp:
    """A point in time and where it goes. The time before it is stretched or compressed, and that after it conversely.

    Attributes:
        origin: as a share of the utterance (0 to 1).
        target: likewise.
    """

    origin: float
    target: float


@dataclass(frozen=True, slots=True)
class Draw:
    """What happens to one utterance in one epoch.

    Attributes:
        speed: factor; 1 leaves it.
        shift_seconds: how much later it begins; 0 leaves it (seconds).
        rir: index of the room impulse response; None leaves it.
        noise: None for none.
        gain_db: 0 leaves it (dB).
        vtlp: factor for the frequencies of the formants; 1 leaves them.
        time_warp: None for none.
        is_masked: whether it gets masks. Their sizes and places are drawn where they are set.
    """

    speed: float = 1.0
    shift_seconds: float = 0.0
    rir: int | None = None
    noise: NoiseDraw | None = None
    gain_db: float = 0.0
    vtlp: float = 1.0
    time_warp: TimeWarp | None = None
    is_masked: bool = False

    @property
    def changes_waveform(self) -> bool:
        """Whether features computed from the recording as it is cannot serve."""
        is_same = self.speed == 1 and self.shift_seconds == 0 and self.gain_db == 0
        return not (is_same and self.rir is None and self.noise is None)


def make_generator(seed: int, epoch: int, utterance_id: str, view: int = 0) -> np.random.Generator:
    """The randomness of one utterance in one epoch, whatever the order or number of workers.

    Args:
        seed: of the run.
        epoch: counts from 0.
        utterance_id: its id in the manifest.
        view: 0, or 1 for the second time that it is in a batch.
    """
    digest = hashlib.sha256(utterance_id.encode()).digest()
    return np.random.default_rng((seed, epoch, int.from_bytes(digest[8 * view : 8 * view + 8], "little")))


def draw_augmentation(
    config: AugmentationConfig, generator: np.random.Generator, num_rirs: int, num_noises: int
) -> Draw:
    """Decide what happens to an utterance.

    Each kind of change has a stream of random numbers of its own, so that switching one on or off leaves the others as
    they were. The generator's own numbers are not touched; the masks take them.

    Args:
        config: probabilities and ranges.
        generator: fresh from `make_generator`.
        num_rirs: room impulse responses to choose from; 0 leaves every utterance in its room.
        num_noises: recordings of noise to choose from; 0 adds none.
    """
    speed, shift, rir, noise, gain, warp, mask, vtlp = generator.spawn(8)
    has_rir = rir.random() < config.rir_probability and num_rirs > 0
    has_noise = noise.random() < config.noise_probability and num_noises > 0
    return Draw(
        speed=_draw_speed(config, speed) if speed.random() < config.speed_probability else 1.0,
        shift_seconds=shift.uniform(0, config.max_shift_seconds) if shift.random() < config.shift_probability else 0.0,
        rir=int(rir.integers(num_rirs)) if has_rir else None,
        noise=_draw_noise(config, noise, num_noises) if has_noise else None,
        gain_db=gain.uniform(*config.gain_range_db) if gain.random() < config.gain_probability else 0.0,
        vtlp=vtlp.uniform(*config.vtlp_range) if vtlp.random() < config.vtlp_probability else 1.0,
        time_warp=_draw_time_warp(config, warp) if warp.random() < config.time_warp_probability else None,
        is_masked=bool(mask.random() < config.mask_probability),
    )


def _draw_speed(config: AugmentationConfig, generator: np.random.Generator) -> float:
    if config.speed_num_factors == 0:
        return float(generator.uniform(*config.speed_range))
    factor = generator.choice(np.linspace(*config.speed_range, config.speed_num_factors))
    return round(float(factor), 6)  # the middle of 0.9 and 1.1 is 1, and leaves the recording as it is


def _draw_noise(config: AugmentationConfig, generator: np.random.Generator, num_noises: int) -> NoiseDraw:
    index, place = int(generator.integers(num_noises)), float(generator.random())
    return NoiseDraw(index, place, float(generator.uniform(*config.noise_snr_range_db)))


def _draw_time_warp(config: AugmentationConfig, generator: np.random.Generator) -> TimeWarp:
    origin = float(generator.uniform(0.25, 0.75))  # near an end, a little way would be a large factor
    return TimeWarp(origin, origin + float(generator.uniform(-1, 1)) * config.max_time_warp_share)


def change_speed(waveform: Waveform, factor: float, sample_rate_hz: int) -> Waveform:
    """Play sound faster or slower, as a tape would: pitch and formants move with it.

    Args:
        waveform: of n samples.
        factor: above 1 is faster, shorter and higher.
        sample_rate_hz: of the waveform.

    Returns:
        ceil(n / factor) samples, resampled with soxr in high quality.
    """
    num_samples = math.ceil(len(waveform) / factor - 1e-6)  # the count that FeatureConfig.num_frames makes
    rate_hz = float(sample_rate_hz)
    return resample(waveform, rate_hz * factor, rate_hz, num_samples)


def shift_later(waveform: Waveform, num_samples: int, sample_rate_hz: int) -> Waveform:
    """Put more of a recording's own background in front of it.

    Zeros would be something that no microphone records: log features of them lie far below all others, and would move
    the utterance's mean. The background is the quietest stretch, forwards and backwards in turn, so that it has no
    steps.

    Args:
        waveform: of n samples.
        num_samples: how much later everything comes.
        sample_rate_hz: of the waveform.

    Returns:
        n + num_samples samples, of which the last n are the waveform.
    """
    size = min(len(waveform), max(1, round(BACKGROUND_SECONDS * sample_rate_hz)))
    energies = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    start = int(np.argmin(energies[size:] - energies[:-size]))
    background = waveform[start : start + size]
    front = np.resize(np.concatenate([background, background[::-1]]), num_samples)
    return np.concatenate([front, waveform])


def reverberate(waveform: Waveform, response: Waveform) -> Waveform:
    """Let sound be heard in another room, as loud as before and not later.

    Args:
        waveform: of n samples.
        response: the room's impulse response, whose largest sample is taken for the direct path.

    Returns:
        n samples; sample t has its direct sound from sample t of the waveform. What still sounds after the end is cut.
    """
    from scipy.signal import fftconvolve

    delay = int(np.abs(response).argmax())
    changed: Waveform = fftconvolve(waveform, response)[delay : delay + len(waveform)].astype(np.float32)
    power_before, power = measure_power(waveform), measure_power(changed)
    if power == 0:
        return waveform
    return changed * np.float32(math.sqrt(power_before / power))


def add_noise(waveform: Waveform, noise: Waveform, place: float, snr_db: float) -> Waveform:
    """Add noise at a level that is measured, not assumed.

    Noise longer than the waveform is cut; shorter noise is repeated. Where either is silent there is no such level,
    and the waveform stays as it is.

    Args:
        waveform: of n samples.
        noise: any number of samples at the same rate.
        place: where the noise begins, as a share of the places where it can (0 to 1, without 1).
        snr_db: mean square of the waveform over that of the noise added (dB).

    Returns:
        n samples. They may exceed 1; nothing is clipped.
    """
    num_samples = len(waveform)
    if len(noise) < num_samples:
        piece = np.resize(np.roll(noise, -int(place * len(noise))), num_samples)
    else:
        start = int(place * (len(noise) - num_samples + 1))
        piece = noise[start : start + num_samples]
    power, noise_power = measure_power(waveform), measure_power(piece)
    if power < LEAST_POWER or noise_power < LEAST_POWER:
        return waveform
    factor = math.sqrt(power / noise_power) * 10 ** (-snr_db / 20)
    return waveform + np.float32(factor) * piece


def change_gain(waveform: Waveform, gain_db: float) -> Waveform:
    """Make sound louder or softer. Samples may exceed 1; nothing is clipped."""
    return waveform * np.float32(10 ** (gain_db / 20))


def measure_power(waveform: Waveform) -> float:
    """Mean square, in float64."""
    return float(np.square(waveform, dtype=np.float64).mean())
