"""What is wrong with the input is said in one message that names it and the remedy; no traceback, no hang."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.machine import runtime
from tests.tiny_corpus import RATE_HZ, RunVerb, change, make_settings, speak, write_yaml

LONGEST_SECONDS = 60

Make = Callable[[Path], object]
Fail = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def give_up(*_: Any) -> None:
        raise TimeoutError(f"no answer within {LONGEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def expect_error(run_verb: RunVerb, capsys: pytest.CaptureFixture[str]) -> Fail:
    """Runs a verb that must end with status 2 and one message in which all patterns are found."""

    def run(patterns: tuple[str, ...], verb: str, *arguments: object) -> None:
        assert run_verb(verb, *arguments) == 2
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        assert "error: " in shown
        message = shown[shown.rindex("error: ") :]
        for pattern in patterns:
            assert re.search(pattern, message), f"{pattern!r} is not in {message!r}"

    return run


@pytest.fixture
def expect_train_error(expect_error: Fail, corpus: Path, tmp_path: Path) -> Fail:
    """Trains with changed settings, which must fail: expect_train_error(patterns, {"seed": -1}, "--resume")."""

    def run(patterns: tuple[str, ...], changes: Mapping[str, Any], *arguments: object) -> None:
        yaml = write_yaml(tmp_path / "tiny.yaml", make_settings(corpus, tmp_path / "run", changes))
        expect_error(patterns, "train", "-c", yaml, *arguments)

    return run


@pytest.fixture
def checkpoint(finished_run: Path, tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return Path(shutil.copy(finished_run / "best.ckpt", tmp_path / "model"))


# Manifests ------------------------------------------------------------------------------------------------------------

LINE = {"id": "u0", "audio_path": "a.wav", "duration_seconds": 0.5, "transcript": "A"}


def write_lines(*rows: object) -> Make:
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    return lambda path: path.write_text(text, encoding="utf-8")


MANIFESTS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "missing": (lambda path: None, ("does not exist", r"prepare\.py")),
    "empty": (lambda path: path.touch(), ("is empty", r"prepare\.py")),
    "blank": (lambda path: path.write_text("\n \n"), ("is empty", r"prepare\.py")),
    "folder": (lambda path: path.mkdir(), ("cannot be read",)),
    "binary": (lambda path: path.write_bytes(b"\xff\xfe\x00RIFF"), ("cannot be read as UTF-8 text",)),
    "broken": (write_lines(LINE, '{"id": "u1", "audio'), ("1 unusable lines; mend or remove", "line 2: not JSON")),
    "list": (write_lines([1, 2]), ("is a JSON array; write one object a line",)),
    "key": (write_lines({"id": "u0", "text": "A"}), ("line 1: missing keys .*transcript.*unknown keys .*text",)),
    "twice": (write_lines(LINE, LINE), ("line 2: id 'u0' already stands on line 1",)),
    "transcript": (write_lines({**LINE, "transcript": "  "}), ("'u0': the transcript is empty; write what is said",)),
    "duration": (write_lines({**LINE, "duration_seconds": "1"}), ("'u0': duration_seconds must be a number",)),
    "zero": (write_lines({**LINE, "duration_seconds": 0}), ("'u0': duration_seconds must be positive",)),
    "nan": (write_lines({**LINE, "duration_seconds": float("nan")}), ("'u0': duration_seconds must be a number",)),
}


@pytest.mark.parametrize("manifest", MANIFESTS)
@pytest.mark.parametrize("where", ["train", "dev", "test"])
def test_an_unusable_manifest(
    expect_error: Fail, expect_train_error: Fail, finished_run: Path, tmp_path: Path, where: str, manifest: str
) -> None:
    make, patterns = MANIFESTS[manifest]
    path = tmp_path / "bad.jsonl"
    make(path)
    patterns = (str(path), *patterns)
    if where == "test":
        options = ("--pre_trained_model_path", finished_run / "best.ckpt", "--output_dir", tmp_path)
        expect_error(patterns, "eval", *options, "--manifest", path)
    else:
        expect_train_error(patterns, {f"data.{where}_manifest": str(path)})


def test_a_character_outside_the_alphabet(expect_train_error: Fail, corpus: Path, tmp_path: Path) -> None:
    utterances = read_manifest(corpus / "train.jsonl")
    utterances[5] = dataclasses.replace(utterances[5], transcript="AB É")
    write_manifest(tmp_path / "odd.jsonl", utterances)
    patterns = ("utterance 'train_5'", "'AB É' holds .'É'.", "text.characters", "text.unknown_character")
    expect_train_error(patterns, {"data.train_manifest": str(tmp_path / "odd.jsonl")})


def test_transcripts_too_long_for_their_audio(expect_train_error: Fail, corpus: Path, tmp_path: Path) -> None:
    utterances = read_manifest(corpus / "train.jsonl")
    utterances[10] = dataclasses.replace(utterances[10], transcript="ABCD" * 10)
    write_manifest(tmp_path / "odd.jsonl", utterances)
    patterns = ("data.max_excluded_share", "train_10", "needs 40 output frames, has 16")
    expect_train_error(patterns, {"data.train_manifest": str(tmp_path / "odd.jsonl")})


# Audio ----------------------------------------------------------------------------------------------------------------

SAMPLES = speak("A", seed=1)


def write_truncated_flac(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, len(SAMPLES)), RATE_HZ, format="FLAC")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_truncated_wav(path: Path) -> None:
    soundfile.write(path, SAMPLES, RATE_HZ, format="WAV")
    path.write_bytes(path.read_bytes()[:-1000])


def write_nan(path: Path) -> None:
    samples = SAMPLES.copy()
    samples[700] = np.nan
    soundfile.write(path, samples, RATE_HZ, format="WAV", subtype="FLOAT")


AUDIO: dict[str, tuple[Make, tuple[str, ...]]] = {
    "missing": (lambda path: None, ("not exist|No such file",)),
    "empty": (lambda path: path.touch(), ("is an empty file", "fetch or record it again")),
    "no samples": (
        lambda path: soundfile.write(path, np.zeros(0), RATE_HZ, format="WAV"),
        ("holds no samples", "fetch or record it again"),
    ),
    "truncated flac": (write_truncated_flac, ("cut off|damaged", "fetch or record it again")),
    "truncated wav": (write_truncated_wav, ("cut off", "fetch or record it again")),
    "text": (lambda path: path.write_text("not audio"), ("is not audio in a known format", "ffmpeg")),
    "nan": (write_nan, ("samples that are not finite", "write the file again")),
    "integers as floats": (
        lambda path: soundfile.write(path, SAMPLES * 32768, RATE_HZ, format="WAV", subtype="FLOAT"),
        ("full scale is 1", "divide its samples"),
    ),
    "folder": (lambda path: path.mkdir(), ("cannot be read|holds no sound files",)),
}


@pytest.mark.parametrize("audio", AUDIO)
@pytest.mark.parametrize("verb", ["train", "eval", "transcribe"])
def test_unusable_audio(
    expect_error: Fail,
    expect_train_error: Fail,
    corpus: Path,
    finished_run: Path,
    tmp_path: Path,
    verb: str,
    audio: str,
) -> None:
    make, patterns = AUDIO[audio]
    path = tmp_path / "bad.wav"
    make(path)
    patterns = (str(path), *patterns)
    options = ("--pre_trained_model_path", finished_run / "best.ckpt")
    if verb == "transcribe":
        expect_error(patterns, "transcribe", *options, path)
        return
    manifest = write_with_bad_audio(corpus, tmp_path, path, len(SAMPLES) / RATE_HZ)
    if verb == "eval":
        expect_error(("bad_one", *patterns), "eval", *options, "--output_dir", tmp_path, "--manifest", manifest)
    else:
        expect_train_error(("bad_one", *patterns), {"data.train_manifest": str(manifest)})


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_wrong_duration(
    expect_error: Fail, expect_train_error: Fail, corpus: Path, finished_run: Path, tmp_path: Path, verb: str
) -> None:
    soundfile.write(tmp_path / "long.wav", speak("ABCDABCD", seed=1), RATE_HZ)
    manifest = write_with_bad_audio(corpus, tmp_path, tmp_path / "long.wav", 0.25)
    patterns = ("'bad_one'", r"duration_seconds is 0\.250", r"lasts about 1\.00 s", r"prepare\.py")
    if verb == "train":
        expect_train_error(patterns, {"data.train_manifest": str(manifest)})
    else:
        options = ("--pre_trained_model_path", finished_run / "best.ckpt", "--output_dir", tmp_path)
        expect_error(patterns, "eval", *options, "--manifest", manifest)


def write_with_bad_audio(corpus: Path, folder: Path, audio_path: Path, duration_seconds: float) -> Path:
    """A manifest of good utterances and one that is shorter, so that it comes in the first batch."""
    utterances = [*read_manifest(corpus / "train.jsonl"), Utterance("bad_one", str(audio_path), duration_seconds, "A")]
    assert all(utterance.duration_seconds >= duration_seconds for utterance in utterances)
    write_manifest(folder / "one_bad.jsonl", utterances)
    return folder / "one_bad.jsonl"


# Checkpoints ----------------------------------------------------------------------------------------------------------


def write_foreign(path: Path) -> None:
    import mindspore as ms

    ms.save_checkpoint([{"name": "fc.weight", "data": ms.Tensor(np.ones((2, 3), np.float32))}], str(path))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


CHECKPOINTS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "missing": (lambda path: path.unlink(), ("does not exist; name a .ckpt file",)),
    "empty": (lambda path: path.write_bytes(b""), ("is damaged",)),
    "text": (lambda path: path.write_text("weights"), ("is damaged",)),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-999]),
        ("is damaged", "use another one"),
    ),
    "flipped": (flip_a_byte, ("is damaged", "use another one")),
    "foreign": (write_foreign, ("was not written by this package",)),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("verb", ["train", "eval", "transcribe", "export"])
def test_an_unusable_checkpoint(
    expect_error: Fail, expect_train_error: Fail, checkpoint: Path, corpus: Path, verb: str, kind: str
) -> None:
    make, patterns = CHECKPOINTS[kind]
    make(checkpoint)
    patterns = (str(checkpoint), *patterns)
    options = ("--pre_trained_model_path", checkpoint)
    if verb == "train":
        expect_train_error(patterns, {}, *options)
    else:
        expect_error(patterns, verb, *options, *([corpus / "wav" / "dev_0.wav"] if verb == "transcribe" else []))


@pytest.mark.parametrize(("key", "value"), [("model.rnn_hidden_size", 9), ("features.fft_size", 256)])
def test_a_checkpoint_of_another_shape_or_other_features(
    expect_train_error: Fail, checkpoint: Path, key: str, value: Any
) -> None:
    expect_train_error(
        (str(checkpoint), f"another {key} .*{value}"), {key: value}, "--pre_trained_model_path", checkpoint
    )


def test_a_damaged_checkpoint_of_the_run_itself(expect_train_error: Fail, finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    flip_a_byte(tmp_path / "run" / "last.ckpt")
    remedy = rf"start a new run with --run_dir and --pre_trained_model_path {tmp_path}/run/best\.ckpt"
    expect_train_error((r"run/last\.ckpt is damaged", remedy), {}, "--resume")
    (tmp_path / "run" / "best.ckpt").unlink()
    expect_train_error((r"run/last\.ckpt is damaged", "use another one$"), {}, "--resume")


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_damage_of_a_checkpoint_is_not_blamed_on_permissions(checkpoint: Path, place: float) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.errors import CheckpointError

    content = bytearray(checkpoint.read_bytes())
    start = int(place * len(content))
    content[start : start + 4] = bytes(255 - each for each in content[start : start + 4])
    checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged") as raised:
        load_checkpoint(checkpoint)
    assert "permission" not in str(raised.value).lower()


# Folders that cannot be written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["train", "eval", "transcribe", "export"])
def test_an_output_folder_below_a_file(
    expect_error: Fail, expect_train_error: Fail, checkpoint: Path, corpus: Path, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "below"
    options = ("--pre_trained_model_path", checkpoint)
    match verb:
        case "train":
            expect_train_error(
                (f"run_dir {folder}", "file is a file", "choose another --run_dir"), {"run_dir": str(folder)}
            )
        case "transcribe":
            output = folder / "words.txt"
            expect_error(
                (f"cannot write {output}", "file is a file"), verb, *options, "--output", output, corpus / "wav"
            )
        case _:
            expect_error((f"cannot write {folder}", "file is a file"), verb, *options, "--output_dir", folder)


def test_a_folder_that_holds_a_run(expect_train_error: Fail, finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    expect_train_error((f"run_dir {tmp_path / 'run'} already holds a run", "--resume", "--run_dir"), {})


# Before MindSpore is started ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "arguments", "patterns"),
    [
        ({"data.train_manifest": "none.jsonl"}, (), ("none.jsonl does not exist",)),
        ({"data.dev_manifest": "none.jsonl"}, (), ("none.jsonl does not exist",)),
        ({"text.characters": "AB "}, (), ("text.unknown_character",)),
        ({"text.tokenizer": "none.json"}, (), ("text.tokenizer none.json is no file",)),
        ({"augmentation.noise_path": "nowhere"}, (), ("augmentation.noise_path is 'nowhere', but there is no such",)),
        ({"augmentation.rir_path": "nowhere"}, (), ("augmentation.rir_path is 'nowhere', but there is no such",)),
        ({"decoding.decoder": "beam", "decoding.lm": "none.lm"}, (), ("none.lm",)),
        ({}, ("--pre_trained_model_path", "none.ckpt"), ("none.ckpt does not exist",)),
        ({"run_dir": __file__}, (), ("is a file; choose another --run_dir",)),
    ],
    ids=str,
)
def test_train_says_at_once_what_is_wrong_with_files(
    expect_train_error: Fail,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    arguments: tuple[str, ...],
    patterns: tuple[str, ...],
) -> None:
    monkeypatch.setattr(runtime, "start", lambda *_: pytest.fail("MindSpore is started"))
    expect_train_error(patterns, changes, *arguments)


WITHOUT_MINDSPORE = """
import importlib, json, sys
sys.modules["mindspore"] = None
for name, *arguments in json.loads(sys.argv[1]):
    sys.argv = [name, *arguments]
    try:
        importlib.import_module(f"mindaudio_ds2.commands.{name}").main()
    except SystemExit as ended:
        print(name, ended.code, file=sys.stderr)
