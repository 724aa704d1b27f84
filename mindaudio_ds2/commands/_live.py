"""What `transcribe --stream` and `listen` share: words on the console as they come, and the transcript at the end."""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import console
from mindaudio_ds2.audio.samples import require_rate
from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.errors import AudioError, ConfigError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.streaming.events import Endpointing, Event
from mindaudio_ds2.streaming.stream import LiveStream
from mindaudio_ds2.transcript_formats import FORMATS
from mindaudio_ds2.transcription import Transcription

METER_CHARACTERS = 10
METER_RANGE_DB = 60.0
AFTER_PAUSES = (
    "words come after each pause, because this network hears whole utterances; the model english_stream, or one that "
    "was trained with hparams/*_stream.yaml (as ONNX: exported with --stream), gives them as they are said"
)


def parse_rate(text: str) -> int:
    """The value of `--rate_hz`, for argparse.

    Raises:
        ArgumentTypeError: it is no rate that a stream can have.
    """
    try:
        return require_rate(int(text) if text.isdecimal() else text)
    except AudioError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_endpointing_options(parser: Any) -> None:
    """The options that `read_endpointing` reads."""
    usual = Endpointing()
    parser.add_argument(
        "--silence",
        type=float,
        default=usual.silence_seconds,
        help=f"ends an utterance of a stream (seconds; default: {usual.silence_seconds:g})",
    )
    parser.add_argument(
        "--longest",
        type=float,
        default=usual.max_seconds,
        help=f"then it is cut, between words (seconds; default: {usual.max_seconds:g})",
    )


def read_endpointing(options: Any) -> Endpointing:
    """When utterances end.

    Raises:
        ConfigError: impossible values.
    """
    return Endpointing(options.silence, options.longest)


def measure_level_db(samples: NDArray[Any]) -> float:
    """RMS of 16-bit samples in dB of full scale, at least -`METER_RANGE_DB`."""
    power = float(np.square(samples / 32768.0).mean()) if len(samples) else 0.0
    return 10 * float(np.log10(max(power, 10 ** (-METER_RANGE_DB / 10))))


def draw_meter(level_db: float) -> str:
    """A bar of `METER_CHARACTERS`."""
    filled = round(METER_CHARACTERS * (1 + level_db / METER_RANGE_DB))
    return "[" + "#" * filled + " " * (METER_CHARACTERS - filled) + "]"


MUTED = ": all samples are the same, as of a microphone that is muted"


class LiveTranscript:
    """Shows events as they come, and remembers the words.

    On a terminal the utterance that is being said stands on the last line, what may still change included, and is
    written anew. Elsewhere words are written when they are final, an utterance a line; or every event as JSON.

    Args:
        is_json: whether every event is written, as a line of JSON.
        has_meter: whether the level stands before the words, on a terminal.

    Attributes:
        words: all that are final.
        is_lost: whether something could not be written.
    """

    def __init__(self, is_json: bool, has_meter: bool = False) -> None:
        self.words: list[Word] = []
        self.is_lost = False
        self._lines: list[str] = []  # an utterance each
        self._is_json, self._has_meter = is_json, has_meter
        self._is_terminal = sys.stdout.isatty() and not is_json
        self._said, self._partial, self._level_db = "", "", -METER_RANGE_DB

    def show(self, events: Iterable[Event], level_db: float | None = None) -> None:
        """Take up events, and the level of the sound."""
        for event in events:
            if event.kind == "final":
                self.words += event.words
            if event.kind == "endpoint":
                self._lines.append(event.text)
            if self._is_json:
                self._write(json.dumps(event.to_json(), ensure_ascii=False) + "\n")
            else:
                self._show_text(event)
        if level_db is not None:
            self._level_db = level_db
        if self._is_terminal:
            self._rewrite()

    def _show_text(self, event: Event) -> None:
        if event.kind == "partial":
            self._partial = event.text
            return
        self._partial = ""
        if event.kind == "endpoint":
            if self._is_terminal:
                console.rewrite_line("")
            self._write(f"{event.text}\n" if self._is_terminal else "\n")
            self._said = ""
            return
        if not self._is_terminal:
            self._write((" " if self._said else "") + event.text)
        self._said = f"{self._said} {event.text}".strip()

    def _write(self, text: str) -> None:
        self.is_lost |= not console.write_part(text)

    def _rewrite(self) -> None:
        """The line of the utterance that is being said; of one too long its end."""
        meter = draw_meter(self._level_db) + " " if self._has_meter else ""
        room = max(10, shutil.get_terminal_size().columns - 1 - len(meter))
        text = f"{self._said} {self._partial}".strip()
        console.rewrite_line(meter + (text if len(text) <= room else "…" + text[1 - room :]))

    def close(self) -> None:
        """Leave the terminal's last line empty."""
        if self._is_terminal:
            console.rewrite_line("")

    def save(self, path: Path, output_format: str, stream: LiveStream) -> None:
        """Write the transcript: as text an utterance a line, else as `transcribe` writes that of a recording.

        Raises:
            OutputError: it cannot be written.
        """
        if output_format == "text":
            write_text(path, "".join(f"{line}\n" for line in self._lines))
            return
        spoken = Hypothesis(" ".join(word.text for word in self.words), math.nan, tuple(self.words))
        seconds = stream.num_samples / stream.rate_hz
        write_text(path, FORMATS[output_format]([Transcription(Path("-"), seconds, spoken, "")]) + "\n")


ONE_TRANSCRIPT = "live speech has one transcript; leave --nbest away, or transcribe a file"


def check_output(options: Any, output: Any) -> None:
    """Only text and JSON can be written while words come.

    Args:
        options: with `format`.
        output: path of a file for the end, or None.

    Raises:
        ConfigError: another format, and no file for the end.
    """
    if options.format not in ("text", "json") and not output:
        raise ConfigError(f"{options.format} is written at the end; name a file with --output")


def follow(stream: LiveStream, blocks: Iterable[NDArray[Any]], shown: LiveTranscript) -> None:
    """Feed a stream until there are no more blocks, and show what it says; at first, if words will come late, and at
    the end, if there were none."""
    if not stream.is_incremental:
        console.write_line(AFTER_PAUSES)
    least, most = math.inf, -math.inf
    for block in blocks:
        if len(block):
            least, most = min(least, float(block.min())), max(most, float(block.max()))
        shown.show(stream.feed(block), measure_level_db(block) if block.dtype == np.int16 else None)
    shown.show(stream.finish())
    shown.close()
    if not shown.words:
        console.write_line("no words were heard" + (MUTED if least == most else ""))
