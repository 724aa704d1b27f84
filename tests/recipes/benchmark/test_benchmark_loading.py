import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.manifest import read_manifest
from mindaudio_ds2.errors import OutputError
from recipes.benchmark import benchmark_loading as script
from tests.tiny_corpus import make_settings, write_yaml


def test_durations_are_much_like_librispeechs() -> None:
    """960.7 hours in 281,241 utterances are 12.3 s each; none is longer than 30 s."""
    durations = script.draw_durations(20_000, seed=1)
    assert 12.0 < durations.mean() < 12.7
    assert 1.0 < durations.min() < durations.max() < 30.0
    assert 0.5 < np.mean((durations > 12) & (durations < 17)) < 0.8


def test_the_generated_manifest_is_read_and_planned(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    script.generate_manifest(path, 500, seed=1)
    assert len({utterance.audio_path for utterance in read_manifest(path)}) == 500
    config = read_config(Path(__file__).resolve().parents[3] / "hparams" / "deepspeech2.yaml")
    measured = script.in_fresh_process(script.measure_scale, path, config)
    assert measured["num_utterances"] == 500
    assert 10 < measured["peak_memory_mb"] < 1000
    assert 0 <= measured["plan_seconds_of_slowest_rank"] < 60


def test_a_measurement_is_kept_and_put_into_the_readme(
    tmp_path: Path, corpus: Path, mindspore_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    monkeypatch.setattr(script, "NUM_UTTERANCES", 300)
    (tmp_path / "README.md").write_text(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n")
    hparams = write_yaml(tmp_path / "tiny.yaml", make_settings(corpus, tmp_path / "run", {}))
    arguments = ["-c", str(hparams), "--manifest", str(corpus / "train.jsonl"), "--num_utterances", "5"]
    monkeypatch.setattr(sys, "argv", ["benchmark_loading.py", *arguments])
    script.main()
    monkeypatch.setattr(sys, "argv", ["benchmark_loading.py", "-c", str(hparams)])
    script.main()
    with_audio, without = map(json.loads, (tmp_path / "loading.jsonl").read_text().splitlines())
    assert set(with_audio["audio"]) == {
        *("decode", "decode_and_features", "write_cache", "read_cache", "loader", "loader_with_cache"),
        "loader_with_two_workers",
    }
    assert all(rate > 0 for rates in with_audio["audio"].values() for rate in rates.values())
    assert without["audio"] == {}
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "old" not in readme
    assert len([line for line in readme.splitlines() if line.startswith("|")]) == 4
    assert len({line.count("|") for line in readme.splitlines() if line.startswith("|")}) == 1


def test_a_readme_without_its_markers_is_an_error() -> None:
    with pytest.raises(OutputError, match="no place for the table"):
        script.put_table("nothing", "| table |")


def test_the_readme_of_the_benchmarks_has_its_markers() -> None:
    readme = (script.FOLDER / "README.md").read_text(encoding="utf-8")
    assert script.put_table(readme, "| table |").count("| table |") == 1


def test_chosen_utterances_are_spread_over_the_list(corpus: Path) -> None:
    utterances = read_manifest(corpus / "learn.jsonl")
    assert script.choose(utterances, 4) == utterances[::25]
    assert script.choose(utterances, 1000) == utterances
