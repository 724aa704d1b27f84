"""The only readers of JSON and YAML: whatever a file holds, they give plain values or one kind of error.

Both refuse what would be read otherwise than it looks: a key given twice, numbers of thousands of digits, nesting
without end; YAML's own surprises, too: 010 is 8, 1:30 is 90, and an anchor may stand for gigabytes. `on`, `off`, `yes`
and `no` are the words that they look like.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

MAX_YAML_CHARACTERS = 1_000_000
BOM = "\ufeff"
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)")
FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
TAG = "tag:yaml.org,2002:"


class ReadError(ValueError):
    """A text is not JSON or YAML, or means something else than it seems to. Says what and where, on one line."""


def parse_json(text: str) -> Any:
    """The value that a JSON text holds; a byte order mark before it does not count.

    Raises:
        ReadError: not JSON, a key given twice, too deep, or a number of too many digits.
    """
    try:
        return json.loads(text.removeprefix(BOM), object_pairs_hook=_make_object)
    except json.JSONDecodeError as error:
        raise ReadError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ReadError("it is nested too deeply") from None
    except ReadError:
        raise
    except ValueError:  # Python's own limit for integers
        raise ReadError("a number has thousands of digits") from None


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ReadError(f"{next(key for key in keys if keys.count(key) > 1)!r:.80} stands twice; remove one")
    return found


def parse_yaml(text: str) -> Any:
    """The value that a YAML text holds; a byte order mark before it does not count.

    Raises:
        ReadError: not YAML, a key given twice, anchors, dates and other tags, a number that would be read otherwise
            than it looks, too deep, or too long.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise ReadError(f"it has {len(text):,} characters; no configuration has more than {MAX_YAML_CHARACTERS:,}")
    try:
        return yaml.load(text.removeprefix(BOM), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ReadError(f"{error.problem}{place}") from None
    except yaml.YAMLError as error:
        raise ReadError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ReadError("it is nested too deeply") from None
    except (ValueError, OverflowError) as error:
        raise ReadError(f"a value cannot be read ({str(error)[:80]})") from None


class _Loader(yaml.SafeLoader):
    """Plain values only, and none that is read otherwise than it looks."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "anchors are not read; write the value out", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _complain("a key must be a word", key)
            if key.value in seen:
                raise _complain(f"{key.value!r:.80} stands twice; remove one", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def read_integer(self, node: yaml.ScalarNode) -> int:
        if not INTEGER.fullmatch(node.value):
            raise _complain(f"{node.value!r:.40} is read as another number by YAML; write it in decimal", node)
        return int(self.construct_yaml_int(node))

    def refuse(self, node: yaml.ScalarNode) -> Any:
        raise _complain(f"{node.value!r:.40} is marked as {node.tag.removeprefix(TAG)!r}, which is not read here", node)


def _complain(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _set_resolvers(kept: Sequence[str]) -> None:
    """Which plain words are no text: of YAML's own, and numbers and truth values as JSON has them."""
    _Loader.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(TAG) in kept]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    truth = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
    _Loader.add_implicit_resolver(TAG + "bool", truth, list("tTfF"))
    _Loader.add_implicit_resolver(TAG + "float", re.compile(f"^(?:{FLOAT.pattern})$"), list("-+0123456789."))


_set_resolvers(("null", "int", "merge"))
_Loader.add_constructor(TAG + "int", _Loader.read_integer)
for _tag in ("timestamp", "binary", "set", "omap", "pairs"):
    _Loader.add_constructor(TAG + _tag, _Loader.refuse)
