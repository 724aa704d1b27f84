"""Model files are measured beside each other: what is read from them, and what becomes of their turns."""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.errors import CheckpointError, ConfigError
from recipes.benchmark import apart, benchmark_models
from recipes.benchmark.benchmark_browser import keep
from recipes.benchmark.model_files import describe_file

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("fp32", "fp16", "int8")


def make_result(steps: list[float], **changes: Any) -> apart.Result:
    about = {"kind": "onnxruntime", "num_parameters": 1234567, "zeros_share": 0.25, "bytes": 98765}
    result = {"first_seconds": 1.5, "step_seconds": steps, "others_share": 0.01}
    result["processor_seconds"] = [0.5 * seconds for seconds in steps]
    scores = {"dev": {"wer": 0.0625, "decoder": "greedy"}, "test": {"wer": 0.05, "decoder": "beam 100, weight 0.75"}}
    return {**about, **result, "scores": scores, **changes}


def make_options(tmp_path: Path, *names: str) -> argparse.Namespace:
    options = {"models": list(names), "manifest": None, "seconds": 10.0, "threads": 1, "num_steps": 2, "rounds": 2}
    options |= {"pytorch": False, "int8": False}
    return argparse.Namespace(**options, browser=tmp_path / "browser.jsonl")


def test_zeros_parameters_and_scores_are_read_from_any_file(tmp_path: Path, mindspore_cpu: None) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from mindspore import Tensor

    from mindaudio_ds2.checkpoint import build_network, load_checkpoint, save_checkpoint
    from mindaudio_ds2.export.onnx_model import OnnxForm, build_onnx
    from mindaudio_ds2.model.deepspeech2 import count_parameters
    from tests import cells

    config = dataclasses.replace(read_config(ROOT / "hparams" / "an4.yaml"), model=cells.SMALL)
    network, generator = build_network(config), np.random.default_rng(1)
    num_zeros = num_all = 0
    for parameter in network.weights().values():
        if parameter.ndim > 1:
            values = np.sign(parameter.asnumpy()) + 2.0  # not near zero, so that eight bits make no more of them
            values[generator.random(values.shape) < 0.75] = 0
            parameter.set_data(Tensor(values.astype(np.float32)))
            num_zeros, num_all = num_zeros + int((values == 0).sum()), num_all + values.size
    checkpoint = tmp_path / "best.ckpt"
    save_checkpoint(checkpoint, config, network.weights(), {}, {})
    scores = {"test": {"wer": 0.125, "decoder": "greedy"}}
    files = {kind: tmp_path / f"{kind}.onnx" for kind in KINDS}
    for kind, path in files.items():
        onnx.save(build_onnx(load_checkpoint(checkpoint), OnnxForm(weights=kind), scores), path)  # type: ignore[arg-type]
    for path in (checkpoint, *files.values()):
        found = describe_file(path)
        assert found["num_parameters"] == count_parameters(network)
        assert found["zeros_share"] == pytest.approx(num_zeros / num_all, abs=1e-3), path
        assert found["bytes"] == path.stat().st_size
        assert found["scores"] == ({} if path == checkpoint else scores)
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, 0.1 * generator.standard_normal(8000), 16000)
    job = {"model": str(files["int8"]), "sound": str(sound), "num_steps": 4, "num_threads": 1, "is_first": False}
    job["way"] = "as it is"
    result = benchmark_models.measure(json.dumps({**job, "manifest": None, "started": time.monotonic()}))
    assert len(result["step_seconds"]) == 4
    assert min(result["step_seconds"]) > 0
    assert result["first_seconds"] > result["step_seconds"][0]


def test_files_take_turns_and_one_that_fails_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(tmp_path / name) for name in ("a.onnx", "b.ckpt", "c.onnx")]
    for name in names:
        Path(name).touch()
    turns = []

    def ask(_: Path, text: str) -> apart.Result:
        job = json.loads(text)
        turns.append((Path(job["model"]).name, job["is_first"]))
        if job["model"] == names[2]:
            return {"failure": "it is | damaged"}
        return make_result([0.020, 0.022] if job["is_first"] else [0.026, 0.040])

    about = {"commit": "abc", "dirty": False, "cpu": "any", "mindspore_version": "2"}
    monkeypatch.setattr(apart, "ask", ask)
    monkeypatch.setattr(apart, "describe_environment", lambda: about)
    monkeypatch.setattr(benchmark_models, "keep_to", lambda _: None)
    for factors in ([0.9], [0.3, 0.05, 0.06]):
        keep(tmp_path / "browser.jsonl", Path(names[0]), factors, [each / 3 for each in factors], 2.0)
    lines = benchmark_models.run(make_options(tmp_path, *names))
    assert [name for name, is_first in turns if is_first] == ["a.onnx", "b.ckpt", "c.onnx"]
    assert [name for name, is_first in turns if not is_first] == ["a.onnx", "b.ckpt"]
    assert (lines[0]["milliseconds"], lines[0]["milliseconds_quartiles"]) == (24.0, [21.5, 29.5])
    assert (lines[0]["browser_milliseconds"], lines[1]["browser_milliseconds"]) == (600.0, None)
    assert (lines[0]["browser_processor_milliseconds"], lines[0]["processor_milliseconds"]) == (200.0, 12.0)
    assert lines[2]["failure"] == "it is | damaged"
    head, _, *rows = benchmark_models.make_table(lines).splitlines()[:5]
    assert all(row.replace("\\|", "").count("|") == head.count("|") for row in rows)
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[1:5] == ["1,234,567", "25.0%", "98,765", ""]
    assert cells[5:] == [
        "",
        "12.0; 24.0 (21.5–29.5)",
        "200; 600",
        "1.5 s",
        "6.25 % (dev), 5.00 % (test, beam 100)",
        "1%",
    ]


