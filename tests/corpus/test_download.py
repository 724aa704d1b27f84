import contextlib
import hashlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mindaudio_ds2.corpus import download as download_module
from mindaudio_ds2.corpus.download import DownloadError, download, require_free_space
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


def stalled_after(num_bytes: int, released: threading.Event) -> Callable[[Handler, int], None]:
    """Sends a beginning and then nothing, with the connection open, until the test lets it go."""

    def step(handler: Handler, start: int) -> None:
        send(handler, start, CONTENT[start : start + num_bytes])
        handler.wfile.flush()
        released.wait(20)

    return step


def in_small_pieces(handler: Handler, start: int) -> None:
    """A slow server: all of it, in pieces that each come for themselves."""
    send(handler, start, b"")
    for place in range(start, len(CONTENT), 50_000):
        handler.wfile.write(CONTENT[place : place + 50_000])
        handler.wfile.flush()


def login_page(handler: Handler, start: int) -> None:
    """What a hotel's network sends in place of any file."""
    page = b"<html>log in first</html>"
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(page)))
    handler.end_headers()
    handler.wfile.write(page)


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


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Server(httpd)
        httpd.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as one:
        yield one


@pytest.fixture
def mirror() -> Iterator[Server]:
    with serve() as another:
        yield another


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


@pytest.mark.parametrize("num_bytes", [0, 1, 65_536, len(CONTENT) // 2, len(CONTENT) - 1])
def test_a_cut_at_any_point_is_mended(server: Server, tmp_path: Path, num_bytes: int) -> None:
    download(server.play(cut_after(num_bytes), whole), tmp_path / "a", MD5, num_bytes=len(CONTENT))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={num_bytes}-" if num_bytes else None]


def test_what_a_stalled_server_sent_is_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(download_module, "TIMEOUT_SECONDS", 0.2)
    released = threading.Event()
    download(server.play(stalled_after(1234, released), whole), tmp_path / "a", MD5)
    released.set()
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1234-"]


def test_a_slow_server_is_waited_for(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    download(server.play(in_small_pieces), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert not pauses


def test_a_login_page_does_not_touch_what_was_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match="25 bytes instead of 768000: another file"):
        download(server.play(login_page), tmp_path / "a", MD5, num_bytes=len(CONTENT))
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:1000]
    download(server.play(whole), tmp_path / "a", MD5, num_bytes=len(CONTENT))
    assert server.ranges == ["bytes=1000-", "bytes=1000-"]


@pytest.mark.parametrize("step", [status(404), status(503), login_page], ids=["404", "503", "login page"])
def test_the_next_address_is_tried_where_one_is_of_no_use(
    server: Server, mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], step: Callable[..., None]
) -> None:
    urls = [server.play(step), mirror.play(whole)]
    download(urls, tmp_path / "a", MD5, num_bytes=len(CONTENT))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert f"going on with {urls[1]}" in capsys.readouterr().err


def test_a_mirror_goes_on_where_the_first_address_stopped(server: Server, mirror: Server, tmp_path: Path) -> None:
    download([server.play(cut_after(1000), status(404)), mirror.play(whole)], tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert mirror.ranges == ["bytes=1000-"]


def test_a_mirror_is_tried_where_the_first_address_sends_another_file(
    server: Server, mirror: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 1000)  # so that what the first sends does not fit
    download([server.play(whole), mirror.play(whole)], tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert mirror.ranges == [None]


def test_an_address_without_a_server_is_passed_over(server: Server, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        port = httpd.server_address[1]
    download([f"http://127.0.0.1:{port}/a", server.play(whole)], tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_if_no_address_is_of_use_all_reasons_are_given(server: Server, mirror: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        download([server.play(status(404)), mirror.play(status(403))], tmp_path / "a", MD5)
    assert f"{server.url}: the server answered 404" in f"{caught.value}"
    assert f"{mirror.url}: the server answered 403" in f"{caught.value}"
    assert list(tmp_path.iterdir()) == []


def set_free_bytes(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    usage = shutil.disk_usage(Path.cwd())._replace(free=num_bytes)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda path: usage)


def test_a_disk_without_room_is_found_before_the_first_byte(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_bytes(monkeypatch, len(CONTENT) - 1)
    with pytest.raises(OutputError, match=r"needs 0\.77 MB, but only 0\.77 MB are free") as caught:
        download(server.play(whole), tmp_path / "a", MD5)
    assert f"{tmp_path}" in f"{caught.value}"
    assert list(tmp_path.iterdir()) == []


def test_only_the_rest_of_a_file_needs_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:-1000])
    set_free_bytes(monkeypatch, 999)
    with pytest.raises(OutputError, match="free"):
        download(server.play(whole), tmp_path / "a", MD5)
    set_free_bytes(monkeypatch, 1000)
    download(server.play(whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_full_disk_is_not_a_reason_to_try_a_mirror(
    server: Server, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_bytes(monkeypatch, 0)
    with pytest.raises(OutputError):
        download([server.play(whole), mirror.play(whole)], tmp_path / "a", MD5)
    assert mirror.ranges == []


FULL_DEVICE = Path("/dev/full")


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="only Linux has a device that is always full")
def test_a_disk_that_fills_up_meanwhile_is_an_output_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").symlink_to(FULL_DEVICE)
    with pytest.raises(OutputError, match="No space left on device"):
        download(server.play(whole), tmp_path / "a", MD5)
    assert not (tmp_path / "a").exists()
    (tmp_path / "a.part").unlink()
    download(server.play(whole), tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_room_is_looked_for_where_the_folder_will_be(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "yet" / "there", 1, "a test")
    with pytest.raises(OutputError, match=r"a test needs 1000000\d*\.\d\d GB.*yet; free .* there"):
        require_free_space(tmp_path / "not" / "yet", 10**24, "a test")


def test_a_folder_that_cannot_be_made_is_an_output_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another folder"):
        download(server.play(whole), tmp_path / "file" / "a", MD5)
