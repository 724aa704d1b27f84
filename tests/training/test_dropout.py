"""Dropout between recurrent layers: what is drawn, what it does to the network, and what a resumed run makes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import from_mapping
from tests import reference
from tests.tiny_corpus import (
    YAML,
    assert_goes_on_alike,
    change,
    make_config,
    read_metrics,
    train_first_epoch,
    train_with_copies,
)

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
IDS = ("ann-1", "ann-2", "bob-1")


def draw(
    ids: tuple[str, ...] = IDS,
    seed: int = 1,
    epoch: int = 0,
    num_empty: int = 0,
    consistency_weight: float = 0.0,
    **changes: Any,
) -> NDArray[np.float32]:
    from mindaudio_ds2.batching.augmentation import draw_dropout

    sizes = {"rnn_num_layers": 3, "rnn_hidden_size": 500, "rnn_dropout": 0.2} | changes
    mapping = change(YAML, {f"model.{name}": size for name, size in sizes.items()})
    changed = change(mapping, {"seed": seed, "training.consistency_weight": consistency_weight})
    num_rows = (len(ids) + num_empty) * (2 if consistency_weight else 1)
    return draw_dropout(from_mapping(changed, "test"), epoch, ids, num_rows)


# What is drawn --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_factors_keep_the_mean_and_drop_the_share(rate: float) -> None:
    factors = draw(rnn_dropout=rate, rnn_hidden_size=20_000)
    assert factors.shape == (3, 3, 20_000)
    assert factors.dtype == np.float32
    assert set(np.unique(factors)) == {np.float32(0), np.float32(1) / np.float32(1 - rate)}
    deviation = np.sqrt(rate * (1 - rate) / factors.size)
    assert np.mean(factors == 0) == pytest.approx(rate, abs=4 * deviation)
    assert factors.mean() == pytest.approx(1, abs=4 * deviation / (1 - rate))


def test_an_utterance_has_the_same_factors_in_every_batch() -> None:
    whole = draw()
    for place, utterance_id in enumerate(IDS):
        assert np.array_equal(draw((utterance_id,))[:, 0], whole[:, place])
    assert np.array_equal(draw(IDS[::-1]), whole[:, ::-1])
    padded = draw(num_empty=2)
    assert np.array_equal(padded[:, :3], whole)
    assert padded.shape == (3, 5, 500)
    assert not padded[:, 3:].any()


def test_the_second_view_has_factors_of_its_own() -> None:
    both, one = draw(num_empty=1, consistency_weight=0.2), draw(num_empty=1)
    assert both.shape == (3, 8, 500)
    assert np.array_equal(both[:, :4], one)
    assert not both[:, 7].any()
    for first, second in zip(one[:, :3].reshape(-1, 500), both[:, 4:7].reshape(-1, 500), strict=True):
        assert np.mean(first == second) < 0.8  # as above, for other seeds and epochs


def test_seed_epoch_utterance_and_layer_have_factors_of_their_own() -> None:
    draws = [*draw().reshape(-1, 500), *draw(seed=2).reshape(-1, 500), *draw(epoch=1).reshape(-1, 500)]
    for i, one in enumerate(draws):
        for other in draws[:i]:
            # of independent masks 68 % agree, with a deviation of 2 %
            assert np.mean(one == other) < 0.8


# What the network makes of them ---------------------------------------------------------------------------------------


def test_factors_of_one_change_nothing_and_any_batch_needs_one_compile() -> None:
    import mindspore as ms
    from mindspore import Tensor

    from mindaudio_ds2.model.deepspeech2 import feature_signature
    from tests import cells

    network = cells.make_network()
    network.set_train(False)
    features = np.random.default_rng(0).normal(size=(3, 17, cells.NUM_BINS)).astype(np.float32)
    lengths = np.array([17, 12, 9], np.int32)
    plain = cells.run(network, features, lengths)[0]
    network.set_inputs(*feature_signature(cells.NUM_BINS), Tensor(shape=[2, None, 8], dtype=ms.float32))
    compiled = len(network.compile_cache)
    for num in (3, 2, 1):
        same = cells.run(network, features[:num], lengths[:num], np.ones((2, num, 8), np.float32))[0]
        np.testing.assert_allclose(same, plain[:, :num], rtol=1e-5, atol=1e-5)
    assert len(network.compile_cache) == compiled + 1


def test_logits_with_dropout_are_those_of_the_second_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given the factors by its own door: after the norm, before the next layer, the same at all frames."""
    from tests import cells

    network = cells.make_network()
    network.set_train(False)
    generator = np.random.default_rng(0)
    features = [generator.normal(size=(frames, cells.NUM_BINS)).astype(np.float32) for frames in (17, 12)]
    factors = draw(IDS[:2], rnn_num_layers=2, rnn_hidden_size=8, rnn_dropout=0.4)
    assert 0 < (factors == 0).sum() < factors.size
    padded = np.stack([np.pad(each, ((0, 17 - len(each)), (0, 0))) for each in features])
    logits = cells.run(network, padded, np.array([17, 12], np.int32), factors)[0]

    layers = {"rnn_batch_norms.0": 0, "head_batch_norm": 1}
    normalise = reference.Normaliser.__call__

    def normalise_and_drop(self: Any, xs: Any, prefix: str, axis: int) -> Any:
        xs = normalise(self, xs, prefix, axis)
        return [x * factors[layers[prefix], i] for i, x in enumerate(xs)] if prefix in layers else xs

    monkeypatch.setattr(reference.Normaliser, "__call__", normalise_and_drop)
    expected, _ = reference.recognise(cells.read(network), cells.SMALL, features, in_training=False)
    for i, utterance in enumerate(expected):
        np.testing.assert_allclose(logits[: len(utterance), i], utterance, rtol=1e-4, atol=1e-5)


