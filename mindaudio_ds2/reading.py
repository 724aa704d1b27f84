"""The only reader of JSON: whatever a file holds, it gives plain values or one kind of error.

It refuses what would be read otherwise than it looks: a key given twice, numbers of thousands of digits, nesting
without end.
"""

import json
from typing import Any

BOM = "\ufeff"


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
