"""Which files are sound, in folders with links, hidden files and formats that cannot be read."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from mindaudio_ds2.audio import sound_files
from mindaudio_ds2.audio.sound_files import find_sounds, show_path
from mindaudio_ds2.errors import AudioError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    return root


def list_names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_sounds([root]).paths]


def test_linked_files_and_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    make(tmp_path, "top/a.wav", "real/b.wav", "other.wav")
    (tmp_path / "top" / "linked").symlink_to("../real")
    (tmp_path / "top" / "again").symlink_to("../real")
    (tmp_path / "real" / "circle").symlink_to("../top")
    (tmp_path / "top" / "self").symlink_to(".")
    (tmp_path / "top" / "c.wav").symlink_to("../other.wav")
    assert list_names(tmp_path / "top") == ["a.wav", "again/b.wav", "c.wav"]


def test_a_file_keeps_the_name_under_which_it_really_lies(tmp_path: Path) -> None:
    make(tmp_path, "z/b.wav")
    (tmp_path / "a").symlink_to("z")
    assert list_names(tmp_path) == ["z/b.wav"]


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.wav")
    (tmp_path / "b.wav").symlink_to("gone.wav")
    found = find_sounds([tmp_path])
    assert [path.name for path in found.paths] == ["a.wav"]
    assert found.skipped == [f"link {tmp_path}/b.wav leads nowhere"]


def test_hidden_files_and_those_of_macos_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "._a.wav", ".trash/b.wav", "notes.txt")
    assert list_names(tmp_path) == ["a.wav"]


@pytest.mark.parametrize(
    ("name", "has_media", "remedy"),
    [
        ("b.m4a", False, r"pip install 'mindaudio_ds2\[media\]'.*ffmpeg -i b\.m4a b\.flac"),
        ("b.webm", False, "pip install"),
        ("b.mp4", True, None),
        ("b.paf", True, r"ffmpeg -i b\.paf b\.flac"),
        ("b.txt", False, None),
    ],
)
def test_what_cannot_be_read_is_named_with_the_remedy(
    name: str, has_media: bool, remedy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound_files, "has_media", lambda: has_media)
    found = find_sounds([make(tmp_path, "a.wav", name)])
    assert len(found.paths) == 1 + (name == "b.mp4")
    if remedy is None:
        assert not found.skipped
    else:
        (line,) = found.skipped
        assert re.search(remedy, line)
        assert line.startswith(f"{tmp_path}/{name} is passed over")


def test_a_folder_of_foreign_sound_alone_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound_files, "has_media", lambda: False)
    with pytest.raises(AudioError, match=r"holds no sound files.*\n.*b\.m4a is passed over"):
        find_sounds([make(tmp_path, "b.m4a")])


def test_named_files_are_taken_as_they_are_and_so_is_standard_input(tmp_path: Path) -> None:
    make(tmp_path, "x.dat")
    assert find_sounds(["-", tmp_path / "x.dat"]).paths == [Path("-"), tmp_path / "x.dat"]
    with pytest.raises(AudioError, match="gone does not exist"):
        find_sounds([tmp_path / "gone"])


def test_names_that_no_terminal_can_show_are_escaped() -> None:
    assert show_path(os.fsdecode(b"caf\xe9.wav")) == "caf\\udce9.wav"
    assert show_path("a\x1b[2Jb\n.wav") == "a\\x1b[2Jb\\n.wav"
    assert show_path("größe.wav") == "größe.wav"


def test_every_ending_has_one_answer() -> None:
    groups: Mapping[str, tuple[str, ...]] = {
        "read": sound_files.SUFFIXES,
        "media": sound_files.MEDIA_SUFFIXES,
        "refused": sound_files.REFUSED_SUFFIXES,
    }
    endings = [ending for group in groups.values() for ending in group]
    assert len(endings) == len(set(endings))
    assert all(ending == ending.lower() and ending.startswith(".") for ending in endings)


@pytest.mark.parametrize("has_media", [False, True])
def test_a_folder_without_sound_is_told_what_could_be_read(
    has_media: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound_files, "has_media", lambda: has_media)
    with pytest.raises(AudioError, match=r"\(\.wav, .*\.avr") as caught:
        sound_files.find_sounds([tmp_path])
    assert (".m4a, " in str(caught.value)) is has_media
    assert all(sound_files.is_sound(Path(f"a{each}")) for each in sound_files.list_suffixes())


def test_an_empty_path_is_not_the_folder_that_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.wav")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match="a path is empty"):
        find_sounds(["a.wav", ""])
    assert list_names(Path()) == ["a.wav"]
