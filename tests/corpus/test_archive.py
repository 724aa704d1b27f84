import gzip
import io
import re
import tarfile
from pathlib import Path

import pytest

from mindaudio_ds2.corpus import archive as archive_module
from mindaudio_ds2.corpus.archive import extract
from mindaudio_ds2.corpus.download import DownloadError
from mindaudio_ds2.errors import OutputError


def make_archive(path: Path, members: list[tarfile.TarInfo]) -> Path:
    """Every regular member holds its own name, 1000 times."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            content = member.name.encode() * 1000 if member.isreg() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def make_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def list_files(folder: Path) -> list[str]:
    return sorted(f"{path.relative_to(folder)}" for path in folder.rglob("*"))


def test_an_archive_is_unpacked_with_its_folders(tmp_path: Path) -> None:
    members = [make_member("an4", tarfile.DIRTYPE), make_member("an4/wav/a.sph"), make_member("./an4/etc/b")]
    members[1].mode = 0o4777
    extract(make_archive(tmp_path / "a.tar.gz", members), tmp_path / "out" / "original")
    folder = tmp_path / "out" / "original"
    assert list_files(folder) == ["an4", "an4/etc", "an4/etc/b", "an4/wav", "an4/wav/a.sph"]
    assert (folder / "an4/wav/a.sph").read_bytes() == b"an4/wav/a.sph" * 1000
    assert (folder / "an4/wav/a.sph").stat().st_mode & 0o7111 == 0
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    "member",
    [
        make_member("../outside"),
        make_member("an4/../../outside"),
        make_member("/tmp/outside"),
        make_member("link", tarfile.SYMTYPE, "/etc/hostname"),
        make_member("link", tarfile.SYMTYPE, "inside"),
        make_member("link", tarfile.LNKTYPE, "inside"),
        make_member("pipe", tarfile.FIFOTYPE),
        make_member("disk", tarfile.BLKTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type!r} {member.linkname}",
)
def test_a_hostile_member_is_refused_by_name(tmp_path: Path, member: tarfile.TarInfo) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", [make_member("inside"), member, make_member("link/x")])
    with pytest.raises(DownloadError, match=re.escape(repr(member.name))):
        extract(archive, tmp_path / "deep" / "folder")
    assert list_files(tmp_path) == ["a.tar.gz", "deep"]


def make_header(name: str, kind: bytes, size: int, pax: dict[str, str] | None = None) -> bytes:
    """A block that claims what it likes; with records of PAX before it."""
    member = make_member(name, kind)
    member.size = size
    block = member.tobuf(tarfile.GNU_FORMAT)
    if not pax:
        return block
    records = b"".join(make_record(key, value) for key, value in pax.items())
    before = make_header("pax", tarfile.XHDTYPE, len(records))
    return before + records + b"\0" * (-len(records) % 512) + block


def make_record(key: str, value: str) -> bytes:
    line = f" {key}={value}\n".encode()
    length = next(n for n in range(len(line), len(line) + 9) if n == len(str(n)) + len(line))
    return str(length).encode() + line


@pytest.mark.parametrize(
    "content",
    [
        make_header("x", tarfile.REGTYPE, 0, {"size": "-512"}),
        make_header("x", tarfile.REGTYPE, 0, {"size": "99999999999999999999"}),
        make_header("x", tarfile.REGTYPE, 512, {"GNU.sparse.size": "9" * 20, "GNU.sparse.map": "0,x"}),
        make_header("x", tarfile.REGTYPE, 512, {"GNU.sparse.size": "4000000000", "GNU.sparse.map": "0,512"}),
        make_header("x", tarfile.REGTYPE, 512, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
        make_header("x", tarfile.GNUTYPE_SPARSE, 0),
        make_header("x", tarfile.XHDTYPE, 8_000_000_000),
        make_header("x", tarfile.GNUTYPE_LONGNAME, 8_000_000_000),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(content + b"\0" * 3_000_000))
    with pytest.raises(DownloadError, match=r"a\.tar\.gz"):
        extract(archive, tmp_path / "folder")
    assert list_files(tmp_path) == ["a.tar.gz"]


def test_what_an_interrupted_extraction_left_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", [make_member("x"), make_member("y")])
    with monkeypatch.context() as patch:  # as kill -9: nothing is tidied up
        patch.setattr(archive_module.shutil, "rmtree", lambda path, ignore_errors: None)
        patch.setattr(archive_module.shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(archive, tmp_path / "folder")
    leftovers = tmp_path / ".partial-folder"
    assert leftovers.is_dir()
    (leftovers / "stale").write_text("from another archive")
    assert not (tmp_path / "folder").exists()
    extract(archive, tmp_path / "folder")
    assert list_files(tmp_path) == ["a.tar.gz", "folder", "folder/x", "folder/y"]


def test_an_unpacked_folder_is_not_unpacked_again(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", [make_member("x")])
    extract(archive, tmp_path / "folder")
    archive.unlink()
    extract(archive, tmp_path / "folder")
    assert list_files(tmp_path / "folder") == ["x"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    extract(make_archive(tmp_path / "a.tar.gz", [make_member("x")]), tmp_path / "folder")
    assert list_files(tmp_path / "folder") == ["x"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, share: float) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", [make_member(f"member-{number}") for number in range(50)])
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DownloadError, match=r"a\.tar\.gz is damaged"):
        extract(archive, tmp_path / "folder")
    assert list_files(tmp_path) == ["a.tar.gz"]


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", [make_member("x")])
    flipped = bytearray(gzip.compress(gzip.decompress(archive.read_bytes()), compresslevel=0))  # stored as it is
    flipped[700] ^= 1
    archive.write_bytes(flipped)
    with pytest.raises(DownloadError, match="CRC check failed"):
        extract(archive, tmp_path / "folder")
    assert list_files(tmp_path) == ["a.tar.gz"]


def test_a_web_page_in_place_of_an_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_text("<html>log in first</html>")
    with pytest.raises(DownloadError, match="damaged or no .tar.gz file"):
        extract(tmp_path / "a.tar.gz", tmp_path / "folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", [make_member("x"), make_member("y")])

    def copy_to_full_disk(*_: object) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with monkeypatch.context() as patch:
        patch.setattr(archive_module.shutil, "copyfileobj", copy_to_full_disk)
        with pytest.raises(OutputError, match="No space left on device"):
            extract(archive, tmp_path / "folder")
    assert list_files(tmp_path) == ["a.tar.gz"]
    extract(archive, tmp_path / "folder")
    assert list_files(tmp_path / "folder") == ["x", "y"]


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"none\.tar\.gz"):
        extract(tmp_path / "none.tar.gz", tmp_path / "folder")
    assert list_files(tmp_path) == []
