"""Augmentation within a whole run: only in training, and the same after an interruption."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import CheckpointError
from tests.tiny_corpus import (
    RATE_HZ,
    assert_goes_on_alike,
    make_config,
    read_metrics,
    train_here,
    train_with_copies,
)

pytestmark = pytest.mark.usefixtures("mindspore_cpu")


@pytest.fixture(scope="module")
def config(corpus: Path, mindspore_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Of a run with everything on, for half of the utterances each, that was copied in its second epoch."""
    folder = tmp_path_factory.mktemp("augmented")
    noise, response = np.random.default_rng(0).normal(0, 0.1, (2, 4000))
    for name, samples in (("noise", noise), ("rir", response * np.exp(-np.arange(4000) / 300))):
        (folder / name).mkdir()
        soundfile.write(folder / name / "one.wav", samples, RATE_HZ)
    kinds = (
        *("speed", "shift", "rir", "noise", "gain", "vtlp", "time_warp", "mask", "join", "tempo", "silence"),
        *("synthetic_rir", "synthetic_noise", "clip", "low_pass", "telephone", "codec"),
    )
    changes = {
        **{f"augmentation.{kind}_probability": 0.5 for kind in kinds},
        "augmentation.silence_range_seconds": [0.05, 0.4],
        "augmentation.low_pass_range_hz": [1500.0, 3500.0],
        "augmentation.noise_path": str(folder / "noise"),
        "augmentation.rir_path": str(folder / "rir"),
        "data.feature_cache_dir": str(folder / "cache"),
        "training.epochs": 2,
    }
    made = make_config(corpus, folder / "run", changes)
    train_with_copies(made, 8)
    return made


def test_an_interrupted_run_goes_on_with_the_utterances_it_would_have_seen(config: Config) -> None:
    assert_goes_on_alike(config, 8)


def test_a_run_does_not_go_on_with_other_noise(config: Config) -> None:
    path = Path(config.augmentation.noise_path or "") / "one.wav"
    before = path.read_bytes()
    soundfile.write(path, np.zeros(4001), RATE_HZ)
    try:
        with pytest.raises(CheckpointError, match="other noise or rooms than augmentation.noise_path"):
            train_here(config, resume=True)
    finally:
        path.write_bytes(before)


def test_the_dev_set_is_scored_as_it_was_recorded(config: Config, configure: Callable[..., Config]) -> None:
    """Twice from the checkpoint, with and without augmentation in its configuration: what training saw, to the bit."""
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
    from mindaudio_ds2.evaluate import Evaluator
    from mindaudio_ds2.model.deepspeech2 import Recognizer

    checkpoint = load_checkpoint(Path(config.run_dir) / "last.ckpt")
    off = dataclasses.replace(configure().augmentation, mask_probability=0.0, num_frequency_masks=0, num_time_masks=0)
    recognizer = Recognizer(restore_network(checkpoint, "last.ckpt"))
    dev = read_manifest(config.data.dev_manifest)
    rows = []
    for augmentation in (config.augmentation, off, config.augmentation):
        evaluator = Evaluator(recognizer, dev, dataclasses.replace(config, augmentation=augmentation))
        batches = [batch.features.asnumpy().tobytes() for batch in evaluator.batches()]
        evaluation = evaluator.run()
        hypotheses = [scored.hypothesis for scored in evaluation.utterances]
        rows.append((batches, hypotheses, evaluation.counts.wer, evaluation.counts.cer))
    assert rows[0] == rows[1] == rows[2]
    last = read_metrics(Path(config.run_dir), "epoch")[-1]
    assert (last["dev_wer"], last["dev_cer"]) == rows[0][2:]


def test_the_log_of_a_run_says_what_is_changed(config: Config) -> None:
    log = (Path(config.run_dir) / "train.log").read_text(encoding="utf-8")
    assert "augmentation: joined 50% (up to 3), speed 50% (0.9 to 1.1), " in log
    assert "of 12 utterances joined to others" in log
    assert "noise 50% (1 files, " in log
    assert json.loads((Path(config.run_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
