"""Reports of runs: what is counted on the page, that it is escaped, and that what is missing is said."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.commands import report as report_command
from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import read_config
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest, write_manifest
from mindaudio_ds2.decoding.metrics import align_words
from mindaudio_ds2.errors import ConfigError, OutputError
from mindaudio_ds2.reporting.listening import Heard, Listener, choose_labels, draw
from mindaudio_ds2.reporting.mistakes import (
    SPACE,
    align_characters,
    count_mistakes,
    estimate_interval,
    rank_worst,
    sum_by_speaker,
)
from mindaudio_ds2.reporting.page import Markup, element, page, table
from mindaudio_ds2.reporting.report import make_report
from mindaudio_ds2.reporting.run_folder import ScoredLine, read_run_folder
from tests.tiny_corpus import evaluate_one

ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta", "img", "br"}
PAIRS = {
    "ann-1": ("TURN LEFT NOW", "TURN LIFT NOW"),
    "ann-2": ("GO", "GO"),
    "bob-1": ("TURN RIGHT AT THE LIGHT", "TURN AT THE BIG LIGHT"),
    "bob-2": ("STOP", "STOP IT"),
}


def count_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein's distance, by the book."""
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, start=1):
        above, row = row, [i]
        for j, right in enumerate(hypothesis, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
    return row[-1]


def make_line(name: str, reference: str, hypothesis: str) -> ScoredLine:
    words, characters = count_edits(reference.split(), hypothesis.split()), count_edits(reference, hypothesis)
    return ScoredLine(name, reference, hypothesis, words, len(reference.split()), characters, len(reference))


def write_evaluation(run: Path, lines: Sequence[ScoredLine], split: str = "test", manifest: str = "none.jsonl") -> None:
    """As eval.py leaves it."""
    run.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(vars(line)) for line in lines]
    (run / f"eval_{split}_utterances.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    totals = {
        key: sum(getattr(line, key) for line in lines)
        for key in ("word_errors", "num_words", "character_errors", "num_characters")
    }
    summary: dict[str, Any] = {
        "date": "2026-01-02",
        "checkpoint": str(run / "best.ckpt"),
        "manifest": manifest,
        "split": split,
    }
    summary |= {"decoder": "greedy", "num_utterances": len(lines), "substitutions": 1, "deletions": 2, "insertions": 3}
    summary |= {**totals, "wer": totals["word_errors"] / totals["num_words"], "real_time_factor": 0.01}
    summary["cer"] = totals["character_errors"] / totals["num_characters"]
    (run / f"eval_{split}.json").write_text(json.dumps(summary), encoding="utf-8")


def write_metrics(run: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "step", "step": step, "epoch": 1, "loss": 9.0, "gradient_norm": 1.0, "learning_rate": 1e-3}
        for step in (1, 2)
    ]
    rates = {"dev_wer": 0.5, "dev_cer": 0.25, "train_seconds": 90.0}
    rows.append({"kind": "epoch", "step": 2, "epoch": 1, "loss": 9.0, **rates})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


LINES = [make_line(name, *pair) for name, pair in PAIRS.items()]


