import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.batching.collate import Batch
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.text.tokenizer import Tokenizer
from recipes.benchmark import benchmark_shapes as script
from recipes.benchmark.case import ContenderError


class Recorder:
    """A contender that notes what it takes."""

    num_parameters = num_threads = 1

    def __init__(self, compiles_each_shape: bool) -> None:
        self.compiles_each_shape = compiles_each_shape
        self.batches: list[Batch] = []

    def take(self, batch: Batch) -> float:
        self.batches.append(batch)
        return 0.0

    def multiply(self, size: int) -> None:
        raise AssertionError(f"this script measures no product of {size}")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """AN4's, two utterances in a batch, on a manifest of six in three buckets."""
    config = read_config(Path(__file__).resolve().parents[3] / "hparams" / "an4.yaml")
    durations = [1.1, 1.3, 2.2, 2.6, 4.1, 4.3]
    write_manifest(tmp_path / "mix.jsonl", [Utterance(str(i), "/none.wav", d, "X") for i, d in enumerate(durations)])
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train_manifest=str(tmp_path / "mix.jsonl")),
        batching=dataclasses.replace(config.batching, bucket_edges_seconds=[1.5, 3.0, 20.0], max_batch_utterances=2),
    )


def test_both_take_the_same_batches_and_static_ones_are_padded(config: Config) -> None:
    contenders = {"open": Recorder(False), "static": Recorder(True)}
    accounts = {name: script.Account(contender) for name, contender in contenders.items()}
    script.measure(config, 6, accounts)
    blank_id = Tokenizer(config.text).blank_id
    for small, large in zip(contenders["open"].batches, contenders["static"].batches, strict=True):
        _, num_frames, _ = small.features.shape
        num_labels = small.labels.shape[1]
        assert large.features.shape[1] in [config.features.num_frames(edge) for edge in (1.5, 3.0, 20.0)]
        assert large.labels.shape[1] % 10 == 0
        np.testing.assert_array_equal(large.features[:, :num_frames], small.features)
        np.testing.assert_array_equal(large.labels[:, :num_labels], small.labels)
        assert not large.features[:, num_frames:].any()
        assert (large.labels[:, num_labels:] == blank_id).all()
        np.testing.assert_array_equal(large.feature_lengths, small.feature_lengths)
    assert {name: account.summarize()["num_shapes"] for name, account in accounts.items()} == {"open": 3, "static": 3}


@pytest.mark.parametrize(("compiles_each_shape", "seconds"), [(False, 9.0), (True, 3.0)])
def test_a_step_that_compiles_counts_apart(
    compiles_each_shape: bool, seconds: float, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of 10 s of audio, each taken twice, which take 100, 6, 1 and 2 s."""
    times = iter([0.0, 100.0, 200.0, 206.0, 300.0, 301.0, 400.0, 402.0])
    monkeypatch.setattr(script.time, "perf_counter", lambda: next(times))
    account = script.Account(Recorder(compiles_each_shape))
    empty = np.zeros(1, dtype=np.int32)
    for num_frames in (5, 6, 5, 6):
        features = np.zeros((1, num_frames, 2), dtype=np.float32)
        account.take(Batch(features, empty, np.zeros((1, 1), dtype=np.int32), empty, empty), 10.0)
    assert account.step_seconds == seconds
    assert account.summarize()["seconds_on_new_shapes"] == 109.0 - seconds
    assert account.audio_seconds == (20.0 if compiles_each_shape else 30.0)


def test_steps_that_all_compile_are_an_error(config: Config) -> None:
    accounts = {"static": script.Account(Recorder(True))}
    script.measure(config, 3, accounts)
    with pytest.raises(ContenderError, match="raise --num_steps"):
        accounts["static"].summarize()
