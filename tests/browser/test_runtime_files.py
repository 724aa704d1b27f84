"""Where ONNX Runtime comes from, and that only the known files are taken."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from mindaudio_ds2.browser import runtime
from mindaudio_ds2.errors import DeviceError

CONTENTS = {file.name: f"content of {file.name}".encode() for file in runtime.FILES}
TARGETS = {file.target: CONTENTS[file.name] for file in runtime.FILES}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small files of these tests are the known ones."""
    files = [file._replace(sha256=hashlib.sha256(CONTENTS[file.name]).hexdigest()) for file in runtime.FILES]
    monkeypatch.setattr(runtime, "FILES", tuple(files))


def write_tarball(path: Path, contents: dict[str, bytes], prefix: str = "package/dist/") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {**contents, "../outside.txt": b"x", "other.js": b"x"}.items():
            member = tarfile.TarInfo(name if name.startswith("..") else prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def put_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program called npm that does as `script` says."""
    (folder / "bin").mkdir()
    (folder / "bin" / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def test_a_tarball_and_its_folders_give_the_files(tmp_path: Path) -> None:
    assert runtime.find_runtime(write_tarball(tmp_path / "x.tgz", CONTENTS)) == TARGETS
    (tmp_path / "dist").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / "dist" / name).write_bytes(content)
    assert runtime.find_runtime(tmp_path) == runtime.find_runtime(tmp_path / "dist") == TARGETS


def test_npm_is_asked_for_the_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tarball(tmp_path / "kept.tgz", CONTENTS)
    put_npm(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/asked; cp {tmp_path}/kept.tgz {runtime.TARBALL}')
    assert runtime.find_runtime(None) == TARGETS
    assert f"pack onnxruntime-web@{runtime.VERSION} --ignore-scripts" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("name", CONTENTS)
def test_another_checksum_is_refused(tmp_path: Path, name: str) -> None:
    changed = {**CONTENTS, name: CONTENTS[name] + b"!"}
    with pytest.raises(DeviceError, match=f"{name} is not that of onnxruntime-web {runtime.VERSION}"):
        runtime.find_runtime(write_tarball(tmp_path / "x.tgz", changed))
    for each, content in changed.items():
        (tmp_path / each).write_bytes(content)
    with pytest.raises(DeviceError, match="its checksum differs"):
        runtime.find_runtime(tmp_path)


def test_what_is_no_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damaged.tgz").write_bytes(write_tarball(tmp_path / "x.tgz", CONTENTS).read_bytes()[:100])
    (tmp_path / "empty").mkdir()
    elsewhere = write_tarball(tmp_path / "elsewhere.tgz", CONTENTS, "dist/")
    for source in (tmp_path / "damaged.tgz", tmp_path / "missing.tgz", tmp_path / "empty", elsewhere):
        with pytest.raises(DeviceError, match=f"npm pack onnxruntime-web@{runtime.VERSION}") as caught:
            runtime.find_runtime(source)
        assert str(source) in str(caught.value)


def test_a_missing_or_failing_npm_says_how_to_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_npm(tmp_path, monkeypatch, "echo 'npm error network is down' >&2; exit 1")
    with pytest.raises(DeviceError, match=r"network is down.*--runtime onnxruntime-web"):
        runtime.find_runtime(None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"npm.*is missing: run `npm pack.*--runtime onnxruntime-web"):
        runtime.find_runtime(None)
