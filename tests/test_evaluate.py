import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import pytest

from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.decoding.metrics import ErrorCounts
from mindaudio_ds2.errors import AudioError, ManifestError, OutputError
from tests.tiny_corpus import TRANSCRIPTS, evaluate_one

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

Configure = Callable[..., Config]
WALL_TIMES = {
    "wall_seconds",
    "compile_seconds",
    "real_time_factor",
    "real_time_factor_with_compiling",
    "utterances_per_second",
    "date",
}


@pytest.fixture(scope="module")
def recognizer(finished_run: Path) -> Any:
    """Of a run that has not learned much, so that there are errors to count."""
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network
    from mindaudio_ds2.model.deepspeech2 import Recognizer

    path = finished_run / "best.ckpt"
    return Recognizer(restore_network(load_checkpoint(path), str(path)))


@pytest.fixture
def train_utterances(corpus: Path) -> list[Utterance]:
    return read_manifest(corpus / "train.jsonl")


# The Evaluator --------------------------------------------------------------------------------------------------------


def test_every_batch_size_gives_the_same_hypotheses_once_each_in_the_manifests_order(
    recognizer: Any, train_utterances: list[Utterance], configure: Configure
) -> None:
    from mindaudio_ds2.evaluate import Evaluator

    hypotheses, counts = [], []
    for size in (1, 3, 5, 100):
        config = configure({"batching.max_batch_utterances": size, "batching.max_batch_padded_seconds": 100.0})
        evaluator = Evaluator(recognizer, train_utterances, config)
        assert len(evaluator.plan) == -(-len(train_utterances) // size)
        evaluation = evaluator.run()
        assert [scored.utterance for scored in evaluation.utterances] == train_utterances
        hypotheses.append([scored.hypothesis for scored in evaluation.utterances])
        counts.append(evaluation.counts)
    assert all(other == hypotheses[0] for other in hypotheses)
    assert all(other == counts[0] for other in counts)
    assert counts[0].num_utterances == len(train_utterances)
    assert counts[0].word_errors > 0
    assert len(set(hypotheses[0])) > len(train_utterances) // 2, "they differ, so an exchange would be seen"


def test_rates_are_jiwers(recognizer: Any, train_utterances: list[Utterance], configure: Configure) -> None:
    from mindaudio_ds2.evaluate import Evaluator

    evaluation = Evaluator(recognizer, train_utterances, configure()).run()
    references = [utterance.transcript for utterance in train_utterances]
    hypotheses = [scored.hypothesis for scored in evaluation.utterances]
    assert evaluation.counts.wer == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-12)
    assert evaluation.counts.cer == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-12)


def test_an_evaluator_says_the_same_twice(
    recognizer: Any, train_utterances: list[Utterance], configure: Configure
) -> None:
    from mindaudio_ds2.evaluate import Evaluator

    evaluator = Evaluator(recognizer, train_utterances, configure())
    assert evaluator.run().utterances == evaluator.run().utterances


def test_a_long_utterance_is_scored_though_training_would_leave_it_out(
    recognizer: Any, train_utterances: list[Utterance], configure: Configure
) -> None:
    from mindaudio_ds2.evaluate import Evaluator

    limits = {
        "data.min_duration_seconds": 0.4,
        "data.max_duration_seconds": 0.5,
        "batching.bucket_edges_seconds": [0.5],
        "batching.max_batch_padded_seconds": 0.5,
    }
    evaluation = Evaluator(recognizer, train_utterances, configure(limits)).run()
    assert evaluation.counts.num_utterances == len(train_utterances)
    assert evaluation.counts.num_characters == sum(map(len, TRANSCRIPTS["train"]))


def test_a_reference_keeps_the_characters_that_training_would_drop(
    recognizer: Any, train_utterances: list[Utterance], configure: Configure
) -> None:
    """A recogniser that cannot write a character is wrong about it. So no reference is ever empty, no rate NaN."""
    from mindaudio_ds2.evaluate import Evaluator

    first = train_utterances[0]
    unheard = [Utterance("u0", first.audio_path, first.duration_seconds, " ÄÖ  ü ")]
    evaluation = Evaluator(recognizer, unheard, configure({"text.unknown_character": "drop"})).run()
    assert evaluation.utterances[0].reference == "ÄÖ Ü"
    assert (evaluation.counts.num_words, evaluation.counts.num_characters) == (2, 4)
    assert evaluation.counts.wer > 0


