#!/usr/bin/env python3
"""Cut long utterances into short ones at pauses between words, by forced alignment.

    python recipes/english/cut.py data/english/train_real.jsonl --pre_trained_model_path runs/first/best.ckpt

A network learns sooner from short utterances: an hour of them makes more steps, each as wide for the processor. Any
recogniser of the same alphabet can align, also one that gets most words wrong: Viterbi over CTC's labels, which are
known (Graves et al. 2006; Kürzinger et al. 2020, arXiv:2007.09127). Cuts are made only where two words stand apart and
the sound between them is quiet. Writes `<manifest>_cut.jsonl` and its FLAC files.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # finds `recipes`, which is not installed

from mindaudio_ds2 import Recognizer
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.errors import exit_on_error
from mindaudio_ds2.segmentation.detectors import measure_levels

LEAST_SECONDS = 2.0
MOST_SECONDS = 6.0
LEAST_PAUSE_SECONDS = 0.12
LEVEL_SECONDS = 0.02
QUIET_DB = 25.0
"""Below the utterance's loud blocks, that a pause's quietest block must be."""


@dataclass(frozen=True)
class Pause:
    """Between word `index` - 1 and word `index`: where to cut (seconds)."""

    index: int
    seconds: float


def align(log_probs: NDArray[np.float32], labels: NDArray[np.int32], blank: int) -> NDArray[np.int64] | None:
    """The likeliest path of CTC through known labels.

    Args:
        log_probs: (T, V).
        labels: (L,), without blanks.
        blank: id of the blank.

    Returns:
        (T,) the index of the label that each frame says, -1 for a blank; None where T is too few frames.
    """
    extended = np.full(2 * len(labels) + 1, blank, np.int64)
    extended[1::2] = labels
    may_skip = np.zeros(len(extended), bool)
    may_skip[3::2] = labels[1:] != labels[:-1]
    scores = np.full(len(extended), -np.inf)
    scores[:2] = log_probs[0, extended[:2]]
    back = np.zeros((len(log_probs), len(extended)), np.int8)
    for frame in range(1, len(log_probs)):
        one = np.concatenate([[-np.inf], scores[:-1]])
        two = np.where(may_skip, np.concatenate([[-np.inf, -np.inf], scores[:-2]]), -np.inf)
        choices = np.stack([scores, one, two])
        back[frame] = choices.argmax(0)
        scores = choices.max(0) + log_probs[frame, extended]
    state = len(extended) - 1 if scores[-1] >= scores[-2] else len(extended) - 2
    if not np.isfinite(scores[state]):
        return None
    path = np.empty(len(log_probs), np.int64)
    for frame in range(len(log_probs) - 1, -1, -1):
        path[frame] = state
        state -= back[frame, state]
    return np.where(path % 2 == 1, path // 2, -1)


def find_pauses(
    path: NDArray[np.int64], transcript: str, waveform: NDArray[np.float32], rate: int, frame_seconds: float
) -> list[Pause]:
    """Where words stand apart and the sound between them is quiet."""
    levels = measure_levels(waveform, round(LEVEL_SECONDS * rate))
    quiet = np.percentile(levels, 95) - QUIET_DB
    pauses, index = [], 0
    for position, character in enumerate(transcript):
        if character != " ":
            continue
        index += 1
        left = np.flatnonzero(path == position - 1)[-1] + 1
        right = np.flatnonzero(path == position + 1)[0]
        first, last = int(left * frame_seconds / LEVEL_SECONDS), int(right * frame_seconds / LEVEL_SECONDS)
        if (right - left) * frame_seconds < LEAST_PAUSE_SECONDS or last > len(levels):
            continue
        smooth = np.convolve(levels, np.ones(3) / 3, mode="same")[first:last]
        if smooth.min() <= quiet:
            near = np.flatnonzero(smooth <= smooth.min() + 3)
            pauses.append(Pause(index, (first + near[len(near) // 2] + 0.5) * LEVEL_SECONDS))
    return pauses


def choose_cuts(pauses: Sequence[Pause], total_seconds: float) -> list[Pause]:
    """Pauses that make parts of LEAST_SECONDS to MOST_SECONDS, as long as may be; longer ones where no pause is."""
    cuts: list[Pause] = []
    start = 0.0
    while total_seconds - start > MOST_SECONDS:
        possible = [p for p in pauses if p.seconds >= start + LEAST_SECONDS and p.seconds <= total_seconds - 1.0]
        if not possible:
            break
        within = [p for p in possible if p.seconds <= start + MOST_SECONDS]
        cuts.append(within[-1] if within else possible[0])
        start = cuts[-1].seconds
    return cuts


def cut(
    utterance: Utterance, waveform: NDArray[np.float32], rate: int, cuts: Sequence[Pause], folder: Path
) -> Iterator[Utterance]:
    """Write an utterance's parts and yield their lines; an utterance without cuts stays as it is."""
    if not cuts:
        yield utterance
        return
    words = utterance.transcript.split(" ")
    edges = [Pause(0, 0.0), *cuts, Pause(len(words), len(waveform) / rate)]
    for number, (begin, end) in enumerate(zip(edges, edges[1:], strict=False)):
        name = f"{utterance.id}+{number}"
        path = folder / utterance.speaker / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = waveform[round(begin.seconds * rate) : round(end.seconds * rate)]
        soundfile.write(path, part, rate, subtype="PCM_16")
        text = " ".join(words[begin.index : end.index])
        yield Utterance(name, str(path), len(part) / rate, text, utterance.speaker)


def cut_manifest(manifest: Path, network_path: Path) -> None:
    """Cut a manifest's utterances, and say what became of them."""
    utterances = read_manifest(manifest)
    network = Recognizer.load(network_path).network
    folder = manifest.resolve().parent / f"{manifest.stem}_cut"
    parts: list[Utterance] = []
    unaligned = 0
    plan = network.plan([u.duration_seconds for u in utterances])
    rate = network.features.sample_rate_hz
    for batch in tqdm(plan, unit="batch"):
        members = [utterances[i] for i in batch.indices]
        waveforms = [read_audio(u.audio_path, rate) for u in members]
        log_probs, lengths = network.recognize(waveforms, batch.shape)
        for utterance, waveform, row, length in zip(members, waveforms, log_probs, lengths, strict=True):
            labels = network.tokenizer.encode(utterance.transcript)
            path = align(row[:length], labels, network.tokenizer.blank_id)
            if path is None:
                unaligned += 1
                continue
            pauses = find_pauses(path, utterance.transcript, waveform, rate, network.seconds_per_output_frame)
            parts += cut(utterance, waveform, rate, choose_cuts(pauses, len(waveform) / rate), folder)
    output = manifest.with_name(f"{manifest.stem}_cut.jsonl")
    write_manifest(output, parts)
    lengths = np.array([u.duration_seconds for u in parts])
    print(f"{output}: {len(utterances)} utterances became {len(parts)}, {lengths.sum() / 3600:.2f} h")
    print("seconds, 10/50/90/99 %: " + ", ".join(f"{x:.1f}" for x in np.percentile(lengths, [10, 50, 90, 99])))
    if unaligned:
        print(f"{unaligned} left out: their transcripts have more letters than the network has frames")


@exit_on_error
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="of utterances whose transcripts are known")
    parser.add_argument("--pre_trained_model_path", type=Path, required=True, help="checkpoint of the same alphabet")
    arguments = parser.parse_args()
    cut_manifest(arguments.manifest, arguments.pre_trained_model_path)


if __name__ == "__main__":
    main()
