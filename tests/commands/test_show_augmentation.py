import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.commands import show_augmentation

ROOT = Path(__file__).resolve().parents[2]
RATE_HZ = 16000
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Half a second, nearly at full scale, so that gain drives it beyond."""
    path = tmp_path / "talk.wav"
    soundfile.write(path, 0.9 * np.sin(np.arange(RATE_HZ // 2)), RATE_HZ)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["show_augmentation.py", *map(str, arguments)])
    status: Any = 0
    try:
        show_augmentation.main()
    except SystemExit as ended:
        status = ended.code
    return int(status)


def test_every_change_is_shown_alone_and_some_draws_together(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    noise, output = tmp_path / "noise", tmp_path / "shown"
    noise.mkdir()
    soundfile.write(noise / "hiss.wav", np.random.default_rng(0).normal(0, 0.1, 3000), RATE_HZ)
    options = ["--output", output, "--num_draws", 3, "--augmentation.noise_path", noise]
    monkeypatch.setattr(show_augmentation, "COST_SECONDS", 0.1)
    options += ["--cost", "--augmentation.speed_probability", 1, "--augmentation.gain_range_db", "[-10, 6]"]
    status = run(monkeypatch, "-c", ROOT / "hparams" / "deepspeech2.yaml", sound, *options)
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert "speed 100% (0.9 to 1.1)" in captured.out
    costs = dict(line[2:-2].split(" | ") for line in captured.out.splitlines() if line.startswith("| opus_"))
    assert all(float(cost) > 0 for cost in costs.values())
    assert set(costs) == {"opus_12kbps", "opus_48kbps"}
    for name in ("alone", "together"):
        assert (output / f"{name}.png").read_bytes().startswith(PNG_HEAD)
    alone = {"tempo_0.9", "tempo_1.1", "silence_digital_1s", "silence_noise_1s", "silence_background_1s", "telephone"}
    alone |= {"made_up_room_0.1s", "made_up_room_0.6s", "clipping_3dB", "clipping_15dB", "mu_law", "a_law", "gsm"}
    alone |= {f"{kind}_noise_{snr}dB" for kind in ("white", "pink", "babble") for snr in (5, 25)}
    alone |= {"low_pass_2000Hz", "low_pass_7000Hz", "mp3_12kbps", "mp3_48kbps", "opus_12kbps", "opus_48kbps"}
    alone |= {"speed_0.9", "speed_1.1", "shift_0.1s", "noise_0_5dB", "noise_0_25dB", "gain_-10dB", "gain_6dB"}
    draws = {"epoch_1", "epoch_2", "epoch_3"}
    assert {path.stem for path in output.glob("*.wav")} == alone | draws
    samples = {path.stem: soundfile.read(path)[0] for path in output.glob("*.wav")}
    assert len(samples["speed_0.9"]) == 8889
    assert len(samples["shift_0.1s"]) == 9600
    assert np.abs(samples["gain_6dB"]).max() == pytest.approx(1.0, abs=1e-3), "made softer rather than clipped"
    assert np.abs(samples["gain_-10dB"]).max() == pytest.approx(0.9 * 10**-0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--augmentation.noise_path", "nowhere", "augmentation.noise_path is 'nowhere'"),
        ("--num_draws", "0", "--num_draws 0"),
        ("--colour", "red", "--colour"),
    ],
)
def test_what_cannot_be_shown_ends_with_one_message(
    option: str,
    value: str,
    word: str,
    sound: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, sound, "--output", tmp_path / "shown", option, value) > 0
    error = capsys.readouterr().err
    assert word in error
    assert "Traceback" not in error
    assert not (tmp_path / "shown").exists()


def test_a_recording_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path / "none.wav", "--output", tmp_path / "shown") > 0
    assert "none.wav" in capsys.readouterr().err
    assert not (tmp_path / "shown").exists()
