"""The only reader of JSON: whatever a file holds, it gives plain values or one kind of error.

It refuses what would be read otherwise than it looks: a key given twice, numbers of thousands of digits, nesting
without end. And what is said of a file that should be text and is not.
"""

import contextlib
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

BOM = "\ufeff"
GZIP = b"\x1f\x8b"
HEAD_BYTES = 2**16
_ENCODINGS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_FORMATS = {
    b"PK\x03\x04": "a zip archive or an office document",
    b"%PDF": "a PDF document",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"7z\xbc\xaf": "a 7-Zip archive",
    GZIP: "packed by gzip",
}


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


def explain_foreign(path: Path) -> str:
    """What a file that is no UTF-8 text seems to be, and what to do about it; of a gzip file, what is packed in it."""
    head = b""
    with contextlib.suppress(OSError, EOFError, zlib.error):
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head.startswith(GZIP):
            with gzip.open(path) as file:
                head = file.read(HEAD_BYTES)
    found = next((name for mark, name in _FORMATS.items() if head.startswith(mark)), None)
    if found:
        return f"it is {found}; unpack it, or save it as plain text in UTF-8"
    encoding = next((name for mark, name in _ENCODINGS.items() if head.startswith(mark)), None)
    if not encoding:
        encoding = _guess_encoding(head)
    if not encoding:
        return "it is binary and no text; correct the path"
    return f"it seems to be text in {encoding}; convert it with `iconv -f {encoding} -t UTF-8 FILE > NEW`"


def _guess_encoding(head: bytes) -> str | None:
    """Of text without a mark: letters of two bytes have a zero in every other place, and no text has control codes."""
    for first, name in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        if head[1 - first :: 2].count(0) == 0 and head[first::2].count(0) > len(head) / 4:
            return name
    has_control = any(head.count(code) for code in range(32) if code not in b"\t\n\r\f\x1a")
    return None if has_control else "WINDOWS-1252"
