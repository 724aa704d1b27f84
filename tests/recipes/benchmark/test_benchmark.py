import dataclasses
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.batching.plan import count_frames_to_align
from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.manifest import Utterance, write_manifest
from mindaudio_ds2.errors import ConfigError, OutputError
from mindaudio_ds2.ops.library import find_kernels, has_bfloat16
from recipes.benchmark import apart, command, others, tables, worker
from recipes.benchmark.beside import make_beside_table
from recipes.benchmark.case import Case, ContenderError, explain_mismatch, make_batches
from recipes.benchmark.contender import EXPORTED, build_contender
from recipes.benchmark.ladder import make_ladder_table
from recipes.benchmark.worker import Job

ROOT = Path(__file__).resolve().parents[3]
FIXED = Case("train", 2, 1.0, None, 2)


@pytest.fixture
def full() -> Config:
    return read_config(ROOT / "hparams" / "deepspeech2.yaml")


@pytest.fixture
def tiny(full: Config) -> Config:
    sizes = {
        "conv_channels": [2, 3],
        "conv_kernel_frequency": [5, 3],
        "conv_kernel_time": [5, 3],
        "rnn_num_layers": 2,
        "rnn_hidden_size": 8,
    }
    return change(full, **sizes)


def change(config: Config, **model: Any) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **model))


def make_options(**changes: Any) -> SimpleNamespace:
    values = {
        **{"task": "train", "batches": "1,8", "seconds": 15.0, "durations": None, "num_steps": 3, "rounds": 2},
        **{"contenders": None, "deepspeech_pytorch": None, "mindspore_models": None, "pieces": False},
        "threads": None,
    }
    return SimpleNamespace(**{**values, **changes})


def make_line(contender: str, rate: float, **changes: Any) -> tables.Line:
    line = {
        **{"date": "2026-01-02", "run": "r1", "commit": "abc", "dirty": False, "others_share": 0.01},
        **{"contender": contender, "case": "train, 16 x 15 s", "task": "train", "network": "n", "batch": 16},
        **{"gemm_gflops": 150.0, "peak_memory_mb": 2048, "audio_seconds_per_second": rate, "gflops": 30 * rate},
        **{"compile_seconds": 3.0, "first_step_seconds": 9.0, "num_parameters": 5},
    }
    return {**line, **changes}


def read_cells(table: str, contender: str) -> list[str]:
    row = next(row for row in table.splitlines() if f"| {contender} |" in row)
    return [cell.strip() for cell in row.strip("|").split("|")]


# Cases ---------------------------------------------------------------------------------------------------------------


def test_all_contenders_get_the_same_batch(full: Config) -> None:
    first, second = (make_batches(full, Case("train", 3, 2.0, None, 5))[0] for _ in range(2))
    np.testing.assert_array_equal(first.arrays.features, second.arrays.features)
    np.testing.assert_array_equal(first.arrays.labels, second.arrays.labels)
    assert first.arrays.features.shape == (3, 201, 161)
    assert first.arrays.label_lengths.tolist() == [28, 28, 28]  # 14 characters a second
    assert first.audio_seconds == 6.0


@pytest.mark.parametrize("hparams", ["deepspeech2", "an4", "synthetic", "deepspeech2_mini"])
@pytest.mark.parametrize("seconds", [0.1, 1.0, 7.3])
def test_random_labels_can_be_aligned(hparams: str, seconds: float) -> None:
    config = read_config(ROOT / "hparams" / f"{hparams}.yaml")
    batch = make_batches(config, Case("train", 8, seconds, None, 1))[0].arrays
    for labels, num, num_frames in zip(batch.labels, batch.label_lengths, batch.feature_lengths, strict=True):
        assert count_frames_to_align(labels[:num]) <= config.model.num_output_frames(int(num_frames))
        assert 0 not in labels[:num]  # the blank


