"""ONNX Runtime for browsers: three files of one version of npm's package onnxruntime-web, known by their checksums."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from mindaudio_ds2.errors import DeviceError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
TARBALL = f"{PACKAGE}-{VERSION}.tgz"
NPM_SECONDS = 600


class RuntimeFile(NamedTuple):
    """A file of the package's folder dist: what it is called on the page, and its SHA-256."""

    name: str
    target: str
    sha256: str


FILES = (
    RuntimeFile("ort.wasm.min.mjs", "ort.js", "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b"),
    RuntimeFile(
        "ort-wasm-simd-threaded.mjs", "ort-wasm.js", "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    RuntimeFile(
        "ort-wasm-simd-threaded.wasm",
        "ort-wasm.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
)
"""Called `.js` on the page, because many servers do not know that `.mjs` is JavaScript."""

LARGEST_BYTES = 64 * 2**20
HOW_TO_GET = (
    f"run `npm pack {PACKAGE}@{VERSION}` where there is npm, or take {TARBALL} from any registry of npm's, and name it "
    f"with --runtime {TARBALL}"
)


def find_runtime(source: Path | None) -> dict[str, bytes]:
    """The files of the runtime.

    Args:
        source: the package's tarball, or a folder of it; None fetches it with npm.

    Returns:
        Their content by what they are called on the page.

    Raises:
        DeviceError: they are not there, are of another version or damaged, or npm is missing or fails.
    """
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            return _read_tarball(_fetch(Path(folder)))
    if source.is_dir():
        return _read_folder(source)
    return _read_tarball(source)


def _fetch(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise DeviceError(f"npm, which fetches {PACKAGE}, is missing: {HOW_TO_GET}")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"npm has not fetched {PACKAGE} within {NPM_SECONDS} s: {HOW_TO_GET}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise DeviceError(f"npm could not fetch {PACKAGE} {VERSION} ({said}): {HOW_TO_GET}")
    return folder / TARBALL


def _read_tarball(path: Path) -> dict[str, bytes]:
    """Read out of the archive, of which nothing is unpacked."""
    wanted = {f"package/dist/{file.name}": file for file in FILES}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                file = wanted.get(member.name)
                if file and member.isfile() and member.size <= LARGEST_BYTES:
                    content = archive.extractfile(member)
                    assert content is not None, "it is a file"
                    found[file.target] = _check(content.read(), file, path)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DeviceError(f"{path} is no tarball of {PACKAGE} ({error}); {HOW_TO_GET}") from None
    return _require_all(found, path)


def _read_folder(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for file in FILES:
        for path in (folder / "dist" / file.name, folder / file.name):
            if path.is_file() and file.target not in found:
                found[file.target] = _check(path.read_bytes(), file, path)
    return _require_all(found, folder)


def _check(content: bytes, file: RuntimeFile, source: Path) -> bytes:
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DeviceError(
            f"{source}: {file.name} is not that of {PACKAGE} {VERSION}, or damaged (its checksum differs); {HOW_TO_GET}"
        )
    return content


def _require_all(found: dict[str, bytes], source: Path) -> dict[str, bytes]:
    missing = [file.name for file in FILES if file.target not in found]
    if missing:
        raise DeviceError(f"{source} has no {', '.join(missing)} of {PACKAGE}; {HOW_TO_GET}")
    return found
