"""The part of a report that shows the errors of one evaluation: where, which words and characters, whose."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from mindaudio_ds2.decoding.metrics import AlignedWord, align_words
from mindaudio_ds2.errors import DeepSpeechError
from mindaudio_ds2.reporting.listening import Listener, draw
from mindaudio_ds2.reporting.mistakes import Mistakes, align_characters, count_mistakes, rank_worst, sum_by_speaker
from mindaudio_ds2.reporting.page import Markup, element, picture, table
from mindaudio_ds2.reporting.run_folder import ScoredLine, Scores
from mindaudio_ds2.reporting.sections import percent

MOST_ITEMS, MOST_SPEAKERS, MOST_ALTERNATIVES = 20, 40, 6
GAP = "∗"


def show_errors(scores: Scores, num_worst: int, wanted: Sequence[str], open_listener: Callable[[], Listener]) -> Markup:
    """All about the errors of one evaluation.

    Args:
        scores: the evaluation.
        num_worst: how many of the worst utterances are shown.
        wanted: ids of utterances to be drawn; where empty, the worst is.
        open_listener: gives the network; called only where an utterance is drawn.
    """
    parts = [element("h2", f"Errors on {scores.split}")]
    parts += [element("p", note, class_="missing") for note in scores.missing]
    if scores.lines:
        parts.append(_show_worst(scores.lines, num_worst))
        parts += _show_heard(scores, wanted, open_listener)
        words = count_mistakes(align_words(line.reference, line.hypothesis) for line in scores.lines)
        characters = count_mistakes(align_characters(line.reference, line.hypothesis) for line in scores.lines)
        parts += [_show_mistakes("Words", "word", words), _show_mistakes("Characters", "character", characters)]
        parts.append(_show_speakers(scores))
    return Markup("".join(parts))


def _show_worst(lines: Sequence[ScoredLine], num_worst: int) -> Markup:
    worst = rank_worst(lines)
    shown = worst[:num_worst]
    legend = (
        *(element("span", "substituted", class_="wrong"), ", ", element("span", "deleted", class_="lost"), ", "),
        *(element("span", "inserted", class_="new"), ". The reference stands above what was recognised."),
    )
    counts = f"{len(lines) - len(worst):,} of {len(lines):,} utterances are without error; "
    counts += f"the {len(shown):,} worst of the other {len(worst):,}: "
    parts = [element("h3", "Worst utterances"), element("p", counts, *legend if shown else ())]
    for line in shown:
        title = f"{line.id}: {line.word_errors} of {line.num_words} words wrong"
        parts.append(Markup(element("div", element("strong", title)) + show_alignment(line)))
    return Markup("".join(parts))


def show_alignment(line: ScoredLine) -> Markup:
    """Reference above hypothesis, word by word."""
    places = [_show_place(place) for place in align_words(line.reference, line.hypothesis)]
    return element("div", *places, class_="aligned")


def _show_place(place: AlignedWord) -> Markup:
    if place.reference is None:
        kind = "new"
    elif place.hypothesis is None:
        kind = "lost"
    else:
        kind = "equal" if place.reference == place.hypothesis else "wrong"
    upper, lower = element("span", place.reference or GAP), element("span", place.hypothesis or GAP)
    return element("span", upper, lower, class_=kind)


def _show_heard(scores: Scores, wanted: Sequence[str], open_listener: Callable[[], Listener]) -> list[Markup]:
    by_id = {line.id: line for line in scores.lines}
    chosen = [by_id[name] for name in wanted if name in by_id] if wanted else rank_worst(scores.lines)[:1]
    parts = []
    for line in chosen:
        parts.append(element("h3", f"What the network hears in {line.id}"))
        if line.id not in scores.utterances:
            parts.append(element("p", f"Not drawn: the manifest does not tell its audio ({line.id})", class_="missing"))
            continue
        try:
            scores.reach.require(scores.utterances[line.id].audio_path)
            listener = open_listener()
            heard = listener.hear(scores.utterances[line.id])
            figure = draw(heard, listener.config)
        except DeepSpeechError as error:
            parts.append(element("p", f"Not drawn: {error}", class_="missing"))
            continue
        note = "" if heard.hypothesis == line.hypothesis else f" Greedy decoding gives here: {heard.hypothesis}"
        caption = (
            f"Features above, probabilities of the labels beneath; labels that are never likely are left out.{note}"
        )
        parts += [show_alignment(line), picture(figure, caption)]
    return parts


def _show_mistakes(title: str, unit: str, mistakes: Mistakes) -> Markup:
    ranked = mistakes.rank()
    num_inserted = mistakes.inserted.total()
    counts = (
        f"{mistakes.num_confused:,} substituted, {mistakes.num_lost:,} deleted, {num_inserted:,} inserted; "
        f"{len(ranked):,} of {len(mistakes.said):,} different {unit}s were wrong at least once"
    )
    counts += f", the {MOST_ITEMS} most often:" if len(ranked) > MOST_ITEMS else ":"
    rows = [
        [item, f"{mistakes.said[item]:,}", f"{num_wrong:,}", percent(num_wrong / mistakes.said[item])]
        + [_list_counts(mistakes.recognised[item])]
        for item, num_wrong in ranked[:MOST_ITEMS]
    ]
    parts = [element("h3", title), element("p", counts)]
    if rows:
        parts.append(table((unit, "said", "wrong", "share", "recognised as"), rows, [1, 2, 3]))
    if num_inserted:
        parts.append(element("p", f"Inserted: {_list_counts(mistakes.inserted, MOST_ITEMS)}"))
    return Markup("".join(parts))


def _list_counts(counts: Counter[str | None] | Counter[str], most: int = MOST_ALTERNATIVES) -> str:
    ranked: list[tuple[str | None, int]] = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0] or ""))
    shown = [f"{'(nothing)' if item is None else item} {num}" for item, num in ranked[:most]]
    hidden = sum(num for _, num in ranked[most:])
    return ", ".join([*shown, f"others {hidden}"] if hidden else shown)


def _show_speakers(scores: Scores) -> Markup:
    sums = sum_by_speaker(scores.lines, scores.utterances)
    if set(sums) == {""}:
        return Markup(element("h3", "Speakers") + element("p", "The manifest does not name them.", class_="missing"))
    ranked = sorted(sums.items(), key=lambda pair: (-pair[1].word_errors / max(1, pair[1].num_words), pair[0]))
    rows = [
        [speaker or "(not known)", f"{errors.num_utterances:,}", f"{errors.num_words:,}", f"{errors.word_errors:,}"]
        + [_rate(errors.word_errors, errors.num_words), _rate(errors.character_errors, errors.num_characters)]
        for speaker, errors in ranked[:MOST_SPEAKERS]
    ]
    counts = f"{len(sums):,} speakers" + (f", the {MOST_SPEAKERS} worst:" if len(sums) > MOST_SPEAKERS else ":")
    headings = ("speaker", "utterances", "words", "word errors", "WER", "CER")
    return Markup(element("h3", "Speakers") + element("p", counts) + table(headings, rows, [1, 2, 3, 4, 5]))


def _rate(num_errors: int, num_said: int) -> str:
    return percent(num_errors / num_said) if num_said else "not known"


def find_unknown(wanted: Iterable[str], all_scores: Iterable[Scores]) -> list[str]:
    """Ids that no evaluation has."""
    known = {line.id for scores in all_scores for line in scores.lines}
    return [name for name in wanted if name not in known]
