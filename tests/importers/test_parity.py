"""The other projects' own code against ours, where checkouts of theirs are at hand.

DS2_DEEPSPEECH_PYTORCH, DS2_MINDAUDIO and DS2_MINDSPORE_MODELS name them (paths).
"""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mindaudio_ds2.audio.features import compute_features
from mindaudio_ds2.audio.io import read_audio
from mindaudio_ds2.network_config import FeatureConfig
from tests.importers import foreign, originals
from tests.importers.foreign import DEEPSPEECH_PYTORCH, MINDSPORE, Case

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

TOLERANCE = 1e-4
FEATURE_TOLERANCE = 1e-3


def require(variable: str, file: str) -> Path:
    """The folder of a checkout, or a skip with the reason."""
    folder = originals.locate(variable, file)
    if folder is None:
        pytest.skip(f"{variable} does not name a checkout")
    return folder


@pytest.fixture
def deepspeech_pytorch() -> Path:
    pytest.importorskip("torch", reason="PyTorch is an extra")
    return require("DS2_DEEPSPEECH_PYTORCH", originals.DEEPSPEECH_PYTORCH_NETWORK)


@pytest.fixture
def mindaudio() -> Path:
    return require("DS2_MINDAUDIO", originals.MINDAUDIO_NETWORK)


@pytest.fixture
def model_zoo() -> Path:
    return require("DS2_MINDSPORE_MODELS", originals.MODEL_ZOO_NETWORK)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "x.wav", foreign.make_waveform(), 16000, subtype="PCM_16")
    return tmp_path / "x.wav"


def compute_ours(recording: Path, window: str) -> NDArray[np.float32]:
    config = FeatureConfig(
        16000, "log_spectrogram", "hann" if window == "hann" else "hamming", 0.02, 0.01, 320, 80, "utterance", [], []
    )
    return compute_features(read_audio(recording, config.sample_rate_hz), config)


@pytest.mark.parametrize("case", DEEPSPEECH_PYTORCH, ids=lambda case: case.key)
def test_deepspeech_pytorch_computes_the_same_on_a_padded_batch(
    case: Case, deepspeech_pytorch: Path, tmp_path: Path
) -> None:
    from tests.importers import ours

    ours.run_import(ours.write(tmp_path, case))
    (actual,) = ours.recognise(tmp_path / "ours.ckpt", *foreign.make_batch())
    expected = originals.run_deepspeech_pytorch(deepspeech_pytorch, case)
    with np.load(foreign.STORED) as stored:
        for row, (mine, theirs) in enumerate(zip(actual, expected, strict=True)):
            np.testing.assert_allclose(mine, theirs, atol=TOLERANCE, rtol=0)
            np.testing.assert_allclose(stored[f"{case.key}/{row}"], theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("project", ["mindaudio", "model_zoo"])
def test_the_mindspore_networks_compute_the_same_without_padding(
    project: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from tests.importers import ours

    folder: Path = request.getfixturevalue(project)
    file = originals.MINDAUDIO_NETWORK if project == "mindaudio" else originals.MODEL_ZOO_NETWORK
    expected = originals.run_mindspore_batch(folder / file)
    ours.run_import(ours.write(tmp_path, MINDSPORE), format=project)
    (actual,) = ours.recognise(tmp_path / "ours.ckpt", *foreign.make_batch())
    for row, log_probs in enumerate(actual):
        np.testing.assert_allclose(log_probs, expected[f"{MINDSPORE.key}/{row}"], atol=TOLERANCE, rtol=0)
    with np.load(foreign.STORED) as stored:
        for key, log_probs in expected.items():
            np.testing.assert_allclose(stored[key], log_probs, atol=TOLERANCE, rtol=0)


def test_deepspeech_pytorch_hears_the_same(deepspeech_pytorch: Path, recording: Path) -> None:
    """Its deviation is that of a sample, ours that of all there is: one part in 40,000 for this second of audio."""
    waveform = read_audio(recording, 16000)
    theirs = originals.compute_deepspeech_pytorch_features(deepspeech_pytorch, waveform)
    np.testing.assert_allclose(compute_ours(recording, "hamming"), theirs, atol=FEATURE_TOLERANCE, rtol=0)


def test_mindaudio_hears_the_same(mindaudio: Path, recording: Path) -> None:
    theirs = originals.compute_mindaudio_features(mindaudio, recording)
    np.testing.assert_allclose(compute_ours(recording, "hann"), theirs, atol=FEATURE_TOLERANCE, rtol=0)


def test_mindaudio_does_not_heed_the_window_in_its_yaml(mindaudio: Path, recording: Path) -> None:
    theirs = originals.compute_mindaudio_features(mindaudio, recording)
    assert originals.SOUND.window == "hamming"
    assert np.abs(compute_ours(recording, "hamming") - theirs).max() > 0.05


def test_the_model_zoo_hears_the_same(model_zoo: Path, recording: Path) -> None:
    """It divides 16 bits by 32767, we by 32768."""
    theirs = originals.compute_model_zoo_features(model_zoo, recording)
    np.testing.assert_allclose(compute_ours(recording, "hamming"), theirs, atol=FEATURE_TOLERANCE, rtol=0)
