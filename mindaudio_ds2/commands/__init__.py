"""The commands: one module each, behind `mindaudio-ds2 COMMAND` and the verbs at the top level."""

import ast
import os
import pkgutil
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""NumPy's products are small. OpenBLAS spreads them over all cores all the same, and its threads then wait in a loop
for the next: an eighth of the time of a training on two cores. Read when NumPy is loaded, so it stands before that."""


def list_commands() -> dict[str, str]:
    """Every command's name, with the first sentence of its module's text. Imports none of them."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_")
    return {name: _read_first_line(name) for name in names}


def _read_first_line(name: str) -> str:
    source = Path(__path__[0]) / f"{name}.py"
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0]
