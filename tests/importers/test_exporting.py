"""Weights written for other projects: there and back again, bit by bit, or a list of what does not fit."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.errors import CheckpointError, OutputError
from tests.importers import foreign
from tests.importers.foreign import DEEPSPEECH_PYTORCH, MINDSPORE, Case

torch = pytest.importorskip("torch", reason="PyTorch is an extra")
pytestmark = pytest.mark.usefixtures("mindspore_cpu")

LSTM = DEEPSPEECH_PYTORCH[0]


def save_ours(path: Path, model: dict[str, Any], **sections: dict[str, Any]) -> Path:
    """A checkpoint of ours with a new network, like the template's but for these values."""
    from mindaudio_ds2.checkpoint import build_network, save_checkpoint
    from tests.importers import ours

    config = ours.read_template()
    small = {"rnn_num_layers": 2, "rnn_hidden_size": 4} | model
    changed = {name: dataclasses.replace(getattr(config, name), **values) for name, values in sections.items()}
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **small), **changed)
    save_checkpoint(path, config, build_network(config).weights(), {}, {})
    return path


@pytest.mark.parametrize("case", DEEPSPEECH_PYTORCH, ids=lambda case: case.key)
def test_what_came_from_deepspeech_pytorch_goes_back_bit_by_bit(case: Case, tmp_path: Path) -> None:
    from mindaudio_ds2.importers.exporting import export_weights
    from tests.importers import ours

    ours.run_import(ours.write(tmp_path, case))
    export_weights(tmp_path / "ours.ckpt", tmp_path / "back.pth", "deepspeech.pytorch")
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    state, expected = content["state_dict"], foreign.make_weights(case)
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert state.keys() - counters == expected.keys()
    assert counters == {n.replace("running_mean", "num_batches_tracked") for n in expected if "running_mean" in n}
    for name, array in expected.items():
        assert np.array_equal(state[name].numpy(), array), name
    assert content["hyper_parameters"]["labels"] == foreign.make_labels(case.project)
    assert json.loads((tmp_path / "back.labels.json").read_text()) == foreign.make_labels(case.project)


@pytest.mark.parametrize("name", ["mindaudio", "model_zoo"])
def test_what_came_from_the_mindspore_projects_goes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    import mindspore as ms

    from mindaudio_ds2.importers.exporting import export_weights
    from tests.importers import ours

    ours.run_import(ours.write(tmp_path, MINDSPORE), format=name)
    export_weights(tmp_path / "ours.ckpt", tmp_path / "back.ckpt", name)
    content = {key: value.asnumpy() for key, value in ms.load_checkpoint(str(tmp_path / "back.ckpt")).items()}
    expected = foreign.make_weights(MINDSPORE)
    assert content.keys() == expected.keys()
    for key, array in expected.items():
        assert np.array_equal(content[key], array), key


def test_everything_comes_back_from_an_exported_file_alone(tmp_path: Path) -> None:
    """Ours to theirs to ours, with an alphabet, features and sizes that are not the defaults."""
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.importers.exporting import export_weights
    from tests.importers import ours

    features = {"sample_rate_hz": 8000, "window": "hann", "window_seconds": 0.04, "hop_seconds": 0.02, "fft_size": 320}
    text = {"characters": "abc '", "blank": "last", "letter_case": "lower"}
    model = {"conv_bias": True, "rnn_type": "gru", "bidirectional": False, "lookahead_frames": 7}
    source = save_ours(tmp_path / "a.ckpt", model, features=features, text=text)
    export_weights(source, tmp_path / "theirs.ckpt", "deepspeech.pytorch")
    imported = ours.run_import(tmp_path / "theirs.ckpt")
    before, after = load_checkpoint(source), load_checkpoint(tmp_path / "ours.ckpt")
    assert imported.assumed == []
    assert (after.config.features, after.config.text, after.config.model) == (
        before.config.features,
        before.config.text,
        before.config.model,
    )
    assert all(np.array_equal(after.weights[name], array) for name, array in before.weights.items())


def test_a_network_without_bias_before_its_norms_gets_zeros(tmp_path: Path) -> None:
    from mindaudio_ds2.importers.exporting import export_weights

    export_weights(save_ours(tmp_path / "a.ckpt", {"conv_bias": False}), tmp_path / "b.pth", "deepspeech.pytorch")
    state = torch.load(tmp_path / "b.pth", weights_only=True)["state_dict"]
    assert not state["conv.seq_module.0.bias"].any()
    assert state.keys() >= foreign.list_shapes(dataclasses.replace(LSTM, hidden=4)).keys()


def test_the_blank_is_last_in_files_of_the_mindspore_projects(tmp_path: Path) -> None:
    import mindspore as ms

    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.importers.exporting import export_weights

    model = {"activation": "tanh", "rnn_batch_norm": False, "head_batch_norm": False}
    source = save_ours(tmp_path / "a.ckpt", model)
    assert load_checkpoint(source).config.text.blank == "first"
    exported = export_weights(source, tmp_path / "b.ckpt", "model_zoo")
    assert exported.labels == foreign.make_labels("mindspore")
    theirs = ms.load_checkpoint(str(tmp_path / "b.ckpt"))["fc.module.weight"].asnumpy()
    mine = load_checkpoint(source).weights["head.weight"]
    assert np.array_equal(theirs, np.roll(mine, -1, axis=0))


def test_all_differences_are_listed_and_nothing_is_written(tmp_path: Path) -> None:
    from mindaudio_ds2.importers.exporting import export_weights

    model = {"bidirectional": False, "rnn_type": "gru", "conv_channels": [8, 8], "head_bias": True}
    features = {"kind": "log_mel", "fft_size": 512}
    source = save_ours(tmp_path / "a.ckpt", model, features=features)
    with pytest.raises(CheckpointError) as raised:
        export_weights(source, tmp_path / "b.ckpt", "mindaudio")
    message = str(raised.value)
    keys = {line.split()[0].removeprefix("model.") for line in message.splitlines()[1:]}
    assert keys == {
        *model, "activation", "rnn_batch_norm", "head_batch_norm",
        "features.kind", "features.fft_size", "features.window",
    }  # fmt: skip
    assert "MindAudio has 'tanh'" in message
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_character_that_stands_for_the_blank_there_is_refused(tmp_path: Path) -> None:
    from mindaudio_ds2.importers.exporting import export_weights

    source = save_ours(tmp_path / "a.ckpt", {}, text={"characters": "AB_"})
    with pytest.raises(CheckpointError, match="'_'"):
        export_weights(source, tmp_path / "b.pth", "deepspeech.pytorch")


def test_outputs_that_would_go_wrong_are_refused(tmp_path: Path) -> None:
    from mindaudio_ds2.importers.exporting import export_weights

    source = save_ours(tmp_path / "a.ckpt", {})
    for output, name in ((source, "deepspeech.pytorch"), (tmp_path / "b.pth", "mindaudio")):
        with pytest.raises(OutputError, match="ends with .ckpt|one of the inputs"):
            export_weights(source, output, name)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match=r"cannot write .*file/b\.pth"):
        export_weights(source, tmp_path / "file" / "b.pth", "deepspeech.pytorch")