"""


def test_no_command_starts_mindspore_for_what_is_not_there(corpus: Path, tmp_path: Path) -> None:
    yaml = write_yaml(tmp_path / "x.yaml", make_settings(corpus, tmp_path / "run", {"data.train_manifest": "none"}))
    (tmp_path / "x.ckpt").touch()
    missing, there, manifest = "none.ckpt", str(tmp_path / "x.ckpt"), str(corpus / "dev.jsonl")
    commands = [
        ["train", "-c", str(yaml)],
        ["eval", "--pre_trained_model_path", missing],
        ["eval", "--pre_trained_model_path", there, "--manifest", "none.jsonl"],
        ["export", "--pre_trained_model_path", missing],
        ["export_weights", missing, "x.pth", "--format", "mindaudio"],
        ["pack_model", missing, "x", "--licence", "CC0", "--training_data", "tones"],
        ["tune", missing, manifest, "--lm", "x.lm"],
        ["tune", there, "none.jsonl", "--lm", "x.lm"],
        ["robustness", missing, manifest],
        ["robustness", there, "none.jsonl"],
    ]
    shown = run_without_mindspore(commands, tmp_path)
    assert shown.count("does not exist") == len(commands), shown


def test_no_command_starts_mindspore_for_something_else(corpus: Path, tmp_path: Path) -> None:
    for name in ("x.ckpt", "x.yaml", "x.mindir", "x.pth", "x.bin"):
        (tmp_path / name).touch()
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.json").write_text("{}")
    (tmp_path / "export" / "model.mindir").touch()
    manifest, sound = str(corpus / "dev.jsonl"), str(corpus / "wav" / "dev_0.wav")
    yaml = write_yaml(tmp_path / "run.yaml", make_settings(corpus, Path("/proc/x"), {}))
    texts = {
        (
            "eval",
            manifest,
        ): "dev.jsonl is a manifest, and a checkpoint (X.ckpt) is expected here; eval takes it with --m",
        ("train", "-c", "an4", "--pre_trained_model_path", manifest): "dev.jsonl is a manifest, and",
        (
            "train",
            "-c",
            manifest,
        ): "dev.jsonl is a manifest, and a YAML is expected here; name the manifest with --data.",
        ("train", "-c", str(yaml)): "cannot write into run_dir /proc/x: /proc may not be written",
        ("transcribe", "--pre_trained_model_path", "x.yaml", sound): "x.yaml is a YAML, and an .onnx file or a check",
        ("transcribe", "--pre_trained_model_path", "x.mindir", sound): "x.mindir is an exported network, and an .onnx",
        ("transcribe", "--pre_trained_model_path", "export", sound): "export holds an exported network, model.mindir",
        ("tune", "x.ckpt", manifest, "--lm", "x.lm", "--max_utterances", "0"): "--max_utterances 0 must be 1 or more",
        ("export", "x.pth"): "x.pth is a file of PyTorch, and a checkpoint (X.ckpt) is expected here",
        ("export", "x.bin"): "x.bin is no network by its name, and a checkpoint (X.ckpt) is expected here",
        ("eval", "x.ckpt", "--manifest", manifest, manifest): "a manifest is named twice",
        ("eval", "x.ckpt", "--test_manifest", "none.jsonl"): "manifest none.jsonl does not exist",
    }
    shown = run_without_mindspore(list(texts), tmp_path)
    assert [text for text in texts.values() if text not in shown] == [], shown


def run_without_mindspore(commands: Sequence[Sequence[str]], folder: Path) -> str:
    """Runs commands in a folder, all of which must end with status 2; what they wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MINDSPORE, json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    assert [line for line in done.stderr.splitlines() if line.endswith(" 2")] == [f"{name} 2" for name, *_ in commands]
    return done.stderr