def test_a_manifest_gives_its_durations_as_training_batches_them(full: Config, tmp_path: Path) -> None:
    durations = [0.2, 1.0, 2.0, 3.0, 12.0, 40.0]  # the first and the last are outside the limits of training
    utterances = [Utterance(str(i), "/none.wav", seconds, "X") for i, seconds in enumerate(durations)]
    write_manifest(tmp_path / "mix.jsonl", utterances)
    small = dataclasses.replace(full, batching=dataclasses.replace(full.batching, max_batch_utterances=2))
    case = Case("train", 0, 0.0, str(tmp_path / "mix.jsonl"), 10)
    batches = make_batches(small, case)
    assert sorted(batch.audio_seconds for batch in batches) == [3.0, 15.0]
    lengths = sorted(int(n) for batch in batches for n in batch.arrays.feature_lengths)
    assert lengths == [101, 201, 301, 1201]
    assert case.name == f"train, durations of {tmp_path.name}/mix.jsonl"


def test_a_manifest_without_any_usable_utterance_is_refused(full: Config, tmp_path: Path) -> None:
    write_manifest(tmp_path / "long.jsonl", [Utterance("a", "/none.wav", 99.0, "X")])
    with pytest.raises(ContenderError, match="no utterance lasts"):
        make_batches(full, Case("train", 0, 0.0, str(tmp_path / "long.jsonl"), 10))


def test_options_become_cases_and_contenders() -> None:
    assert [case.name for case in command.list_cases(make_options())] == ["train, 1 x 15 s", "train, 8 x 15 s"]
    ours, pytorch = ["ours-native", "ours-bf16", "ours-stock"], ["pytorch", "pytorch-bf16"]
    assert list(command.list_contenders(make_options())) == [*ours, *pytorch]
    recognising = list(command.list_contenders(make_options(task="inference")))
    assert recognising == [*ours, *pytorch, "onnxruntime", "onnxruntime-int8"]
    assert list(command.list_contenders(make_options(pieces=True))) == ours
    given = command.list_contenders(make_options(mindspore_models="models"))
    assert given["mindspore-official"] == str(Path("models").resolve())
    assert "deepspeech.pytorch" not in given


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": "1;2"}, "with commas"),
        ({"batches": "1,0"}, "above 0"),
        ({"num_steps": 0}, "above 0"),
        ({"durations": "x.jsonl", "pieces": True}, "one batch"),
        ({"threads": "0"}, "above 0"),
        ({"threads": "1,9999"}, "may use"),
        ({"contenders": "ours"}, "ours-native"),
        ({"contenders": "onnxruntime"}, "--task inference"),
        ({"contenders": "deepspeech.pytorch"}, "--deepspeech_pytorch"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, Any], message: str) -> None:
    read = command.list_contenders if "contenders" in changes else command.list_cases
    with pytest.raises(ConfigError, match=message):
        read(make_options(**changes))


def test_each_number_of_threads_is_a_case() -> None:
    cases = command.list_cases(make_options(batches="1", threads="1"))
    assert [(case.name, case.num_threads) for case in cases] == [("train, 1 x 15 s, 1 thread", 1)]


def test_a_job_survives_its_way_to_the_worker(full: Config) -> None:
    job = Job("pytorch", to_mapping(full), dataclasses.replace(FIXED, num_threads=2), None, False, True)
    assert Job.from_json(job.to_json()) == job


def test_the_time_left_is_known_after_the_first_measurement() -> None:
    turns = command.Turns([(FIXED, "a"), (FIXED, "b"), (FIXED, "a"), (FIXED, "b")])
    assert "left" not in turns.announce()
    turns.finish(120.0)
    assert turns.announce() == "[2/4] b: train, 2 x 1 s (about 6 min left)"
    turns.finish(60.0)
    assert "about 3 min left" in turns.announce()


# Figures and tables --------------------------------------------------------------------------------------------------


def make_result(steps: list[float], **changes: Any) -> apart.Result:
    result = {
        **{"audio_seconds": [10.0] * len(steps), "step_seconds": steps, "first_step_seconds": 5.0},
        **{"compile_seconds": 2.0, "peak_memory_mb": 7},
        **{"num_parameters": 5, "num_threads": 2, "others_share": 0.0},
    }
    return {**result, **changes}


