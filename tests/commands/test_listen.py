"""Listening with a microphone that a test holds, and standard input as a stream, against the whole recording."""

import io
import json
import os
import signal
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2 import console
from mindaudio_ds2.commands import listen, transcribe
from mindaudio_ds2.commands._live import METER_CHARACTERS, draw_meter, measure_level_db
from mindaudio_ds2.transcribe import Recognizer
from tests.streaming.babbler import RATE_HZ, Babbler, make_sound


class FakeMicrophone(types.ModuleType):
    """`sounddevice` with one microphone that plays a sound and then presses Ctrl-C.

    Args:
        sound: (n,) int16 at `RATE_HZ`.
        overflows: whether the driver says that it lost a block.
    """

    class PortAudioError(Exception):
        pass

    def __init__(self, sound: NDArray[np.int16], overflows: bool = False) -> None:
        super().__init__("sounddevice")
        self.sound, self.overflows = sound, overflows

    def query_devices(self, device: Any = None, kind: str = "") -> Any:
        rows = [
            {"name": "speaker", "max_input_channels": 0, "default_samplerate": 48000.0},
            {"name": "desk", "max_input_channels": 1, "default_samplerate": float(RATE_HZ)},
        ]
        if not kind:
            return rows
        if device not in (None, 1, "desk"):
            raise ValueError(f"no input device matching {device!r}")
        return rows[1]

    def InputStream(self, callback: Any, blocksize: int, **options: Any) -> Any:
        assert options == {"device": options["device"], "samplerate": RATE_HZ, "channels": 1, "dtype": "int16"}

        def play() -> None:
            for start in range(0, len(self.sound), blocksize):
                block = self.sound[start : start + blocksize, None]
                callback(block, len(block), None, types.SimpleNamespace(input_overflow=self.overflows))
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        class Opened:
            def __enter__(self) -> None:
                threading.Thread(target=play, daemon=True).start()

            def __exit__(self, *_: object) -> None:
                pass

        return Opened()


@pytest.fixture
def recognizer(monkeypatch: pytest.MonkeyPatch) -> Recognizer:
    found = Recognizer(Babbler())
    monkeypatch.setattr(Recognizer, "load", lambda *_, **__: found)
    return found


SOUND = (make_sound(7.0) * 32767).astype(np.int16)


def call(main: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["mindaudio-ds2 listen", *arguments])
    main()


def test_words_are_written_as_they_come_and_ctrl_c_saves_them(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeMicrophone(SOUND))
    monkeypatch.chdir(tmp_path)
    call(listen.main, monkeypatch, "any.onnx")
    expected = recognizer.transcribe(SOUND, RATE_HZ).text
    assert len(expected.split()) > 4
    shown = capsys.readouterr()
    assert shown.out.split() == expected.split()
    (saved,) = tmp_path.iterdir()
    assert saved.name.startswith("listen_")
    assert saved.read_text(encoding="utf-8").split() == expected.split()
    assert "listening to desk at 16000 Hz; Ctrl-C ends" in shown.err
    assert f"7.0 s heard; the transcript is in {saved.name}" in shown.err
    assert "lost" not in shown.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_subtitles_are_saved_and_lost_blocks_told(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeMicrophone(SOUND, overflows=True))
    output = tmp_path / "said.srt"
    call(listen.main, monkeypatch, "any.onnx", "--format", "srt", "--output", str(output), "--microphone", "1")
    assert "00:00:0" in output.read_text(encoding="utf-8")
    assert "70 blocks of sound were lost" in capsys.readouterr().err


def test_microphones_are_listed_and_a_missing_one_is_an_error(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeMicrophone(SOUND))
    call(listen.main, monkeypatch, "--list_microphones")
    assert capsys.readouterr().out == "  1  desk  16000 Hz, 1 channels\n"
    with pytest.raises(SystemExit, match="2"):
        call(listen.main, monkeypatch, "any.onnx", "--microphone", "attic", "--output", "x.txt")
    assert "--list_microphones shows those there are" in capsys.readouterr().err


def test_without_sounddevice_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SystemExit, match="2"):
        call(listen.main, monkeypatch, "--list_microphones")
    assert "pip install 'mindaudio_ds2[mic]'" in capsys.readouterr().err


