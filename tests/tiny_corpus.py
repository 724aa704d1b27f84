"""A corpus that a network of a few hundred weights can learn: every character is a tone of its own."""

import copy
import dataclasses
import importlib
import json
import random
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest

RunVerb = Callable[..., int]

RATE_HZ = 8000
CHARACTERS = "ABCD "
TONES_HZ = {"A": 500, "B": 1100, "C": 1900, "D": 2900}
CHARACTER_SECONDS = 0.1
TRANSCRIPTS = {
    "train": ("AB", "BA C", "CAD", "DAB", "B D", "ABCD", "A B C D", "DC BA", "CAB AD", "BAD CAB", "D", "ACBD B"),
    "dev": ("BAC", "AD BC", "DCBA", "C A B", "AB DC"),
    "test": ("CA", "DB AC", "B AD C", "ADB", "C", "BCD A", "DAD CAB"),
}
NUM_UTTERANCES_TO_LEARN = 100
YAML: dict[str, Any] = {
    "run_dir": "run",
    "device_target": "CPU",
    "seed": 3,
    "data": {
        "train_manifest": "train.jsonl",
        "dev_manifest": "dev.jsonl",
        "test_manifest": "test.jsonl",
        "root": None,
        "min_duration_seconds": 0.1,
        "max_duration_seconds": 2.0,
        "max_excluded_share": 0.0,
        "feature_cache_dir": None,
    },
    "text": {
        "characters": CHARACTERS,
        "blank": "first",
        "letter_case": "upper",
        "unknown_character": "error",
        "tokenizer": None,
        "units": [],
        "unit_scores": [],
    },
    "features": {
        "sample_rate_hz": RATE_HZ,
        "kind": "log_spectrogram",
        "window": "hann",
        "window_seconds": 0.016,
        "hop_seconds": 0.01,
        "fft_size": 128,
        "num_mel_bands": 8,
        "normalization": "utterance",
        "corpus_mean": [],
        "corpus_deviation": [],
    },
    "augmentation": {
        "join_probability": 0.0,
        "join_max_utterances": 3,
        "join_max_seconds": 2.0,
        "speed_probability": 0.0,
        "speed_range": [0.9, 1.1],
        "speed_num_factors": 0,
        "tempo_probability": 0.0,
        "tempo_range": [0.9, 1.1],
        "shift_probability": 0.0,
        "max_shift_seconds": 0.1,
        "silence_probability": 0.0,
        "silence_range_seconds": [0.0, 1.0],
        "silence_level_range_db": [-80.0, -50.0],
        "rir_probability": 0.5,
        "rir_path": None,
        "synthetic_rir_probability": 0.0,
        "synthetic_rir_range_seconds": [0.1, 0.6],
        "noise_probability": 0.5,
        "noise_path": None,
        "noise_snr_range_db": [5.0, 25.0],
        "synthetic_noise_probability": 0.0,
        "synthetic_noise_kinds": ["white", "pink", "babble"],
        "gain_probability": 0.0,
        "gain_range_db": [-10.0, 6.0],
        "clip_probability": 0.0,
        "clip_range_db": [3.0, 15.0],
        "low_pass_probability": 0.0,
        "low_pass_range_hz": [2000.0, 7000.0],
        "telephone_probability": 0.0,
        "codec_probability": 0.0,
        "codecs": ["mp3", "opus", "mu_law", "a_law", "gsm"],
        "codec_range_kbps": [12.0, 48.0],
        "vtlp_probability": 0.0,
        "vtlp_range": [0.9, 1.1],
        "time_warp_probability": 0.0,
        "max_time_warp_share": 0.05,
        "mask_probability": 1.0,
        "num_frequency_masks": 1,
        "max_frequency_mask_share": 0.1,
        "num_time_masks": 1,
        "max_time_mask_share": 0.05,
        "unit_sampling": 0.0,
    },
    "batching": {
        "bucket_edges_seconds": [0.4, 2.0],
        "max_batch_utterances": 3,
        "max_batch_padded_seconds": 2.0,
        "accumulation_steps": 1,
        "sortagrad": True,
        "prefetch_batches": 2,
        "num_workers": 0,
    },
    "model": {
        "conv_channels": [4],
        "conv_kernel_frequency": [5],
        "conv_kernel_time": [3],
        "conv_stride_frequency": [4],
        "conv_stride_time": [2],
        "conv_bias": False,
        "activation": "clipped_relu",
        "rnn_type": "lstm",
        "rnn_num_layers": 1,
        "rnn_hidden_size": 12,
        "bidirectional": True,
        "lookahead_frames": 1,
        "rnn_initialization": "uniform",
        "rnn_dropout": 0.0,
        "rnn_batch_norm": True,
        "head_batch_norm": True,
        "head_bias": False,
        "batch_norm_momentum": 0.5,
        "batch_norm_epsilon": 1e-5,
    },
    "optimizer": {
        "name": "adamw",
        "betas": [0.9, 0.999],
        "momentum": 0.9,
        "epsilon": 1e-8,
        "weight_decay": 1e-3,
        "max_gradient_norm": 5.0,
    },
    "schedule": {
        "name": "cosine",
        "peak_learning_rate": 0.03,
        "final_learning_rate": 0.001,
        "warmup_epochs": 0.5,
        "decay_per_epoch": 1.0,
        "plateau_patience_epochs": 1,
        "plateau_factor": 0.5,
    },
    "training": {
        "epochs": 3,
        "early_stopping_epochs": 0,
        "max_bad_steps": 2,
        "checkpoint_every_minutes": 60.0,
        "keep_every_epochs": 0,
        "ema_decay": 0.0,
        "average_best": 0,
        "label_smoothing": 0.0,
        "consistency_weight": 0.0,
        "teacher": None,
        "teacher_weight": 0.5,
        "prune_share": 0.0,
        "prune_end_share": 0.5,
        "frozen_norm_share": 0.0,
        "freeze": [],
        "learning_rate_factors": {},
    },
    "processes": {"sync_batch_norm": False, "timeout_seconds": 60.0},
    "precision": {"compute": "fp32", "loss_scale": 1.0, "loss_scale_window": 0},
    "decoding": {
        "decoder": None,
        "lm": None,
        "hotwords": None,
        "nbest": None,
        "beam_width": None,
        "lm_weight": None,
        "word_bonus": None,
    },
    "ops": {"native": "auto"},
}