# Recordings -----------------------------------------------------------------------------------------------------------


def test_a_recording_that_is_not_there(expect_error: Fail, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone.wav"
    expect_error(
        (f"{path} does not exist; correct the path",), "transcribe", "--pre_trained_model_path", checkpoint, path
    )


def test_a_folder_without_recordings(expect_error: Fail, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "talks").mkdir()
    expect_error(
        (f"folder {tmp_path / 'talks'} holds no sound files",),
        *("transcribe", "--pre_trained_model_path", checkpoint, tmp_path / "talks"),
    )


# Configuration --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "patterns"),
    [
        ({"model.colour": 1}, ("tiny.yaml: unknown key model.colour", "--help")),
        ({"model.rnn_hidden_size": "many"}, ("model.rnn_hidden_size", "many")),
        ({"model.rnn_hidden_size": 0}, ("model.rnn_hidden_size is 0, which is impossible: must be positive",)),
        ({"features.fft_size": 64}, ("features.fft_size is 64, which is impossible: a window has 128 samples",)),
        ({"model": 3}, ("model is 3, but must be a mapping",)),
        ({"device_target": "TPU"}, ("device_target", "TPU")),
    ],
)
def test_a_wrong_key_in_the_yaml(expect_train_error: Fail, changes: dict[str, Any], patterns: tuple[str, ...]) -> None:
    expect_train_error(patterns, changes)


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_missing_key(expect_error: Fail, corpus: Path, checkpoint: Path, tmp_path: Path, verb: str) -> None:
    settings = change(make_settings(corpus, tmp_path / "run", {}), {})
    del settings["schedule"]["warmup_epochs"]
    yaml = write_yaml(tmp_path / "tiny.yaml", settings)
    patterns = ("tiny.yaml: missing key schedule.warmup_epochs; every key must be given",)
    expect_error(patterns, verb, "-c", yaml, "--pre_trained_model_path", checkpoint)


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        (None, ("does not exist; name a file with -c, or one of an4, ",)),
        ("seed: [1", ("is not readable YAML",)),
        ("just text", ("must be a mapping of keys to values",)),
        ("", ("must be a mapping of keys to values",)),
    ],
)
def test_a_yaml_that_is_none(expect_error: Fail, tmp_path: Path, text: str | None, patterns: tuple[str, ...]) -> None:
    path = tmp_path / "odd.yaml"
    if text is not None:
        path.write_text(text)
    expect_error((str(path), *patterns), "train", "-c", path)


@pytest.mark.parametrize(
    ("arguments", "patterns"),
    [
        (("--model.colour", "1"), ("model.colour",)),
        (("--training.epochs", "few"), ("training.epochs", "few")),
        (("--training.epochs", "0"), ("training.epochs is 0, which is impossible: at least 1",)),
        (("--resume", "now"), ("now",)),
    ],
)
def test_a_wrong_option(expect_train_error: Fail, arguments: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    expect_train_error(patterns, {}, *arguments)
