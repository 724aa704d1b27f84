"""What happens to a training utterance, drawn as plain numbers before any of it is done.

The drawing depends on the run's seed, the epoch and the utterance's id, and so neither on the order of utterances nor
on who loads them; a run that is taken up again draws the same.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from mindaudio_ds2.augmentation_config import AugmentationConfig, CodecName, SyntheticNoiseKind

DIRECT_RANGE_DB = (-5.0, 10.0)
"""Power of the direct sound over that of the reflections in made-up rooms: from across a room to near (dB)."""

STREAMS = (
    *("speed", "shift", "rir", "noise", "gain", "time_warp", "mask", "vtlp"),
    *("join", "tempo", "silence", "synthetic_rir", "synthetic_noise", "clip", "low_pass", "telephone", "codec"),
)
"""Kinds of change by when they were added; the place decides the random numbers, so new ones come last."""

T = TypeVar("T")
U = TypeVar("U")
Range = tuple[float, float]
SilenceKind = Literal["digital", "noise", "background"]
SILENCE_KINDS: tuple[SilenceKind, ...] = ("digital", "noise", "background")


@dataclass(frozen=True, slots=True)
class SilenceDraw:
    """Silence around an utterance.

    Attributes:
        before_seconds, after_seconds: on each side (seconds).
        kind: zeros, faint noise of a room, or more of the recording's own background.
        level_db: root mean square of the noise, against full scale (dB).
        seed: of the noise.
    """

    before_seconds: float
    after_seconds: float
    kind: SilenceKind
    level_db: float
    seed: int


@dataclass(frozen=True, slots=True)
class RoomDraw:
    """A made-up room.

    Attributes:
        reverberation_seconds: until its sound has decayed by 60 dB (seconds).
        direct_db: power of the direct sound over that of the reflections (dB).
        seed: of the reflections.
    """

    reverberation_seconds: float
    direct_db: float
    seed: int


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
class SyntheticNoiseDraw:
    """Noise without a file.

    Attributes:
        kind: of noise.
        snr_db: power of the utterance over that of the noise (dB).
        seed: of its samples, or of who is heard.
    """

    kind: SyntheticNoiseKind
    snr_db: float
    seed: int


@dataclass(frozen=True, slots=True)
class CodecDraw:
    """A way to encode and decode.

    Attributes:
        name: of the codec.
        kbps: rate, for those that have a choice (kbit/s).
    """

    name: CodecName
    kbps: float


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
        num_joined: how many of its speaker's next utterances follow it.
        speed: factor; 1 leaves it.
        tempo: factor; 1 leaves it.
        shift_seconds: how much later it begins; 0 leaves it (seconds).
        silence: None for none.
        rir: index of the room impulse response; None leaves it.
        synthetic_rir: None leaves it.
        noise: None for none.
        synthetic_noise: None for none.
        gain_db: 0 leaves it (dB).
        clip_db: how far below the highest peak it is cut off; 0 leaves it (dB).
        low_pass_hz: cut-off frequency; None leaves it (Hz).
        is_telephone: whether it gets a telephone's band.
        codec: None for none.
        vtlp: factor for the frequencies of the formants; 1 leaves them.
        time_warp: None for none.
        is_masked: whether it gets masks. Their sizes and places are drawn where they are set.
    """

    num_joined: int = 0
    speed: float = 1.0
    tempo: float = 1.0
    shift_seconds: float = 0.0
    silence: SilenceDraw | None = None
    rir: int | None = None
    synthetic_rir: RoomDraw | None = None
    noise: NoiseDraw | None = None
    synthetic_noise: SyntheticNoiseDraw | None = None
    gain_db: float = 0.0
    clip_db: float = 0.0
    low_pass_hz: float | None = None
    is_telephone: bool = False
    codec: CodecDraw | None = None
    vtlp: float = 1.0
    time_warp: TimeWarp | None = None
    is_masked: bool = False

    @property
    def changes_waveform(self) -> bool:
        """Whether features computed from the recording as it is cannot serve."""
        return self != Draw(vtlp=self.vtlp, time_warp=self.time_warp, is_masked=self.is_masked)


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
    dice = _Dice(config, generator)
    num_joined, silence = _draw_additions(config, dice)
    return Draw(
        num_joined=num_joined,
        speed=dice.draw("speed", partial(_draw_speed, config), 1.0),
        tempo=dice.draw("tempo", _within(config.tempo_range), 1.0),
        shift_seconds=dice.draw("shift", _within((0, config.max_shift_seconds)), 0.0),
        silence=silence,
        rir=dice.draw("rir", lambda stream: int(stream.integers(num_rirs)), None) if num_rirs else None,
        synthetic_rir=dice.draw("synthetic_rir", partial(_draw_room, config), None),
        noise=dice.draw("noise", partial(_draw_noise, config, num_noises), None) if num_noises else None,
        synthetic_noise=dice.draw("synthetic_noise", partial(_draw_synthetic_noise, config), None),
        gain_db=dice.draw("gain", _within(config.gain_range_db), 0.0),
        clip_db=dice.draw("clip", _within(config.clip_range_db), 0.0),
        low_pass_hz=dice.draw("low_pass", _within(config.low_pass_range_hz), None),
        is_telephone=dice.draw("telephone", lambda stream: True, False),
        codec=dice.draw("codec", partial(_draw_codec, config), None),
        vtlp=dice.draw("vtlp", _within(config.vtlp_range), 1.0),
        time_warp=dice.draw("time_warp", partial(_draw_time_warp, config), None),
        is_masked=dice.draw("mask", lambda stream: True, False),
    )