def speak(transcript: str, seed: int, rate_hz: int = RATE_HZ) -> NDArray[np.float64]:
    """(num_samples,) float64: a tone for each letter, silence for a space, a little noise over all."""
    generator = np.random.default_rng(seed)
    num_samples = round(CHARACTER_SECONDS * rate_hz)
    times = np.arange(num_samples) / rate_hz
    fade = np.sin(np.pi * np.arange(num_samples) / num_samples) ** 0.5
    silence = np.zeros(num_samples)
    tones = [
        silence if character == " " else 0.3 * fade * np.sin(2 * np.pi * TONES_HZ[character] * times)
        for character in transcript
    ]
    whole: NDArray[np.float64] = np.concatenate([silence, *tones, silence])
    whole += 0.003 * generator.standard_normal(len(whole))
    return whole


def draw_transcript(seed: int) -> str:
    """One to three words of one to four letters."""
    generator = random.Random(seed)
    return " ".join(
        "".join(generator.choices(tuple(TONES_HZ), k=generator.randint(1, 4))) for _ in range(generator.randint(1, 3))
    )


def make_corpus(folder: Path) -> Path:
    """Write audio, train.jsonl, dev.jsonl, test.jsonl, and learn.jsonl, which is large enough; returns the folder."""
    (folder / "wav").mkdir(parents=True)
    splits = {**TRANSCRIPTS, "learn": [draw_transcript(seed) for seed in range(NUM_UTTERANCES_TO_LEARN)]}
    for number, (split, transcripts) in enumerate(splits.items()):
        utterances = []
        for place, transcript in enumerate(transcripts):
            path = folder / "wav" / f"{split}_{place}.{('wav', 'flac')[place % 2]}"
            samples = speak(transcript, seed=1000 * number + place)
            soundfile.write(path, samples, RATE_HZ)
            utterances.append(Utterance(f"{split}_{place}", str(path), len(samples) / RATE_HZ, transcript, "tones"))
        write_manifest(folder / f"{split}.jsonl", utterances)
    return folder


