"""Original archives, fetched with resume, checksum and mirrors: whole, or not at all.

A recipe that was interrupted is simply run again.
"""

import contextlib
import hashlib
import http.client
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path

from tqdm import tqdm

from mindaudio_ds2.errors import DeepSpeechError, OutputError
from mindaudio_ds2.files import write_text

# The waits after tries that brought nothing new; the try after the last of them is the last.
RETRY_PAUSES_SECONDS = (1.0, 3.0, 10.0, 30.0)
TIMEOUT_SECONDS = 60.0
CHUNK_BYTES = 1 << 20
_PASSING_STATUSES = (408, 429, 500, 502, 503, 504)


class DownloadError(DeepSpeechError):
    """An archive cannot be fetched, is not what it should be, or cannot be unpacked. Names the address or the file."""


class _PassingError(Exception):
    """The connection failed in a way that another try may mend."""


def download(url: str | Sequence[str], destination: Path, md5: str | None, *, num_bytes: int | None = None) -> None:
    """Fetch a file; go on where an earlier try stopped; accept it only whole.

    Bytes are collected in `<destination>.part` and renamed once length and checksum are right. Where `destination`
    already exists it is checked instead of fetched. The disk must have room for the rest of the file before the first
    byte of it is asked for.

    Args:
        url: http or https addresses of the same file, in the order in which to try them: the next one where a server
            cannot be reached, refuses, or sends another file.
        destination: the file to make.
        md5: the checksum as 32 hexadecimal digits, or None where the publisher gives none. Then the length is the
            only proof: a server that states none is refused, unless `num_bytes` is known.
        num_bytes: the length, where it is known.

    Raises:
        DownloadError: each address is refused, or its connection fails again and again without bringing anything new,
            or length or checksum are wrong. A wrong file is removed, a cut one is kept for the next run.
        OutputError: the file cannot be written, or has no room.
    """
    destination = Path(destination)
    if destination.exists():
        if problem := find_problem(destination, md5, num_bytes):
            raise DownloadError(f"{destination} is there already, but {problem}; delete it and run this again")
        return
    with writing(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    addresses = [url] if isinstance(url, str) else list(url)
    failures: list[str] = []
    for number, address in enumerate(addresses, start=1):
        try:
            _download_from(address, destination, md5, num_bytes)
            return
        except DownloadError as error:
            failures.append(f"{error}")
            if number < len(addresses):
                tqdm.write(f"{error}\ngoing on with {addresses[number]}", file=sys.stderr)
    raise DownloadError("\n".join(failures))


def _download_from(url: str, destination: Path, md5: str | None, num_bytes: int | None) -> None:
    part = name_part(destination)
    is_length_proven = _fetch(url, part, num_bytes)
    if not is_length_proven and md5 is None and num_bytes is None:
        part.unlink()
        raise DownloadError(f"{url}: the server does not say how long the file is, so a cut one could not be told")
    if problem := find_problem(part, md5, num_bytes):
        part.unlink()
        raise DownloadError(
            f"{url}: {problem}; the file was removed. Run this again; if it happens twice, the original has changed"
        )
    with writing(destination):
        part.replace(destination)


def name_part(destination: Path) -> Path:
    """Where the bytes of a file are collected until it is whole."""
    return destination.with_name(f"{destination.name}.part")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let what fails inside be an error that names a path.

    Raises:
        OutputError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder, then run this again"
        ) from error


def require_free_space(folder: Path, num_bytes: int, purpose: str) -> None:
    """Find out before long work whether the disk has room for its result.

    Args:
        folder: where the result is to lie; need not exist yet.
        num_bytes: what it takes (bytes).
        purpose: what it is for, as the beginning of the message: "the archive".

    Raises:
        OutputError: less is free.
    """
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    num_free_bytes = shutil.disk_usage(existing).free
    if num_free_bytes < num_bytes:
        raise OutputError(
            f"{purpose} needs {describe_bytes(num_bytes)}, but only {describe_bytes(num_free_bytes)} are free on the "
            f"disk of {folder}; free {describe_bytes(num_bytes - num_free_bytes)} there, or choose another folder"
        )


