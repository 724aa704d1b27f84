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
from mindaudio_ds2.decoding.greedy import decode_greedy
from mindaudio_ds2.decoding.metrics import ErrorCounts, count_errors
from mindaudio_ds2.recognition import CheckpointNetwork
from mindaudio_ds2.segmentation.sources import Samples
from mindaudio_ds2.transcribe import Recognizer

JOINED = (2, 5, 15)
"""How many recordings of a speaker are joined; the last of a speaker may be fewer."""

Item = tuple[str, Callable[[], Waveform]]
"""A reference, and what makes its waveform when it is due."""


def measure_robustness(
    network: CheckpointNetwork, manifest: str | Path, seed: int, data_root: str | None = None
) -> list[dict[str, Any]]:
    """Score a manifest as it is and under every condition, greedily.

    Args:
        network: what is measured.
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
        for name, items in _list_conditions(utterances, network.features.sample_rate_hz, seed):
            bar.set_postfix_str(name)
            rows.append({"condition": name, "seed": seed, **_summarize(_score(network, items))})
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


def _score(network: CheckpointNetwork, items: Sequence[Item]) -> ErrorCounts:
    """Errors of all items, recognised a batch at a time, in an order that puts neighbours of a length together."""
    counts = ErrorCounts()
    config = network.config.batching
    batch: list[tuple[str, Waveform]] = []
    longest = 0.0
    for reference, make in items:
        waveform = make()
        seconds = len(waveform) / network.features.sample_rate_hz
        is_full = len(batch) == config.max_batch_utterances
        if batch and (is_full or max(longest, seconds) * (len(batch) + 1) > config.max_batch_padded_seconds):
            counts += _score_batch(network, batch)
            batch, longest = [], 0.0
        batch.append((reference, waveform))
        longest = max(longest, seconds)
    return counts + _score_batch(network, batch)


def _score_batch(network: CheckpointNetwork, batch: list[tuple[str, Waveform]]) -> ErrorCounts:
    normalize = network.tokenizer.normalize
    texts = _recognize(network, [waveform for _, waveform in batch])
    pairs = zip(batch, texts, strict=True)
    return sum((count_errors(normalize(reference), text) for (reference, _), text in pairs), ErrorCounts())


def _recognize(network: CheckpointNetwork, waveforms: list[Waveform]) -> list[str]:
    """As `transcribe.py` does: what is longer than the training set's recordings is cut in its pauses."""
    rate_hz = network.features.sample_rate_hz
    if max(map(len, waveforms)) > network.longest_seconds * rate_hz:
        return [each.text for each in Recognizer(network).run([Samples(w, rate_hz) for w in waveforms]).transcriptions]
    log_probs, lengths = network.recognize(waveforms)
    found = decode_greedy(log_probs, lengths, network.tokenizer, network.seconds_per_output_frame)
    return [each.text for each in found]


def _summarize(counts: ErrorCounts) -> dict[str, Any]:
    errors = {"word_errors": counts.word_errors, "wer": counts.wer, "cer": counts.cer}
    return {**dataclasses.asdict(counts), **errors}
