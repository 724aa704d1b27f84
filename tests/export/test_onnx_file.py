"""ONNX files against the network of MindSpore, on random weights of several configurations."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import CheckpointError, ManifestError
from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.network_config import FeatureConfig
from mindaudio_ds2.portable.network import OnnxNetwork
from mindaudio_ds2.portable.stream import OnnxStreamingNetwork

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytestmark = pytest.mark.usefixtures("mindspore_cpu")

ROOT = Path(__file__).resolve().parent.parent.parent
NETWORKS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru, biases": {"rnn_type": "gru", "conv_bias": True, "head_bias": True},
    "forward, stride 4": {"bidirectional": False, "conv_stride_time": [2, 2]},
    "forward gru, tanh, no norms": {
        "rnn_type": "gru",
        "bidirectional": False,
        "activation": "tanh",
        "conv_stride_time": [1, 1],
        "rnn_batch_norm": False,
        "head_batch_norm": False,
    },
    "forward, stride 3": {"bidirectional": False, "conv_stride_time": [3, 1], "conv_kernel_time": [11, 7]},
}
FEATURES = {"log_mel": "an4", "log_spectrogram": "deepspeech2"}

MEL = FeatureConfig(16000, "log_mel", "hann", 0.025, 0.01, 512, 80, "speech", [], [])
LINEAR = FeatureConfig(16000, "log_spectrogram", "hamming", 0.02, 0.01, 320, 80, "speech", [], [])
NORMALIZED = {
    f"{normalization} {config.kind}": dataclasses.replace(
        config,
        normalization=normalization,
        corpus_mean=[-5.0] * config.num_bins if normalization == "corpus" else [],
        corpus_deviation=np.linspace(2, 4, config.num_bins).tolist() if normalization == "corpus" else [],
    )
    for normalization in ("speech", "corpus")
    for config in (MEL, LINEAR)
}


def make_checkpoint(features: str, network: dict[str, Any]) -> Any:
    from mindaudio_ds2.checkpoint import Checkpoint, build_network
    from tests import cells

    config = read_config(ROOT / "hparams" / f"{FEATURES[features]}.yaml")
    config = dataclasses.replace(config, model=dataclasses.replace(cells.SMALL, **network))
    built = build_network(config)
    generator = np.random.default_rng(3)
    for norm in built.batch_norms():
        shape = norm.beta.shape
        cells.write(
            norm,
            {
                "moving_mean": generator.normal(size=shape),
                "moving_variance": generator.uniform(0.2, 1, shape),
                "gamma": generator.uniform(0.5, 1.5, shape),
                "beta": generator.normal(size=shape),
            },
        )
    return Checkpoint(config, {name: parameter.asnumpy() for name, parameter in built.weights().items()})


def make_waveforms() -> list[NDArray[np.float32]]:
    """Of several lengths, also of one sample, and silent."""
    generator = np.random.default_rng(1)
    sizes = (16000, 4321, 160, 1, 31999)
    noises = [generator.standard_normal(n) * 0.1 * np.abs(np.sin(np.arange(n) / 3000)) ** 3 for n in sizes]
    return [*(noise.astype(np.float32) for noise in noises), np.zeros(5000, np.float32)]


def recognise_with_mindspore(checkpoint: Any, features: list[NDArray[Any]], kernels: Path) -> list[NDArray[Any]]:
    from mindaudio_ds2.checkpoint import restore_network
    from mindaudio_ds2.model.deepspeech2 import Recognizer, feature_signature
    from tests import cells

    recognizer = Recognizer(restore_network(checkpoint, "test", Backend(kernels)))
    recognizer.set_train(False)
    recognizer.set_inputs(*feature_signature(checkpoint.config.features.num_bins))
    lengths = np.array([*map(len, features)], np.int32)
    padded = np.zeros((len(features), lengths.max(), features[0].shape[1]), np.float32)
    for row, frames in zip(padded, features, strict=True):
        row[: len(frames)] = frames
    log_probs, lengths = cells.run(recognizer, padded, lengths)
    return [row[:length] for row, length in zip(log_probs, lengths, strict=True)]


def save(path: Path, checkpoint: Any, **form: Any) -> Path:
    from mindaudio_ds2.export.onnx_model import OnnxForm, build_onnx

    onnx.save(build_onnx(checkpoint, OnnxForm(**form), {}), path)
    return path


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("network", NETWORKS)
def test_log_probabilities_are_those_of_the_checkpoint(
    network: str, features: str, kernels: Path, tmp_path: Path
) -> None:
    """Side by side and alone; from waveforms and from features; whole and in chunks of any size."""
    checkpoint, waveforms = make_checkpoint(features, NETWORKS[network]), make_waveforms()
    computed = [compute_features(waveform, checkpoint.config.features) for waveform in waveforms]
    expected = recognise_with_mindspore(checkpoint, computed, kernels)
    for kind in ("waveform", "features"):
        whole = OnnxNetwork(save(tmp_path / f"{kind}.onnx", checkpoint, input=kind), 1)
        log_probs, lengths = whole.recognize(waveforms)
        assert lengths.tolist() == [*map(len, expected)]
        for row, waveform, ours in zip(log_probs, waveforms, expected, strict=True):
            np.testing.assert_allclose(row[: len(ours)], ours, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(whole.recognize([waveform])[0][0], ours, rtol=1e-4, atol=1e-4)
    if checkpoint.config.model.bidirectional:
        return
    streaming = OnnxStreamingNetwork(save(tmp_path / "stream.onnx", checkpoint, input="features", is_stream=True))
    for frames, ours in zip(computed, expected, strict=True):
        for size in (1, 7, 64, 1000):
            stream = streaming.start_stream()
            parts = [stream.feed(frames[i : i + size]) for i in range(0, len(frames), size)]
            np.testing.assert_allclose(np.concatenate([*parts, stream.finish()]), ours, rtol=1e-4, atol=1e-4)
    assert_same_side_by_side(streaming, computed, expected)


def assert_same_side_by_side(streaming: OnnxStreamingNetwork, computed: list[Any], expected: list[Any]) -> None:
    """The second begins when the first is under way; the third has longer chunks."""
    streams = [streaming.start_stream() for _ in computed]
    found: list[list[Any]] = [[] for _ in computed]
    sizes = [7 + 40 * (i % 2) for i in range(len(computed))]
    for turn in range(max(map(len, computed)) // min(sizes) + 9 * len(computed)):
        chunks = [
            rows[max(0, turn - 9 * i) * size :][:size]
            for i, (rows, size) in enumerate(zip(computed, sizes, strict=True))
        ]
        chunks = [chunk[: len(chunk) * (turn >= 9 * i)] for i, chunk in enumerate(chunks)]
        for parts, log_probs in zip(found, streaming.feed_together(streams, chunks), strict=True):
            parts.append(log_probs)
    for parts, stream, ours in zip(found, streams, expected, strict=True):
        np.testing.assert_allclose(np.concatenate([*parts, stream.finish()]), ours, atol=1e-4)


@pytest.mark.parametrize("name", NORMALIZED)
def test_features_relative_to_the_level_are_those_of_numpy(name: str) -> None:
    """Side by side, whatever stands beyond the lengths, and alone."""
    import onnxruntime

    from mindaudio_ds2.export.frontend import add_features
    from mindaudio_ds2.export.graph import Graph

    config, graph = NORMALIZED[name], Graph()
    graph.add_input("waveforms", onnx.TensorProto.FLOAT, ["B", "L"])
    graph.add_input("lengths", onnx.TensorProto.INT64, ["B"])
    features, lengths = add_features(graph, "waveforms", "lengths", config)
    graph.add_output(features, "features", onnx.TensorProto.FLOAT, ["B", config.num_bins, "T"])
    graph.add_output(lengths, "frames", onnx.TensorProto.INT64, ["B"])
    session = onnxruntime.InferenceSession(graph.to_model().SerializeToString())
    waveforms = [*make_waveforms(), make_waveforms()[0] * 0.01 + 0.3, np.ones(401, np.float32)]
    sizes = np.array([*map(len, waveforms)])
    padded = np.full((len(waveforms), sizes.max() + 777), np.nan, np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    together, frames = session.run(None, {"waveforms": padded, "lengths": sizes})
    for row, count, waveform in zip(together, frames, waveforms, strict=True):
        expected = compute_features(waveform, config).T
        np.testing.assert_allclose(row[:, :count], expected, atol=2e-3)
        assert not row[:, count:].any()
        alone, _ = session.run(None, {"waveforms": waveform[None], "lengths": np.array([len(waveform)])})
        np.testing.assert_allclose(alone[0], expected, atol=2e-3)


def test_what_stands_beyond_a_length_changes_nothing(kernels: Path, tmp_path: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(save(tmp_path / "m.onnx", make_checkpoint("log_mel", {})))
    waveforms = np.zeros((2, 8000), np.float32)
    waveforms[:, :4000] = make_waveforms()[0][:4000]
    waveforms[1, 4000:] = np.nan
    log_probs, lengths = session.run(None, {"waveforms": waveforms, "waveforms_lens": np.array([4000, 4000])})
    np.testing.assert_array_equal(log_probs[0, : lengths[0]], log_probs[1, : lengths[1]])


@pytest.mark.parametrize("network", ["lstm", "gru, biases", "forward, stride 4"])
@pytest.mark.parametrize(("weights", "tolerance", "share"), [("fp16", 2e-3, 0.6), ("int8", 1.0, 0.45)])
def test_smaller_weights_give_a_smaller_file_and_nearly_the_same_numbers(
    network: str, weights: str, tolerance: float, share: float, tmp_path: Path
) -> None:
    changes = NETWORKS[network] | {"rnn_hidden_size": 96}
    checkpoint, waveforms = make_checkpoint("log_mel", changes), make_waveforms()
    full_path, small_path = save(tmp_path / "full.onnx", checkpoint), tmp_path / "small.onnx"
    save(small_path, checkpoint, weights=weights)
    assert small_path.stat().st_size < share * full_path.stat().st_size
    (full, lengths), (small, _) = (
        OnnxNetwork(full_path, 1).recognize(waveforms),
        OnnxNetwork(small_path, 1).recognize(waveforms),
    )
    difference = max(np.abs(a[:n] - b[:n]).max() for a, b, n in zip(full, small, lengths, strict=True))
    assert 0 < difference < tolerance


def test_a_stream_of_eight_bits_equals_any_other_cut(tmp_path: Path) -> None:
    """Rounding depends on the chunk, a little; the number of frames does not."""
    checkpoint = make_checkpoint("log_mel", {"bidirectional": False, "rnn_hidden_size": 32})
    path = save(tmp_path / "s.onnx", checkpoint, input="features", is_stream=True, weights="int8")
    one, other = OnnxStreamingNetwork(path).start_stream(), OnnxStreamingNetwork(path).start_stream()
    frames = compute_features(make_waveforms()[0], checkpoint.config.features)
    whole = np.concatenate([one.feed(frames), one.finish()])
    cut = np.concatenate([*(other.feed(frames[i : i + 16]) for i in range(0, len(frames), 16)), other.finish()])
    assert whole.shape == cut.shape
    np.testing.assert_allclose(whole, cut, atol=0.5)


# Through the verb's function, on a network that has learnt something ------------------------------------------------


@pytest.fixture
def checkpoint(learned_run: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return Path(shutil.copy(learned_run / "last.ckpt", folder))


def test_every_kind_of_weights_is_written_compared_and_described(checkpoint: Path, tmp_path: Path) -> None:
    from mindaudio_ds2.export.onnx_file import export_onnx
    from mindaudio_ds2.export.onnx_model import OnnxForm

    score = {"wer": 0.0, "cer": 0.0, "num_utterances": 7, "num_words": 12, "decoder": "greedy", "date": "2026-11-29"}
    summary = {"checkpoint": str(checkpoint), "split": "test", **score}
    (checkpoint.parent / "eval_test.json").write_text(json.dumps(summary), encoding="utf-8")
    for weights in ("fp32", "fp16", "int8"):
        written = export_onnx(checkpoint, tmp_path / "out", OnnxForm(weights=weights, licence="CC0-1.0"), None, 0.02)
        assert written.path.stat().st_size == written.num_bytes
        assert weights == "fp32" or written.wer == written.full_wer == 0.0
        description = OnnxNetwork(written.path, 1).description
        assert (description.weights, description.licence) == (weights, "CC0-1.0")
        assert description.scores == {"test": score}
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["model.fp16.onnx", "model.int8.onnx", "model.onnx", "vocab.txt"]
    vocabulary = (tmp_path / "out" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert vocabulary == ["<blk> 0", "A 1", "B 2", "C 3", "D 4", "\u2581 5"]


def test_a_file_that_differs_is_not_left_behind(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.export import layers, onnx_file
    from mindaudio_ds2.export.onnx_model import OnnxForm

    monkeypatch.setitem(layers.GATES, "lstm", (0, 1, 2, 3))
    with pytest.raises(CheckpointError, match="differs from the network by"):
        onnx_file.export_onnx(checkpoint, tmp_path / "out", OnnxForm())
    assert not list((tmp_path / "out").iterdir())


def test_smaller_weights_that_make_more_errors_are_not_left_behind(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.export import compression, onnx_file
    from mindaudio_ds2.export.onnx_model import OnnxForm

    whole = compression.numpy_helper.from_array

    def spoil(values: NDArray[Any], name: str) -> Any:
        return whole(np.zeros_like(values) if values.dtype == np.float16 else values, name)

    monkeypatch.setattr(compression.numpy_helper, "from_array", spoil)
    with pytest.raises(CheckpointError, match=r"fp16 weights raise the word error rate from 0\.00 to \d+"):
        onnx_file.export_onnx(checkpoint, tmp_path / "out", OnnxForm(weights="fp16"))
    assert not list((tmp_path / "out").iterdir())


def test_smaller_weights_want_a_manifest(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.export import onnx_file
    from mindaudio_ds2.export.onnx_model import OnnxForm

    loaded = load_checkpoint(checkpoint)
    data = dataclasses.replace(loaded.config.data, dev_manifest="gone.jsonl")
    moved = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, data=data))
    monkeypatch.setattr(onnx_file, "load_checkpoint", lambda path: moved)
    with pytest.raises(ManifestError, match=r"gone\.jsonl, which .* is not here; name a manifest with --manifest"):
        onnx_file.export_onnx(checkpoint, tmp_path / "out", OnnxForm(weights="int8"))


def test_a_stream_of_a_network_that_looks_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="without a backward direction"):
        save(tmp_path / "s.onnx", make_checkpoint("log_mel", {}), input="features", is_stream=True)


def test_an_onnx_file_transcribes_what_its_checkpoint_does(checkpoint: Path, corpus: Path, tmp_path: Path) -> None:
    from mindaudio_ds2.export.onnx_file import export_onnx
    from mindaudio_ds2.export.onnx_model import OnnxForm
    from mindaudio_ds2.transcribe import Recognizer

    written = export_onnx(checkpoint, tmp_path, OnnxForm())
    paths = [Path(utterance.audio_path) for utterance in read_manifest(corpus / "test.jsonl")]
    ours, theirs = Recognizer.load(checkpoint).run(paths), Recognizer.load(written.path).run(paths)
    for expected, found in zip(ours.transcriptions, theirs.transcriptions, strict=True):
        assert expected.hypothesis is not None
        assert found.hypothesis is not None
        assert found.hypothesis.text == expected.hypothesis.text
        for word, expected_word in zip(found.hypothesis.words, expected.hypothesis.words, strict=True):
            assert (word.text, word.start_seconds) == (expected_word.text, expected_word.start_seconds)
            assert word.end_seconds == expected_word.end_seconds
            assert word.confidence == pytest.approx(expected_word.confidence, abs=1e-4)
        assert found.hypothesis.score == pytest.approx(expected.hypothesis.score, abs=1e-3)
