"""The `augmentation` section of the configuration: every change to training utterances, with probability and range."""

import dataclasses
from typing import Literal

from mindaudio_ds2.errors import require_possible

SyntheticNoiseKind = Literal["white", "pink", "babble"]
CodecName = Literal["mp3", "opus", "mu_law", "a_law", "gsm"]

RANGES: dict[str, tuple[float, float]] = {
    "speed_range": (0.5, 2.0),
    "tempo_range": (0.5, 2.0),
    "silence_range_seconds": (0.0, 60.0),
    "silence_level_range_db": (-120.0, 0.0),
    "synthetic_rir_range_seconds": (0.01, 3.0),
    "noise_snr_range_db": (-30.0, 100.0),
    "gain_range_db": (-60.0, 60.0),
    "clip_range_db": (0.0, 40.0),
    "low_pass_range_hz": (100.0, 100000.0),
    "codec_range_kbps": (8.0, 160.0),
    "vtlp_range": (0.7, 1.4),
}
"""Least and greatest that a range may name."""


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """Changes to training utterances, new in every epoch, in the order of the keys. Dev and test have none.

    All before `vtlp_probability` change the waveform, so that features kept in data.feature_cache_dir serve for an
    utterance only in the epochs in which none of them happens to it.
    """

    join_probability: float
    """Share of the utterances to which those that follow of the same speaker, by id, are joined (0 to 1)."""
    join_max_utterances: int
    """Most utterances joined, the first included (count)."""
    join_max_seconds: float
    """Longest that joined utterances may be; what would be longer, or too dense for CTC, is not joined (seconds)."""
    speed_probability: float
    """Share of the utterances that are said faster or slower, with a higher or lower voice (0 to 1)."""
    speed_range: tuple[float, float]
    """Slowest and fastest factor; 1.1 makes 1.1 s last 1 s. An utterance whose labels would not fit keeps its own."""
    speed_num_factors: int
    """Evenly spaced factors to draw from; 3 in [0.9, 1.1] are Kaldi's 0.9, 1 and 1.1. 0 draws any between (count)."""
    tempo_probability: float
    """Share of the utterances that are said faster or slower with the same voice (0 to 1)."""
    tempo_range: tuple[float, float]
    """Slowest and fastest factor, as `speed_range`."""
    shift_probability: float
    """Share of the utterances that begin later, after more of their own background (0 to 1)."""
    max_shift_seconds: float
    """How much later at most; nothing is cut (seconds)."""
    silence_probability: float
    """Share of the utterances with silence around: digital, faint room noise, or their own background (0 to 1)."""
    silence_range_seconds: tuple[float, float]
    """Least and greatest silence on each side; shortened where data.max_duration_seconds would be passed (seconds)."""
    silence_level_range_db: tuple[float, float]
    """Lowest and highest rms of the room noise, against full scale (dB)."""
    rir_probability: float
    """Share of the utterances that are moved into another room (0 to 1)."""
    rir_path: str | None
    """Room impulse responses: a folder of sound files, or a manifest; null for none (path)."""
    synthetic_rir_probability: float
    """Share of the utterances that are moved into a room that is made up, unless `rir_path` has moved them (0 to 1)."""
    synthetic_rir_range_seconds: tuple[float, float]
    """Shortest and longest time in which a made-up room decays by 60 dB (seconds)."""
    noise_probability: float
    """Share of the utterances that get noise (0 to 1)."""
    noise_path: str | None
    """Noise: a folder of sound files, or a manifest; null for none (path)."""
    noise_snr_range_db: tuple[float, float]
    """Lowest and highest power of the utterance over that of the noise, synthetic or not (dB)."""
    synthetic_noise_probability: float
    """Share of the utterances that get noise without a file (0 to 1)."""
    synthetic_noise_kinds: list[SyntheticNoiseKind]
    """Which: white, pink, or babble of other training utterances (names)."""
    gain_probability: float
    """Share of the utterances that are made louder or softer; log_mel features hardly show it (0 to 1)."""
    gain_range_db: tuple[float, float]
    """Least and greatest gain (dB)."""
    clip_probability: float
    """Share of the utterances whose peaks are cut off (0 to 1)."""
    clip_range_db: tuple[float, float]
    """How far below the highest peak they are cut, least and greatest (dB)."""
    low_pass_probability: float
    """Share of the utterances that lose their high frequencies (0 to 1)."""
    low_pass_range_hz: tuple[float, float]
    """Lowest and highest cut-off frequency (Hz)."""
    telephone_probability: float
    """Share of the utterances that go through a telephone's band, 300 to 3400 Hz at a rate of 8 kHz (0 to 1)."""
    codec_probability: float
    """Share of the utterances that are encoded and decoded (0 to 1)."""
    codecs: list[CodecName]
    """By which codecs: mp3, opus, and those of telephones at a rate of 8 kHz: mu_law, a_law, gsm (names)."""
    codec_range_kbps: tuple[float, float]
    """Lowest and highest rate of mp3 and opus (kbit/s)."""
    vtlp_probability: float
    """Share of the utterances whose formants move, as with a shorter or longer vocal tract (0 to 1)."""
    vtlp_range: tuple[float, float]
    """Least and greatest factor for frequencies below 0.3 of the sample rate; 1.1 is a tract a tenth shorter."""
    time_warp_probability: float
    """Share of the utterances of which one part is stretched and the rest compressed (0 to 1)."""
    max_time_warp_share: float
    """How far a point in the middle half may move, as a share of the utterance (0 to 0.2)."""
    mask_probability: float
    """Share of the utterances that get the masks below, which are SpecAugment's (0 to 1)."""
    num_frequency_masks: int
    """Bands of frequency set to the mean; 0 for none (count)."""
    max_frequency_mask_share: float
    """Widest band, as a share of all bins (0 to 1)."""
    num_time_masks: int
    """Stretches of time set to the mean; 0 for none (count)."""
    max_time_mask_share: float
    """Longest stretch, as a share of the utterance (0 to 1)."""
    unit_sampling: float
    """Transcripts are split into units anew in each epoch, each way by its probability to this power; 0 for always the
    likeliest. Around 0.2 is usual; needs text.tokenizer (0 to 1)."""

    @property
    def most_speed(self) -> float:
        """The factor by which speed and tempo together may say an utterance faster, at least 1."""
        speed = self.speed_range[1] if self.speed_probability else 1.0
        tempo = self.tempo_range[1] if self.tempo_probability else 1.0
        return max(1.0, speed, tempo, speed * tempo)

    def __post_init__(self) -> None:
        def require(condition: bool, name: str, remedy: str) -> None:
            require_possible(condition, f"augmentation.{name}", getattr(self, name), remedy)

        for field in dataclasses.fields(self):
            if field.name.endswith(("_probability", "_mask_share")):
                require(0 <= getattr(self, field.name) <= 1, field.name, "0 to 1")
        for name in ("num_frequency_masks", "num_time_masks", "max_shift_seconds"):
            require(getattr(self, name) >= 0, name, "0 or more")
        for name, (least, most) in RANGES.items():
            low, high = getattr(self, name)
            remedy = f"first the lower, then the higher, from {least:g} to {most:g}"
            require_possible(least <= low <= high <= most, f"augmentation.{name}", [low, high], remedy)
        for name in ("rir_path", "noise_path"):
            require(getattr(self, name) != "", name, "name a folder or a manifest, or null")
        for name in ("synthetic_noise_kinds", "codecs"):
            require(bool(getattr(self, name)), name, "name at least one, and set the probability to 0 for none")
        require(self.speed_num_factors == 0 or self.speed_num_factors >= 2, "speed_num_factors", "0, or at least 2")
        require(self.join_max_utterances >= 2, "join_max_utterances", "at least 2")
        require(self.join_max_seconds > 0, "join_max_seconds", "above 0")
        require(0 <= self.unit_sampling <= 1, "unit_sampling", "0 to 1")
        require(0 <= self.max_time_warp_share <= 0.2, "max_time_warp_share", "0 to 0.2")
