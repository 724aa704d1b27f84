"""Starting from other weights: what is taken, what is frozen, and what is trained at which rate."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import CheckpointError, ConfigError
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.training_config import TrainingConfig
from tests.tiny_corpus import train_here

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
Arrays = dict[str, NDArray[np.float32]]


# Layer names ----------------------------------------------------------------------------------------------------------


def choose(freeze: list[str], factors: dict[str, float]) -> tuple[dict[str, float], list[bool]]:
    """Factors of the small network's trained weights by name, and which of its batch norms are frozen."""
    from mindaudio_ds2.training.weights import choose_trained
    from tests import cells

    network = cells.make_network(head_bias=True)
    fields = {field.name: None for field in dataclasses.fields(TrainingConfig)}
    config = object.__new__(TrainingConfig)  # only two of its keys matter
    for name, value in (fields | {"freeze": freeze, "learning_rate_factors": factors}).items():
        object.__setattr__(config, name, value)
    trained = choose_trained(network, config)
    names = {id(parameter): name for name, parameter in network.weights().items()}
    assert trained.num_trained == sum(parameter.size for parameter in trained.parameters)
    chosen = [names[id(parameter)] for parameter in trained.parameters]
    return dict(zip(chosen, trained.factors, strict=True)), [norm.is_frozen for norm in network.batch_norms()]


def test_without_names_everything_is_trained_alike() -> None:
    from tests import cells

    factors, frozen = choose([], {})
    expected = [name for name, parameter in cells.make_network(head_bias=True).weights().items()]
    assert list(factors) == [name for name in expected if "moving" not in name]
    assert set(factors.values()) == {1.0}
    assert frozen == [False] * 4


def test_a_name_means_all_below_it_and_nothing_beside_it() -> None:
    everything, _ = choose([], {})
    factors, frozen = choose(["convs.0", "rnns.1.backward_rnn", "head"], {})
    gone = everything.keys() - factors.keys()
    assert {name.rsplit(".", 1)[0] for name in gone} == {
        "convs.0.conv",
        "convs.0.batch_norm",
        "rnns.1.backward_rnn",
        "head",
    }
    assert {"head_batch_norm.gamma", "convs.1.conv.weight", "rnns.1.forward_rnn.bias_ih_l0"} <= factors.keys()
    assert frozen == [True, False, False, False]


def test_the_longest_name_gives_the_factor() -> None:
    factors, _ = choose([], {"rnns.1": 0.5, "rnns": 0.1, "head": 10.0})
    for name, factor in factors.items():
        expected = {"rnns.0": 0.1, "rnns.1": 0.5}.get(name[:6], 10.0 if name.startswith("head.") else 1.0)
        assert factor == expected, name


@pytest.mark.parametrize("name", ["conv", "rnns.2", "rnn", "heads", "convs.0.", ""])
@pytest.mark.parametrize("key", ["freeze", "learning_rate_factors"])
def test_an_unknown_name_is_an_error_that_lists_those_there_are(name: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        choose(["head", name], {}) if key == "freeze" else choose([], {"head": 1.0, name: 2.0})
    assert f"training.{key} names {name}, which" in str(raised.value)
    assert "convs.0, convs.1, rnns.0, rnns.1, rnn_batch_norms.0, head_batch_norm, head" in str(raised.value)


def test_something_must_be_left_to_train() -> None:
    with pytest.raises(ConfigError, match="leaves nothing to be trained"):
        choose(["convs", "rnns", "rnn_batch_norms", "head_batch_norm", "head"], {})


# Another alphabet -----------------------------------------------------------------------------------------------------


def fit(
    configure: Configure, old: dict[str, Any], new: dict[str, Any], texts: list[TextConfig] | None = None
) -> tuple[Arrays, Arrays, Arrays, str]:
    """Old weights of the small network with these changes, what of them is taken, what begins anew, and the note."""
    from mindaudio_ds2.model.deepspeech2 import DeepSpeech2
    from mindaudio_ds2.text.tokenizer import Tokenizer
    from mindaudio_ds2.training.weights import fit_weights
    from tests import cells

    config = configure()
    models = [dataclasses.replace(cells.SMALL, head_bias=True, **changes) for changes in (old, new)]
    texts = texts or [config.text] * 2
    configs = [dataclasses.replace(config, model=m, text=t) for m, t in zip(models, texts, strict=True)]
    networks = [DeepSpeech2(c.model, cells.NUM_BINS, Tokenizer(c.text).size) for c in configs]
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=p.shape).astype(np.float32) for name, p in networks[0].weights().items()}
    taken, fresh, note = fit_weights(weights, configs[0], configs[1], networks[1])
    shapes = {name: tuple(p.shape) for name, p in networks[1].weights().items()}
    assert {name: array.shape for name, array in (taken | fresh).items()} == shapes
    assert not taken.keys() & fresh.keys()
    assert all(np.array_equal(array, networks[1].weights()[name].asnumpy()) for name, array in fresh.items())
    return weights, taken, fresh, note


