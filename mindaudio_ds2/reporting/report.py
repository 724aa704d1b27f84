"""A run as one HTML page."""

import functools
from pathlib import Path

from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.reporting.errors_section import find_unknown, show_errors
from mindaudio_ds2.reporting.listening import Listener
from mindaudio_ds2.reporting.page import element, page
from mindaudio_ds2.reporting.run_folder import RunFolder, Scores
from mindaudio_ds2.reporting.sections import show_curves, show_excluded, show_scores, show_settings, summarize


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
    open_cached = functools.cache(Listener)

    def open_listener(scores: Scores) -> Listener:
        return open_cached(find_checkpoint(run.path, scores))

    title = run.path.resolve().name
    return page(
        title,
        element("h1", title),
        summarize(run),
        show_scores(run),
        show_curves(run),
        *(show_errors(scores, num_worst, wanted, functools.partial(open_listener, scores)) for scores in run.scores),
        show_excluded(run),
        show_settings(run),
    )


def find_checkpoint(run: Path, scores: Scores) -> Path:
    """The checkpoint that was scored: in the run's folder, which may have been moved since, else where it was.

    Raises:
        OutputError: it lies where nothing is to be opened.
    """
    scored = Path(scores.summary["checkpoint"])
    beside = run / scored.name
    return scores.reach.require(beside if beside.exists() else scored)