def describe_bytes(num_bytes: int) -> str:
    """A size for a reader: 6387309499 is "6.39 GB"."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 10**9 else f"{num_bytes / 1e6:.2f} MB"


def find_problem(path: Path, md5: str | None, num_bytes: int | None) -> str | None:
    """What tells that a file is not the one it should be: length or checksum; None where nothing does."""
    if num_bytes is not None and _measure_bytes(path) != num_bytes:
        return f"it has {_measure_bytes(path)} bytes instead of {num_bytes}"
    if md5 is None:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    size, name = _measure_bytes(path), path.name.removesuffix(".part")
    bar = tqdm(desc=f"checking {name}", total=size, unit="B", unit_scale=True, leave=False, disable=None)
    with bar, open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != md5.lower():
        return f"its md5 is {digest.hexdigest()} instead of {md5.lower()}"
    return None


def keep_sha256(path: Path) -> str:
    """The SHA-256 of a file that nobody publishes one of: written beside it at first, compared ever after.

    Args:
        path: the file; `<path>.sha256` gets the line that `sha256sum` would print.

    Returns:
        64 hexadecimal digits.

    Raises:
        DownloadError: the file has changed since.
        OutputError: the digest cannot be written.
    """
    digest, kept = hashlib.sha256(), path.with_name(f"{path.name}.sha256")
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    before = kept.read_text(encoding="utf-8", errors="replace").split()[:1] if kept.exists() else []
    if before and before != [digest.hexdigest()]:
        raise DownloadError(
            f"{path} has the SHA-256 {digest.hexdigest()}, and {kept} says {before[0]:.64}: it has changed since "
            "it was downloaded; delete both and download it again"
        )
    if not before:
        write_text(kept, f"{digest.hexdigest()}  {path.name}\n")
    return digest.hexdigest()


def _measure_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch(url: str, part: Path, num_bytes: int | None) -> bool:
    """Fill `part`, resuming and retrying; True if the server stated the length of the file, and `part` has it."""
    num_idle_tries = 0
    most_bytes = _measure_bytes(part)
    while True:
        try:
            return _fetch_rest(url, part, num_bytes)
        except _PassingError as error:
            num_idle_tries = 0 if _measure_bytes(part) > most_bytes else num_idle_tries + 1
            most_bytes = max(most_bytes, _measure_bytes(part))
            if num_idle_tries > len(RETRY_PAUSES_SECONDS):
                raise DownloadError(
                    f"{url}: {error}; {num_idle_tries} tries in a row brought nothing new. "
                    "Check the network and run this again: it goes on where it stopped"
                ) from error
            time.sleep(RETRY_PAUSES_SECONDS[max(num_idle_tries - 1, 0)])


def _fetch_rest(url: str, part: Path, num_bytes: int | None) -> bool:
    """One request for everything from the end of `part` on."""
    start = _measure_bytes(part)
    try:
        response = _request(url, start)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return _settle_beyond_end(part, error.headers)
        if error.code in _PASSING_STATUSES:
            raise _PassingError(f"the server answered {error.code} {error.reason}") from error
        raise DownloadError(
            f"{url}: the server answered {error.code} {error.reason}; check the address, or fetch the file by hand"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(f"no connection ({error})") from error
    with response:
        if response.status != 206:  # the server does not know Range and sends everything
            start = 0
        total_bytes = _read_total_bytes(response.status, response.headers, start)
        if num_bytes is not None and total_bytes not in (None, num_bytes):
            raise DownloadError(f"{url}: the server has {total_bytes} bytes instead of {num_bytes}: another file")
        _append(response, part, start, num_bytes or total_bytes)
    if total_bytes is not None and _measure_bytes(part) < total_bytes:
        raise _PassingError(f"the connection was cut after {_measure_bytes(part)} of {total_bytes} bytes")
    return _measure_bytes(part) == total_bytes


def _request(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "mindaudio_ds2"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(url, headers=headers)
    except ValueError as error:
        raise DownloadError(f"{url!r} is no address ({error}); it must begin with http:// or https://") from error
    if request.type not in ("http", "https"):
        raise DownloadError(f"{url!r} is no address to download from; it must begin with http:// or https://")
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    return response


def _settle_beyond_end(part: Path, headers: Message) -> bool:
    """The server has nothing from the end of `part` on: it is whole, or it belongs to another file."""
    if headers.get("Content-Range", "").strip() == f"bytes */{_measure_bytes(part)}":
        return True
    part.unlink()
    raise _PassingError("what an earlier try had left is longer than the file, and was removed")


def _read_total_bytes(status: int, headers: Message, start: int) -> int | None:
    """The length of the whole file, where the server states it."""
    if status != 206:
        length = headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    content_range = headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range.strip())
    if not match or int(match[1]) != start:
        raise _PassingError(f"asked for the bytes from {start} on, the server sent {content_range!r}")
    return int(match[2]) if match[2] != "*" else None


def _append(response: http.client.HTTPResponse, part: Path, start: int, total_bytes: int | None) -> None:
    require_free_space(part.parent, (total_bytes or 0) - _measure_bytes(part), f"the rest of {part.stem}")
    bar = tqdm(desc=part.stem, initial=start, total=total_bytes, unit="B", unit_scale=True, disable=None)
    with bar, writing(part), open(part, "ab" if start else "wb") as file:
        while True:
            try:
                chunk = response.read1(CHUNK_BYTES)  # what has come: a slow server's bytes are kept when it stalls
            except (OSError, http.client.HTTPException) as error:
                raise _PassingError(f"the connection was cut ({error})") from error
            if not chunk:
                return
            file.write(chunk)
            bar.update(len(chunk))
