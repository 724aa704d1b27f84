"""From the command line to the end of the process."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")


from mindaudio_ds2.commands import serve as command
from mindaudio_ds2.decoding.choice import DecoderChoice
from mindaudio_ds2.errors import ConfigError, DeviceError
from mindaudio_ds2.serving.limits import Limits
from mindaudio_ds2.serving.server import ServerOptions, open_service
from tests.serving.tones import CLIENT, RATE_HZ, make_wav
from tests.tiny_corpus import speak

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import signal
import sys
from mindaudio_ds2.serving import server
from tests.serving.tones import Running, Limits, Access, DecoderChoice
from pathlib import Path

running = Running(Limits(), Access(), 1, DecoderChoice())
running.listener.close()
if sys.argv[1] == "blocked":
    running.network.gate.clear()
server.open_service = lambda *_: running.service
if sys.argv[1] in ("SIGINT", "SIGTERM"):  # comes as soon as the network is loaded
    write_line = server.console.write_line
    def write_and_end(text):
        write_line(text)
        if text.startswith("loaded in"):
            signal.raise_signal(signal.Signals[sys.argv[1]])
    server.console.write_line = write_and_end
options = server.ServerOptions(Path("tones.onnx"), port=0, grace_seconds=1.0)
from mindaudio_ds2.errors import exit_on_error
exit_on_error(lambda: server.serve(options, DecoderChoice(), Limits(), Access()))()
"""


def spawn(kind: str) -> "subprocess.Popen[str]":
    """A server process whose network works, never answers, or to which a signal comes early."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, kind]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def start(kind: str) -> "tuple[subprocess.Popen[str], str]":
    """A server process that listens, and its address."""
    process = spawn(kind)
    assert process.stderr
    for line in process.stderr:
        if " at http://" in line:
            return process, line.split(" at ")[1].split("/ ")[0]
    raise AssertionError("it did not start")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_order(number: signal.Signals) -> None:
    process, address = start("working")
    url = f"{address}/v1/audio/transcriptions"
    assert CLIENT.post(url, files={"file": make_wav("AB")}, timeout=60).json() == {"text": "AB"}
    process.send_signal(number)
    _, said = process.communicate(timeout=90)
    assert (process.returncode, said.splitlines()[-1]) == (0, "stopped; every request was answered")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_before_the_first_request_ends_the_process_in_order(name: str) -> None:
    process = spawn(name)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.splitlines()[-1] == "stopped; every request was answered"
    assert "Error" not in said


def test_what_a_signal_leaves_unfinished_is_said() -> None:
    process, address = start("blocked")
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=60) as connection:
        content = make_wav("AB")
        body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"
        head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        while CLIENT.get(f"{address}/health", timeout=60).json()["files"] == 0:
            time.sleep(0.05)
        process.terminate()
        _, said = process.communicate(timeout=90)
        assert process.returncode == 143
        assert "stopping: 1 files and 0 streams are given 1 s" in said
        assert "1 requests were not finished" in said
        assert b"503" in connection.recv(100)


def test_a_checkpoint_is_loaded_and_used_by_one_thread(learned_run: Path) -> None:
    from mindaudio_ds2.segmentation.sources import Samples

    service = open_service(ServerOptions(learned_run / "last.ckpt"), DecoderChoice(), Limits())
    try:
        sound = [Samples(speak("BAD CAB", seed=3).astype("float32"), RATE_HZ)]
        run = service.dispatcher.run_live(lambda: service.recognizer.run(sound)).result(60)
        assert [found.text for found in run.transcriptions] == ["BAD CAB"]
        assert (service.name, service.dispatcher.num_workers) == ("learned", 1)
    finally:
        service.dispatcher.close(5)


@pytest.mark.parametrize(
    ("option", "kind", "said"),
    [
        ({"weights": "int8"}, ConfigError, "for --weights int8"),
        ({"device_target": "GPU"}, DeviceError, "runs on the CPU"),
    ],
)
def test_an_exported_network_is_served_as_it_is(option: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        open_service(ServerOptions(Path("model.onnx"), **option), DecoderChoice(), Limits())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/an4/best.ckpt", "an4"),
        ("runs/an4/export/model.onnx", "an4"),
        ("runs/an4/export/model.int8.onnx", "an4"),
        ("english.onnx", "english"),
    ],
)
def test_a_model_is_named_by_what_tells_it_from_others(path: str, name: str) -> None:
    assert ServerOptions(Path(path)).choose_name() == name


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    monkeypatch.setattr(sys, "argv", ["serve", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code


def test_what_cannot_be_served_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = tmp_path / "x.ckpt"
    model.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(monkeypatch, model, "--port", taken.getsockname()[1]) == 2
        assert "choose another --port" in capsys.readouterr().err
    for arguments, reason in (
        (["nothing.ckpt"], "nothing.ckpt"),
        ([model, "--port", 99999], "--port must be"),
        ([model, "--host", "nowhere.invalid", "--token", "a"], "cannot listen on"),
        ([model, "--token", "a b"], "--token must be"),
        ([model, "--token", f"@{tmp_path / 'none'}"], "cannot be read"),
        ([model, "--max_files", 0], "--max_files must be at least 1, found 0"),
        ([model, "--max_upload_mb", 0], "--max_upload_mb must be at least a byte, found 0"),
        ([model, "--max_upload_mb", "nan"], "--max_upload_mb must be a number, found nan"),
        ([model, "--max_minutes", -1], "--max_minutes must be at least a second, found -1"),
        ([model, "--workers", 0], "--workers must be at least 1, found 0"),
        ([model, "--grace_seconds", "nan"], "error: --grace_seconds must be from 0 to 1000000, found nan"),
        ([model, "--hotwords", "x"], "add --decoder beam"),
        ([model, "--decoder", "beam", "--nbest", 3], "answers hold one text; leave --nbest away"),
        ([model, "--nbest", 3], "answers hold one text; leave --nbest away"),
    ):
        assert run(monkeypatch, *arguments) == 2
        assert reason in capsys.readouterr().err


def test_serving_names_the_extra_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "mindaudio_ds2.serving.guard")
    monkeypatch.setitem(sys.modules, "starlette.datastructures", None)
    assert run(monkeypatch, __file__) == 2
    assert "pip install 'mindaudio_ds2[serve]'" in capsys.readouterr().err
