import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import AudioError, CheckpointError, ConfigError, DeviceError
from mindaudio_ds2.ops.library import has_bfloat16
from tests.tiny_corpus import TRANSCRIPTS, speak

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

TEXT = "BAD CAB"


@pytest.fixture(scope="module")
def transcriber(learned_run: Path) -> Any:
    from mindaudio_ds2.transcribe import Recognizer

    return Recognizer.load(learned_run / "last.ckpt")


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Writes speech to a file and returns its path; the ending of the name says the format."""

    def write(name: str, transcript: str = TEXT, rate_hz: int = 8000, channels: int = 1, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.repeat(speak(transcript, seed=5, rate_hz=rate_hz)[:, None], channels, axis=1)
        soundfile.write(path, samples, rate_hz, **options)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels", "options"),
    [
        ("a.wav", 8000, 1, {}),
        ("a.wav", 8000, 1, {"subtype": "FLOAT"}),
        ("a.WAV", 44100, 2, {"subtype": "PCM_24"}),
        ("a.flac", 16000, 1, {}),
        ("a.flac", 22050, 3, {}),
        ("a.ogg", 16000, 1, {}),
        ("a.mp3", 16000, 1, {}),
        ("a.aiff", 48000, 2, {}),
        ("a.au", 11025, 1, {}),
    ],
)
def test_any_format_rate_and_channel_count_gives_the_same_words(
    transcriber: Any, record: Callable[..., Path], name: str, rate_hz: int, channels: int, options: dict[str, Any]
) -> None:
    run = transcriber.run([record(name, rate_hz=rate_hz, channels=channels, **options)])
    assert run.problems == []
    assert run.transcriptions[0].hypothesis.text == TEXT


def test_recordings_come_in_the_order_given_whatever_their_length(transcriber: Any, corpus: Path) -> None:
    utterances = read_manifest(corpus / "test.jsonl")
    run = transcriber.run([Path(utterance.audio_path) for utterance in utterances])
    assert [str(t.path) for t in run.transcriptions] == [utterance.audio_path for utterance in utterances]
    assert [t.hypothesis.text for t in run.transcriptions] == list(TRANSCRIPTS["test"])
    assert run.audio_seconds == pytest.approx(sum(utterance.duration_seconds for utterance in utterances))


def test_padding_to_fixed_shapes_changes_no_word(learned_run: Path, corpus: Path) -> None:
    """As on a device that compiles every shape."""
    from mindaudio_ds2.machine.backend import Backend
    from mindaudio_ds2.recognition import CheckpointNetwork
    from mindaudio_ds2.transcribe import Recognizer

    padding: Any = Recognizer(CheckpointNetwork(learned_run / "last.ckpt", Backend(takes_open_shapes=False)))
    run = padding.run([Path(utterance.audio_path) for utterance in read_manifest(corpus / "test.jsonl")])
    assert [t.hypothesis.text for t in run.transcriptions] == list(TRANSCRIPTS["test"])
    assert len(padding.network.recognizer.compile_cache) <= 2, "the corpus has two buckets"


def test_the_same_recording_may_be_given_twice(transcriber: Any, record: Callable[..., Path]) -> None:
    path = record("a.wav")
    run = transcriber.run([path, path])
    assert [t.hypothesis.text for t in run.transcriptions] == [TEXT, TEXT]


def test_words_come_when_they_are_said(transcriber: Any, record: Callable[..., Path]) -> None:
    """Each character lasts 0.1 s, after 0.1 s of silence."""
    (transcription,) = transcriber.run([record("a.wav", "BAD CAB")]).transcriptions
    first, second = transcription.hypothesis.words
    assert (first.text, second.text) == ("BAD", "CAB")
    assert (first.start_seconds, first.end_seconds) == pytest.approx((0.1, 0.4), abs=0.08)
    assert (second.start_seconds, second.end_seconds) == pytest.approx((0.5, 0.8), abs=0.08)


@pytest.mark.parametrize("num_samples", range(1840, 1920, 13))
def test_no_word_outlasts_its_recording(transcriber: Any, tmp_path: Path, num_samples: int) -> None:
    """The last letter is cut off, so that its word goes on until the end."""
    samples = speak("A", seed=1, rate_hz=8000)[:800].tolist() + speak("DDDD", seed=1)[800:num_samples].tolist()
    soundfile.write(tmp_path / "cut.wav", np.array(samples), 8000)
    (transcription,) = transcriber.run([tmp_path / "cut.wav"]).transcriptions
    assert transcription.duration_seconds == len(samples) / 8000
    times = [t for word in transcription.hypothesis.words for t in (word.start_seconds, word.end_seconds)]
    assert times == sorted(times)
    assert len(times) >= 2
    assert times[0] >= 0
    assert times[-1] <= transcription.duration_seconds


def test_a_recording_that_cannot_be_read_is_reported_in_its_place_and_the_others_go_on(
    transcriber: Any, record: Callable[..., Path], tmp_path: Path
) -> None:
    from mindaudio_ds2.transcript_formats import as_json, as_text

    good, last = record("good.wav"), record("last.flac", "DAD")
    cut = record("cut.flac", "A" * 40)
    cut.write_bytes(cut.read_bytes()[:-2000])  # its header is whole, so this is seen only when it is read
    text = tmp_path / "text.wav"
    text.write_text("not audio")
    run = transcriber.run([text, good, cut, last])
    assert [t.hypothesis.text if t.hypothesis else None for t in run.transcriptions] == [None, TEXT, None, "DAD"]
    assert len(run.problems) == 2
    assert str(text) in run.problems[0]
    assert str(cut) in run.problems[1]
    assert as_text(run.transcriptions) == f"{good}\t{TEXT}\n{last}\tDAD"
    rows = json.loads(as_json(run.transcriptions))
    assert [row["path"] for row in rows] == [str(path) for path in (text, good, cut, last)]
    assert rows[0] == {"path": str(text), "problem": run.problems[0]}
    assert rows[1]["text"] == TEXT
    assert math.isfinite(rows[1]["score"])
    assert [word["text"] for word in rows[1]["words"]] == ["BAD", "CAB"]
    assert rows[1]["words"][1]["end_seconds"] <= rows[1]["duration_seconds"] == 0.9
    assert run.audio_seconds == pytest.approx(0.9 + 0.5), "only what was read counts"


def test_nothing_but_unreadable_recordings_is_no_crash(transcriber: Any, tmp_path: Path) -> None:
    from mindaudio_ds2.transcript_formats import as_text

    (tmp_path / "empty.wav").touch()
    run = transcriber.run([tmp_path / "empty.wav"])
    assert (as_text(run.transcriptions), len(run.problems), run.audio_seconds) == ("", 1, 0)


def test_quiet_noise_is_transcribed_as_something(transcriber: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", 1e-3 * np.random.default_rng(0).standard_normal(4000), 8000)
    (transcription,) = transcriber.run([tmp_path / "noise.wav"]).transcriptions
    assert isinstance(transcription.hypothesis.text, str)
    assert math.isfinite(transcription.hypothesis.score)


def test_one_sample_is_enough(transcriber: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.array([0.5]), 8000)
    run = transcriber.run([tmp_path / "click.wav"])
    assert run.problems == []


def test_a_folder_means_all_sound_files_below_it_by_name(record: Callable[..., Path], tmp_path: Path) -> None:
    from mindaudio_ds2.transcribe import find_recordings

    inside = [record(f"talks/{name}") for name in ("b.wav", "deep/er/a.flac", "a.mp3")]
    (tmp_path / "talks" / "notes.txt").write_text("no sound")
    (tmp_path / "talks" / "folder.wav").mkdir()
    single = record("z.ogg")
    found = find_recordings([str(single), tmp_path / "talks"])
    assert found == [single, inside[2], inside[0], inside[1]]


def test_a_file_with_another_ending_is_taken_where_it_is_named(record: Callable[..., Path], tmp_path: Path) -> None:
    from mindaudio_ds2.transcribe import find_recordings

    path = record("a.wav").rename(tmp_path / "recording.dat")
    assert find_recordings([path]) == [path]


def test_a_folder_without_sound_is_an_error_that_names_it(tmp_path: Path) -> None:
    from mindaudio_ds2.transcribe import find_recordings

    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(AudioError, match=f"folder {tmp_path} holds no sound files .*flac"):
        find_recordings([tmp_path])


def test_a_missing_path_is_an_error_that_names_it(record: Callable[..., Path], tmp_path: Path) -> None:
    from mindaudio_ds2.transcribe import find_recordings

    with pytest.raises(AudioError, match="gone.wav does not exist"):
        find_recordings([record("a.wav"), tmp_path / "gone.wav"])


def test_a_missing_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    from mindaudio_ds2.transcribe import Recognizer

    with pytest.raises(CheckpointError, match="gone.ckpt does not exist"):
        Recognizer.load(tmp_path / "gone.ckpt")


def test_features_come_from_the_checkpoint(transcriber: Any, configure: Callable[..., Config]) -> None:
    assert transcriber.network.features == configure().features


# The face -------------------------------------------------------------------------------------------------------------


def test_the_package_offers_a_recognizer_and_imports_no_mindspore_for_it() -> None:
    code = (
        "import sys; from mindaudio_ds2 import Recognizer; "
        "print([m for m in ('mindspore', 'jsonargparse', 'jiwer', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_one_file_gives_its_words_and_a_list_gives_each(transcriber: Any, record: Callable[..., Path]) -> None:
    first, second = record("d/a.wav"), record("d/b.flac", "DAD")
    one = transcriber.transcribe(str(first))
    assert one.text == TEXT
    assert [word.text for word in one.words] == TEXT.split()
    assert " ".join(segment.text for segment in one.segments) == TEXT
    assert one.score <= 0
    both = transcriber.transcribe([first.parent, second])
    assert [t.text for t in both] == [TEXT, "DAD", "DAD"]


@pytest.mark.parametrize(("rate_hz", "kind"), [(8000, np.float32), (16000, np.float64), (8000, np.int16)])
def test_samples_with_a_rate_are_heard_like_their_file(transcriber: Any, rate_hz: int, kind: type) -> None:
    samples = speak(TEXT, seed=5, rate_hz=rate_hz)
    samples = (samples * 32767).astype(kind) if kind is np.int16 else samples.astype(kind)
    assert transcriber.transcribe(samples, rate_hz).text == TEXT


@pytest.mark.parametrize(
    ("samples", "rate_hz"),
    [
        (np.zeros(800, np.float32), None),
        (np.zeros(800, np.float32), 0),
        (np.zeros((2, 800), np.float32), 8000),
        (np.zeros(0, np.float32), 8000),
        (np.full(800, np.nan), 8000),
        (np.full(800, 30000.0), 8000),
        (np.zeros(800, np.int64), 8000),
    ],
)
def test_samples_that_mean_nothing_are_errors(transcriber: Any, samples: Any, rate_hz: int | None) -> None:
    with pytest.raises(AudioError):
        transcriber.transcribe(samples, rate_hz)


def test_an_empty_path_is_an_error(transcriber: Any) -> None:
    for source in ("", [""]):
        with pytest.raises(AudioError, match="a path is empty"):
            transcriber.transcribe(source)


def test_what_is_no_sound_is_told_with_what_is_taken(transcriber: Any) -> None:
    for source in (None, b"RIFF", 3, [None], iter(["a.wav"])):
        with pytest.raises(AudioError, match="cannot be transcribed; give a path, an array"):
            transcriber.transcribe(source)


def test_an_address_is_not_fetched() -> None:
    from mindaudio_ds2.transcribe import find_recordings

    with pytest.raises(AudioError, match="addresses are not fetched; download it first"):
        find_recordings(["https://example.org/a.mp3"])


def test_an_onnx_file_is_refused_for_another_device_than_its_own(tmp_path: Path) -> None:
    from mindaudio_ds2.transcribe import Recognizer

    (tmp_path / "model.onnx").touch()
    with pytest.raises(DeviceError, match="runs on the CPU; for device_target GPU name a checkpoint"):
        Recognizer.load(tmp_path / "model.onnx", "GPU")


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_a_checkpoint_recognises_with_rounded_weights_and_an_onnx_file_is_refused(
    weights: Any, learned_run: Path, kernels: Path, record: Callable[..., Path], tmp_path: Path
) -> None:
    from mindaudio_ds2.transcribe import Recognizer

    if weights == "bf16" and not has_bfloat16(kernels):
        pytest.skip("this processor lacks AVX512-BF16")
    recognizer = Recognizer.load(learned_run / "last.ckpt", weights=weights)
    assert recognizer.transcribe(record("a.wav")).text == TEXT
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ConfigError, match=rf"for --weights {weights} name a checkpoint"):
        Recognizer.load(tmp_path / "model.onnx", weights=weights)


def test_a_single_file_that_cannot_be_read_is_an_error_and_one_of_a_list_a_problem(
    transcriber: Any, record: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(AudioError, match=r"text\.wav"):
        transcriber.transcribe(tmp_path / "text.wav")
    with pytest.raises(AudioError, match="in a list"):
        transcriber.transcribe(tmp_path)
    bad, good = transcriber.transcribe([tmp_path / "text.wav", record("a.wav")])
    assert (bad.text, good.text) == ("", TEXT)
    assert "text.wav" in bad.problem
