"""Statistics of `corpus` features: measured, stored, kept by resumed and fine-tuned runs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import TrainingError
from tests.tiny_corpus import RATE_HZ, speak, train_here

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
CORPUS = {"features.normalization": "corpus", "features.kind": "log_mel", "training.epochs": 1}


def test_statistics_equal_those_of_all_frames_near_the_level(configure: Configure) -> None:
    from mindaudio_ds2.training.feature_statistics import measure_bands

    config = configure(CORPUS).features
    # one syllable of an even level: the level follows it at once, and every frame of it counts
    waveforms = [np.sin(np.arange(4000) * pitch).astype(np.float32) for pitch in (0.9, 1.3)]
    mean, deviation = measure_bands(waveforms, config)
    normalized = [
        compute_features(w, dataclasses.replace(config, corpus_mean=mean, corpus_deviation=deviation))
        for w in waveforms
    ]
    together = np.concatenate(normalized)
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(together.std(axis=0), 1, atol=1e-3)


def test_silence_in_the_training_set_does_not_count(configure: Configure) -> None:
    from mindaudio_ds2.training.feature_statistics import measure_bands

    config = configure(CORPUS).features
    speech = speak("ABCD", seed=1).astype(np.float32)
    plain = measure_bands([speech], config)
    padded = measure_bands([np.concatenate([speech, np.zeros(3 * RATE_HZ, np.float32)])], config)
    np.testing.assert_allclose(plain, padded, atol=0.02)
    with pytest.raises(TrainingError, match="silent"):
        measure_bands([np.zeros(4000, np.float32)], config)


def test_a_run_measures_and_stores_its_statistics_and_those_that_start_from_it_keep_them(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.machine.collectives import Ranks
    from mindaudio_ds2.training.feature_statistics import settle_statistics

    config = configure(CORPUS)
    train_here(config)
    assert "mean and deviation of each band from 12 of 12 training utterances" in capsys.readouterr().err
    run_dir = Path(config.run_dir)
    stored = load_checkpoint(run_dir / "last.ckpt").config
    assert len(stored.features.corpus_mean) == len(stored.features.corpus_deviation) == 8
    written = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    assert written["features"]["corpus_mean"] == stored.features.corpus_mean
    assert settle_statistics(config, [run_dir / "last.ckpt"], [], print, Ranks()) == stored
    train_here(config, resume=True)  # there is nothing left to do, but to see that it is the same run