def test_on_a_terminal_the_last_line_is_rewritten(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setitem(sys.modules, "sounddevice", FakeMicrophone(SOUND))
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    call(listen.main, monkeypatch, "any.onnx", "--output", str(tmp_path / "x.txt"))
    lines = terminal.getvalue().split("\r\x1b[K")
    assert len(lines) > 60
    assert all(len(line.split("\n")[0]) < 40 for line in lines if line.startswith("["))
    kept = [line for line in lines if "\n" in line]
    assert "".join(kept).split() == recognizer.transcribe(SOUND, RATE_HZ).text.split()


def feed_stdin(monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    monkeypatch.setattr(sys, "stdin", path.open("rb"))


def test_standard_input_is_transcribed_as_it_comes(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feed_stdin(monkeypatch, tmp_path / "raw", SOUND.tobytes() + b"x")
    live = ("--pre_trained_model_path", "any.onnx", "--stream", "-", "--rate_hz", str(RATE_HZ))
    call(transcribe.main, monkeypatch, *live, "--output", str(tmp_path / "said.txt"))
    expected = recognizer.transcribe(SOUND, RATE_HZ).text
    shown = capsys.readouterr()
    assert shown.out.split() == (tmp_path / "said.txt").read_text(encoding="utf-8").split() == expected.split()
    assert "the last sample was cut off: 1 bytes were not heard" in shown.err
    assert "no words were heard" not in shown.err


def test_sound_without_words_is_said_to_have_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    live = ("--pre_trained_model_path", "english_stream", "--stream", "-", "--rate_hz", str(RATE_HZ))
    noise = np.random.default_rng(0).integers(-1, 2, RATE_HZ).astype(np.int16)
    for samples, is_muted in ((noise, False), (np.zeros(RATE_HZ, np.int16), True)):
        feed_stdin(monkeypatch, tmp_path / "raw", samples.tobytes())
        call(transcribe.main, monkeypatch, *live)
        shown = capsys.readouterr()
        assert shown.out.split() == []
        assert "no words were heard" in shown.err
        assert ("muted" in shown.err) == is_muted


def test_a_network_that_hears_whole_utterances_is_told_once(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = ("--stream", "-", "--rate_hz", str(RATE_HZ))
    feed_stdin(monkeypatch, tmp_path / "raw", SOUND.tobytes())
    call(transcribe.main, monkeypatch, *live)
    assert "after each pause" not in capsys.readouterr().err
    monkeypatch.setattr(Babbler, "streaming", None)
    feed_stdin(monkeypatch, tmp_path / "raw", SOUND.tobytes())
    call(transcribe.main, monkeypatch, *live)
    shown = capsys.readouterr()
    assert shown.err.count("words come after each pause") == 1
    assert len(shown.out.split()) > 4
    monkeypatch.setitem(sys.modules, "sounddevice", FakeMicrophone(SOUND))
    call(listen.main, monkeypatch, "--output", str(tmp_path / "x.txt"))
    assert capsys.readouterr().err.count("words come after each pause") == 1


def test_events_are_written_as_lines_of_json(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import soundfile

    soundfile.write(tmp_path / "said.wav", SOUND, RATE_HZ)
    feed_stdin(monkeypatch, tmp_path / "copy", (tmp_path / "said.wav").read_bytes())
    call(transcribe.main, monkeypatch, "--pre_trained_model_path", "any.onnx", "--stream", "-", "--format", "json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    finals = [row["text"] for row in rows if row["kind"] == "final"]
    assert " ".join(finals) == recognizer.transcribe(SOUND, RATE_HZ).text
    assert {row["kind"] for row in rows} >= {"final", "endpoint"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stream", "talk.wav"), "give - as the only AUDIO"),
        (("--stream", "-", "--format", "srt"), "name a file with --output"),
        (("--stream", "-", "--silence", "0"), "ends nothing"),
        (("--stream", "-", "--rate_hz", "7"), "argument --rate_hz: a sample rate of 7 Hz is impossible"),
        (("--stream", "-", "--rate_hz", "5000000"), "from 4000 to 192000"),
        (("--stream", "-", "--rate_hz", "x"), "argument --rate_hz: a sample rate of 'x' Hz is impossible"),
        (("--stream", "-", "--vad", "silero"), "--vad and --channels are for files"),
        (("--stream", "-", "--channels", "split"), "--vad and --channels are for files"),
        (("--stream", "-", "--decoder", "beam", "--nbest", "3"), "leave --nbest away"),
        (("--stream", "-", "--nbest", "3"), "leave --nbest away"),
        (("--nbest", "3", "talk.wav"), "text holds one text; add --format json, or leave --nbest away"),
        (("--format", "srt", "--nbest", "3", "talk.wav"), "srt holds one text; add --format json"),
        (("--rate_hz", "16000", "talk.wav"), "are for live sound; give --stream"),
        (("--silence", "2", "talk.wav"), "are for live sound; give --stream"),
    ],
)
def test_what_a_stream_or_a_format_cannot_be_is_refused(
    arguments: tuple[str, ...],
    message: str,
    recognizer: Recognizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(transcribe.main, monkeypatch, "--pre_trained_model_path", "any.onnx", *arguments)
    assert message in capsys.readouterr().err


def test_words_that_cannot_be_written_are_an_error(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = ("--stream", "-", "--rate_hz", str(RATE_HZ))
    for extra in ((), ("--format", "json")):
        feed_stdin(monkeypatch, tmp_path / "raw", SOUND.tobytes())
        monkeypatch.setattr(console, "_trouble", {})
        monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115 - the test's end closes it
        with pytest.raises(SystemExit, match="2"):
            call(transcribe.main, monkeypatch, *live, *extra)
        shown = capsys.readouterr().err
        assert "error: the text was not printed: stdout takes no more (No space left on device)" in shown
        assert "s of audio" not in shown
    feed_stdin(monkeypatch, tmp_path / "raw", SOUND.tobytes())
    monkeypatch.setattr(console, "_trouble", {})
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
    call(transcribe.main, monkeypatch, *live, "--output", str(tmp_path / "said.txt"))
    expected = recognizer.transcribe(SOUND, RATE_HZ).text
    assert (tmp_path / "said.txt").read_text(encoding="utf-8").split() == expected.split()


def test_a_reader_that_has_seen_enough_ends_a_stream_quietly(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the sound goes on."""
    reading, writing = os.pipe()
    words_read, words_written = os.pipe()
    os.close(words_read)
    monkeypatch.setattr(console, "_trouble", {})
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading, "rb"))
    monkeypatch.setattr(sys, "stdout", os.fdopen(words_written, "w"))
    threading.Thread(target=os.write, args=(writing, SOUND.tobytes()), daemon=True).start()
    call(transcribe.main, monkeypatch, "--stream", "-", "--rate_hz", str(RATE_HZ))
    assert capsys.readouterr().err == ""
    os.close(writing)


@pytest.mark.parametrize(("signal_number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("content", [SOUND.tobytes(), b""], ids=["in the sound", "before it"])
def test_a_signal_ends_a_stream_with_its_words_and_is_told(
    signal_number: signal.Signals,
    status: int,
    content: bytes,
    recognizer: Recognizer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading, "rb"))

    def play() -> None:
        os.write(writing, content)
        time.sleep(0.5)
        os.kill(os.getpid(), signal_number)

    monkeypatch.setattr(
        Recognizer, "load", lambda *_, **__: threading.Thread(target=play, daemon=True).start() or recognizer
    )
    rate = ("--rate_hz", str(RATE_HZ)) if content else ()
    output = tmp_path / "said.txt"
    with pytest.raises(SystemExit, match=str(status)):
        call(transcribe.main, monkeypatch, "--stream", "-", *rate, "--output", str(output))
    os.close(writing)
    shown = capsys.readouterr()
    if not content:
        assert "stopped: no sound had come" in shown.err
        return
    assert f"stopped: 7.0 s of audio had come; what was said in it is in {output}" in shown.err
    expected = recognizer.transcribe(SOUND, RATE_HZ).text
    assert shown.out.split() == output.read_text(encoding="utf-8").split() == expected.split()


def test_the_meter_follows_the_level() -> None:
    assert measure_level_db(np.full(100, 32767, np.int16)) == pytest.approx(0, abs=0.01)
    assert measure_level_db(np.zeros(0, np.int16)) == measure_level_db(np.zeros(9, np.int16)) == -60
    assert [draw_meter(level).count("#") for level in (-60, -30, 0)] == [0, METER_CHARACTERS // 2, METER_CHARACTERS]
