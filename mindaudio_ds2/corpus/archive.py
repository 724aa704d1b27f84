"""Original archives, unpacked without trusting what they hold: whole, or not at all."""

import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from mindaudio_ds2.corpus.download import CHUNK_BYTES, DownloadError, writing


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
        with writing(folder):
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
    bar = tqdm(desc=f"unpacking {archive.name}", total=archive.stat().st_size, unit="B", unit_scale=True, disable=None)
    with open(archive, "rb") as file, bar:
        try:
            with gzip.open(file) as unzipped, _open_tar(unzipped) as tar:
                for member in tar:
                    _extract_member(tar, member, folder, archive)
                    bar.update(file.tell() - bar.n)
                while unzipped.read(CHUNK_BYTES):  # the gzip checksum stands at the very end
                    pass
        except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError, OverflowError) as error:
            raise DownloadError(
                f"{archive} is damaged or no .tar.gz file ({error}); delete it and download it again"
            ) from error


def _open_tar(unzipped: gzip.GzipFile) -> tarfile.TarFile:
    bounded: Any = _Bounded(unzipped)
    return tarfile.open(fileobj=bounded, mode="r:")


class _Bounded:
    """A file that gives a megabyte at a time: tarfile asks for a header's size in one piece, whatever it claims.

    Args:
        file: what is read.
    """

    def __init__(self, file: gzip.GzipFile) -> None:
        self.file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, num_bytes: int) -> bytes:
        """The next bytes; an error where they are too many at once."""
        if not 0 <= num_bytes <= CHUNK_BYTES:
            raise tarfile.ReadError(f"a header claims {num_bytes} bytes")
        return self.file.read(num_bytes)


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DownloadError(f"{archive} holds {member.name!r}, which leads out of the folder; it was not unpacked")
    if member.size < 0 or member.issparse():
        raise DownloadError(
            f"{archive} holds {member.name!r} with holes or an impossible size ({member.size}), which no corpus needs; "
            "it was not unpacked"
        )
    if member.isdir():
        (folder / path).mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise DownloadError(f"{archive} holds {member.name!r}, which is a link or a device; it was not unpacked")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with content, open(folder / path, "wb") as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)
