"""Where an export goes: looked at before the work, so that none is lost and nothing of others is overwritten."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import require_writable
from mindaudio_ds2.models import CARD, find_card


def require_exportable(folder: Path, names: Sequence[str], inputs: Iterable[str | Path | None]) -> None:
    """Find out whether files of these names can be written; an earlier export is replaced.

    Args:
        folder: of the export.
        names: of its files.
        inputs: what is read for it, None for what was not named.

    Raises:
        OutputError: they cannot, would take the place of an input, or belong to a packed model or a page, whose files
            go together.
    """
    card = find_card(folder) or {}
    if "files" in card or "kind" in card:
        what = "a packed model" if "files" in card else "a page"
        raise OutputError(
            f"cannot write {folder / names[0]}: {folder} is {what}, as its {CARD} says, and an export would spoil it. "
            "Name another folder with --output_dir."
        )
    read = [*inputs]
    for name in names:
        require_writable(folder / name, read)
