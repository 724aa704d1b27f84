import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands for Python: notes each call, fails where it is told to, and leaves what that stage leaves.
PYTHON = """#!/usr/bin/env bash
[[ $1 == -c ]] && exit 0
echo "$*" >>calls
[[ -f fail && "$*" == "$(cat fail)" ]] && exit 1
mkdir -p data/english runs/english/greedy
case "$*" in
*"prepare.py real"*) touch data/english/{train_real,dev,test_clean}.jsonl ;;
*"prepare.py mix"*) touch data/english/train.jsonl ;;
*cut.py*) touch data/english/train_cut.jsonl ;;
train.py*aligner*) mkdir -p runs/english_aligner && touch runs/english_aligner/last.ckpt ;;
"train.py -c hparams/english.yaml"*) [[ -f runs/english/best.ckpt ]] || touch runs/english/{last,best}.ckpt ;;
*build_lm*) touch runs/english/english.lm ;;
*tune*) sleep 0.02 && touch runs/english/decoder.json ;;
eval.py*greedy*) sleep 0.02 && touch runs/english/greedy/eval_$(basename "$5" .jsonl).json ;;
eval.py*) sleep 0.02 && touch runs/english/eval_$(basename "$5" .jsonl).json ;;
esac
exit 0
"""
EVAL = "eval.py --pre_trained_model_path runs/english/best.ckpt --manifest data/english/"
STAGES = [
    "recipes/english/prepare.py real --source corpora",
    "recipes/english/speak.py hibari --text a.txt b.txt --hours 6",
    "recipes/english/speak.py kokoro --text a.txt b.txt --hours 9",
    "recipes/english/prepare.py mix --synthetic data/english/synthetic/hibari/manifest.jsonl",
    "recipes/english/separation.py --train data/english/train.jsonl --held_out data/english/dev.jsonl data/",
    "train.py -c hparams/english_parts.yaml --resume --run_dir runs/english_aligner",
    "recipes/english/cut.py data/english/train.jsonl --pre_trained_model_path runs/english_aligner/best.ckpt",
    "train.py -c hparams/english_parts.yaml --resume",
    "train.py -c hparams/english.yaml --resume --pre_trained_model_path runs/english_parts/best.ckpt",
    "-m mindaudio_ds2 build_lm a.txt b.txt -c hparams/english.yaml --exclude data/english/dev.jsonl",
    "-m mindaudio_ds2 tune runs/english/best.ckpt data/english/dev.jsonl",
    EVAL + "dev.jsonl --decoder greedy",
    EVAL + "dev.jsonl",
    "recipes/english/peers.py data/english/dev.jsonl",
    EVAL + "test_clean.jsonl --decoder greedy",
    EVAL + "test_clean.jsonl",
    "recipes/english/peers.py data/english/test_clean.jsonl",
    "-m mindaudio_ds2 pack_model runs/english/best.ckpt models/english",
]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A project with this script, and a stand-in for Python."""
    for name, text in {".venv/bin/python": PYTHON, "scripts/environment.sh": "exit 0\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "recipes" / "english").mkdir(parents=True)
    shutil.copy(ROOT / "recipes" / "english" / "run.sh", tmp_path / "recipes" / "english")
    return tmp_path


def run(house: Path, *options: str) -> tuple[int, list[str]]:
    """The exit status, and the calls of this run."""
    (house / "calls").unlink(missing_ok=True)
    command = ["bash", "recipes/english/run.sh", *(options or ("--source", "corpora", "--text", "a.txt b.txt"))]
    if not options:
        command += ["--kokoro", "9"]
    done = subprocess.run(command, cwd=house, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    return done.returncode, (house / "calls").read_text().splitlines() if (house / "calls").exists() else []


def assert_stages(calls: list[str], stages: list[str]) -> None:
    assert len(calls) == len(stages)
    for call, stage in zip(calls, stages, strict=True):
        assert call.startswith(stage)


def test_the_stages_follow_each_other(house: Path) -> None:
    status, calls = run(house)
    assert status == 0
    assert_stages(calls, STAGES)


@pytest.mark.parametrize("number", range(len(STAGES)))
def test_a_stage_that_fails_ends_the_run_and_is_begun_again(house: Path, number: int) -> None:
    _, whole = run(house)
    shutil.rmtree(house / "data")
    shutil.rmtree(house / "runs")
    (house / "fail").write_text(whole[number])
    status, calls = run(house)
    assert status != 0
    assert_stages(calls, STAGES[: number + 1])
    (house / "fail").unlink()
    status, calls = run(house)
    assert status == 0
    assert whole[number] in calls


def test_once_training_has_begun_its_manifest_stays(house: Path) -> None:
    run(house)
    status, calls = run(house)
    assert status == 0
    once = (" mix ", "cut.py", "build_lm", " tune ", "eval.py")
    assert_stages(calls, [stage for stage in STAGES if not any(word in stage for word in once)])


def test_an_engine_of_no_hours_says_nothing(house: Path) -> None:
    status, calls = run(house, "--source", "corpora", "--text", "a.txt", "--hibari", "0", "--kokoro", "0")
    assert status == 0
    assert not [call for call in calls if "speak.py" in call]


def test_recordings_without_transcripts_are_labelled_before_all_else(house: Path) -> None:
    status, calls = run(house, "--source", "corpora", "--text", "a.txt", "--recordings", "talks", "--hibari", "0")
    assert status == 0
    assert calls[0].startswith("recipes/english/label.py talks --output data/english/labelled")
    assert (
        calls[1] == "recipes/english/prepare.py real --source corpora --labelled data/english/labelled/manifest.jsonl"
    )


@pytest.mark.parametrize("options", [("--source", "corpora"), ("--hours", "3"), ("--source",)])
def test_wrong_options_end_with_the_usage(house: Path, options: tuple[str, ...]) -> None:
    assert run(house, *options) == (2, [])
