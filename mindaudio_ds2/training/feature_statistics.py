"""Mean and deviation of each band over the training set, for features with the normalization `corpus`."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mindaudio_ds2.audio.features import compute_energies, list_white_energies
from mindaudio_ds2.audio.normalization import relate_to_level
from mindaudio_ds2.batching.feature_cache import read_utterance
from mindaudio_ds2.checkpoint import load_checkpoint
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import TrainingError
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.network_config import FeatureConfig

MOST_UTTERANCES = 1000
"""Of a larger training set so many are measured, drawn from the seed: an hour or two of speech settles 80 means."""

LEAST_DEVIATION = 1e-3
"""Where a band never varies, as above the band of a telephone."""

DIGITS = 6


def settle_statistics(
    config: Config,
    sources: Sequence[str | Path],
    utterances: Sequence[Utterance],
    say: Callable[[str], None],
    ranks: Ranks,
) -> Config:
    """The configuration with the statistics that its features need, the first process's for all.

    Args:
        config: of the run.
        sources: checkpoints whose weights belong to their statistics: the one that the run goes on or starts from, then
            its teacher. The first that has statistics gives them; without any, the training set is measured.
        utterances: the training set.
        say: takes a line about what was measured.
        ranks: the processes of the run; the others wait for the first.

    Raises:
        AudioError, ManifestError: an utterance cannot be used.
        CheckpointError: the checkpoint cannot be used.
        TrainingError: there is no sound in the training set.
    """
    features = config.features
    if features.normalization != "corpus" or features.corpus_mean:
        return config
    found = (load_checkpoint(path).config.features for path in (sources if ranks.is_first else ()))
    known = next((each for each in found if len(each.corpus_mean) == features.num_bins), None)
    if known:
        features = dataclasses.replace(features, corpus_mean=known.corpus_mean, corpus_deviation=known.corpus_deviation)
    elif ranks.is_first:
        count = min(MOST_UTTERANCES, len(utterances))
        drawn = np.random.default_rng(config.seed).choice(len(utterances), count, replace=False)
        bar = tqdm(np.sort(drawn), desc="measuring features", unit="utterance", disable=None, delay=2)
        mean, deviation = measure_bands((read_utterance(utterances[i], features) for i in bar), features)
        features = dataclasses.replace(features, corpus_mean=mean, corpus_deviation=deviation)
        say(f"features: mean and deviation of each band from {count} of {len(utterances)} training utterances")
    return dataclasses.replace(config, features=ranks.broadcast(features))


def measure_bands(waveforms: Iterable[NDArray[np.float32]], config: FeatureConfig) -> tuple[list[float], list[float]]:
    """Mean and deviation of each band over the frames near the level.

    Args:
        waveforms: as `compute_features` takes them.
        config: with the normalization `corpus`.

    Raises:
        TrainingError: no frame is near the level, so that there is only silence.
    """
    white = list_white_energies(config)
    num_frames, sums, squares = 0, np.zeros(config.num_bins), np.zeros(config.num_bins)
    for waveform in waveforms:
        features, is_near = relate_to_level(compute_energies(waveform, config), white, config)
        near = features[is_near].astype(np.float64)
        num_frames += len(near)
        sums += near.sum(axis=0)
        squares += np.square(near).sum(axis=0)
    if num_frames == 0:
        raise TrainingError(
            "the training utterances are silent, so that features have no statistics; check their audio"
        )
    mean = sums / num_frames
    deviation = np.maximum(np.sqrt(np.maximum(squares / num_frames - mean**2, 0)), LEAST_DEVIATION)
    return mean.round(DIGITS).tolist(), deviation.round(DIGITS).tolist()
