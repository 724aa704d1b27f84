"""The exported graph against the live network, here and in a program that has nothing but the two files."""

import dataclasses
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.config_reader import from_mapping, read_config
from mindaudio_ds2.decoding.greedy import decode_greedy
from mindaudio_ds2.errors import CheckpointError, OutputError
from mindaudio_ds2.network_config import FeatureConfig
from mindaudio_ds2.text.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

ROOT = Path(__file__).resolve().parent.parent.parent
Recognise = Callable[..., list[NDArray[Any]]]


def save_checkpoint_of(folder: Path, features: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A checkpoint of a small network whose running statistics are not those it began with."""
    import mindspore as ms

    from mindaudio_ds2.checkpoint import build_network, save_checkpoint
    from tests import cells

    ms.set_seed(5)
    config = read_config(ROOT / "hparams" / "deepspeech2.yaml")
    config = dataclasses.replace(
        config,
        text=dataclasses.replace(config.text, characters="'ABC ÄÖ", blank="last"),
        features=dataclasses.replace(config.features, **features or {}),
        model=dataclasses.replace(cells.SMALL, conv_stride_time=[2, 2], **changes),
    )
    network = build_network(config)
    generator = np.random.default_rng(3)
    for norm in network.batch_norms():
        mean, variance = generator.normal(size=norm.moving_mean.shape), generator.uniform(0.2, 1, norm.beta.shape)
        cells.write(norm, {"moving_mean": mean, "moving_variance": variance})
    save_checkpoint(folder / "best.ckpt", config, network.weights(), {}, {})
    return folder / "best.ckpt"


def load_network(checkpoint: Path) -> Recognise:
    """The live network of a checkpoint, for any shapes."""
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
    from mindaudio_ds2.model.deepspeech2 import Recognizer
    from tests import cells

    loaded = load_checkpoint(checkpoint)
    recognizer = Recognizer(restore_network(loaded, "best.ckpt")).prepare(loaded.config.features.num_bins)
    return lambda *arrays: cells.run(recognizer, *arrays)


@dataclasses.dataclass(frozen=True)
class Exported:
    """A checkpoint, where it was exported to, what `export` said, and the live network."""

    checkpoint: Path
    folder: Path
    written: dict[str, Any]
    recognise: Recognise


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, mindspore_cpu: None) -> Exported:
    from mindaudio_ds2.export.mindir import export

    run = tmp_path_factory.mktemp("export") / "runs" / "an4"
    checkpoint = save_checkpoint_of(run)
    return Exported(checkpoint, run / "export", export(checkpoint, run / "export"), load_network(checkpoint))


def test_two_files_are_written_for_all_to_read(exported: Exported) -> None:
    assert sorted(path.name for path in exported.folder.iterdir()) == ["model.json", "model.mindir"]
    for path in exported.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert exported.written["path"] == str(exported.folder / "model.mindir")
    assert 0 <= exported.written["largest_difference"] < 1e-4


def test_the_description_holds_what_belongs_to_the_network(exported: Exported) -> None:
    about = json.loads((exported.folder / "model.json").read_text(encoding="utf-8"))
    features = from_mapping(about["features"], "model.json", FeatureConfig)
    assert features == read_config(ROOT / "hparams" / "deepspeech2.yaml").features
    assert about["labels"] == [*"'ABC ÄÖ", ""]
    assert about["blank_id"] == 7
    assert about["seconds_per_output_frame"] == pytest.approx(4 * features.hop_seconds)
    assert {**about, "path": exported.written["path"]} == exported.written


RELOAD = """
import sys
import mindspore as ms
import numpy as np
cases = np.load(sys.argv[2])
graph = ms.nn.GraphCell(ms.load(sys.argv[1]))
outputs = {}
for i in range(len(cases.files) // 2):
    log_probs, lengths = graph(ms.Tensor(cases[f"features{i}"]), ms.Tensor(cases[f"lengths{i}"]))
    outputs |= {f"log_probs{i}": log_probs.asnumpy(), f"lengths{i}": lengths.asnumpy()}
np.savez(sys.argv[3], **outputs)
"""


@pytest.fixture(scope="module")
def reloaded(exported: Exported) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], str]:
    """Cases, what another program makes of them, and what the documentation's example, in the same program, prints.

    The example reads talk.flac.
    """
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (example,) = [block for block in page.split("```python\n")[1:] if "GraphCell" in block.split("```")[0]]
    folder = exported.checkpoint.parent.parent.parent
    times = np.arange(48000) / 24000
    soundfile.write(folder / "talk.flac", 0.3 * np.sin(3000 * times**2), 24000)
    generator = np.random.default_rng(4)
    cases: dict[str, NDArray[Any]] = {}
    for i, (batch, frames) in enumerate([(1, 1), (2, 37), (5, 90), (1, 400)]):
        cases[f"features{i}"] = generator.normal(size=(batch, frames, 161)).astype(np.float32)
        cases[f"lengths{i}"] = generator.integers(1, frames + 1, batch).astype(np.int32)
    np.savez(folder / "cases.npz", **cases)
    arguments = [str(exported.folder / "model.mindir"), str(folder / "cases.npz"), str(folder / "outputs.npz")]
    script = f"{RELOAD}\nsys.path.insert(0, {str(ROOT)!r})\n{example.split('```')[0]}"
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return cases, dict(np.load(folder / "outputs.npz")), done.stdout


def test_another_program_gets_the_same_log_probabilities_at_any_shape(exported: Exported, reloaded: Any) -> None:
    cases, outputs, _ = reloaded
    for i in range(len(cases) // 2):
        log_probs, lengths = exported.recognise(cases[f"features{i}"], cases[f"lengths{i}"])
        assert outputs[f"log_probs{i}"].shape == log_probs.shape
        assert outputs[f"lengths{i}"].tolist() == lengths.tolist()
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(outputs[f"log_probs{i}"][row, :length], log_probs[row, :length], atol=1e-5)


def test_the_example_in_the_documentation_recognises_what_the_checkpoint_does(
    exported: Exported, reloaded: Any
) -> None:
    path = exported.checkpoint.parent.parent.parent / "talk.flac"
    config = read_config(ROOT / "hparams" / "deepspeech2.yaml")
    tokenizer = Tokenizer(dataclasses.replace(config.text, characters="'ABC ÄÖ", blank="last"))
    features = compute_features(read_audio(path, 16000), config.features)
    log_probs, lengths = exported.recognise(features[None], np.array([len(features)], np.int32))
    text = decode_greedy(log_probs, lengths, tokenizer, 0.04)[0].text
    assert text, "the example should recognise something"
    assert " ".join(reloaded[2].split()) == text


# Waveforms, fixed shapes, AIR -----------------------------------------------------------------------------------------


def hear(graph: Any, waveforms: list[NDArray[np.float32]], length: int) -> list[NDArray[np.float32]]:
    """Log-probabilities of waveforms side by side, with NaN beyond their lengths."""
    from tests import cells

    padded = np.full((len(waveforms), length), np.nan, np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    log_probs, lengths = cells.run(graph, padded, np.array([*map(len, waveforms)], np.int32))
    return [row[:size] for row, size in zip(log_probs, lengths, strict=True)]


@pytest.mark.parametrize(
    ("normalization", "kind"),
    [("utterance", "log_spectrogram"), ("speech", "log_mel"), ("corpus", "log_mel")],
)
def test_from_waveforms_the_graph_says_what_features_and_network_say(
    normalization: str, kind: str, tmp_path: Path
) -> None:
    """Also of one sample, of silence, and whatever stands beyond the lengths."""
    import mindspore as ms

    from mindaudio_ds2.export.mindir import GraphForm, export

    num_bins = 161 if kind == "log_spectrogram" else 80
    corpus = {"corpus_mean": [-5.0] * num_bins, "corpus_deviation": np.linspace(2, 4, num_bins).tolist()}
    features = {"normalization": normalization, "kind": kind, **(corpus if normalization == "corpus" else {})}
    checkpoint = save_checkpoint_of(tmp_path, features, rnn_num_layers=1)
    written = export(checkpoint, tmp_path / "out", GraphForm(input="waveform"))
    assert 0 < written["largest_difference"] < 1e-4
    assert (written["input"], written["fixed_shape"]) == ("waveform", None)

    config = from_mapping(written["features"], "model.json", FeatureConfig)
    recognise, graph = load_network(checkpoint), ms.nn.GraphCell(ms.load(written["path"]))
    generator = np.random.default_rng(1)
    waveforms = [(0.1 * generator.standard_normal(n)).astype(np.float32) for n in (16000, 4321, 1)]
    waveforms.append(np.zeros(5000, np.float32))
    for found, waveform in zip(hear(graph, waveforms, 16500), waveforms, strict=True):
        computed = compute_features(waveform, config)
        expected, lengths = recognise(computed[None], np.array([len(computed)], np.int32))
        assert len(found) == lengths[0]
        np.testing.assert_allclose(found, expected[0, : lengths[0]], atol=1e-4)


@pytest.mark.parametrize(("kind", "fixed_shape"), [("waveform", (2, 0.3)), ("features", None)])
def test_a_gru_is_written_for_a_shape_and_says_so(
    kind: str, fixed_shape: tuple[int, float] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one that is asked for, or else for one all the same."""
    from mindaudio_ds2.export import mindir

    monkeypatch.setattr(mindir, "FIXED_SHAPE", (1, 0.2))
    checkpoint = save_checkpoint_of(tmp_path, rnn_type="gru", rnn_num_layers=1)
    written = mindir.export(checkpoint, tmp_path / "out", mindir.GraphForm(input=kind, fixed_shape=fixed_shape))
    assert 0 <= written["largest_difference"] < 1e-4
    about = json.loads((tmp_path / "out" / "model.json").read_text(encoding="utf-8"))
    assert (about["input"], about["fixed_shape"]) == (kind, list(fixed_shape or (1, 0.2)))


def test_air_is_asked_of_mindspore_in_a_shape_and_not_compared(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for what MindSpore does on Ascend alone."""
    from mindaudio_ds2.export import mindir

    asked: dict[str, Any] = {}

    def write_air(graph: Any, *inputs: Any, file_name: str, file_format: str) -> None:
        asked.update(shapes=[each.shape for each in inputs], file_format=file_format)
        Path(file_name).write_bytes(b"air")

    monkeypatch.setattr(mindir.ms, "export", write_air)
    form = mindir.GraphForm("AIR", "waveform", (3, 2.0))
    written = mindir.export(exported.checkpoint, tmp_path / "out", form)
    assert asked == {"shapes": [(3, 32000), (3,)], "file_format": "AIR"}
    assert (written["path"], written["largest_difference"]) == (str(tmp_path / "out" / "model.air"), None)
    assert Path(written["path"]).read_bytes() == b"air"


@pytest.mark.parametrize("device", ["CPU", "Ascend"])
def test_air_without_an_ascend_device_is_refused_before_anything_is_written(
    device: str, exported: Exported, tmp_path: Path, run_verb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out, checkpoint = tmp_path / "out", exported.checkpoint
    options = ("--file_format", "AIR", "--device_target", device, "--output_dir", out)
    assert run_verb("export", "--pre_trained_model_path", checkpoint, *options) == 2
    message = capsys.readouterr().err
    expected = "MINDIR or ONNX" if device == "CPU" else "device_target Ascend is not available on this machine"
    assert expected in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "int8"], "--weights is for --file_format ONNX"),
        (["--file_format", "ONNX", "--fixed_batch", "2"], "--fixed_batch is for --file_format MINDIR or AIR"),
        (["--fixed_batch", "0"], "--fixed_batch is 0"),
        (["--fixed_seconds", "nan"], "--fixed_seconds is nan"),
    ],
)
def test_options_that_do_not_fit_are_named(
    options: list[str], message: str, run_verb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("export", "--pre_trained_model_path", "none.ckpt", *options) == 2
    assert message in capsys.readouterr().err


# What cannot be exported ----------------------------------------------------------------------------------------------


def test_an_export_that_differs_from_the_network_is_not_left_behind(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.export import mindir

    monkeypatch.setattr(mindir, "TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match="differs from the network by"):
        mindir.export(exported.checkpoint, tmp_path / "export")
    assert not list((tmp_path / "export").iterdir())


def test_a_full_disk_leaves_an_earlier_export_whole(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2.export import mindir

    def write_half(*arguments: Any, file_name: str, file_format: str) -> None:
        Path(file_name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    for path in exported.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(mindir.ms, "export", write_half)
    with pytest.raises(OutputError, match=r"cannot write .*model\.mindir: No space left on device"):
        mindir.export(exported.checkpoint, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.mindir"]
    for path in exported.folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(exported: Exported, tmp_path: Path) -> None:
    from mindaudio_ds2.export.mindir import export

    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match=r"cannot write .*file/export/model\.mindir"):
        export(exported.checkpoint, tmp_path / "file" / "export")


def test_a_damaged_checkpoint_is_refused_before_anything_is_written(exported: Exported, tmp_path: Path) -> None:
    from mindaudio_ds2.export.mindir import export

    (tmp_path / "best.ckpt").write_bytes(exported.checkpoint.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        export(tmp_path / "best.ckpt", tmp_path / "export")
    assert not (tmp_path / "export").exists()