# A run ----------------------------------------------------------------------------------------------------------------

DROPOUT = {"model.rnn_dropout": 0.3, "model.rnn_num_layers": 2, "training.epochs": 2}


@pytest.fixture(scope="module")
def config(corpus: Path, mindspore_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Of a run with dropout that was copied in its second epoch."""
    made = make_config(corpus, tmp_path_factory.mktemp("dropout") / "run", DROPOUT)
    train_with_copies(made, 8)
    return made


def test_an_interrupted_run_drops_what_it_would_have_dropped(config: Config) -> None:
    assert_goes_on_alike(config, 8)


def test_dropout_is_in_the_loss_and_not_in_the_validation(config: Config, configure: Configure) -> None:
    """The dev set scores alike in the run and from its checkpoint, to the bit."""
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
    from mindaudio_ds2.corpus.manifest import read_manifest
    from mindaudio_ds2.evaluate import Evaluator
    from mindaudio_ds2.model.deepspeech2 import Recognizer

    plain = configure({**DROPOUT, "model.rnn_dropout": 0.0})
    train_first_epoch(plain)
    first, first_plain = (read_metrics(Path(each.run_dir), "step")[0]["loss"] for each in (config, plain))
    assert first != pytest.approx(first_plain, rel=1e-3)
    checkpoint = load_checkpoint(Path(config.run_dir) / "last.ckpt")
    recognizer = Recognizer(restore_network(checkpoint, "last.ckpt"))
    counts = Evaluator(recognizer, read_manifest(config.data.dev_manifest), config).run().counts
    epoch = read_metrics(Path(config.run_dir), "epoch")[-1]
    assert (epoch["dev_wer"], epoch["dev_cer"]) == (counts.wer, counts.cer)


def test_weights_trained_without_dropout_may_be_trained_on_with_it(
    configure: Configure, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure({"model.rnn_dropout": 0.3})
    train_first_epoch(config, str(finished_run / "best.ckpt"))
    assert len(read_metrics(Path(config.run_dir), "step")) == 5
    assert "starting from the weights of" in capsys.readouterr().err
