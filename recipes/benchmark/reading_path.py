#!/usr/bin/env python3
"""What a reader passes from `train.py` to the first gradient: files and lines of ours, counted while they are executed.

python recipes/benchmark/reading_path.py [CHECKOUT]

Trains the tests' tiny corpus in a checkout, the one around by default, until the first step is recorded, and notes each
function of `train.py` and `mindaudio_ds2/` that Python calls. What MindSpore compiles from source (`construct`) is not
called, but its class is made, so its file counts.
"""

import argparse
import importlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class FirstGradient(BaseException):
    """Ends the training: its first step is recorded."""


class Trace:
    """Notes the code of a checkout that is executed, for `sys.setprofile`.

    Args:
        root: of the checkout.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.prefixes = (str(root / "mindaudio_ds2") + os.sep, str(root / "train.py"))
        self.imported: set[str] = set()
        self.called: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Note one call."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self.prefixes):
            return
        if code.co_name == "<module>":
            self.imported.add(code.co_filename)
        else:
            self.called.add(code)
        if code.co_name == "record" and code.co_filename.endswith("runlog.py"):
            raise FirstGradient

    def describe(self) -> str:
        """Files and lines as a Markdown table, by room."""
        rooms: dict[str, set[str]] = {}
        for path in sorted({code.co_filename for code in self.called}):
            parts = Path(path).relative_to(self.root).parts
            rooms.setdefault("/".join(parts[:-1][:2]) or "train.py", set()).add(path)
        rows = [f"| {room} | {len(paths)} | {count_lines(paths)} |" for room, paths in sorted(rooms.items())]
        files = set().union(*rooms.values())
        imported = f"{len(self.imported)} files of {count_lines(self.imported)} lines are imported"
        total = f"| all | {len(files)} | {count_lines(files)} |"
        return "\n".join(["| room | files called | lines |", "| --- | --- | --- |", *rows, total, "", imported])


def count_lines(paths: set[str]) -> int:
    """Lines of several files together."""
    return sum(len(Path(path).read_text(encoding="utf-8").splitlines()) for path in paths)


def main() -> None:
    """Train until the first gradient, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[2], help="which (path)")
    root = parser.parse_args().checkout.resolve()
    sys.path[:0] = [str(root)]
    from tests.tiny_corpus import make_corpus, make_settings, write_yaml

    trace = Trace(root)
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(make_corpus(Path(folder) / "corpus"), Path(folder) / "run", {})
        yaml = write_yaml(Path(folder) / "tiny.yaml", settings)
        sys.argv = ["train.py", "-c", str(yaml)]
        for name in [name for name in sys.modules if name.split(".")[0] == "mindaudio_ds2"]:
            del sys.modules[name]
        threading.setprofile(trace)
        sys.setprofile(trace)
        try:
            importlib.import_module("train").main()
        except FirstGradient:
            pass
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    print(trace.describe())


if __name__ == "__main__":
    main()
