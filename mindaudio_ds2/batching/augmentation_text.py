"""What augmentation does to a training set, in one line for the log."""

from mindaudio_ds2.batching.augmentation import Augmenter


def describe_augmentation(augmenter: Augmenter) -> str:
    """What happens to which share of the utterances, and what limits it; "none" where nothing does."""
    config = augmenter.config.augmentation
    parts = [
        _describe("joined", config.join_probability, f"up to {config.join_max_utterances}"),
        _describe("speed", config.speed_probability, _range(config.speed_range)),
        _describe("tempo", config.tempo_probability, _range(config.tempo_range)),
        _describe("shift", config.shift_probability, f"up to {config.max_shift_seconds:g} s"),
        _describe("silence", config.silence_probability, _range(config.silence_range_seconds, "s a side")),
        _describe_files(augmenter),
        _describe("made-up rooms", config.synthetic_rir_probability, _range(config.synthetic_rir_range_seconds, "s")),
        _describe_synthetic_noise(augmenter),
        _describe("gain", config.gain_probability, _range(config.gain_range_db, "dB")),
        _describe("clipping", config.clip_probability, _range(config.clip_range_db, "dB")),
        _describe("low-pass", config.low_pass_probability, _range(config.low_pass_range_hz, "Hz")),
        _describe("telephone", config.telephone_probability, "300 to 3400 Hz"),
        _describe("codecs", config.codec_probability, ", ".join(config.codecs)),
        _describe_changes_of_features(augmenter),
        f"units drawn, power {config.unit_sampling:g}" if config.unit_sampling else "",
        _describe_dense(augmenter),
    ]
    return ", ".join(part for part in parts if part) or "none"


def _describe_files(augmenter: Augmenter) -> str:
    config, rirs, noises = augmenter.config.augmentation, augmenter.rirs, augmenter.noises
    snr = _range(config.noise_snr_range_db, "dB")
    minutes = sum(noises.durations) / 60
    rooms = _describe("rooms", config.rir_probability * bool(rirs), f"{len(rirs)} impulse responses")
    noise = _describe(
        "noise", config.noise_probability * bool(noises), f"{len(noises)} files, {minutes:.1f} min, {snr}"
    )
    return ", ".join(part for part in (rooms, noise) if part)


def _describe_synthetic_noise(augmenter: Augmenter) -> str:
    config = augmenter.config.augmentation
    how = f"{', '.join(config.synthetic_noise_kinds)}, {_range(config.noise_snr_range_db, 'dB')}"
    return _describe("synthetic noise", config.synthetic_noise_probability, how)


def _describe_changes_of_features(augmenter: Augmenter) -> str:
    config = augmenter.config.augmentation
    num_frequency_masks = config.num_frequency_masks * (config.max_frequency_mask_share > 0)
    num_time_masks = config.num_time_masks * (config.max_time_mask_share > 0)
    num_masks, masks = num_frequency_masks + num_time_masks, f"{num_frequency_masks} + {num_time_masks}"
    parts = [
        _describe("vocal tract", config.vtlp_probability, _range(config.vtlp_range)),
        _describe("time warp", config.time_warp_probability, f"up to {config.max_time_warp_share:g}"),
        _describe("masks", config.mask_probability * bool(num_masks), masks),
    ]
    return ", ".join(part for part in parts if part)


def _describe_dense(augmenter: Augmenter) -> str:
    config = augmenter.config.augmentation
    fastest = config.most_speed
    if fastest <= 1:
        return ""
    num_dense = sum(not augmenter.additions.fits((index,), fastest) for index in range(len(augmenter.utterances)))
    return f"{num_dense} utterances with too many labels for {fastest:g} keep their speed" if num_dense else ""


def _describe(name: str, probability: float, how: str) -> str:
    return f"{name} {probability:.0%} ({how})" if probability else ""


def _range(limits: tuple[float, float], unit: str = "") -> str:
    return f"{limits[0]:g} to {limits[1]:g} {unit}".rstrip()
