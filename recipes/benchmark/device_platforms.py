#!/usr/bin/env python3
"""On which devices MindSpore has an operator: by its documentation, or else by the kernels in its source.

python recipes/benchmark/device_platforms.py 2.3 SOURCE "MindSpore's repository at v2.3.1"
python recipes/benchmark/device_platforms.py 2.10 INSTALLED "the installed package" --kernels_of SOURCE

SOURCE is a checkout of MindSpore at a tag, or the folder of an installed one, which has no kernels' source. What is
found of the operators in device_platforms.json is kept there for `device_audit.py`: names of devices only, no text.
"""

import argparse
import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mindaudio_ds2.files import write_text
from mindaudio_ds2.reading import parse_json

DATA = Path(__file__).with_suffix(".json")
DEVICES = ("Ascend", "GPU", "CPU")
DOCUMENTED, KERNEL, PARTS = "documented", "kernel", "parts"
PLATFORMS = re.compile(r"Supported Platforms:\s*\n\s*((?:``\w+``[ ,]*)+)")
REFERENCE = re.compile(r"Refer to :func:`mindspore\.ops\.(\w+)`")
REGISTRATION = re.compile(r"\b(MS_\w*REG\w*|REG_ADPT_DESC|REG_FALLBACK_BUILDER)\s*\(([^;{)]*)", re.DOTALL)
FACTORIES = {"NativeCpuKernelMod": "CPU", "NativeGpuKernelMod": "GPU"}
FIRST_WORDS = {"MS_REG_GPU": "GPU", "MS_ELEWISE": "GPU", "MS_ACLNN": "Ascend", "REG_ADPT": "Ascend"}  # by macro

Found = dict[str, dict[str, str]]
"""By operator and device: `DOCUMENTED`; or `KERNEL`, for which no documentation stands; or `PARTS`, an operator that
MindSpore makes of others where there is no kernel."""


def find_platforms(names: Iterable[str], source: Path, kernels_of: Path) -> Found:
    """What a version has of some operators, by its documentation in `source` and the C++ in `kernels_of`."""
    found: Found = {name: {} for name in names}
    for name, device, kind in sorted(find_kernels(kernels_of)):  # kernels before parts
        if name in found:
            found[name].setdefault(device, kind)
    documented = find_documented(source)
    for name, platforms in found.items():
        platforms |= dict.fromkeys(documented.get(name.lower(), ()), DOCUMENTED)
    return {name: dict(sorted(platforms.items())) for name, platforms in found.items()}


def find_documented(source: Path) -> dict[str, set[str]]:
    """Devices under "Supported Platforms", by operator in small letters; of one that refers to a function, its."""
    classes: dict[str, str] = defaultdict(str)
    functions: dict[str, str] = defaultdict(str)
    for path in source.rglob("ops/**/*.py"):
        if "extend" in path.name:  # functions of mindspore.mint, which have the same names
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                texts = classes if isinstance(node, ast.ClassDef) else functions
                texts[node.name] += ast.get_docstring(node) or ""
    for path in source.rglob("*_doc.yaml"):  # operators whose Python is made when MindSpore is built
        name, text = path.name.removesuffix("_doc.yaml"), path.read_text(encoding="utf-8")
        functions[name] += text
        classes[name.replace("_", "")] += text
    documented = {}
    for name, text in classes.items():
        referred = "".join(functions.get(each, "") for each in REFERENCE.findall(text))
        platforms = PLATFORMS.findall(text) or PLATFORMS.findall(referred)
        documented[name.lower()] = set(re.findall(r"\w+", " ".join(platforms)))
    return documented


def find_kernels(source: Path) -> Iterator[tuple[str, str, str]]:
    """Operator, device, and `KERNEL` or `PARTS`, for everything that C++ registers."""
    for path in [*source.rglob("*.cc"), *source.rglob("*.h")]:
        for macro, arguments in REGISTRATION.findall(path.read_text(encoding="utf-8", errors="replace")):
            words = re.findall(r"\w+", arguments)
            if not words:
                continue
            if macro == "REG_FALLBACK_BUILDER":
                yield from ((words[0], device, PARTS) for device in DEVICES)
            elif words[0] in FACTORIES and len(words) > 1:
                yield words[1], FACTORIES[words[0]], KERNEL
            else:
                yield from ((words[0], on, KERNEL) for start, on in FIRST_WORDS.items() if macro.startswith(start))


def main() -> None:
    """Look the file's operators up in one version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="as the file calls it, such as 2.3")
    parser.add_argument("source", type=Path)
    parser.add_argument("origin", help="what SOURCE is, in words")
    parser.add_argument("--kernels_of", type=Path, help="the source of the kernels; default: SOURCE")
    options = parser.parse_args()
    data = parse_json(DATA.read_text(encoding="utf-8"))
    found = find_platforms(data["operators"], options.source, options.kernels_of or options.source)
    for name, versions in data["operators"].items():
        versions[options.version] = found[name]
    data["origins"][options.version] = options.origin
    write_data(data)


def write_data(data: dict[str, Any]) -> None:
    """device_platforms.json, with a line for each operator."""
    lines = []
    for section in sorted(data):
        entries = [f"{json.dumps(key)}: {json.dumps(data[section][key])}" for key in sorted(data[section])]
        lines.append(f"{json.dumps(section)}: {{\n" + ",\n".join(entries) + "\n}")
    write_text(DATA, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
