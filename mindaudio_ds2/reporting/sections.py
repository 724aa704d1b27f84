"""The parts of a report that tell of the whole run: what it was, how it learned, how it scores."""

import shlex
from collections import Counter
from typing import Any

from mindaudio_ds2.model.arithmetic import describe_sizes, list_layers
from mindaudio_ds2.reporting.curves import draw_curves
from mindaudio_ds2.reporting.metrics import Row, Run, find_best_epoch
from mindaudio_ds2.reporting.mistakes import estimate_interval
from mindaudio_ds2.reporting.page import Markup, element, folded, picture, table
from mindaudio_ds2.reporting.run_folder import RunFolder, Scores

SCORE_HEADINGS = (
    "split",
    "utterances",
    "words",
    "WER",
    "95 % interval",
    "subst.",
    "del.",
    "ins.",
    "CER",
    "× real time",
)


def percent(fraction: float) -> str:
    """A rate as it is read; rates may be NaN where there was nothing to count."""
    return f"{100 * fraction:.2f}\N{NO-BREAK SPACE}%"


def summarize(run: RunFolder) -> Markup:
    """The run in one paragraph, and what a report could say but for lack of files."""
    sentences = []
    if run.config is not None:
        num_parameters = sum(layer.num_parameters for layer in list_layers(run.config))
        sizes = describe_sizes(run.config)
        sentences.append(f"A network of {num_parameters:,} parameters ({sizes} a second of audio).")
    if run.metrics is not None:
        sentences.append(_summarize_training(run.metrics))
    for scores in run.scores:
        summary = scores.summary
        sentences.append(
            f"{scores.split}: WER {percent(summary['wer'])}, {summary['word_errors']:,} errors in "
            f"{summary['num_words']:,} words{_say_interval(scores)}; CER {percent(summary['cer'])}."
        )
    notes = [element("p", note, class_="missing") for note in run.missing]
    return Markup(element("p", " ".join(sentences)) + "".join(notes))


def _summarize_training(metrics: Run) -> str:
    last, best = metrics.steps[-1], find_best_epoch(metrics)
    if best is None:
        return f"Its first epoch is under way, after {last['step']:,} steps."
    end = metrics.epochs[-1]
    skipped = f", {metrics.num_bad_steps:,} steps skipped" if metrics.num_bad_steps else ""
    return (
        f"Trained for {end['epoch']} epochs, {end['step']:,} steps, in {end['train_seconds'] / 60:.1f} min"
        f"{skipped}. Best on dev after epoch {best['epoch']}: {_say_rates(best)}."
    ) + "".join(f" The average of epochs {_list_numbers(row)}: {_say_rates(row)}." for row in metrics.averages)


def _say_rates(row: Row) -> str:
    return f"WER {percent(row['dev_wer'])}, CER {percent(row['dev_cer'])}"


def _list_numbers(row: Row) -> str:
    return ", ".join(map(str, row["epochs"]))


def _interval(scores: Scores) -> tuple[float, float] | None:
    return estimate_interval(scores.lines) if any(line.num_words for line in scores.lines) else None


def _say_interval(scores: Scores) -> str:
    interval = _interval(scores)
    return "" if interval is None else f" (95 % interval {100 * interval[0]:.2f} to {percent(interval[1])})"


def show_scores(run: RunFolder) -> Markup:
    """A table with a row for each evaluation."""
    rows = []
    for scores in run.scores:
        summary, interval = scores.summary, _interval(scores)
        rows.append(
            [
                *(scores.split, f"{summary['num_utterances']:,}", f"{summary['num_words']:,}", percent(summary["wer"])),
                "not known" if interval is None else f"{100 * interval[0]:.2f} to {percent(interval[1])}",
                *(f"{summary[key]:,}" for key in ("substitutions", "deletions", "insertions")),
                *(percent(summary["cer"]), f"{summary['real_time_factor']:.3f}"),
            ]
        )
    if not rows:
        return Markup("")
    note = "The interval is where the WER of another sample of as many such utterances would lie 95 times of 100."
    sources = [
        f"{scores.split}: {scores.summary['checkpoint']} on {scores.summary['manifest']}, "
        f"{scores.summary['decoder']} decoding, {scores.summary['date']}{_say_normalized(scores.summary)}"
        for scores in run.scores
    ]
    return Markup(
        element("h2", "Scores")
        + table(SCORE_HEADINGS, rows, range(1, len(SCORE_HEADINGS)))
        + element("p", note, class_="note")
        + "".join(element("p", source, class_="note") for source in sources)
    )


def _say_normalized(summary: dict[str, Any]) -> str:
    kinds = summary.get("normalize", [])
    return f", compared without differences of {', '.join(map(str, kinds))}" if kinds else ""


def show_curves(run: RunFolder) -> Markup:
    """The picture of `mindaudio-ds2 plot_curves`.

    Raises:
        OutputError: matplotlib is not installed.
    """
    if run.metrics is None:
        return Markup("")
    figure = draw_curves([run.metrics], "epochs")
    return Markup(element("h2", "Learning") + picture(figure, "Learning curves, as metrics.jsonl recorded them."))


def show_settings(run: RunFolder) -> Markup:
    """Configuration and environment, complete."""
    parts = [element("h2", "Settings")]
    environment: dict[str, Any] = dict(run.environment)
    arguments = environment.pop("arguments", None)
    if arguments is not None:
        parts.append(element("pre", shlex.join(["python", "train.py", *map(str, arguments)])))
    if run.config_text:
        parts.append(folded("Configuration (config.yaml)", element("pre", run.config_text)))
    if environment:
        rows = sorted(environment.items())
        parts.append(folded("Environment (environment.json)", table(("what", "value"), rows)))
    return Markup("".join(parts)) if len(parts) > 1 else Markup("")


def show_excluded(run: RunFolder) -> Markup:
    """What was not trained on, by reason, and each utterance with its own numbers."""
    if not run.excluded:
        return Markup("")
    reasons = Counter(row["reason"] for row in run.excluded)
    rows = [[row["utterance_id"], row["reason"], row["detail"]] for row in run.excluded]
    return Markup(
        element("h2", "Left out of training")
        + table(("reason", "utterances"), [[reason, f"{num:,}"] for reason, num in reasons.most_common()], [1])
        + folded(f"all {len(rows):,}", table(("utterance", "reason", "detail"), rows))
    )
