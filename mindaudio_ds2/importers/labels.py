"""The labels of other projects: a list of characters in the order of their ids, `_` for the blank."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.reading import ReadError, parse_json
from mindaudio_ds2.text.tokenizer import Tokenizer

BLANK = "_"


def read_labels(path: str | Path) -> list[str]:
    """Read a `labels.json`.

    Raises:
        CheckpointError: no such file, or not a list of single characters with one `_`.
    """
    try:
        labels = parse_json(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ReadError) as error:
        raise CheckpointError(f"the labels {path} cannot be read: {error}; give a JSON list of characters") from error
    check_labels(labels, str(path))
    return list(labels)


def check_labels(labels: Any, source: str) -> None:
    """Make sure that these are labels as the other projects have them.

    Raises:
        CheckpointError: not a list of different single characters with one `_` for the blank.
    """
    if not isinstance(labels, (list, tuple)) or not all(isinstance(x, str) and len(x) == 1 for x in labels):
        raise CheckpointError(f"{source}: labels must be a list of single characters, found {labels!r:.200}")
    repeated = sorted({x for x in labels if labels.count(x) > 1})
    if repeated:
        raise CheckpointError(f"{source}: the labels {repeated} stand twice")
    if BLANK not in labels or len(labels) < 2:
        raise CheckpointError(f"{source}: the labels must hold {BLANK!r}, the blank, and a character; found {labels}")


def to_text_config(labels: Sequence[str]) -> tuple[TextConfig, list[int]]:
    """Our alphabet with these labels.

    Args:
        labels: in the order of the other project's ids.

    Returns:
        The alphabet, with the blank last if it was last there, else first; and for each of our ids, theirs.
    """
    blank_at = labels.index(BLANK)
    characters = [i for i in range(len(labels)) if i != blank_at]
    blank: Literal["first", "last"] = "last" if blank_at == len(labels) - 1 else "first"
    text = "".join(labels[i] for i in characters)
    letter_case: Literal["upper", "lower", "keep"] = "keep"
    if text == text.upper() != text.lower():
        letter_case = "upper"
    elif text == text.lower() != text.upper():
        letter_case = "lower"
    order = [*characters, blank_at] if blank == "last" else [blank_at, *characters]
    return TextConfig(text, blank, letter_case, "error"), order


def from_text_config(text: TextConfig, blank: Literal["first", "last"]) -> tuple[list[str], list[int]]:
    """Labels of our alphabet for another project.

    Args:
        text: the alphabet.
        blank: where that project wants the blank.

    Returns:
        The labels in the order of the other project's ids; and for each of them, our id.

    Raises:
        CheckpointError: the labels are units, or the alphabet has a character `_`, which there is the blank.
    """
    if text.units:
        raise CheckpointError(f"its labels are {len(text.units)} units, and other projects know single characters only")
    if BLANK in text.characters:
        raise CheckpointError(f"the alphabet has the character {BLANK!r}, which stands for the blank there")
    blank_id = Tokenizer(text).blank_id
    characters = [i for i in range(len(text.characters) + 1) if i != blank_id]
    if blank == "first":
        return [BLANK, *text.characters], [blank_id, *characters]
    return [*text.characters, BLANK], [*characters, blank_id]