def test_an_utterance_that_cannot_be_read_is_named(
    recognizer: Any, train_utterances: list[Utterance], configure: Configure, tmp_path: Path
) -> None:
    from mindaudio_ds2.evaluate import Evaluator

    (tmp_path / "text.wav").write_text("not audio")
    utterances = [*train_utterances, Utterance("odd", str(tmp_path / "text.wav"), 0.3, "A")]
    with pytest.raises(AudioError, match=r"utterance 'odd': .*text\.wav is not audio"):
        Evaluator(recognizer, utterances, configure()).run()


def test_the_worst_utterances_are_those_with_most_word_errors_then_character_errors() -> None:
    from mindaudio_ds2.evaluate import Evaluation, ScoredUtterance

    errors = {"a": (1, 9), "b": (3, 3), "c": (1, 10), "d": (0, 0)}
    scored = tuple(
        ScoredUtterance(
            Utterance(name, "x.wav", 1.0, "A"),
            "A",
            "B",
            ErrorCounts(1, 5, substitutions=words, num_characters=20, character_errors=characters),
        )
        for name, (words, characters) in errors.items()
    )
    evaluation = Evaluation(scored, 4.0, 3.0, 1.0, {})
    assert [worst.utterance.id for worst in evaluation.worst(3)] == ["b", "c", "a"]
    assert evaluation.real_time_factor == 0.5


def test_what_is_shown_sets_the_words_of_the_worst_below_each_other() -> None:
    from mindaudio_ds2.decoding.metrics import count_errors
    from mindaudio_ds2.evaluate import Evaluation, ScoredUtterance
    from mindaudio_ds2.scores import show

    pairs = {"right": ("GO ON", "GO ON"), "wrong": ("A NINE THREE GO", "NINE THREE GO ON")}
    scored = tuple(
        ScoredUtterance(Utterance(name, "x.wav", 30.0, reference), reference, hypothesis, counts)
        for name, (reference, hypothesis) in pairs.items()
        for counts in [count_errors(reference, hypothesis)]
    )
    lines = show(Evaluation(scored, 60.0, 8.0, 2.0, {"7": 3}), num_worst=5).splitlines()
    assert lines == [
        "2 utterances, 1.0 min of audio, real-time factor 0.100 after 2.0 s of compiling",
        "WER  33.33 %   2 errors in 6 words (0 substituted, 1 deleted, 1 inserted)",
        "CER  25.00 %   5 errors in 20 characters",
        "the references hold characters that this network cannot write, each an error: '7' 3 x",
        "worst utterances:",
        "  wrong: 2 of 4 words wrong",
        "    ref A NINE THREE GO *",
        "    hyp * NINE THREE GO ON",
    ]


def test_nothing_of_a_manifest_reaches_the_terminal_raw() -> None:
    from mindaudio_ds2.decoding.metrics import count_errors
    from mindaudio_ds2.evaluate import Evaluation, ScoredUtterance
    from mindaudio_ds2.scores import show

    reference, hypothesis = "\x1b[2JSTOP", "STOP"
    utterance = Utterance("a\x1b[31m\n\x07", "x.wav", 1.0, reference)
    scored = ScoredUtterance(utterance, reference, hypothesis, count_errors(reference, hypothesis))
    shown = show(Evaluation((scored,), 1.0, 1.0, 1.0, {}), num_worst=1)
    assert "\\x1b[2JSTOP" in shown
    assert not {"\x1b", "\x07"} & set(shown)
    assert [line for line in shown.splitlines() if line.endswith("words wrong")], "an id stays on its line"


# A checkpoint and its files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The checkpoint alone, without a YAML: (Evaluation, path of the summary)."""
    folder = tmp_path_factory.mktemp("evaluated")
    return evaluate_one(finished_run / "best.ckpt", None, None, str(folder))


def test_the_test_manifest_of_the_run_is_the_default(evaluated: tuple[Any, Path]) -> None:
    evaluation, path = evaluated
    assert path.name == "eval_test.json"
    assert [scored.reference for scored in evaluation.utterances] == list(TRANSCRIPTS["test"])


