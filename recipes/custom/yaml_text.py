"""YAML as text: other values put in where all else, comments too, stays as it is."""

import re
from collections.abc import Mapping

import yaml

from mindaudio_ds2.errors import ConfigError


def quote(text: str) -> str:
    """Text as a double-quoted YAML scalar on one line, with escapes for what cannot be seen."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(c) or (c if c.isprintable() else _escape(c)) for c in text) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def edit_yaml(text: str, values: Mapping[str, str], origin: str) -> str:
    """Put other values into a YAML and leave all else, comments too, as it is; its head comment is dropped.

    Args:
        text: of the YAML.
        values: YAML text for each dotted path.
        origin: names the YAML in errors.

    Raises:
        ConfigError: the YAML lacks one of the paths.
    """
    root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None, "read_base has found sections"
    edits = []
    for key, value in values.items():
        node, start = root, 0
        for part in key.split("."):
            children = node.value if isinstance(node, yaml.MappingNode) else []
            found = [(child, name.end_mark.index) for name, child in children if name.value == part]
            if not found:
                raise ConfigError(f"--base {origin} lacks the key {key}; take one of hparams/*.yaml")
            node, start = found[0]
        end = len(text[: _find_end(node)].rstrip())
        edits.append((start, end, f": {value}"))
    for start, end, value in sorted(edits, reverse=True):
        text = text[:start] + value + text[end:]
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        del lines[0]
    return "".join(lines)


def drop_comments(text: str) -> str:
    """A YAML without its comments, which speak of another corpus; a line is left between sections."""
    root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    quoted = [(node.start_mark.index, node.end_mark.index) for node in _list_scalars(root)]
    kept, place = [], 0
    for line in text.splitlines(keepends=True):
        marks = [place + found.start() for found in re.finditer(r"(?:^|\s)#", line)]
        cut = next((mark for mark in marks if not any(start <= mark < end for start, end in quoted)), None)
        rest = line if cut is None else line[: cut - place].rstrip() + "\n"
        if cut is None or rest.strip():
            kept.append(rest)
        place += len(line)
    return re.sub(r"\n{3,}", "\n\n", "".join(kept)).lstrip("\n")


def _list_scalars(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [scalar for pair in node.value for each in pair for scalar in _list_scalars(each)]
    if isinstance(node, yaml.SequenceNode):
        return [scalar for each in node.value for scalar in _list_scalars(each)]
    return [node] if isinstance(node, yaml.ScalarNode) else []


def _find_end(node: yaml.Node) -> int:
    """Where a value's text ends. A list with a dash a line claims the comments behind it too, but its items don't."""
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _find_end(node.value[-1])
    end: int = node.end_mark.index
    return end
