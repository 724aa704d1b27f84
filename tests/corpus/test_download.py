import gzip
import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mindaudio_ds2.corpus import download as download_module
from mindaudio_ds2.corpus.download import DownloadError, download, extract
from mindaudio_ds2.errors import OutputError

CONTENT = bytes(range(256)) * 3000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers each request by the next step of the server's script; the last step answers all further ones."""

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""

    def do_GET(self) -> None:
        ranges: list[str | None] = self.server.ranges  # type: ignore[attr-defined]
        script: list[Callable[[Handler, int], None]] = self.server.script  # type: ignore[attr-defined]
        ranges.append(self.headers.get("Range"))
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        step = script[min(len(ranges), len(script)) - 1]
        step(self, int(match[1]) if match else 0)


def whole(handler: Handler, start: int) -> None:
    send(handler, start, CONTENT[start:])


def without_range(handler: Handler, start: int) -> None:
    send(handler, 0, CONTENT)


def without_length(handler: Handler, start: int) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT)


def cut_after(num_bytes: int) -> Callable[[Handler, int], None]:
    return lambda handler, start: send(handler, start, CONTENT[start : start + num_bytes])


def cut_without_range_after(num_bytes: int) -> Callable[[Handler, int], None]:
    return lambda handler, start: send(handler, 0, CONTENT[:num_bytes])


def status(code: int) -> Callable[[Handler, int], None]:
    return lambda handler, start: handler.send_error(code)


def from_elsewhere(handler: Handler, start: int) -> None:
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start + 7}-{len(CONTENT) - 1}/{len(CONTENT)}")
    handler.end_headers()
    handler.wfile.write(CONTENT[start + 7 :])


def send(handler: Handler, start: int, content: bytes) -> None:
    """Announce everything from `start` on, send only `content`."""
    if start >= len(CONTENT):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(CONTENT)}")
        handler.end_headers()
        return
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
    handler.send_header("Content-Length", str(len(CONTENT) - start))
    handler.end_headers()
    handler.wfile.write(content)


class Server:
    """A server on the loopback that plays a script."""

    def __init__(self, httpd: ThreadingHTTPServer) -> None:
        self.httpd = httpd
        self.url = f"http://127.0.0.1:{httpd.server_address[1]}/corpus.tar.gz"
        self.ranges: list[str | None] = []

    def play(self, *script: Callable[[Handler, int], None]) -> str:
        self.httpd.script = script  # type: ignore[attr-defined]
        self.httpd.ranges = self.ranges  # type: ignore[attr-defined]
        return self.url


@pytest.fixture
def server() -> Iterator[Server]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Server(httpd)
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, noted instead of waited."""
    noted: list[float] = []
    monkeypatch.setattr(download_module.time, "sleep", noted.append)
    return noted


def test_a_file_arrives_whole_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "corpus.tar.gz"
    download(server.play(whole), target, MD5, num_bytes=len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_a_cut_connection_is_resumed_where_it_stopped(server: Server, tmp_path: Path) -> None:
    download(server.play(cut_after(1000), cut_after(5000), whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=6000-"]


def test_a_later_run_goes_on_where_the_first_stopped(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="goes on where it stopped"):
        download(server.play(cut_after(1000), status(503)), tmp_path / "a", MD5)
    assert not (tmp_path / "a").exists()
    server.ranges.clear()
    download(server.play(whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_tries_that_bring_something_new_are_not_counted(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    download(server.play(*[cut_after(1000)] * 20, whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert set(pauses) == {download_module.RETRY_PAUSES_SECONDS[0]}


def test_a_server_without_range_sends_everything_again(server: Server, tmp_path: Path) -> None:
    download(server.play(cut_without_range_after(1000), without_range), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-"]


def test_a_server_without_range_that_always_cuts_is_given_up(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cut after 1000 of 768000 bytes"):
        download(server.play(cut_without_range_after(1000)), tmp_path / "a", MD5)
    assert len(server.ranges) == len(download_module.RETRY_PAUSES_SECONDS) + 2  # the first brought something new


def test_a_range_other_than_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match="asked for the bytes from 1000 on"):
        download(server.play(from_elsewhere), tmp_path / "a", MD5)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:1000]


def test_a_part_that_is_whole_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    download(server.play(whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT + b"more")
    download(server.play(whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"md5 is {MD5} instead of {'0' * 32}"):
        download(server.play(whole), tmp_path / "a", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_file_is_found_by_the_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="Run this again"):
        download(server.play(whole), tmp_path / "a", MD5)
    download(server.play(whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_wrong_length_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="768000 bytes instead of 768001"):
        download(server.play(whole), tmp_path / "a", None, num_bytes=len(CONTENT) + 1)


@pytest.mark.parametrize("code", [403, 404])
def test_a_refusal_is_not_tried_again(server: Server, tmp_path: Path, code: int, pauses: list[float]) -> None:
    with pytest.raises(DownloadError, match=f"{server.url}: the server answered {code}"):
        download(server.play(status(code)), tmp_path / "a", MD5)
    assert len(server.ranges) == 1
    assert not pauses


def test_an_overloaded_server_is_asked_again(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    download(server.play(status(503), status(503), whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert pauses == list(download_module.RETRY_PAUSES_SECONDS[:2])


def test_no_server_at_all_is_a_clear_error(tmp_path: Path, pauses: list[float]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        port = httpd.server_address[1]
    with pytest.raises(DownloadError, match="no connection"):
        download(f"http://127.0.0.1:{port}/a", tmp_path / "a", MD5)
    assert pauses == list(download_module.RETRY_PAUSES_SECONDS)


@pytest.mark.parametrize("url", ["data/an4.tar.gz", "file:///etc/hostname", "ftp://host/a"])
def test_only_web_addresses_are_fetched(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="must begin with http"):
        download(url, tmp_path / "a", MD5)


def test_without_checksum_a_cut_file_is_still_found(server: Server, tmp_path: Path) -> None:
    download(server.play(cut_after(1000), whole), tmp_path / "a", None)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_file_whose_wholeness_cannot_be_proven_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="does not say how long"):
        download(server.play(without_length), tmp_path / "a", None)
    assert list(tmp_path.iterdir()) == []
    download(server.play(without_length), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked_and_not_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    download(server.play(whole), tmp_path / "a", MD5)
    assert server.ranges == []
    (tmp_path / "a").write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="is there already, but its md5 is"):
        download(server.play(whole), tmp_path / "a", MD5)
    with pytest.raises(DownloadError, match="delete it"):
        download(server.play(whole), tmp_path / "a", None, num_bytes=len(CONTENT))


def test_a_folder_that_cannot_be_made_is_an_output_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another folder"):
        download(server.play(whole), tmp_path / "file" / "a", MD5)


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


def test_what_an_interrupted_extraction_left_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", [make_member("x"), make_member("y")])
    with monkeypatch.context() as patch:  # as kill -9: nothing is tidied up
        patch.setattr(download_module.shutil, "rmtree", lambda path, ignore_errors: None)
        patch.setattr(download_module.shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
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


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"none\.tar\.gz"):
        extract(tmp_path / "none.tar.gz", tmp_path / "folder")
    assert list_files(tmp_path) == []
