"""Original archives: fetched with resume and checksum, and unpacked without trusting what they hold.

Both steps leave their result whole or not at all, so a recipe that was interrupted is simply run again.
"""

import contextlib
import gzip
import hashlib
import http.client
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from email.message import Message
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from mindaudio_ds2.errors import DeepSpeechError, OutputError

# The waits after tries that brought nothing new; the try after the last of them is the last.
RETRY_PAUSES_SECONDS = (1.0, 3.0, 10.0, 30.0)
TIMEOUT_SECONDS = 60.0
CHUNK_BYTES = 1 << 20
_PASSING_STATUSES = (408, 429, 500, 502, 503, 504)


class DownloadError(DeepSpeechError):
    """An archive cannot be fetched, is not what it should be, or cannot be unpacked. Names the address or the file."""


class _PassingError(Exception):
    """The connection failed in a way that another try may mend."""


def download(url: str, destination: Path, md5: str | None, *, num_bytes: int | None = None) -> None:
    """Fetch a file; go on where an earlier try stopped; accept it only whole.

    Bytes are collected in `<destination>.part` and renamed once length and checksum are right. Where `destination`
    already exists it is checked instead of fetched.

    Args:
        url: an http or https address.
        destination: the file to make.
        md5: the checksum as 32 hexadecimal digits, or None where the publisher gives none. Then the length is the
            only proof: a server that states none is refused, unless `num_bytes` is known.
        num_bytes: the length, where it is known.

    Raises:
        DownloadError: the address is refused, the connection fails again and again without bringing anything new, or
            length or checksum are wrong. A wrong file is removed, a cut one is kept for the next run.
        OutputError: the file cannot be written.
    """
    destination = Path(destination)
    if destination.exists():
        if problem := _find_problem(destination, md5, num_bytes):
            raise DownloadError(f"{destination} is there already, but {problem}; delete it and run this again")
        return
    part = destination.with_name(f"{destination.name}.part")
    with _writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
    is_length_proven = _fetch(url, part, num_bytes)
    if not is_length_proven and md5 is None and num_bytes is None:
        part.unlink()
        raise DownloadError(f"{url}: the server does not say how long the file is, so a cut one could not be told")
    if problem := _find_problem(part, md5, num_bytes):
        part.unlink()
        raise DownloadError(
            f"{url}: {problem}; the file was removed. Run this again; if it happens twice, the original has changed"
        )
    with _writing(destination):
        part.replace(destination)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder, then run this again"
        ) from error


def _find_problem(path: Path, md5: str | None, num_bytes: int | None) -> str | None:
    if num_bytes is not None and _measure_bytes(path) != num_bytes:
        return f"it has {_measure_bytes(path)} bytes instead of {num_bytes}"
    if md5 is None:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != md5.lower():
        return f"its md5 is {digest.hexdigest()} instead of {md5.lower()}"
    return None


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
        _append(response, part, start, total_bytes or num_bytes)
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
    bar = tqdm(desc=part.stem, initial=start, total=total_bytes, unit="B", unit_scale=True, disable=None)
    with bar, _writing(part), open(part, "ab" if start else "wb") as file:
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _PassingError(f"the connection was cut ({error})") from error
            if not chunk:
                return
            file.write(chunk)
            bar.update(len(chunk))


def extract(archive: Path, folder: Path) -> None:
    """Unpack a gzipped tar archive into a new folder, which appears only when everything is in it.

    A `folder` that is there and not empty is taken as unpacked, for only a finished call makes one. What an
    interrupted call left is thrown away. Only files and folders are unpacked, with plain permissions.

    Args:
        archive: a `.tar.gz` file.
        folder: the folder to make.

    Raises:
        DownloadError: the archive is missing or damaged, or holds a path that leads out of the folder, a link or a
            device. Nothing is unpacked then.
        OutputError: the folder cannot be written.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        return
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        with _writing(folder):
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir(parents=True)
            _extract_members(archive, partial)
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract_members(archive: Path, folder: Path) -> None:
    if not archive.is_file():
        raise DownloadError(f"there is no archive {archive}; download it again")
    bar = tqdm(desc=f"unpacking {archive.name}", total=_measure_bytes(archive), unit="B", unit_scale=True, disable=None)
    with open(archive, "rb") as file, bar:
        try:
            with gzip.open(file) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as tar:
                for member in tar:
                    _extract_member(tar, member, folder, archive)
                    bar.update(file.tell() - bar.n)
                while unzipped.read(CHUNK_BYTES):  # the gzip checksum stands at the very end
                    pass
        except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
            raise DownloadError(
                f"{archive} is damaged or no .tar.gz file ({error}); delete it and download it again"
            ) from error


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DownloadError(f"{archive} holds {member.name!r}, which leads out of the folder; it was not unpacked")
    if member.isdir():
        (folder / path).mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise DownloadError(f"{archive} holds {member.name!r}, which is a link or a device; it was not unpacked")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with content, open(folder / path, "wb") as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)
