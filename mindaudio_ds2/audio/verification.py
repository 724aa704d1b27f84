"""Whether the audio of a manifest is there, can be read to its end, and is what the manifest says."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from mindaudio_ds2.audio.io import read_sound
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.problems import Problems
from mindaudio_ds2.errors import AudioError

LARGEST_DURATION_ERROR_SECONDS = 0.01
"""One frame: a manifest that is further off plans batches for other audio than there is."""
FULL_SCALE = 0.999
"""Samples beyond are clipped: 16-bit audio ends at 0.99997."""
CHUNK_UTTERANCES = 512

_KINDS = {
    "cannot be read": "audio that is missing or may not be read",
    "is an empty file": "empty audio",
    "holds no samples": "empty audio",
    "cut off": "audio that is cut off or damaged",
    "not finite": "samples that are not finite",
    "full scale is 1": "samples that are not scaled to full scale 1",
}
"""What `audio.io` says in its errors, and under which kind it is counted."""
_NOTED = {
    "scaled": "samples above full scale",
    "antiphase": "channels that cancel each other",
    "joined": "several recordings in one file",
    "unfinished header": "a header that was never finished",
    "trailing bytes": "bytes behind the sound",
    "offset": "a constant in the samples",
    "tracks": "several sound tracks in one file",
}
"""What `audio.io` notes about audio that it reads, and under which kind it is counted."""
OTHER_KIND = "audio that cannot be decoded"


@dataclass(frozen=True)
class AudioLimits:
    """What audio must be like.

    Attributes:
        sample_rate_hz: at least this rate: the features' (Hz). Less would be missing its high frequencies.
        silence_dbfs: the loudest sample is louder than this (dB below full scale, so negative).
        max_clipped_share: at most this share of the samples is at full scale (a fraction).
    """

    sample_rate_hz: int
    silence_dbfs: float
    max_clipped_share: float


def verify_utterance(utterance: Utterance, limits: AudioLimits) -> list[tuple[str, str]]:
    """Read an utterance's audio to its end, and compare it with the manifest and with the limits.

    Args:
        utterance: a row of the manifest.
        limits: what its audio must be like.

    Returns:
        Everything that is wrong: its kind, and what it is, with the utterance's id. Where the audio cannot be read
        there is nothing else to say.
    """
    path = utterance.audio_path
    try:
        sound = read_sound(path)  # at the file's own rate: nothing is resampled
    except AudioError as error:
        said = str(error).replace(path, "")  # a path may say anything
        kind = next((kind for words, kind in _KINDS.items() if words in said), OTHER_KIND)
        return [(kind, f"{utterance.id}: {error}")]
    rate_hz, waveform = sound.file_rate_hz, sound.waveform
    problems = [(_NOTED[note.kind], f"{utterance.id}: {note.text}") for note in sound.notes if note.kind in _NOTED]

    def add(kind: str, what: str) -> None:
        problems.append((kind, f"{utterance.id}: {path} {what}"))

    seconds, expected = sound.duration_seconds, utterance.duration_seconds
    if abs(seconds - expected) > LARGEST_DURATION_ERROR_SECONDS:
        add("duration differs from the manifest", f"lasts {seconds:.3f} s, the manifest says {expected:.3f} s")
    if rate_hz < limits.sample_rate_hz:
        add("sample rate below the features'", f"has {rate_hz} Hz, the features want {limits.sample_rate_hz} Hz")
    magnitudes = np.abs(waveform)
    peak = float(magnitudes.max())
    if peak <= 10 ** (limits.silence_dbfs / 20):
        loudness = f"peaks at {20 * np.log10(peak):.0f} dB" if peak > 0 else "holds only zeros"
        add("silence", f"{loudness}; speech peaks above {limits.silence_dbfs:g} dB")
    clipped_share = float((magnitudes >= FULL_SCALE).mean())
    if clipped_share > limits.max_clipped_share:
        add("clipping", f"is at full scale in {100 * clipped_share:.1f} % of its samples")
    return problems


def verify_audio(utterances: Sequence[Utterance], limits: AudioLimits, num_workers: int, problems: Problems) -> None:
    """Verify the audio of a whole manifest, several files at a time, with a bar that shows the time left.

    The bar counts seconds of audio; its rate is hours of audio an hour.

    Args:
        utterances: rows of a manifest.
        limits: what audio must be like.
        num_workers: threads.
        problems: gets everything that is wrong, in the manifest's order.
    """
    verify = functools.partial(verify_utterance, limits=limits)
    total_seconds = sum(utterance.duration_seconds for utterance in utterances)
    bar_format = "{l_bar}{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}, {rate_fmt}]"
    with (
        tqdm(total=total_seconds, desc="verifying", unit="s", bar_format=bar_format, disable=None) as bar,
        ThreadPoolExecutor(num_workers) as pool,
    ):
        for start in range(0, len(utterances), CHUNK_UTTERANCES):  # a future for each at once would take a gigabyte
            chunk = utterances[start : start + CHUNK_UTTERANCES]
            for utterance, found in zip(chunk, pool.map(verify, chunk), strict=True):
                for kind, what in found:
                    problems.add(kind, what)
                bar.update(utterance.duration_seconds)
