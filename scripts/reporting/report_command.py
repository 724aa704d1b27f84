"""The command line of scripts/report.py."""

import argparse
import functools
from pathlib import Path

from mindaudio_ds2.errors import ConfigError, exit_on_error
from mindaudio_ds2.files import require_writable, write_text
from scripts.reporting.errors_section import find_unknown, show_errors
from scripts.reporting.listening import Listener
from scripts.reporting.page import element, page
from scripts.reporting.run_folder import RunFolder, Scores, read_run_folder
from scripts.reporting.sections import show_curves, show_excluded, show_scores, show_settings, summarize


def make_report(run: RunFolder, num_worst: int, wanted: list[str]) -> str:
    """A run as an HTML page that needs nothing but itself.

    Args:
        run: what its folder holds.
        num_worst: how many of the worst utterances are shown of each evaluation.
        wanted: ids of utterances whose features and probabilities are drawn; where empty, the worst of each evaluation.

    Raises:
        OutputError: matplotlib is not installed.
        ConfigError: no evaluation has a wanted utterance.
    """
    unknown = find_unknown(wanted, run.scores)
    if unknown:
        raise ConfigError(f"no eval_*_utterances.jsonl in {run.path} has {', '.join(unknown)}; take an id from there")
    open_listener = functools.cache(Listener)
    title = run.path.resolve().name
    return page(
        title,
        element("h1", title),
        summarize(run),
        show_scores(run),
        show_curves(run),
        *(
            show_errors(scores, num_worst, wanted, functools.partial(open_listener, find_checkpoint(run.path, scores)))
            for scores in run.scores
        ),
        show_excluded(run),
        show_settings(run),
    )


def find_checkpoint(run: Path, scores: Scores) -> Path:
    """The checkpoint that was scored: in the run's folder, which may have been moved since, else where it was."""
    scored = Path(scores.summary["checkpoint"])
    beside = run / scored.name
    return beside if beside.exists() else scored


def main(description: str) -> None:
    """Parse the command line, read, write the page."""
    exit_on_error(lambda: _report(description))()


def _report(description: str) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="run folder of train.py (path)")
    parser.add_argument("--output", type=Path, help="page to write (path; default: RUN_DIR/report.html)")
    parser.add_argument("--num_worst", type=int, default=20, help="worst utterances shown (count; default: 20)")
    parser.add_argument(
        "--utterance",
        action="append",
        default=[],
        metavar="ID",
        help="draw what the network hears in this one; may be repeated (default: the worst of each evaluation)",
    )
    options = parser.parse_args()
    if options.num_worst < 0:
        raise ConfigError(f"--num_worst is {options.num_worst}; choose 0 or more")
    run = read_run_folder(options.run)
    output = options.output or options.run / "report.html"
    require_writable(output)
    write_text(output, make_report(run, options.num_worst, options.utterance))
    print(output)