def draw_additions(config: AugmentationConfig, generator: np.random.Generator) -> tuple[int, SilenceDraw | None]:
    """What makes an utterance longer by more than a factor, and is nothing but a part of `draw_augmentation`.

    Planning needs it of every utterance before an epoch, and nothing else.

    Args:
        config: probabilities and ranges.
        generator: fresh from `make_generator`.

    Returns:
        How many utterances follow, and the silence around them.
    """
    return _draw_additions(config, _Dice(config, generator))


class _Dice:
    """A stream of random numbers for each kind of change."""

    def __init__(self, config: AugmentationConfig, generator: np.random.Generator) -> None:
        seeds = generator.bit_generator.seed_seq
        assert isinstance(seeds, np.random.SeedSequence)
        self.config, self.entropy = config, seeds.entropy

    def draw(self, kind: str, make: Callable[[np.random.Generator], T], unchanged: U) -> T | U:
        """What is made of a stream, with the probability that the configuration gives its kind."""
        probability = getattr(self.config, f"{kind}_probability")
        if not probability:
            return unchanged
        stream = np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(STREAMS.index(kind),)))
        return make(stream) if stream.random() < probability else unchanged


def _within(limits: Range) -> Callable[[np.random.Generator], float]:
    return lambda stream: float(stream.uniform(*limits))


def _draw_additions(config: AugmentationConfig, dice: _Dice) -> tuple[int, SilenceDraw | None]:
    num_joined = dice.draw("join", lambda stream: int(stream.integers(1, config.join_max_utterances)), 0)
    return num_joined, dice.draw("silence", partial(_draw_silence, config), None)


def _draw_silence(config: AugmentationConfig, stream: np.random.Generator) -> SilenceDraw:
    before, after = (float(seconds) for seconds in stream.uniform(*config.silence_range_seconds, 2))
    kind = SILENCE_KINDS[int(stream.integers(len(SILENCE_KINDS)))]
    return SilenceDraw(before, after, kind, float(stream.uniform(*config.silence_level_range_db)), _draw_seed(stream))


def _draw_speed(config: AugmentationConfig, stream: np.random.Generator) -> float:
    if config.speed_num_factors == 0:
        return float(stream.uniform(*config.speed_range))
    factor = stream.choice(np.linspace(*config.speed_range, config.speed_num_factors))
    return round(float(factor), 6)  # the middle of 0.9 and 1.1 is 1, and leaves the recording as it is


def _draw_room(config: AugmentationConfig, stream: np.random.Generator) -> RoomDraw:
    seconds = float(stream.uniform(*config.synthetic_rir_range_seconds))
    return RoomDraw(seconds, float(stream.uniform(*DIRECT_RANGE_DB)), _draw_seed(stream))


def _draw_noise(config: AugmentationConfig, num_noises: int, stream: np.random.Generator) -> NoiseDraw:
    index, place = int(stream.integers(num_noises)), float(stream.random())
    return NoiseDraw(index, place, float(stream.uniform(*config.noise_snr_range_db)))


def _draw_synthetic_noise(config: AugmentationConfig, stream: np.random.Generator) -> SyntheticNoiseDraw:
    kind = config.synthetic_noise_kinds[int(stream.integers(len(config.synthetic_noise_kinds)))]
    return SyntheticNoiseDraw(kind, float(stream.uniform(*config.noise_snr_range_db)), _draw_seed(stream))


def _draw_codec(config: AugmentationConfig, stream: np.random.Generator) -> CodecDraw:
    name = config.codecs[int(stream.integers(len(config.codecs)))]
    return CodecDraw(name, float(stream.uniform(*config.codec_range_kbps)))


def _draw_time_warp(config: AugmentationConfig, stream: np.random.Generator) -> TimeWarp:
    origin = float(stream.uniform(0.25, 0.75))  # near an end, a little way would be a large factor
    return TimeWarp(origin, origin + float(stream.uniform(-1, 1)) * config.max_time_warp_share)


def _draw_seed(stream: np.random.Generator) -> int:
    return int(stream.integers(2**32))