def change(mapping: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings with other values at dotted paths."""
    changed = copy.deepcopy(dict(mapping))
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = changed
        for each in sections:
            section = section[each]
        section[name] = value
    return changed


def make_settings(corpus: Path, run_dir: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings of a run on the corpus, as in a YAML; `changes` by dotted path."""
    manifests = {f"data.{split}_manifest": str(corpus / f"{split}.jsonl") for split in TRANSCRIPTS}
    return change(YAML, {"run_dir": str(run_dir), **manifests, **changes})


def make_config(corpus: Path, run_dir: Path, changes: Mapping[str, Any]) -> Config:
    """`make_settings` as a `Config`."""
    config: Config = from_mapping(make_settings(corpus, run_dir, changes), "tiny_corpus")
    return config


def write_yaml(path: Path, settings: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")
    return path


def train_here(
    config: Config, resume: bool = False, pre_trained_model_path: str | None = None, **backend_changes: Any
) -> Any:
    """Start as train.py does, and train in this process, on another `Backend` if wished; returns the `Progress`."""
    from mindaudio_ds2.machine import runtime

    backend = runtime.start(config.device_target, config.seed, config.ops.native)
    from mindaudio_ds2.training.trainer import train

    return train(config, resume, pre_trained_model_path, dataclasses.replace(backend, **backend_changes))


def train_with_copies(config: Config, *steps: int) -> None:
    """Train here; after each of these steps save, and keep the run folder as it is then for `assert_goes_on_alike`."""
    from mindaudio_ds2.training.trainer import Trainer

    take_step = Trainer._take_step

    def take_step_and_copy(self: Any, *arguments: Any) -> Any:
        is_stop_wished = take_step(self, *arguments)
        if self.progress.step in steps:
            self.checkpoints.save_last(self.progress)
            shutil.copytree(config.run_dir, _copy_after(config, self.progress.step).run_dir)
        return is_stop_wished

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_take_step", take_step_and_copy)
        train_here(config)


def _copy_after(config: Config, step: int) -> Config:
    return dataclasses.replace(config, run_dir=f"{config.run_dir}_after_{step}")


def assert_goes_on_alike(whole: Config, step: int) -> None:
    """A copy that `train_with_copies` made comes to the whole run's losses, weights and optimiser state, to the bit."""
    from mindaudio_ds2.checkpoint import load_checkpoint

    part = _copy_after(whole, step)
    assert len(read_metrics(Path(part.run_dir), "step")) == step, "the copy is of a run that was not done"
    num_steps = train_here(part, resume=True).step
    losses = [[row["loss"] for row in read_metrics(Path(each.run_dir), "step")] for each in (whole, part)]
    assert len(losses[0]) == num_steps > step
    assert losses[0] == losses[1]
    last, other = (load_checkpoint(Path(each.run_dir) / "last.ckpt") for each in (whole, part))
    for mine, theirs in ((last.weights, other.weights), (last.optimizer, other.optimizer)):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(array, theirs[name]) for name, array in mine.items())


class ScoringError(Exception):
    """Ends a run before its first validation."""


def train_first_epoch(config: Config, pre_trained_model_path: str | None = None) -> None:
    """Train here until the first validation, for which one more graph would be compiled."""
    from mindaudio_ds2.training.trainer import Trainer

    def end(*_: Any) -> None:
        raise ScoringError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_validate", end)
        with pytest.raises(ScoringError):
            train_here(config, pre_trained_model_path=pre_trained_model_path)


def evaluate_one(
    checkpoint: Path | str,
    settings: Config | Mapping[str, Any] | None,
    manifest: str | None,
    output_dir: str | None,
) -> tuple[Any, Path]:
    """Score one manifest here; None takes what the checkpoint says. Returns the `Evaluation`, and its path."""
    from mindaudio_ds2.scores import Scoring, evaluate_checkpoint

    scoring = Scoring([manifest] if manifest else [], output_dir)
    (scored,) = evaluate_checkpoint(checkpoint, settings or {}, scoring)
    return scored


def read_metrics(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of one kind."""
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the corpus. Nobody changes it."""
    return make_corpus(tmp_path_factory.mktemp("tiny") / "corpus")


@pytest.fixture(scope="session")
def finished_run(corpus: Path, mindspore_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run of three epochs that nothing interrupted. Nobody changes it."""
    run_dir = tmp_path_factory.mktemp("tiny_run") / "finished"
    train_here(make_config(corpus, run_dir, {}))
    return run_dir


@pytest.fixture(scope="session")
def learned_run(corpus: Path, mindspore_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on more utterances, whose last.ckpt hears every character. Nobody changes it."""
    run_dir = tmp_path_factory.mktemp("tiny_run") / "learned"
    changes = {
        "data.train_manifest": str(corpus / "learn.jsonl"),
        "augmentation.num_frequency_masks": 0,
        "augmentation.num_time_masks": 0,
        "batching.max_batch_utterances": 6,
        "batching.max_batch_padded_seconds": 8.0,
        "training.epochs": 10,
    }
    train_here(make_config(corpus, run_dir, changes))
    return run_dir


@pytest.fixture
def run_verb(monkeypatch: pytest.MonkeyPatch, mindspore_cpu: None) -> RunVerb:
    """Runs a verb in this process and returns its exit status: run_verb("eval", "--manifest", path)."""

    def run(verb: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"{verb}.py", *map(str, arguments)])
        status: Any = 0
        try:
            importlib.import_module(verb).main()
        except SystemExit as ended:
            status = ended.code
        assert isinstance(status, int), f"{status!r} is no exit status"
        return status

    return run


@pytest.fixture
def configure(corpus: Path, tmp_path: Path) -> Callable[..., Config]:
    """Makes a `Config` whose run folder lies in tmp_path: configure({"training.epochs": 1}, "run")."""

    def make(changes: Mapping[str, Any] | None = None, run: str = "run") -> Config:
        return make_config(corpus, tmp_path / run, changes or {})

    return make
