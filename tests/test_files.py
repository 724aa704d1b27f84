"""Files are whole or not there."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mindaudio_ds2.errors import OutputError
from mindaudio_ds2.files import list_cache_folders, require_writable, write_atomically, write_text


def test_a_written_file_has_its_text_and_nothing_stands_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "naïve\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "naïve\n".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(partial: Path) -> None:
        partial.write_text("half")
        raise error

    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert [other.name for other in tmp_path.iterdir()] == ["a.txt"]


def test_a_path_below_a_file_or_that_is_a_folder_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/b.txt"):
        require_writable(tmp_path / "file" / "b.txt")
    with pytest.raises(OutputError, match="is a folder"):
        require_writable(tmp_path)


def test_asking_whether_a_path_is_writable_leaves_what_stands_there_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    require_writable(path)
    require_writable(tmp_path / "new" / "b.txt")
    assert path.read_text() == "old"
    assert sorted(other.name for other in tmp_path.rglob("*")) == ["a.txt", "new"]


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    require_writable(pipe)
    write_text(pipe, "hello\n")
    reader.join(10)
    assert heard == ["hello\n"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_what_goes_to_an_open_file_goes_behind_what_stands_there(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("old\n")
    with path.open("a") as file:
        write_text(Path(f"/proc/self/fd/{file.fileno()}"), "new\n")
    assert path.read_text() == "old\nnew\n"


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "a.txt", tmp_path / "link"
    write_text(target, "old")
    link.symlink_to("there/a.txt")
    require_writable(link)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "W").write_text("")
    for call in (require_writable, lambda path: write_text(path, "")):
        with pytest.raises(OutputError, match="W is a file, and a folder is wanted there"):
            call(tmp_path / "W" / "b.txt")


def test_a_folder_that_had_to_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_writable(tmp_path / "new" / "b.txt")
    assert capsys.readouterr().err == f"made the folder {tmp_path / 'new'}\n"


def test_an_output_is_none_of_the_inputs(tmp_path: Path) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    for output in (path, link, tmp_path / "." / "a.txt"):
        with pytest.raises(OutputError, match="one of the inputs"):
            require_writable(output, [None, "english", path])
    require_writable(tmp_path / "b.txt", [path])


def test_caches_lie_where_the_user_says_then_at_home_then_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    own = tmp_path / f"mindaudio_ds2-{os.getuid()}"
    expected = [tmp_path / "x" / "mindaudio_ds2", tmp_path / "home" / ".cache" / "mindaudio_ds2", own]
    assert list(list_cache_folders()) == expected
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert list(list_cache_folders()) == expected[1:]


def test_without_a_home_the_temporary_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    (own,) = list_cache_folders()
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)  # anybody might put a library there
    assert list(list_cache_folders()) == []
    own.rmdir()
    own.symlink_to(tmp_path)
    assert list(list_cache_folders()) == []


def test_what_a_dead_process_had_begun_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    writer = "import sys, os; from pathlib import Path; from mindaudio_ds2.files import write_atomically\n"
    writer += (
        "write_atomically(Path(sys.argv[1]), lambda partial: (partial.write_text('half'), os.kill(os.getpid(), 9)))"
    )
    subprocess.run([sys.executable, "-c", writer, str(path)], check=False)
    subprocess.run([sys.executable, "-c", writer, f"{path}2"], check=False)
    left = {other.name for other in tmp_path.iterdir()}
    assert len(left) == 2

    def write(partial: Path) -> None:
        partial.write_text("whole")
        require_writable(path)  # another's, while this one is writing
        assert partial.exists()

    write_atomically(path, write)
    assert {other.name for other in tmp_path.iterdir()} == {"a.txt", *(name for name in left if name.endswith("2"))}


def test_a_device_stays_a_device() -> None:
    write_text(Path("/dev/null"), "lost")
    assert Path("/dev/null").is_char_device()
