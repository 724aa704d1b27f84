"""The folder that `mindaudio-ds2 page` writes."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from mindaudio_ds2.browser import folder as page_folder
from mindaudio_ds2.browser.folder import ABOUT, MODEL, read_network, write_page
from mindaudio_ds2.commands import page
from mindaudio_ds2.config import to_mapping
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import replace_folder
from mindaudio_ds2.hparams import find_hparams
from mindaudio_ds2.portable.description import ENTRY

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

import onnx

from tests.portable.test_inspection import DESCRIPTION, make_model

RUNTIME = {"ort.js": b"runtime", "ort-wasm.js": b"glue", "ort-wasm.wasm": b"wasm"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    onnx.save(make_model(), path)
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, with a runtime that is at hand."""
    monkeypatch.setattr(page, "find_runtime", lambda source: RUNTIME)

    def run(*arguments: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["page", *map(str, arguments)])
        try:
            page.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def test_the_folder_holds_the_network_and_what_belongs_to_it(tmp_path: Path, model: Path, runs: Any) -> None:
    assert runs(model, tmp_path / "out") == 0
    assert (tmp_path / "out" / MODEL).read_bytes() == model.read_bytes()
    about = json.loads((tmp_path / "out" / ABOUT).read_text())
    assert about["name"] == "small"
    assert about["labels"] == ["", "A", "B", " "]
    assert about["num_bytes"] == model.stat().st_size
    assert (about["sample_rate_hz"], about["seconds_per_output_frame"], about["longest_seconds"]) == (16000, 0.02, 17.5)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "runtime").glob("ort*")} == RUNTIME
    assert "Microsoft" in next((tmp_path / "out" / "runtime").glob("LICENCE*")).read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small.onnx"]


def test_every_file_that_is_named_is_there(tmp_path: Path, model: Path, runs: Any) -> None:
    assert runs(model, tmp_path / "out") == 0
    index = (tmp_path / "out" / "index.html").read_text()
    named = [tmp_path / "out" / name for name in re.findall(r'(?:src|href)="([^"#]+)"', index)]
    for script in (tmp_path / "out" / "page").glob("*.js"):
        text = script.read_text()
        named += [script.parent / name for name in re.findall(r'from "(\.[^"]+)"', text)]
        named += [tmp_path / "out" / name for name in re.findall(r'addModule\("([^"]+)"\)', text)]
    assert len(named) > 15
    assert not [path for path in named if not path.is_file()]
    ids = set(re.findall(r'id="([^"]+)"', index))
    asked = set(re.findall(r'find\("([^"]+)"\)', (tmp_path / "out" / "page" / "app.js").read_text()))
    assert asked - ids == {"token"}


def test_the_policy_allows_nothing_but_the_folder(tmp_path: Path, model: Path, runs: Any) -> None:
    assert runs(model, tmp_path / "out") == 0
    index = (tmp_path / "out" / "index.html").read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', index)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    sources = {source for rule in rules.values() for source in rule.split()}
    assert sources == {"'none'", "'self'", "'wasm-unsafe-eval'", "blob:"}
    assert index.index("Content-Security-Policy") < index.index("<script")
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|https?:|<details", index)


def test_a_page_is_replaced_and_anything_else_is_not(tmp_path: Path, model: Path, runs: Any, capfd: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert runs(model, out, "--name", "first") == 0
    (out / "left.txt").write_text("of an older version")
    assert runs(model, out, "--name", "second") == 0
    assert json.loads((out / ABOUT).read_text())["name"] == "second"
    assert not (out / "left.txt").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert runs(model, mine) == 2
    assert runs(model, model) == 2
    assert "no page of this command; name another folder" in capfd.readouterr().err
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_a_network_that_the_page_cannot_run_is_refused(tmp_path: Path, model: Path, runs: Any, capfd: Any) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(model.read_bytes()[:-20])
    features = tmp_path / "features.onnx"
    changed = make_model()
    description = DESCRIPTION.to_json().replace('"input": "waveform"', '"input": "features"')
    changed.metadata_props[0].value = description
    onnx.save(changed, features)
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"x")
    for path, message in (
        (damaged, "damaged"),
        (features, "export it with --input waveform"),
        (checkpoint, "export.py --file_format ONNX"),
        (tmp_path / "missing.onnx", "missing.onnx cannot be read"),
    ):
        assert runs(path, tmp_path / "out") == 2
        assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def save_stream(path: Path, normalization: Literal["corpus", "utterance"]) -> Path:
    """A network for streams that computes next to nothing."""
    node, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    whole, real = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    mean, deviation = ([-5.0] * 80, [2.0] * 80) if normalization == "corpus" else ([], [])
    features = dataclasses.replace(
        DESCRIPTION.features, normalization=normalization, corpus_mean=mean, corpus_deviation=deviation
    )
    description = dataclasses.replace(
        DESCRIPTION,
        features=features,
        input="features",
        is_stream=True,
        network=to_mapping(read_config(find_hparams("an4_stream")).model),
    )
    graph = onnx.helper.make_graph(
        [
            node("MatMul", ["features", "weights"], ["logprobs"]),
            node("Identity", ["hidden_0"], ["next_hidden_0"]),
        ],
        "stream",
        [
            tensor("features", real, ["B", "T", 80]),
            tensor("first_frame", whole, [1]),
            tensor("num_frames", whole, [1]),
            tensor("hidden_0", real, [1, "B", 3]),
        ],
        [tensor("logprobs", real, ["B", "S", 4]), tensor("next_hidden_0", real, [1, "B", 3])],
        [onnx.numpy_helper.from_array(np.ones((80, 4), np.float32), "weights")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, {ENTRY: description.to_json()})
    onnx.save(model, path)
    return path


def test_a_network_for_streams_comes_with_what_computes_its_features(tmp_path: Path, runs: Any, capfd: Any) -> None:
    assert runs(save_stream(tmp_path / "stream.onnx", "corpus"), tmp_path / "out") == 0
    stream = json.loads((tmp_path / "out" / ABOUT).read_text())["stream"]
    assert stream["states"] == {"hidden_0": [1, 1, 3]}
    assert stream["time_stride"] == DESCRIPTION.time_stride
    assert len(stream["features"]["filters"]) == len(stream["features"]["mean"]) == 80
    assert runs(save_stream(tmp_path / "stream.onnx", "utterance"), tmp_path / "out") == 2
    assert "export it without --stream" in capfd.readouterr().err


def test_an_interruption_leaves_the_old_page(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_network(model)
    write_page(tmp_path / "out", "old", network, RUNTIME)

    def fail(*arguments: Any) -> Any:
        yield "index.html", b"new"
        raise KeyboardInterrupt

    monkeypatch.setattr(page_folder, "_list_files", fail)
    with pytest.raises(KeyboardInterrupt):
        write_page(tmp_path / "out", "new", network, RUNTIME)
    assert json.loads((tmp_path / "out" / ABOUT).read_text())["name"] == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small.onnx"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        replace_folder(tmp_path / "file" / "out", lambda partial: None)