def test_the_file_of_utterances_adds_up_to_the_summary(evaluated: tuple[Any, Path]) -> None:
    summary, rows = read_summary(evaluated[1]), read_rows(evaluated[1])
    assert [row["id"] for row in rows] == [f"test_{number}" for number in range(7)]
    assert summary["num_utterances"] == len(rows)
    for key in ("word_errors", "num_words", "character_errors", "num_characters"):
        assert sum(row[key] for row in rows) == summary[key]
    references, hypotheses = ([row[key] for row in rows] for key in ("reference", "hypothesis"))
    assert summary["wer"] == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-12)
    assert summary["cer"] == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-12)
    assert summary["substitutions"] + summary["deletions"] + summary["insertions"] == summary["word_errors"] > 0


def test_the_summary_says_what_a_result_depends_on(evaluated: tuple[Any, Path], finished_run: Path) -> None:
    summary = read_summary(evaluated[1])
    assert summary["checkpoint"] == str(finished_run / "best.ckpt")
    assert summary["epochs"] == 1
    assert summary["num_parameters"] == 8036
    wanted = {"date", "commit", "dirty", "mindspore_version", "device_target", "cpu", "manifest", "decoder", "split"}
    assert wanted <= summary.keys()


def test_two_evaluations_are_equal_but_for_wall_times(
    evaluated: tuple[Any, Path], finished_run: Path, tmp_path: Path
) -> None:
    _, path = evaluate_one(finished_run / "best.ckpt", None, None, str(tmp_path))
    first, second = read_summary(evaluated[1]), read_summary(path)
    assert {key: first[key] for key in first if key not in WALL_TIMES} == {
        key: second[key] for key in second if key not in WALL_TIMES
    }
    name = "eval_test_utterances.jsonl"
    assert (tmp_path / name).read_bytes() == evaluated[1].with_name(name).read_bytes()


def test_features_alphabet_and_network_come_from_the_checkpoint_whatever_the_yaml_says(
    evaluated: tuple[Any, Path], finished_run: Path, configure: Configure, tmp_path: Path
) -> None:
    other = {
        "features.window": "hamming",
        "features.hop_seconds": 0.02,
        "features.fft_size": 256,
        "features.kind": "log_mel",
        "text.characters": "DCBA ",
        "text.blank": "last",
        "model.rnn_hidden_size": 40,
        "model.conv_stride_time": [3],
        "batching.max_batch_utterances": 2,
    }
    evaluation, _ = evaluate_one(finished_run / "best.ckpt", configure(other), None, str(tmp_path))
    assert evaluation.utterances == evaluated[0].utterances


def test_a_yaml_or_a_path_can_name_another_manifest(
    recognizer: Any, finished_run: Path, corpus: Path, configure: Configure, tmp_path: Path
) -> None:
    write_manifest(tmp_path / "few.jsonl", read_manifest(corpus / "dev.jsonl")[:2])
    write_manifest(tmp_path / "fewer.jsonl", read_manifest(corpus / "dev.jsonl")[:1])
    config = configure({"data.test_manifest": str(tmp_path / "few.jsonl")})
    evaluation, path = evaluate_one(finished_run / "best.ckpt", config, None, str(tmp_path))
    assert (path.name, len(evaluation.utterances)) == ("eval_few.json", 2)
    wanted = str(tmp_path / "fewer.jsonl")
    evaluation, path = evaluate_one(finished_run / "best.ckpt", config, wanted, str(tmp_path))
    assert (path.name, len(evaluation.utterances)) == ("eval_fewer.json", 1)