def relabel(configure: Configure, old: tuple[str, Any], new: tuple[str, Any]) -> tuple[Arrays, Arrays, Arrays, str]:
    """The same for alphabets (characters, blank)."""
    texts = [TextConfig(characters, blank, "keep", "error") for characters, blank in (old, new)]
    return fit(configure, {}, {}, texts)


def test_the_same_alphabet_takes_all_as_it_is(configure: Configure) -> None:
    weights, taken, fresh, note = relabel(configure, ("AB C", "first"), ("AB C", "first"))
    assert note == ""
    assert not fresh
    assert all(taken[name] is array for name, array in weights.items())


@pytest.mark.parametrize("new", [("C BA", "first"), ("AB C", "last"), (" CAB", "last")])
def test_the_same_characters_in_another_order_take_their_rows_along(configure: Configure, new: tuple[str, Any]) -> None:
    weights, taken, _, note = relabel(configure, ("AB C", "first"), new)
    assert note == "; the labels have another order, and the rows of head went along"
    places = {character: place + (new[1] == "first") for place, character in enumerate(new[0])}
    places["blank"] = 0 if new[1] == "first" else 4
    for name in ("head.weight", "head.bias"):
        for row, symbol in enumerate(["blank", "A", "B", " ", "C"]):
            assert np.array_equal(taken[name][places[symbol]], weights[name][row])
    assert all(np.array_equal(taken[name], array) for name, array in weights.items() if not name.startswith("head."))


@pytest.mark.parametrize("new", [("ABC", "first"), ("AB CD", "first"), ("ABXC", "first"), ("ab c", "first")])
def test_other_characters_keep_all_but_the_head_and_say_so(configure: Configure, new: tuple[str, Any]) -> None:
    weights, taken, fresh, note = relabel(configure, ("AB C", "first"), new)
    assert fresh.keys() == {"head.weight", "head.bias"}
    assert all(np.array_equal(array, weights[name]) for name, array in taken.items())
    assert "taken: convs.0, convs.1, rnns.0, rnns.1, rnn_batch_norms.0, head_batch_norm\n" in note
    assert "NEW, untrained: head, because the labels are others: characters 'AB C' before, " in note
    assert note.endswith(f"characters {new[0]!r} now")


