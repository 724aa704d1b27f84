"""Listen to the microphone and write what is said, until Ctrl-C.

mindaudio-ds2 listen runs/an4_stream/best.ckpt
mindaudio-ds2 listen model.stream.onnx --output minutes.txt --decoder beam --lm en.lm
mindaudio-ds2 listen --list_microphones

The transcript is saved at the end. Needs `pip install 'mindaudio_ds2[mic]'`.
"""

import argparse
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import console
from mindaudio_ds2.commands._command import Command, Parser, add_weights_option
from mindaudio_ds2.commands._live import (
    ONE_TRANSCRIPT,
    LiveTranscript,
    add_endpointing_options,
    check_output,
    follow,
    read_endpointing,
)
from mindaudio_ds2.decoding.choice import add_decoding_options, read_choice, refuse_nbest
from mindaudio_ds2.errors import ConfigError, DeviceError
from mindaudio_ds2.files import require_writable
from mindaudio_ds2.training.interruption import Interruption
from mindaudio_ds2.transcribe import Recognizer
from mindaudio_ds2.transcript_formats import ENDINGS, FORMATS

BLOCK_SECONDS = 0.1
POLL_SECONDS = 0.2
MAX_WAITING_BLOCKS = 600
"""A minute: what the recogniser may fall behind before sound is lost."""


class Microphone:
    """Samples of 16 bits from a microphone, in the order in which they are heard.

    Args:
        device: number or part of a name; None for the system's own.
        should_stop: asked now and then; where it says so, listening ends.

    Attributes:
        rate_hz: of the samples (Hz); what the microphone gives by itself.
        num_lost: blocks that were lost, because the machine was too slow.

    Raises:
        DeviceError: no microphone, or sounddevice is missing.
    """

    def __init__(self, device: str | None, should_stop: Callable[[], bool]) -> None:
        self._sounddevice = import_sounddevice()
        self._device: Any = int(device) if device and device.isdigit() else device
        self._should_stop = should_stop
        self._blocks: queue.Queue[NDArray[np.int16]] = queue.Queue(MAX_WAITING_BLOCKS)
        self.num_lost = 0
        try:
            found = self._sounddevice.query_devices(self._device, "input")
        except (ValueError, self._sounddevice.PortAudioError) as error:
            raise DeviceError(
                f"no microphone {device or 'of the system'} ({error}); --list_microphones shows those there are"
            ) from None
        self.name, self.rate_hz = str(found["name"]), round(found["default_samplerate"])

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        """Blocks (n,) int16 until it is time to stop, and then those that were heard by then.

        Raises:
            DeviceError: the microphone cannot be opened.
        """
        size = round(BLOCK_SECONDS * self.rate_hz)
        options = {"samplerate": self.rate_hz, "blocksize": size, "channels": 1, "dtype": "int16"}
        try:
            opened = self._sounddevice.InputStream(device=self._device, callback=self._hear, **options)
        except self._sounddevice.PortAudioError as error:
            raise DeviceError(
                f"microphone {self.name} cannot be opened: {error}; is another program using it?"
            ) from None
        with opened:
            while not self._should_stop():
                try:
                    yield self._blocks.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
        while not self._blocks.empty():
            yield self._blocks.get()

    def _hear(self, samples: NDArray[np.int16], num_frames: int, times: Any, status: Any) -> None:
        """Called by PortAudio's own thread, which must not wait."""
        self.num_lost += bool(status.input_overflow)
        try:
            self._blocks.put_nowait(samples[:, 0].copy())
        except queue.Full:
            self.num_lost += 1


def import_sounddevice() -> Any:
    """The library of microphones.

    Raises:
        DeviceError: it is missing, or PortAudio behind it.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise DeviceError(f"listening needs sounddevice: pip install 'mindaudio_ds2[mic]' ({error})") from None
    except OSError as error:
        raise DeviceError(f"listening needs PortAudio: apt-get install libportaudio2 ({error})") from None
    return sounddevice


def list_microphones() -> str:
    """A line for each: number, name, rate and channels."""
    rows = enumerate(import_sounddevice().query_devices())
    heard = [(number, row) for number, row in rows if row["max_input_channels"] > 0]
    if not heard:
        raise DeviceError("there is no microphone; connect one, or let the system see it")
    return "\n".join(
        f"{number:3}  {row['name']}  {row['default_samplerate']:g} Hz, {row['max_input_channels']} channels"
        for number, row in heard
    )


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="checkpoint, .onnx or a model's name (default: english)"
    )
    parser.add_argument("--device_target", default="CPU", choices=["CPU", "GPU", "Ascend"], help="default: CPU")
    add_weights_option(parser)
    parser.add_argument("--microphone", help="number or part of the name (default: the system's)")
    parser.add_argument("--list_microphones", action="store_true", help="show them and end")
    parser.add_argument("--format", default="text", choices=list(FORMATS), help="of the transcript; default: text")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="path; default: listen_DATE_TIME.txt in this folder"
    )
    add_endpointing_options(parser)
    add_decoding_options(parser, has_nbest=False)


def run(options: argparse.Namespace) -> None:
    """Listen until a signal comes, save the transcript."""
    if options.list_microphones:
        console.write_line(list_microphones(), to_stdout=True)
        return
    refuse_nbest(options, ONE_TRANSCRIPT)
    choice, endpointing = read_choice(options, options.model), read_endpointing(options)
    ending = ENDINGS.get(options.format, f".{options.format}")
    output = options.output or Path(time.strftime(f"listen_%Y-%m-%d_%H-%M-%S{ending}"))
    if options.output is None and output.exists():
        raise ConfigError(f"{output} is there already; name another with --output")
    check_output(options, output)
    require_writable(output, [options.model, options.lm, options.hotwords])
    with Interruption() as interruption:
        microphone = Microphone(options.microphone, lambda: interruption.signal_number > 0)
        console.write_line(f"loading {options.model or 'the model english'}")
        recognizer = Recognizer.load(options.model, options.device_target, choice, weights=options.weights)
        stream = recognizer.stream(microphone.rate_hz, endpointing)
        console.write_line(f"listening to {microphone.name} at {microphone.rate_hz} Hz; Ctrl-C ends")
        shown = LiveTranscript(options.format == "json", has_meter=True)
        follow(stream, microphone, shown)
    shown.save(output, options.format, stream)
    if microphone.num_lost:
        console.write_line(f"{microphone.num_lost} blocks of sound were lost: the machine is too slow for this network")
    console.write_line(f"{stream.num_samples / stream.rate_hz:.1f} s heard; the transcript is in {output}")


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
