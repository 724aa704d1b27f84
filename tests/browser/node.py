"""The page's modules in node, given and giving plain values."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mindaudio_ds2.browser.folder import OWN_PAGE

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node")


def run_node(folder: Path, module: str, names: str, expression: str, value: Any) -> Any:
    """What a JavaScript expression makes of `value`, with `names` imported from one of the page's modules."""
    assert NODE is not None
    shutil.copytree(OWN_PAGE, folder / "page", dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "value.json").write_text(json.dumps(value))
    script = f"""
import {{ readFileSync }} from "node:fs";
import {{ {names} }} from "./page/{module}";
const value = JSON.parse(readFileSync("value.json", "utf8"));
console.log(JSON.stringify(await ({expression})));
"""
    (folder / "script.js").write_text(script)
    done = subprocess.run([NODE, "script.js"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
