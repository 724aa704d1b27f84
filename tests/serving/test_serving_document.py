"""The examples of docs/serving.md run as they stand there, against a server."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from mindaudio_ds2.serving import limits, transcriptions
from tests.serving.tones import Running, make_wav, run_server

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def find_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with run_server() as each:
        yield each


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "talk.flac").write_bytes(make_wav("BAD CAB", kind="FLAC"))
    return tmp_path


@pytest.mark.parametrize("line", [line for block in find_blocks("sh") for line in block.splitlines()])
def test_curl_lines(running: Running, folder: Path, line: str) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    line = line.replace("127.0.0.1:8000", f"127.0.0.1:{running.port}").replace("curl", "curl -sSf", 1)
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert "BAD CAB" in done.stdout


@pytest.mark.parametrize("program", find_blocks("python"), ids=lambda program: re.findall(r"from (\w+)", program)[0])
def test_python_programs(running: Running, folder: Path, program: str) -> None:
    pytest.importorskip(re.findall(r"from (\w+)", program)[0], reason="its client is not installed")
    program = program.replace("127.0.0.1:8000", f"127.0.0.1:{running.port}")
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "BAD CAB" in " ".join(done.stdout.split())


def test_every_field_and_default_is_there() -> None:
    for field in transcriptions.KNOWN_FIELDS - {"timestamp_granularities"}:
        assert f"`{field}`" in PAGE, field
    defaults = limits.Limits()
    assert f"| `--max_upload_mb` | {defaults.max_upload_bytes // 2**20} |" in PAGE
    assert f"| `--max_minutes`, of a file or a stream | {defaults.max_file_seconds / 60:.0f} |" in PAGE
    assert f"| `--max_files`, at a time | {defaults.max_files} |" in PAGE
    assert f"| `--max_streams`, at a time | {defaults.max_streams} |" in PAGE
    assert f"| `--requests_per_minute`, of one address | {defaults.requests_per_minute} |" in PAGE
    assert (
        f"pauses for {defaults.idle_seconds:.0f} s or takes more than {defaults.upload_seconds / 60:.0f} minutes"
        in PAGE
    )