class Page(HTMLParser):
    """The text of a page by element, and whether every element that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.sources: list[str] = []
        self.events: list[str] = []
        self.rows: list[list[str]] = []
        self.pieces: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        self.events += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        self.pieces.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.pieces)


# Counting -------------------------------------------------------------------------------------------------------------


def test_mistakes_are_the_edits_that_were_made() -> None:
    mistakes = count_mistakes(align_words(*pair) for pair in PAIRS.values())
    assert mistakes.recognised == {"LEFT": {"LIFT": 1}, "RIGHT": {None: 1}}
    assert mistakes.inserted == {"BIG": 1, "IT": 1}
    assert mistakes.said == Counter(" ".join(reference for reference, _ in PAIRS.values()).split())
    assert (mistakes.num_confused, mistakes.num_lost) == (1, 1)
    assert mistakes.rank() == [("LEFT", 1), ("RIGHT", 1)]


def test_sums_of_mistakes_are_edit_distances() -> None:
    generator = np.random.default_rng(4)
    words = ["A", "BE", "SEA", "D"]
    pairs = [
        (" ".join(generator.choice(words, generator.integers(1, 8))), " ".join(generator.choice(words, size)))
        for size in generator.integers(0, 8, 50)
    ]
    for align, split in ((align_words, str.split), (align_characters, list)):
        mistakes = count_mistakes(align(*pair) for pair in pairs)
        expected = sum(count_edits(split(reference), split(hypothesis)) for reference, hypothesis in pairs)
        assert mistakes.num_confused + mistakes.num_lost + mistakes.inserted.total() == expected
        assert mistakes.said.total() == sum(len(split(reference)) for reference, _ in pairs)


def test_a_space_between_words_is_a_character_that_can_be_seen() -> None:
    mistakes = count_mistakes([align_characters("A  B", "AB")])
    assert mistakes.recognised == {SPACE: {None: 1}}
    assert mistakes.said == {"A": 1, SPACE: 1, "B": 1}


def test_errors_are_summed_for_each_speaker() -> None:
    utterances = {name: Utterance(name, f"{name}.wav", 1.0, "x", name[:3]) for name in PAIRS if name != "bob-2"}
    sums = sum_by_speaker(LINES, utterances)
    assert set(sums) == {"ann", "bob", ""}, "who is not in the manifest has no name"
    assert (sums["ann"].num_utterances, sums["ann"].num_words, sums["ann"].word_errors) == (2, 4, 1)
    assert (sums["bob"].num_words, sums["bob"].word_errors, sums[""].word_errors) == (5, 2, 1)


def test_the_worst_come_first_and_the_right_ones_not_at_all() -> None:
    assert [line.id for line in rank_worst(LINES)] == ["bob-1", "bob-2", "ann-1"]


def test_the_interval_is_that_of_drawing_utterances_again() -> None:
    generator = np.random.default_rng(7)
    lines = [ScoredLine(str(i), "", "", int(generator.binomial(10, 0.2)), 10, 0, 1) for i in range(400)]
    low, high = estimate_interval(lines)
    errors = np.array([line.word_errors for line in lines]) / 10
    deviation = errors.std() / 20  # of a mean of 400, by the central limit theorem
    assert low == pytest.approx(errors.mean() - 1.96 * deviation, abs=0.2 * deviation)
    assert high == pytest.approx(errors.mean() + 1.96 * deviation, abs=0.2 * deviation)
    assert estimate_interval(lines) == (low, high), "the same every time"
    assert estimate_interval([ScoredLine("a", "", "", 1, 4, 0, 1)]) == (0.25, 0.25)


# The page -------------------------------------------------------------------------------------------------------------


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", "<b>&", Markup("<i>x</i>"), class_='"') == '<p class="&quot;">&lt;b&gt;&amp;<i>x</i></p>'
    parsed = Page(page("<t>", table(("a", "b"), [["<td>", 1]], [1])))
    assert parsed.rows == [["a", "b"], ["<td>", "1"]]
    assert parsed.tags["t"] == 0


def test_a_report_tells_the_counts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    manifest = tmp_path / "test.jsonl"
    write_manifest(manifest, [Utterance(name, f"{name}.wav", 1.0, PAIRS[name][0], name[:3]) for name in PAIRS])
    write_evaluation(tmp_path / "mine", LINES, manifest=str(manifest))
    write_metrics(tmp_path / "mine")
    shutil.copy(ROOT / "hparams" / "an4.yaml", tmp_path / "mine" / "config.yaml")
    arguments = {"arguments": ["-c", "x y.yaml"], "cpu": "Abacus"}
    (tmp_path / "mine" / "environment.json").write_text(json.dumps(arguments))
    excluded = [{"utterance_id": f"long-{i}", "reason": "too long", "detail": f"{i} s"} for i in range(3)]
    (tmp_path / "mine" / "excluded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in excluded))
    parsed = Page(make_report(read_run_folder(tmp_path / "mine"), 20, []))
    assert ["test", "4", "10", "40.00 %"] in [row[:4] for row in parsed.rows]
    assert ["LEFT", "1", "1", "100.00 %", "LIFT 1"] in parsed.rows
    assert ["RIGHT", "1", "1", "100.00 %", "(nothing) 1"] in parsed.rows
    assert ["bob", "2", "6", "3", "50.00 %"] in [row[:5] for row in parsed.rows]
    assert "Inserted: BIG 1, IT 1" in parsed.text
    assert "1 of 4 utterances are without error; the 3 worst of the other 3" in parsed.text
    assert "test: WER 40.00 %, 4 errors in 10 words" in parsed.text
    assert "Trained for 1 epochs, 2 steps, in 1.5 min. Best on dev after epoch 1: WER 50.00 %" in parsed.text
    assert "A network of 5,892,384 parameters" in parsed.text
    assert "python train.py -c 'x y.yaml'" in parsed.text
    assert ["cpu", "Abacus"] in parsed.rows
    assert ["too long", "3"] in parsed.rows
    assert ["long-2", "too long", "2 s"] in parsed.rows
    assert "peak_learning_rate: 1e-3" in parsed.text, "the whole configuration"


def test_a_report_needs_nothing_but_itself(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_evaluation(tmp_path, LINES)
    write_metrics(tmp_path)
    text = make_report(read_run_folder(tmp_path), 20, [])
    parsed = Page(text)
    assert parsed.tags["img"] == 1
    assert all(source.startswith("data:image/png;base64,") for source in parsed.sources)
    assert not parsed.tags.keys() & {"script", "link", "iframe", "object", "base"}
    assert "http" not in text.replace('http-equiv="Content', "")


HOSTILE = "</span><script>alert(1)</script> \"><img src=x onerror=alert(1)> & ' <!-- ]]> $x^2$"


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = tmp_path / "<i>run & co"
    name = "<script>x</script>&"
    lines = [make_line(name, HOSTILE, "A <b>B</b>"), make_line("b", "A", HOSTILE)]
    manifest = tmp_path / "test.jsonl"
    write_manifest(manifest, [Utterance(name, "<u>.wav", 1.0, HOSTILE, '<img src="y">')])
    write_evaluation(run, lines, split="<h1>", manifest=str(manifest))
    write_metrics(run)
    (run / "config.yaml").write_text(f"x: </pre>{HOSTILE}")
    (run / "environment.json").write_text(json.dumps({"arguments": [HOSTILE], HOSTILE: HOSTILE}))
    (run / "excluded.jsonl").write_text(json.dumps({"utterance_id": name, "reason": HOSTILE, "detail": HOSTILE}))
    parsed = Page(make_report(read_run_folder(run), 20, []))
    assert not parsed.tags.keys() & {"script", "b", "u", "i"}
    assert parsed.events == []
    assert parsed.tags["img"] == 1, "the curves"
    assert '<img src="y">' in [row[0] for row in parsed.rows], "the speaker"
    assert [HOSTILE, HOSTILE] in parsed.rows
    assert name in parsed.text


def test_all_words_of_an_utterance_stand_in_its_alignment(tmp_path: Path) -> None:
    write_evaluation(tmp_path, [make_line("a", "ONE TWO THREE", "ONE TOO THREE FOUR")])
    text = make_report(read_run_folder(tmp_path), 1, [])
    start = text.index('<div class="aligned">')
    inside = text[start : text.index("</div>", start)]
    assert inside.count('class="equal"') == 2
    assert '<span class="wrong"><span>TWO</span><span>TOO</span></span>' in inside
    assert '<span class="new"><span>∗</span><span>FOUR</span></span>' in inside


# What is missing ------------------------------------------------------------------------------------------------------


def test_a_report_of_a_run_that_has_just_begun_says_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_metrics(tmp_path)
    parsed = Page(make_report(read_run_folder(tmp_path), 20, []))
    assert "eval_<manifest>.json; python eval.py --pre_trained_model_path" in parsed.text
    assert "config.yaml does not exist" in parsed.text
    assert "environment.json does not exist" in parsed.text
    assert parsed.tags["img"] == 1


def test_a_report_without_metrics_audio_and_checkpoint_has_the_rest(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    manifest = tmp_path / "dev.jsonl"
    write_manifest(manifest, [Utterance(name, "gone.wav", 1.0, PAIRS[name][0]) for name in PAIRS])
    write_evaluation(tmp_path / "run", LINES, split="dev", manifest=str(manifest))
    write_evaluation(tmp_path / "run", LINES, split="test", manifest="gone.jsonl")
    parsed = Page(make_report(read_run_folder(tmp_path / "run"), 20, []))
    assert "metrics.jsonl cannot be read" in parsed.text
    assert "speakers and audio are not known" in parsed.text
    assert "Not drawn: the manifest does not tell its audio (bob-1)" in parsed.text
    assert "Not drawn: checkpoint" in parsed.text, "the dev manifest is there, the network is not"
    assert "The manifest does not name them." in parsed.text
    assert [row[0] for row in parsed.rows if row[1:2] == ["4"]] == ["dev", "test"]
    assert parsed.tags["img"] == 0


def test_lines_of_another_evaluation_are_not_mixed_with_a_summary(tmp_path: Path) -> None:
    write_evaluation(tmp_path, LINES)
    rows = [json.dumps(vars(line)) for line in LINES[:2]]
    (tmp_path / "eval_test_utterances.jsonl").write_text("\n".join(rows))
    parsed = Page(make_report(read_run_folder(tmp_path), 20, []))
    assert "has other errors than" in parsed.text
    assert "Worst utterances" not in parsed.text
    (tmp_path / "eval_test_utterances.jsonl").unlink()
    assert "does not exist; eval.py writes it" in Page(make_report(read_run_folder(tmp_path), 20, [])).text


@pytest.mark.parametrize("name", ["eval_test.json", "environment.json", "eval_test_utterances.jsonl"])
def test_a_damaged_file_is_an_error(tmp_path: Path, name: str) -> None:
    write_evaluation(tmp_path, LINES)
    (tmp_path / name).write_text('{"id": ')
    with pytest.raises(OutputError, match=f"{name} is damaged"):
        read_run_folder(tmp_path)


def test_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds neither metrics nor an evaluation"):
        read_run_folder(tmp_path)
    with pytest.raises(OutputError, match="is no folder"):
        read_run_folder(tmp_path / "none")
    write_evaluation(tmp_path, LINES)
    with pytest.raises(ConfigError, match="has nobody; take an id from there"):
        make_report(read_run_folder(tmp_path), 20, ["ann-1", "nobody"])


# What the network hears -----------------------------------------------------------------------------------------------


def test_the_picture_has_the_labels_that_were_likely_over_the_seconds_of_the_audio() -> None:
    pytest.importorskip("matplotlib")
    config = read_config(ROOT / "hparams" / "an4.yaml")  # 40 ms for a frame of output
    probabilities = np.full((25, 29), 0.001, dtype=np.float32)
    probabilities[:, 0], probabilities[3, 2], probabilities[9, 28], probabilities[9, 5] = 0.9, 0.8, 0.06, 0.04
    assert choose_labels(probabilities, 0) == [2, 28, 0]
    features = np.zeros((100, 80), dtype=np.float32)
    above, below = draw(Heard(features, probabilities, "A"), config).get_axes()
    assert [label.get_text() for label in below.get_yticklabels()] == ["A", "space", "blank"]
    np.testing.assert_array_equal(below.get_images()[0].get_array(), probabilities[:, [2, 28, 0]].T)
    np.testing.assert_allclose(below.get_images()[0].get_extent()[:2], [-0.02, 0.98])
    np.testing.assert_allclose(above.get_images()[0].get_extent()[:2], [-0.005, 0.995])
    assert below.get_xlim() == (0, 1.0)


def test_a_long_utterance_is_drawn_in_strips_that_together_are_all_of_it() -> None:
    pytest.importorskip("matplotlib")
    config = read_config(ROOT / "hparams" / "an4.yaml")
    heard = Heard(np.zeros((1500, 80), np.float32), np.full((375, 29), 1 / 29, np.float32), "")
    axes = draw(heard, config).get_axes()
    assert [axis.get_xlim() for axis in axes] == [limits for k in range(3) for limits in [(5.0 * k, 5.0 * k + 5)] * 2]


def test_the_network_hears_what_eval_wrote_down(
    finished_run: Path, corpus: Path, tmp_path: Path, mindspore_cpu: None
) -> None:
    pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config: Config = read_config(run / "config.yaml")
    evaluation, _ = evaluate_one(run / "best.ckpt", config, str(corpus / "test.jsonl"), None)
    first = read_manifest(corpus / "test.jsonl")[0]
    heard = Listener(run / "best.ckpt").hear(first)
    assert heard.hypothesis == evaluation.utterances[0].hypothesis
    assert len(heard.features) == config.features.num_frames(first.duration_seconds)
    assert len(heard.probabilities) == config.model.num_output_frames(len(heard.features))
    np.testing.assert_allclose(heard.probabilities.sum(axis=1), 1, atol=1e-5)
    parsed = Page(make_report(read_run_folder(run), 3, [first.id]))
    assert parsed.tags["img"] == 2, "curves and one utterance"
    assert f"What the network hears in {first.id}" in parsed.text
    assert "Not drawn" not in parsed.text
    assert "Greedy decoding gives here" not in parsed.text


# The command ----------------------------------------------------------------------------------------------------------


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
    try:
        report_command.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_page_is_written_into_the_run_folder_or_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_evaluation(tmp_path / "run", LINES)
    assert run_script(monkeypatch, tmp_path / "run") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "report.html")
    output = tmp_path / "new" / "page.html"
    assert run_script(monkeypatch, tmp_path / "run", "--output", output, "--num_worst", "0") == 0
    assert Page(output.read_text(encoding="utf-8")).tags["h1"] == 1
    assert run_script(monkeypatch, tmp_path / "run", "--num_worst", "-1") == 2
    assert run_script(monkeypatch, tmp_path / "run", "--utterance", "nobody") == 2
    assert "nobody" in capsys.readouterr().err


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_evaluation(tmp_path, LINES)
    write_metrics(tmp_path)
    assert run_script(monkeypatch, tmp_path) == 2
    assert "pip install -e '.[plots]'" in capsys.readouterr().err
