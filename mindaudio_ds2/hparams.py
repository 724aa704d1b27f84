"""Where the YAMLs that come with the package lie: `hparams/` of a checkout, or the copy that a wheel carries."""

import difflib
from pathlib import Path

FOLDERS = (Path(__file__).parent.parent / "hparams", Path(__file__).parent / "hparams")
"""The checkout's folder before that of an installed wheel, which setup.py fills from it."""


def find_hparams(name: str) -> Path:
    """The YAML of that name: "an4" is hparams/an4.yaml. The path of the first folder where there is none."""
    paths = [folder / f"{name}.yaml" for folder in FOLDERS]
    return next((path for path in paths if path.is_file()), paths[0])


def suggest_hparams(name: str) -> str:
    """What else could have been meant by a name or path that is no YAML, as a part of a sentence."""
    known = sorted({path.stem for folder in FOLDERS for path in folder.glob("*.yaml")})
    close = difflib.get_close_matches(Path(name).stem, known, 1)
    return f"did you mean -c {close[0]}?" if close else f"name a file with -c, or one of {', '.join(known)}"
