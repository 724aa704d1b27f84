"""Error rates of a network under recording conditions that its training set may not have had."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mindaudio_ds2.audio.augment import Waveform
from mindaudio_ds2.audio.conditions import CONDITIONS, Condition
from mindaudio_ds2.audio.draws import make_generator
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.decoding.metrics import ErrorCounts, count_errors
from mindaudio_ds2.segmentation.sources import Samples
from mindaudio_ds2.transcribe import Recognizer

JOINED = (2, 5, 15)
"""How many recordings of a speaker are joined; the last of a speaker may be fewer."""

IN_MEMORY = 32
"""Waveforms made at a time."""

Item = tuple[str, Callable[[], Waveform]]
"""A reference, and what makes its waveform when it is due."""


def measure_robustness(
    recognizer: Recognizer, manifest: str | Path, seed: int, data_root: str | None = None
) -> list[dict[str, Any]]:
    """Score a manifest as it is and under every condition.

    Args:
        recognizer: what is measured.
        manifest: its utterances.
        seed: noise and rooms depend on it and on the utterance alone.
        data_root: where the manifest's relative paths begin; None for its own folder.

    Returns:
        A row for each condition, the clean recordings first: its name, counts, and rates as fractions.

    Raises:
        ManifestError, AudioError: the manifest or a recording cannot be used.
    """
    utterances = sorted(open_manifest(manifest, data_root), key=lambda each: each.duration_seconds)
    rows = []
    with tqdm(total=1 + len(CONDITIONS) + len(JOINED), desc="robustness", unit="condition", disable=None) as bar:
        for name, items in _list_conditions(utterances, recognizer.ear.rate_hz, seed):
            bar.set_postfix_str(name)
            rows.append({"condition": name, "seed": seed, **_summarize(_score(recognizer, items))})
            bar.update()
    return rows


def join_speakers(utterances: Sequence[Utterance], count: int) -> list[list[Utterance]]:
    """Groups of `count` utterances of one speaker, by their ids; every utterance is in one group."""
    by_speaker: dict[str, list[Utterance]] = {}
    for each in sorted(utterances, key=lambda each: each.id):
        by_speaker.setdefault(each.speaker, []).append(each)
    return [own[start : start + count] for own in by_speaker.values() for start in range(0, len(own), count)]


def _list_conditions(utterances: list[Utterance], rate_hz: int, seed: int) -> Iterator[tuple[str, list[Item]]]:
    def change(each: Utterance, condition: Condition | None) -> Waveform:
        waveform = read_audio(each.audio_path, rate_hz)
        return condition(waveform, rate_hz, make_generator(seed, 0, each.id)) if condition else waveform

    def join(own: list[Utterance]) -> Waveform:
        return np.concatenate([change(each, None) for each in own])

    for name, condition in {"clean": None, **CONDITIONS}.items():
        changed: list[Item] = [(each.transcript, partial(change, each, condition)) for each in utterances]
        yield name, changed
    for count in JOINED:
        groups = sorted(join_speakers(utterances, count), key=lambda own: sum(each.duration_seconds for each in own))
        items: list[Item] = [(" ".join(each.transcript for each in own), partial(join, own)) for own in groups]
        yield f"{count} of a speaker joined", items


def _score(recognizer: Recognizer, items: Sequence[Item]) -> ErrorCounts:
    """Errors of all items; `IN_MEMORY` waveforms at a time, in an order that puts neighbours of a length together."""
    counts, normalize = ErrorCounts(), recognizer.network.tokenizer.normalize
    for start in range(0, len(items), IN_MEMORY):
        part = items[start : start + IN_MEMORY]
        texts = _recognize(recognizer, [make() for _, make in part])
        for (reference, _), text in zip(part, texts, strict=True):
            counts += count_errors(normalize(reference), text)
    return counts


def _recognize(recognizer: Recognizer, waveforms: list[Waveform]) -> list[str]:
    """As `transcribe.py` does: what is longer than the training set's recordings is cut in its pauses."""
    rate_hz = recognizer.ear.rate_hz
    if max(map(len, waveforms)) > recognizer.network.longest_seconds * rate_hz:
        return [each.text for each in recognizer.run([Samples(w, rate_hz) for w in waveforms]).transcriptions]
    return [hypotheses[0].text for hypotheses in recognizer.recognize(waveforms)]


def _summarize(counts: ErrorCounts) -> dict[str, Any]:
    errors = {"word_errors": counts.word_errors, "wer": counts.wer, "cer": counts.cer}
    return {**dataclasses.asdict(counts), **errors}
