#!/usr/bin/env python3
"""Keep a result: append a line to a recipe's results.jsonl and rewrite the table in its README.

    mindaudio-ds2 record_result runs/an4 recipes/an4 --split test --note "tuned on dev"

Reads what the verbs left in the run folder: environment.json and metrics.jsonl of train.py, eval_<split>.json of
eval.py. Nothing is typed by hand but the note.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mindaudio_ds2 import models
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.reading import ReadError, parse_json

BEGIN, END = "<!-- results: written by `mindaudio-ds2 record_result` -->", "<!-- end of results -->"
FROM_EVALUATION = (
    *("mindspore_version", "device_target", "num_processes", "cpu", "num_parameters", "decoder", "split"),
    *("num_utterances", "num_words", "word_errors", "num_characters", "character_errors", "wer", "cer"),
)


def make_line(run: Path, recipe: Path, split: str, note: str) -> dict[str, Any]:
    """One line of results.jsonl; rates are fractions, times seconds.

    Raises:
        OutputError: the run folder lacks a file; says which verb writes it.
    """
    training = _read(run / "environment.json", "train.py")
    evaluation = _read(run / f"eval_{split}.json", "eval.py")
    arguments = training["arguments"]
    place = next((i for i, argument in enumerate(arguments) if argument in ("-c", "--config")), None)
    hparams = "hparams/deepspeech2.yaml" if place is None else arguments[place + 1]
    overrides = arguments if place is None else arguments[:place] + arguments[place + 2 :]
    overrides = [word.removeprefix(f"{Path.cwd()}/") for word in overrides]  # where others have it elsewhere
    last_epoch = _read_last_epoch(run)
    return {
        "date": evaluation["date"],
        "commit": training["commit"],
        "dirty": training["dirty"],
        "recipe": recipe.name,
        "hparams": hparams,
        "overrides": overrides,
        "train_hours": evaluation["train_hours"],
        "epochs": last_epoch["epoch"],
        "wall_seconds": last_epoch["train_seconds"],
        "train_utterances_per_second": last_epoch.get("utterances_per_second"),  # runs before it was measured have none
        **{key: evaluation[key] for key in FROM_EVALUATION},
        "utterances_per_second": evaluation.get("utterances_per_second"),
        "normalize": evaluation.get("normalize", []),
        "note": note,
    }


def make_table(lines: list[dict[str, Any]]) -> str:
    """All results of a recipe as a Markdown table, newest last."""
    rows = [
        "| date | commit | command | parameters | epochs | time | split | words | WER | CER | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        command = " ".join(["train.py -c", line["hparams"], *line["overrides"]])
        commit = line["commit"] + ("+" if line["dirty"] else "")
        rows.append(
            f"| {line['date']} | {commit} | `{command}` | {line['num_parameters'] / 1e6:.2f} M | {line['epochs']} "
            f"| {line['wall_seconds'] / 60:.0f} min | {line['split']} | {line['num_words']} "
            f"| {100 * line['wer']:.2f} % | {100 * line['cer']:.2f} % | {describe_note(line)} |"
        )
    return "\n".join(rows)


def describe_note(line: dict[str, Any]) -> str:
    """A result's note, and what it was compared without."""
    kinds = line.get("normalize", [])
    return "; ".join(filter(None, [line["note"], f"without differences of {', '.join(kinds)}" if kinds else ""]))


def put_table(readme: str, table: str) -> str:
    """Replace what stands between the markers.

    Raises:
        OutputError: the markers are missing.
    """
    if BEGIN not in readme or END not in readme:
        raise OutputError(f"the README has no place for the table; put these lines into it: {BEGIN} and {END}")
    before, rest = readme.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def _read(path: Path, verb: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OutputError(f"{path} does not exist; {verb} writes it") from None
    except ReadError as error:
        raise OutputError(f"{path} is damaged ({error}); run {verb} again") from None
    return content


def _read_last_epoch(run: Path) -> dict[str, Any]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epochs: list[dict[str, Any]] = [row for row in map(parse_json, lines) if row["kind"] == "epoch"]
    return epochs[-1]


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument("run", type=Path, help="run folder of train.py (path, or NAME in runs/)")
    parser.add_argument("recipe", type=Path, help="folder of the recipe (path)")
    parser.add_argument("--split", default="test", help="name of the scored manifest without .jsonl; default: test")
    parser.add_argument("--note", default="", help="a few words on what is special (text)")


def run(options: argparse.Namespace) -> None:
    """Append, rewrite."""
    results = options.recipe / "results.jsonl"
    old = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    new = json.dumps(make_line(models.find_run_folder(options.run), options.recipe, options.split, options.note))
    write_text(results, "\n".join([*old, new]) + "\n")
    readme = options.recipe / "README.md"
    table = make_table([parse_json(line) for line in [*old, new]])
    write_text(readme, put_table(readme.read_text(encoding="utf-8"), table))
    print(f"{results}: {len(old) + 1} lines; table in {readme}")


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