def test_units_take_their_rows_along_and_begin_a_new_head_after_characters(configure: Configure) -> None:
    characters = TextConfig("AB ", "first", "keep", "error")
    units = dataclasses.replace(characters, units=["▁", "A", "B", "▁A"], unit_scores=[-1.0, -2.0, -3.0, -4.0])
    others = dataclasses.replace(units, blank="last", units=["▁A", "B", "A", "▁"])
    weights, taken, _, note = fit(configure, {}, {}, [units, others])
    assert "rows of head went along" in note
    assert np.array_equal(taken["head.weight"], weights["head.weight"][[4, 3, 2, 1, 0]])
    _, _, fresh, note = fit(configure, {}, {}, [characters, units])
    assert "because the labels are others: characters 'AB ' before, 4 units now" in note
    assert fresh.keys() == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("characters", "reason"),
    [("AB C", ""), ("C BA", ""), ("AB", " and the labels are others: characters 'AB C' before, characters 'AB' now")],
)
def test_a_forward_only_network_begins_with_the_forward_half_of_a_two_sided_one(
    configure: Configure, characters: str, reason: str
) -> None:
    """Its output layer begins anew whatever the labels are, and all that is said of it is true."""
    texts = [TextConfig(each, "first", "keep", "error") for each in ("AB C", characters)]
    weights, taken, fresh, note = fit(configure, {"bidirectional": True}, {"bidirectional": False}, texts)
    assert {name.split(".")[0] for name in fresh} == {"lookahead", "head_batch_norm", "head"}
    assert all(np.array_equal(array, weights[name]) for name, array in taken.items())
    assert {name for name in weights if name not in taken | fresh} == {name for name in weights if "backward" in name}
    assert note == (
        "\n  taken: convs.0, convs.1, rnns.0, rnns.1, rnn_batch_norms.0, of recurrent layers the forward direction"
        f"\n  NEW, untrained: lookahead, head_batch_norm, head, because two directions became one{reason}"
    )


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_lookahead_keeps_the_frames_it_had(configure: Configure, frames: int) -> None:
    changes = {"bidirectional": False}
    weights, taken, fresh, note = fit(configure, changes, changes | {"lookahead_frames": frames})
    before, now = weights["lookahead.conv.weight"], taken["lookahead.conv.weight"]
    assert not fresh
    assert np.array_equal(now[..., :3], before[..., :frames])
    assert not now[..., 3:].any()
    assert note == f"\n  the lookahead has {frames} frames, 3 before"


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_same_view_takes_all_as_it_is(configure: Configure, bidirectional: bool) -> None:
    weights, taken, _, note = fit(configure, {"bidirectional": bidirectional}, {"bidirectional": bidirectional})
    assert note == ""
    assert all(taken[name] is array for name, array in weights.items())


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_network_for_streams_begins_with_a_two_sided_one_of_other_features(
    configure: Configure, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    changes = {"model.bidirectional": False, "features.normalization": "corpus", "training.epochs": 1}
    config = configure({**changes, "text.characters": "ABCDE "})
    train_here(config, pre_trained_model_path=str(finished_run / "best.ckpt"))
    shown = capsys.readouterr().err
    assert "of recurrent layers the forward direction" in shown
    assert shown.count("NEW, untrained") == 1
    assert "features: mean and deviation of each band from" in shown
    assert "its features are normalised by corpus, by utterance before" in shown
    assert load_checkpoint(Path(config.run_dir) / "best.ckpt").config.features.corpus_mean
    back = configure({"run_dir": f"{config.run_dir}_back", "training.epochs": 1, "text.characters": "ABCDE "})
    with pytest.raises(CheckpointError, match=r"bidirectional \(False, now True\); its weights"):
        train_here(back, pre_trained_model_path=str(Path(config.run_dir) / "best.ckpt"))


@pytest.mark.parametrize(
    ("changes", "noted"),
    [
        ({"text.characters": "ABCDE "}, "NEW, untrained: head"),
        ({"text.blank": "last"}, "rows of head went along"),
        ({"model.rnn_dropout": 0.5, "model.batch_norm_momentum": 0.9, "text.unknown_character": "drop"}, ""),
        ({"model.conv_stride_time": [1]}, "a frame each 10 ms, 20 ms before"),
    ],
)
def test_a_run_begins_with_the_weights_of_another(
    configure: Configure,
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    noted: str,
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.training.trainer import Trainer

    class Looked(BaseException):
        pass

    def look(self: Trainer, *_: Any) -> None:
        found.update({name: parameter.asnumpy().copy() for name, parameter in self.learner.network.weights().items()})
        raise Looked

    found: Arrays = {}
    monkeypatch.setattr(Trainer, "_take_step", look)
    with pytest.raises(Looked):
        train_here(configure(changes), pre_trained_model_path=str(finished_run / "best.ckpt"))
    shown = capsys.readouterr().err
    assert "starting from the weights of" in shown
    assert noted in shown
    start = load_checkpoint(finished_run / "best.ckpt").weights
    assert found.keys() == start.keys()
    differing = {name for name, array in start.items() if not np.array_equal(array, found[name])}
    assert differing == ({"head.weight"} if "head" in noted else set())


@pytest.mark.parametrize("frozen", [["convs", "head"], ["convs", "rnns", "head_batch_norm"]], ids=str)
def test_what_is_frozen_stays_to_the_bit_and_the_rest_moves(
    configure: Configure, finished_run: Path, capsys: pytest.CaptureFixture[str], frozen: list[str]
) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    config = configure({"training.freeze": frozen, "training.epochs": 1})
    train_here(config, pre_trained_model_path=str(finished_run / "best.ckpt"))
    start = load_checkpoint(finished_run / "best.ckpt").weights
    last = load_checkpoint(Path(config.run_dir) / "last.ckpt")
    stayed = {name for name, array in start.items() if np.array_equal(array, last.weights[name])}
    assert stayed == {name for name in start if name.split(".")[0] in frozen}
    moved = [name for name in start if name not in stayed and "moving" not in name]
    assert len(last.optimizer) == 2 * len(moved) + 2, "two moments for each trained weight, and none for the others"
    num_trained = sum(start[name].size for name in moved)
    assert f"frozen: {', '.join(frozen)}; {num_trained:,} parameters are trained" in capsys.readouterr().err


def test_random_weights_are_not_worth_freezing(configure: Configure) -> None:
    with pytest.raises(ConfigError, match=r"only random weights to keep; start from a checkpoint with --pre_trained"):
        train_here(configure({"training.freeze": ["convs"]}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.freeze": ["convs", "head"], "text.characters": "ABCDE "}, "freeze names head, but there are only"),
        ({"training.frozen_norm_share": 1.0, "model.bidirectional": False}, "no statistics to keep yet"),
    ],
    ids=["head", "norms"],
)
def test_neither_are_those_of_layers_that_begin_anew(
    configure: Configure, finished_run: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train_here(configure(changes), pre_trained_model_path=str(finished_run / "best.ckpt"))