def test_rounds_are_combined_by_the_median(full: Config) -> None:
    results = [make_result([1.0, 2.0]), make_result([2.0, 50.0], peak_memory_mb=9)]
    figures = command.combine(results, full, FIXED)
    assert figures["audio_seconds_per_second"] == 5.0
    assert figures["gflops"] == pytest.approx(5.0 * 3 * 9.7142, abs=0.1)
    assert figures["peak_memory_mb"] == 9
    inference = dataclasses.replace(FIXED, task="inference")
    assert command.combine(results, full, inference)["gflops"] == pytest.approx(5.0 * 9.7142, abs=0.1)


def test_batches_of_a_mix_count_each_with_its_own_median(full: Config) -> None:
    rounds = [[1.0, 10.0], [2.0, 30.0], [90.0, 20.0]]
    mix = dataclasses.replace(FIXED, manifest="/data/mix.jsonl")
    figures = command.combine([make_result(steps, audio_seconds=[4.0, 40.0]) for steps in rounds], full, mix)
    assert figures["audio_seconds_per_second"] == 2.0  # 44 s of audio in 2 + 20 s


def test_time_that_others_took_is_what_is_neither_idle_nor_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat, now = tmp_path / "stat", SimpleNamespace(seconds=100.0, own=7.0)
    monkeypatch.setattr(others, "STAT", stat)
    monkeypatch.setattr(others, "_read_own_seconds", lambda: now.own)
    monkeypatch.setattr(others, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    ticks = os.sysconf("SC_CLK_TCK")

    def write(user: float, steal: float) -> None:
        rows = [f"cpu{n} {round(ticks * user)} 0 5 9{n} 9 0 0 {round(ticks * steal)} 0 0" for n in range(3)]
        stat.write_text("cpu 1 2 3 4 5 6 7 8 9 10\n" + "\n".join(rows) + "\nintr 1 2\n")

    write(user=50, steal=0)
    clock = others.OthersClock()
    write(user=56, steal=2)  # 16 s on processors 0 and 2, of the 20 s that they had
    now.seconds, now.own = 110.0, 19.0
    assert clock.read_share() == pytest.approx(4 / 20)
    now.own = 27.0  # clocks are not quite the same
    assert clock.read_share() == 0.0
    stat.unlink()
    assert clock.read_share() is None


def test_the_limit_is_the_fastest_product_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    now, seconds = SimpleNamespace(seconds=0.0), {1024: [9.0, 0.4, 0.1, 0.6], 2048: [9.0, 0.5, 0.9], 4096: [9.0, 2.0]}

    def multiply(size: int) -> None:
        now.seconds += seconds[size].pop(0)  # the first of each size is not counted

    monkeypatch.setattr(worker, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    contender: Any = SimpleNamespace(multiply=multiply)
    assert worker.measure_gemm(contender) == pytest.approx(2 * 4096**3 / 2.0 / 1e9)
    assert not any(seconds.values()), "each size is multiplied for a second"


def test_a_failed_round_fails_its_contender(full: Config) -> None:
    assert command.combine([make_result([1.0]), {"failure": "why"}], full, FIXED) == {"failure": "why"}


def test_another_number_of_weights_is_another_network() -> None:
    lines = [{"contender": "ours-native", "num_parameters": 5}, {"contender": "pytorch", "num_parameters": 6}]
    other: apart.Result = {"contender": "mindspore-official", "num_parameters": 7}
    command.check_parameters([*lines, other])
    assert lines[1]["failure"] == "it has 6 weights, ours-native has 5"
    assert "failure" not in lines[0]
    assert "failure" not in other


def test_the_table_compares_within_a_run() -> None:
    lines = [
        make_line("pytorch", 9.0, run="r0"),
        make_line("mindspore-official", 2.0, case="train, 1 x 15 s", batch=1),
        make_line("ours-native", 5.0),
        make_line("pytorch", 4.0, gemm_gflops=200.0),
        make_line("mindspore-official", 2.5),
    ]
    cells = read_cells(tables.make_steps_table(lines), "ours-native")
    assert cells[2:8] == ["5.00", "1.25", "2.00", "2.50", "150", "75 % of 200"]
    assert cells[8:] == ["3.0 s", "9.0 s", "2.0 GB", "2026-01-02", "abc"]


def test_the_table_takes_the_newest_line_and_compares_with_no_other_run() -> None:
    lines = [make_line("ours-native", 5.0), make_line("pytorch", 4.0), make_line("ours-native", 8.0, run="r2")]
    table = tables.make_steps_table(lines)
    assert read_cells(table, "ours-native")[2:4] == ["8.00", ""]
    assert table.count("ours-native") == 1


def test_a_failure_stands_in_the_table_with_its_reason() -> None:
    failed = {
        key: value
        for key, value in make_line("pytorch", 1.0).items()
        if key not in ("gemm_gflops", "peak_memory_mb", "audio_seconds_per_second", "gflops")
    }
    table = tables.make_steps_table([make_line("ours-native", 5.0), {**failed, "failure": "no | torch"}])
    head, row = table.splitlines()[2], table.splitlines()[-1]
    assert "failed: no \\| torch" in row
    assert row.replace("\\|", "").count("|") == head.count("|")


def test_a_busy_machine_is_named() -> None:
    assert "busy machine (others took 30 %)" in tables.make_steps_table([make_line("pytorch", 1.0, others_share=0.3)])
    assert "busy" not in tables.make_steps_table([make_line("pytorch", 1.0, others_share=0.03)])


def test_the_first_table_has_both_precisions_beside_each_other_and_losses_bold() -> None:
    rates = {"ours-native": 5.0, "pytorch": 4.0, "ours-bf16": 9.0, "pytorch-bf16": 10.0, "ours-stock": 1.0}
    narrow = {"network": "narrow", "num_parameters": 1, "run": "r2"}
    lines = [make_line(name, rate) for name, rate in rates.items()]
    lines += [make_line("ours-native", 3.0, **narrow), make_line("pytorch", 4.0, **narrow)]
    lines.append(make_line("ours-native", 7.0, case="alone"))  # nothing to compare it with
    first, second = (
        [cell.strip() for cell in row.strip("|").split("|")] for row in make_beside_table(lines).splitlines()[2:]
    )
    assert first[:5] == ["narrow", "train, 16 x 15 s", "3.0", "4.0", ""]
    assert first[7:11] == ["**0.75**", "", "", ""]
    assert second[2:] == [
        *("5.0", "4.0", "9.0", "10.0", "", "1.25", "**0.90**", "1.80", "", "150 GFLOP/s", "2026-01-02"),
    ]
    assert make_beside_table([]) == ""


def test_the_first_table_prefers_quiet_runs_and_marks_busy_ones() -> None:
    def make_run(run: str, share: float) -> list[tables.Line]:
        return [
            make_line("ours-native", 5.0, run=run, others_share=share, date=run),
            make_line("pytorch", 4.0, run=run),
        ]

    old, quiet, busy = make_run("old", 0.0), make_run("quiet", 0.04), make_run("busy", 0.3)
    assert "| quiet |" in make_beside_table([*old, *quiet, *busy])
    assert "| busy, busy machine (others took 30 %) |" in make_beside_table(busy)


def test_the_ladder_counts_no_padding_and_takes_the_newest_lines() -> None:
    network = {"network": "deepspeech2: 5 x 1024 lstm, 9.71 GFLOP"}
    lines = [
        make_line("mindspore-official", 9.0, case="train, 1 x 15 s", **network),
        make_line("mindspore-official", 2.0, case="train, 1 x 15 s", **network),
        make_line("ours-native", 8.0, case="train, 16 x 15 s", **network),
        make_line("ours-native", 7.0, case="train, 16 x 15 s", network="deepspeech2_mini: small"),
        make_line("ours-native", 9.5, case="train, durations of librispeech_mini/train.jsonl", **network),
        {"case": "train, 16 x 15 s", "contender": "ours-native", "pieces": {}, **network},
    ]
    real = 28539 * 15 / (100.59 * 3600)  # padded seconds for each second of audio
    first, batched, planned = (row.split(" | ")[1:] for row in make_ladder_table(lines).splitlines()[2:])
    assert first == [f"{2 / real:.1f}", f"{100 * real / 2:.1f} h", "1.0 |"]
    assert batched == [f"{8 / real:.1f}", f"{100 * real / 8:.1f} h", "4.0 |"]
    assert planned == ["9.5", "10.5 h", f"{9.5 / 2 * real:.1f} |"]
    assert make_ladder_table(lines[2:]) == ""


@pytest.mark.parametrize("name", ["beside", "ladder"])
def test_the_projects_page_gets_its_tables(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "recipes" / "benchmark"
    folder.mkdir(parents=True)
    begin, end = tables.MARKERS[name]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "benchmarks.md").write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    (folder / "README.md").write_text("".join(f"{b}\n{e}\n" for b, e in tables.MARKERS.values()))
    network = "deepspeech2: 5 x 1024 lstm, 9.71 GFLOP"
    names = ("mindspore-official", "ours-native", "pytorch")
    tables.keep(folder, [make_line(name, 2.0, case="train, 1 x 15 s", network=network) for name in names])
    text = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert text.startswith(f"before\n{begin}\n| ")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text


def test_pieces_stand_beside_each_other() -> None:
    piece = {"seconds": 0.5, "gflops": 80.0}
    native = make_line("ours-native", 0.0, pieces={"convolutions": piece, "CTC": {"seconds": 0.01}})
    stock = make_line("ours-stock", 0.0, pieces={}, failure="out of memory")
    table = tables.make_pieces_table([native, stock])
    assert "| convolutions | 0.5000 s, 80 GFLOP/s |  |" in table
    assert "failed: out of memory" in table
    assert tables.make_steps_table([native, stock]) == ""


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(OutputError, match="no place"):
        tables.put_table("# Nothing here", "steps", "table")


def test_what_cannot_be_kept_is_found_before_anything_is_measured(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text("# Nothing here")
    monkeypatch.setattr(command, "run_worker", lambda _: pytest.fail("it was measured"))
    with pytest.raises(OutputError, match="no place"):
        command.run(tiny, make_options(results=str(tmp_path)), "tiny.yaml")


def test_the_readme_shows_what_the_results_say() -> None:
    folder = ROOT / "recipes" / "benchmark"
    lines, readme = tables.read_lines(folder), (folder / "README.md").read_text(encoding="utf-8")
    for name, make_table in (
        ("steps", tables.make_steps_table),
        ("pieces", tables.make_pieces_table),
        ("shapes", tables.make_shapes_table),
    ):
        assert tables.put_table(readme, name, make_table(lines)) == readme
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert tables.put_table(page, "beside", make_beside_table(lines)) == page
    assert tables.put_table(page, "ladder", make_ladder_table(lines)) == page


# Contenders ----------------------------------------------------------------------------------------------------------


def test_the_originals_can_build_only_the_full_kind_of_network(full: Config) -> None:
    assert explain_mismatch(full) == ""
    reason = explain_mismatch(read_config(ROOT / "hparams" / "an4.yaml"))
    assert "conv_kernel_frequency is fixed to [41, 21]" in reason
    assert "linear spectrogram" in reason


@pytest.mark.parametrize("contender", ["pytorch", "pytorch-bf16"])
def test_a_missing_torch_is_named_with_its_remedy(
    contender: str, full: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ContenderError, match="pip install torch"):
        build_contender(contender, full, "train", [], None)


@pytest.mark.parametrize("rnn_type", ["lstm", "gru"])
def test_pytorch_learns_under_autocast_as_it_does_without(tiny: Config, rnn_type: str) -> None:
    pytest.importorskip("torch")
    config = change(tiny, rnn_type=rnn_type)
    batch = make_mixed_batch(config)
    losses = []
    for contender in ("pytorch", "pytorch-bf16"):
        theirs = build_contender(contender, config, "train", [], None)
        losses.append([theirs.take(batch) for _ in range(20)])
    single, half = losses
    assert half[0] != single[0]
    np.testing.assert_allclose(half, single, rtol=5e-3)
    assert half[0] - half[-1] == pytest.approx(single[0] - single[-1], rel=0.3)  # weights are rounded anew each step
    heard = build_contender("pytorch-bf16", config, "inference", [], None).take(batch)
    assert heard == pytest.approx(build_contender("pytorch", config, "inference", [], None).take(batch), rel=1e-2)


@pytest.mark.parametrize("task", ["train", "inference"])
def test_ours_computes_in_bfloat16(tiny: Config, task: Any) -> None:
    kernels = find_kernels("auto", "CPU")
    if kernels is None or not has_bfloat16(kernels):
        pytest.skip("this processor has no AVX512-BF16, or there is no compiler")
    config = to_mapping(change(tiny, rnn_hidden_size=16))
    result = command.run_worker(Job("ours-bf16", config, dataclasses.replace(FIXED, task=task), None, False, False))
    assert len(result["step_seconds"]) == 2


def test_pytorch_refuses_an_optimiser_that_it_would_have_to_replace(tiny: Config) -> None:
    pytest.importorskip("torch")
    config = dataclasses.replace(tiny, optimizer=dataclasses.replace(tiny.optimizer, name="lamb"))
    with pytest.raises(ContenderError, match="not optimizer.name lamb"):
        build_contender("pytorch", config, "train", [], None)


def test_one_contender_fails_and_the_others_are_measured(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("\n".join(m for pair in tables.MARKERS.values() for m in pair))
    about = {"commit": "abc", "dirty": False, "cpu": "any", "mindspore_version": "2"}
    monkeypatch.setattr(apart, "describe_environment", lambda: about)
    options = make_options(batches="2", seconds=0.5, rounds=1, num_steps=2, results=str(tmp_path))
    options.contenders, options.mindspore_models = "ours-stock,mindspore-official", str(tmp_path)
    command.run(tiny, options, "tiny.yaml")
    lines = {line["contender"]: line for line in tables.read_lines(tmp_path)}
    ours, official = lines["ours-stock"], lines["mindspore-official"]
    assert "cannot build this network" in official["failure"]
    assert len(ours["step_seconds"][0]) == 2
    rate = 2 * 0.5 / np.median(ours["step_seconds"][0])  # from rounded times
    assert ours["audio_seconds_per_second"] == pytest.approx(rate, rel=0.02)
    assert min(ours[key] for key in ("gemm_gflops", "peak_memory_mb", "compile_seconds", "first_step_seconds")) > 0
    assert json.dumps(ours["network"]).startswith('"tiny: 2 x 8 lstm')
    assert "failed: it cannot build" in (tmp_path / "README.md").read_text()
    assert "ours-stock" in capsys.readouterr().out


@pytest.mark.parametrize(("contender", "within"), [("onnxruntime", 1e-4), ("onnxruntime-int8", 0.5)])
def test_the_network_in_onnxruntime_is_ours(
    tiny: Config, contender: str, within: float, tmp_path: Path, mindspore_cpu: None
) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from mindspore import Tensor

    from mindaudio_ds2.checkpoint import build_network
    from mindaudio_ds2.model.deepspeech2 import Recognizer, count_parameters
    from recipes.benchmark import with_onnx

    path = tmp_path / "model.onnx"
    network = build_network(tiny)
    onnx.save(with_onnx.make_model(network, tiny, EXPORTED[contender]), path)
    theirs = with_onnx.OnnxContender(tiny, path)
    batch = make_mixed_batch(tiny)
    inputs = Tensor(batch.features), Tensor(batch.feature_lengths)
    expected, lengths = Recognizer(network).prepare(tiny.features.num_bins).hear(*inputs, 3)
    rows = [row[:length] for row, length in zip(batch.features, batch.feature_lengths, strict=True)]
    found, found_lengths = theirs.network.recognize_features(rows)
    np.testing.assert_array_equal(found_lengths, lengths)
    for one, other, length in zip(found, expected, lengths, strict=True):
        np.testing.assert_allclose(one[:length], other[:length], atol=within)
    assert theirs.take(batch) == pytest.approx(float(found.sum()))
    assert theirs.num_parameters == count_parameters(network)
    theirs.multiply(64)


@pytest.mark.parametrize("task", ["train", "inference"])
@pytest.mark.parametrize(
    ("contender", "variable"),
    [("deepspeech.pytorch", "DS2_DEEPSPEECH_PYTORCH"), ("mindspore-official", "DS2_MINDSPORE_MODELS")],
)
def test_an_original_runs_from_its_checkout(contender: str, variable: str, task: Any, full: Config) -> None:
    checkout = os.environ.get(variable)
    if not checkout:
        pytest.skip(f"set {variable} to a checkout of {contender}")
    case = dataclasses.replace(FIXED, task=task)
    small = to_mapping(change(full, rnn_num_layers=2, rnn_hidden_size=8))
    result = command.run_worker(Job(contender, small, case, str(Path(checkout).resolve()), False, False))
    assert len(result["step_seconds"]) == 2
    assert min(result["step_seconds"]) > 0


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"conv_bias": True, "activation": "tanh", "rnn_batch_norm": False, "head_bias": True},
        {"bidirectional": False, "lookahead_frames": 4, "head_batch_norm": False},
    ],
)
def test_the_network_in_pytorch_is_ours(tiny: Config, switches: dict[str, Any], mindspore_cpu: None) -> None:
    torch = pytest.importorskip("torch")
    from mindaudio_ds2.checkpoint import build_network
    from recipes.benchmark.torch_model import copy_weights
    from recipes.benchmark.with_torch import TorchNetwork, count_weights
    from tests.cells import LossAndGradients, run

    config = change(tiny, **switches)
    ours, theirs = build_network(config), TorchNetwork(config)
    weights = {name: p.asnumpy().copy() for name, p in ours.weights().items() if p.requires_grad}
    assert sum(weight.size for weight in weights.values()) == count_weights(theirs)
    places = copy_weights(theirs, weights)
    batch = make_mixed_batch(config)
    ours.set_train(True)
    arrays = (batch.features, batch.feature_lengths, batch.labels, batch.label_lengths)
    loss, *gradients = run(LossAndGradients(ours), *arrays)
    logits, lengths = theirs(torch.from_numpy(batch.features), torch.from_numpy(batch.feature_lengths).long())
    their_loss = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1),
        torch.from_numpy(batch.labels),
        lengths,
        torch.from_numpy(batch.label_lengths),
        reduction="none",
    ).mean()
    their_loss.backward()
    assert loss == pytest.approx(their_loss.item(), rel=1e-5)
    names = [name for name, p in ours.weights().items() if p.requires_grad]
    for name, gradient in zip(names, gradients, strict=True):
        theirs_gradient = places[name].grad.numpy().reshape(gradient.shape)
        # A norm takes away what a bias before it adds: its gradient is 0 but for the rounding of a sum over frames.
        is_rounding = config.model.conv_bias and name.startswith("convs") and name.endswith("conv.bias")
        atol = 2e-5 if is_rounding else 2e-4 * max(1e-2, np.abs(gradient).max())
        np.testing.assert_allclose(gradient, theirs_gradient, atol=atol, err_msg=name)


def make_mixed_batch(config: Config) -> Any:
    from mindaudio_ds2.batching.collate import collate

    generator = np.random.default_rng(3)
    sizes = [(41, 7), (60, 9), (23, 4)]
    examples = [
        (
            i,
            generator.standard_normal((num, config.features.num_bins), dtype=np.float32),
            generator.integers(1, 29, labels).astype(np.int32),
        )
        for i, (num, labels) in enumerate(sizes)
    ]
    return collate(examples, 0)