def test_results_lie_beside_the_checkpoint_unless_a_folder_is_given(
    learned_run: Path, corpus: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copy(learned_run / "last.ckpt", tmp_path)
    evaluation, path = evaluate_one(checkpoint, None, str(corpus / "dev.jsonl"), None)
    assert path == tmp_path / "eval_dev.json"
    assert evaluation.counts.word_errors == evaluation.counts.character_errors == 0
    assert [scored.hypothesis for scored in evaluation.utterances] == list(TRANSCRIPTS["dev"])


def test_wrong_durations_in_the_manifest_are_an_error_that_names_the_utterance(
    finished_run: Path, corpus: Path, tmp_path: Path
) -> None:
    first = read_manifest(corpus / "dev.jsonl")[0]
    write_manifest(tmp_path / "wrong.jsonl", [Utterance("u0", first.audio_path, 1.5, "A")])
    with pytest.raises(ManifestError, match=r"utterance 'u0': duration_seconds is 1\.500 .* prepare\.py"):
        evaluate_one(finished_run / "best.ckpt", None, str(tmp_path / "wrong.jsonl"), str(tmp_path))


def test_scores_of_two_corpora_do_not_overwrite_each_other(finished_run: Path, corpus: Path, tmp_path: Path) -> None:
    utterances = read_manifest(corpus / "dev.jsonl")
    paths = []
    for name in ("one", "two", "two/two", "one"):
        (tmp_path / name).mkdir(exist_ok=True)
        write_manifest(tmp_path / name / "test.jsonl", utterances[: 1 + (name != "one")])
        wanted = str(tmp_path / name / "test.jsonl")
        paths.append(evaluate_one(finished_run / "best.ckpt", None, wanted, str(tmp_path))[1])
    assert [path.name for path in paths[:2]] == ["eval_test.json", "eval_two_test.json"]
    assert len(set(paths)) == 3, "the first corpus again replaces its own scores only"
    assert paths[3] == paths[0]
    assert [read_summary(path)["num_utterances"] for path in paths[:3]] == [1, 2, 2]


def test_characters_that_the_network_cannot_write_are_counted_and_named(
    finished_run: Path, corpus: Path, tmp_path: Path
) -> None:
    from mindaudio_ds2.scores import show

    first = read_manifest(corpus / "dev.jsonl")[0]
    changed = Utterance("u0", first.audio_path, first.duration_seconds, "A\u200b 7 7.")
    write_manifest(tmp_path / "odd.jsonl", [changed])
    evaluation, path = evaluate_one(finished_run / "best.ckpt", None, str(tmp_path / "odd.jsonl"), str(tmp_path))
    assert read_summary(path)["unwritable"] == {"7": 2, "\u200b": 1, ".": 1}
    assert "'7' 2 x, '\\u200b' 1 x, '.' 1 x" in show(evaluation, 0)


def test_differences_that_are_named_are_no_errors_and_the_result_says_so(
    learned_run: Path, corpus: Path, tmp_path: Path
) -> None:
    from mindaudio_ds2.decoding.metrics import Normalizer
    from mindaudio_ds2.scores import Scoring, evaluate_checkpoint, show

    def spoil(utterance: Utterance) -> Utterance:
        return dataclasses.replace(utterance, transcript=f"{utterance.transcript.replace(' ', ', ').lower()}\u200b.")

    write_manifest(tmp_path / "odd.jsonl", map(spoil, read_manifest(corpus / "dev.jsonl")))
    scores = {}
    for kinds in ([], ["all"]):
        scoring = Scoring([str(tmp_path / "odd.jsonl")], str(tmp_path), normalizer=Normalizer.of(kinds))
        ((evaluation, path),) = evaluate_checkpoint(learned_run / "last.ckpt", {}, scoring)
        scores[len(kinds)] = evaluation.counts.word_errors
        assert read_summary(path)["normalize"] == list(evaluation.normalize)
        assert bool(evaluation.unwritable) != bool(kinds)
    assert scores[0] > scores[1] == 0
    assert "compared without differences of quotes, zero_width, case, punctuation" in show(evaluation, 0)


def test_a_checkpoint_alone_does_not_choose_a_folder_for_features(
    learned_run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mindaudio_ds2 import scores

    loaded = scores.load_checkpoint(learned_run / "last.ckpt")
    data = dataclasses.replace(loaded.config.data, feature_cache_dir=str(tmp_path / "chosen"))
    foreign = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, data=data))
    monkeypatch.setattr(scores, "load_checkpoint", lambda _: foreign)
    evaluate_one("foreign.ckpt", None, str(corpus / "dev.jsonl"), str(tmp_path / "scores"))
    assert not (tmp_path / "chosen").exists()


def test_a_folder_below_a_file_is_an_error_that_names_it(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write .*/file/below/eval_test"):
        evaluate_one(finished_run / "best.ckpt", None, None, str(tmp_path / "file" / "below"))


def read_summary(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return summary


def read_rows(path: Path) -> list[dict[str, Any]]:
    lines = path.with_name("eval_test_utterances.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