def test_checkpoints_take_turns_in_eight_bits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(tmp_path / name) for name in ("a.ckpt", "b.onnx")]
    for name in names:
        Path(name).touch()

    def ask(_: Path, text: str) -> apart.Result:
        return make_result([0.02 if json.loads(text)["way"] == "int8" else 0.04])

    about = {"commit": "abc", "dirty": False, "cpu": "any", "mindspore_version": "2"}
    monkeypatch.setattr(apart, "ask", ask)
    monkeypatch.setattr(apart, "describe_environment", lambda: about)
    monkeypatch.setattr(benchmark_models, "keep_to", lambda _: None)
    options = make_options(tmp_path, *names)
    options.int8, options.browser = True, None
    lines = benchmark_models.run(options)
    assert [line["model"] for line in lines] == [names[0], f"{names[0]}, --weights int8", names[1]]
    assert [line["milliseconds"] for line in lines] == [40, 20, 40]


def test_a_busy_machine_is_named() -> None:
    line = benchmark_models.combine([make_result([0.02], others_share=0.4)])
    about: apart.Result = {"model": "a.onnx", "browser_milliseconds": None, "browser_processor_milliseconds": None}
    about |= {"seconds": 10.0, "num_threads": 1, "cpu": "any"}
    assert "40%, busy machine" in benchmark_models.make_table([{**about, **line}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": math.nan}, "--seconds is nan"),
        ({"rounds": 0}, "--rounds is 0"),
        ({"threads": 10_000}, "cores that this process may use"),
        ({"output": Path("table.md")}, "name a .jsonl"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    options = argparse.Namespace(**{**vars(make_options(tmp_path, "a.onnx")), "output": None, **changes})
    with pytest.raises(ConfigError, match=message):
        benchmark_models.check(options)


def test_files_that_cannot_be_read_are_found_before_any_turn(tmp_path: Path) -> None:
    options = make_options(tmp_path, str(tmp_path / "none.ckpt"))
    with pytest.raises(CheckpointError, match=r"none\.ckpt does not exist"):
        benchmark_models.run(options)
    for content in (None, "no JSON", '{"other": 1}', "[]"):
        if content is not None:
            options.browser.write_text(content)
        with pytest.raises(ConfigError, match=r"--browser .*benchmark_browser\.py --output"):
            benchmark_models.read_browser(options.browser)


@pytest.mark.parametrize("is_bidirectional", [True, False])
def test_pytorch_recognises_what_the_checkpoint_does(
    tmp_path: Path, is_bidirectional: bool, mindspore_cpu: None
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from mindspore import Tensor

    from mindaudio_ds2.checkpoint import build_network, save_checkpoint
    from mindaudio_ds2.recognition import CheckpointNetwork
    from recipes.benchmark.torch_model import TorchModel, unpack_apart
    from tests import cells

    model = dataclasses.replace(cells.SMALL, bidirectional=is_bidirectional)
    config = dataclasses.replace(read_config(ROOT / "hparams" / "an4.yaml"), model=model)
    network, generator = build_network(config), np.random.default_rng(1)
    for name, parameter in network.weights().items():
        if "moving" in name:  # a network that was trained
            parameter.set_data(Tensor(generator.uniform(0.5, 2.0, parameter.shape).astype(np.float32)))
    save_checkpoint(tmp_path / "best.ckpt", config, network.weights(), {}, {})
    unpack_apart(tmp_path / "best.ckpt", tmp_path / "best.npz")
    waveforms = [0.1 * generator.standard_normal(size).astype(np.float32) for size in (16000, 9000)]
    ours, lengths = CheckpointNetwork(tmp_path / "best.ckpt").recognize(waveforms)
    model_in_torch = TorchModel(tmp_path / "best.npz", 1)
    theirs, their_lengths = model_in_torch.recognize(waveforms)
    assert [batch.indices for batch in model_in_torch.plan([1.0, 0.5])] == [(1, 0)]
    np.testing.assert_array_equal(lengths, their_lengths)
    for row, their_row, length in zip(ours, theirs, lengths, strict=True):
        np.testing.assert_allclose(row[:length], their_row[:length], atol=1e-4)
