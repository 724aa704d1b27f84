"""Each change of augmentation alone, and draws in words."""

from mindaudio_ds2.audio.codecs import KBPS_RANGES
from mindaudio_ds2.audio.draws import (
    SILENCE_KINDS,
    CodecDraw,
    Draw,
    NoiseDraw,
    RoomDraw,
    SilenceDraw,
    SyntheticNoiseDraw,
    TimeWarp,
)
from mindaudio_ds2.augmentation_config import AugmentationConfig
from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.config import Config

MAX_FILES_SHOWN = 3


def list_single_draws(config: Config, num_rirs: int, num_noises: int) -> list[tuple[str, Draw]]:
    """Each change of the waveform or of time alone, at both ends of its range, by a name for files."""
    augmentation = config.augmentation
    draws = [("original", Draw())]
    draws += [(f"speed_{factor:g}", Draw(speed=factor)) for factor in augmentation.speed_range]
    draws += [(f"tempo_{factor:g}", Draw(tempo=factor)) for factor in augmentation.tempo_range]
    seconds = augmentation.max_shift_seconds
    draws += [(f"shift_{seconds:g}s", Draw(shift_seconds=seconds))]
    draws += _list_silences(augmentation)
    draws += [(f"room_{index}", Draw(rir=index)) for index in range(min(num_rirs, MAX_FILES_SHOWN))]
    for seconds in augmentation.synthetic_rir_range_seconds:
        draws.append((f"made_up_room_{seconds:g}s", Draw(synthetic_rir=RoomDraw(seconds, 0.0, 0))))
    for index in range(0, num_noises, max(1, num_noises // MAX_FILES_SHOWN))[:MAX_FILES_SHOWN]:
        for snr_db in augmentation.noise_snr_range_db:
            draws.append((f"noise_{index}_{snr_db:g}dB", Draw(noise=NoiseDraw(index, 0.0, snr_db))))
    for kind in augmentation.synthetic_noise_kinds:
        for snr_db in augmentation.noise_snr_range_db:
            draws.append((f"{kind}_noise_{snr_db:g}dB", Draw(synthetic_noise=SyntheticNoiseDraw(kind, snr_db, 0))))
    draws += [(f"gain_{gain_db:g}dB", Draw(gain_db=gain_db)) for gain_db in augmentation.gain_range_db]
    draws += _list_transmissions(augmentation)
    draws += [(f"vocal_tract_{factor:g}", Draw(vtlp=factor)) for factor in augmentation.vtlp_range]
    share = augmentation.max_time_warp_share
    draws += [(f"time_warp_{by:+g}", Draw(time_warp=TimeWarp(0.5, 0.5 + by))) for by in (-share, share)]
    return [*draws, ("masks", Draw(is_masked=True))]


def _list_silences(augmentation: AugmentationConfig) -> list[tuple[str, Draw]]:
    seconds, level_db = augmentation.silence_range_seconds[1], augmentation.silence_level_range_db[1]
    silences = [SilenceDraw(seconds, seconds, kind, level_db, 0) for kind in SILENCE_KINDS]
    return [(f"silence_{silence.kind}_{seconds:g}s", Draw(silence=silence)) for silence in silences]


def _list_transmissions(augmentation: AugmentationConfig) -> list[tuple[str, Draw]]:
    """What a microphone, a line and a codec do."""
    draws = [(f"clipping_{depth:g}dB", Draw(clip_db=depth)) for depth in augmentation.clip_range_db]
    draws += [(f"low_pass_{edge:g}Hz", Draw(low_pass_hz=edge)) for edge in augmentation.low_pass_range_hz]
    draws.append(("telephone", Draw(is_telephone=True)))
    for name in augmentation.codecs:
        rates = augmentation.codec_range_kbps if name in KBPS_RANGES else (0.0,)
        draws += [(f"{name}_{kbps:g}kbps" if kbps else name, Draw(codec=CodecDraw(name, kbps))) for kbps in rates]
    return draws


def describe(draw: Draw, augmenter: Augmenter) -> str:
    """What was drawn, in words."""
    parts = [f"speed {draw.speed:.3f}"] if draw.speed != 1 else []
    parts += [f"tempo {draw.tempo:.3f}"] if draw.tempo != 1 else []
    parts += [f"{1000 * draw.shift_seconds:.0f} ms later"] if draw.shift_seconds else []
    if silence := draw.silence:
        level = f" at {silence.level_db:.0f} dB" if silence.kind == "noise" else ""
        sides = f"{silence.before_seconds:.2f} s before and {silence.after_seconds:.2f} s after"
        parts.append(f"{silence.kind}{level}, {sides}")
    parts += [f"room {augmenter.rirs.paths[draw.rir].name}"] if draw.rir is not None else []
    if room := draw.synthetic_rir:
        parts.append(f"made-up room of {room.reverberation_seconds:.2f} s, direct sound {room.direct_db:+.1f} dB")
    if draw.noise:
        parts.append(f"noise {augmenter.noises.paths[draw.noise.index].name} at {draw.noise.snr_db:.1f} dB")
    if draw.synthetic_noise:
        parts.append(f"{draw.synthetic_noise.kind} noise at {draw.synthetic_noise.snr_db:.1f} dB")
    parts += _describe_transmission(draw)
    parts += [f"formants {draw.vtlp:.3f}"] if draw.vtlp != 1 else []
    if draw.time_warp:
        parts.append(f"time warped from {draw.time_warp.origin:.2f} to {draw.time_warp.target:.2f}")
    parts += ["masks"] if draw.is_masked else []
    return ", ".join(parts) or "as it was recorded"


def _describe_transmission(draw: Draw) -> list[str]:
    parts = [f"gain {draw.gain_db:+.1f} dB"] if draw.gain_db else []
    parts += [f"clipped {draw.clip_db:.1f} dB below its peak"] if draw.clip_db else []
    parts += [f"up to {draw.low_pass_hz:.0f} Hz"] if draw.low_pass_hz else []
    parts += ["telephone"] if draw.is_telephone else []
    if draw.codec:
        rate = f" at {draw.codec.kbps:.0f} kbit/s" if draw.codec.name in KBPS_RANGES else ""
        parts.append(f"{draw.codec.name}{rate}")
    return parts
