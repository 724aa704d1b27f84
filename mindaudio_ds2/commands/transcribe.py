#!/usr/bin/env python3
"""Turn recordings into text.

mindaudio-ds2 transcribe talk.mp3
python transcribe.py --pre_trained_model_path runs/an4/best.ckpt talk.flac interviews/
python transcribe.py --pre_trained_model_path runs/an4/best.ckpt --format json --output words.json talk.mp3
python transcribe.py --pre_trained_model_path runs/an4/best.ckpt --format srt --output_dir subtitles interviews/
ffmpeg -i X -f s16le -ar 16000 -ac 1 - | python transcribe.py --pre_trained_model_path F.ckpt --stream --rate_hz 16000 -
python transcribe.py --pre_trained_model_path runs/an4/best.ckpt --decoder beam --lm en.lm --hotwords names.txt talk.wav
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from mindaudio_ds2 import console, models
from mindaudio_ds2.audio.channels import parse_channels
from mindaudio_ds2.audio.pcm import PcmReader
from mindaudio_ds2.audio.sound_files import STREAM
from mindaudio_ds2.commands._command import Command, Parser, add_weights_option
from mindaudio_ds2.commands._live import (
    ONE_TRANSCRIPT,
    LiveTranscript,
    add_endpointing_options,
    check_output,
    follow,
    parse_rate,
    read_endpointing,
)
from mindaudio_ds2.decoding.choice import DecoderChoice, add_decoding_options, read_choice, refuse_nbest
from mindaudio_ds2.errors import AudioError, ConfigError, Interrupted, OutputError
from mindaudio_ds2.files import require_writable, write_text
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.segmentation.sources import VADS, Hearing
from mindaudio_ds2.streaming.events import Endpointing
from mindaudio_ds2.training.interruption import Interruption
from mindaudio_ds2.transcribe import Recognizer, find_recordings
from mindaudio_ds2.transcript_files import TranscriptFolder
from mindaudio_ds2.transcript_formats import FORMATS, SUBTITLES
from mindaudio_ds2.transcription import TranscriptionRun


def add_options(parser: Parser) -> None:
    """The verb's own options."""
    parser.add_argument(
        "--pre_trained_model_path", metavar="MODEL", help="checkpoint, .onnx or a model's name (default: english)"
    )
    parser.add_argument("--device_target", default="CPU", choices=["CPU", "GPU", "Ascend"], help="default: CPU")
    add_weights_option(parser)
    parser.add_argument("--format", default="text", choices=list(FORMATS), help="default: text")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", metavar="FILE", help="write there instead of printing (path)")
    where.add_argument(
        "--output_dir",
        metavar="DIR",
        type=Path,
        help="write a file for each recording there (path)",
    )
    parser.add_argument("--resume", action="store_true", help="keep what is in --output_dir, make the others")
    parser.add_argument(
        "--vad",
        default="energy",
        choices=VADS,
        help="energy (default) cuts long ones, silero finds speech",
    )
    parser.add_argument(
        "--channels",
        default="mix",
        metavar="mix|split|N",
        help="their mean, each as a speaker of its own, or one of them (default: mix)",
    )
    live = parser.add_argument_group("live")
    live.add_argument("--stream", action="store_true", help="words as they come through - (a WAV or raw samples)")
    live.add_argument("--rate_hz", type=parse_rate, help="of raw samples, 16 bits, one channel, no header (Hz)")
    add_endpointing_options(live)
    add_decoding_options(parser)
    parser.add_argument(
        "audio", nargs="+", metavar="AUDIO", help="files, folders of them, - for standard input (paths)"
    )


def run(options: argparse.Namespace) -> None:
    """Transcribe, print or write."""
    runtime.require_one_process("transcribe.py")
    if options.stream:
        refuse_nbest(options, ONE_TRANSCRIPT)
    elif options.format != "json":
        refuse_nbest(options, f"{options.format} holds one text; add --format json, or leave --nbest away")
    choice = read_choice(options, options.pre_trained_model_path)
    hearing = Hearing(options.vad, parse_channels(options.channels))
    if options.stream:
        transcribe_stream(options, choice, hearing)
        return
    if options.rate_hz is not None or read_endpointing(options) != Endpointing():
        raise ConfigError("--rate_hz, --silence and --longest are for live sound; give --stream, or leave them away")
    for word in options.audio:
        if models.is_network(word):
            raise ConfigError(f"{word} is a network and no sound; name it with --pre_trained_model_path {word}")
    paths = find_recordings(options.audio)
    if options.format in SUBTITLES and len(paths) > 1 and not options.output_dir:
        raise ConfigError(f"{options.format} is a file for each of {len(paths)} recordings; name --output_dir DIR")
    inputs = [options.pre_trained_model_path, options.lm, options.hotwords]
    if options.output:
        require_writable(Path(options.output), [*paths, *inputs])
    if folder := _open_folder(options, paths, inputs):
        paths = folder.recordings
    if not paths:
        return
    with _saying_what_is_written(folder):
        done = _load(options, choice, hearing).run(paths, folder.write if folder else None)
    if not folder:
        _hand_over(done, options)
    for note in done.notes:
        console.write_line(note)
    if done.problems:
        listed = "\n  ".join(done.problems)
        raise AudioError(f"{len(done.problems)} of {len(paths)} recordings were not read:\n  {listed}")
    console.write_line(f"{done.audio_seconds:.1f} s of audio in {done.wall_seconds:.1f} s")


def transcribe_stream(options: argparse.Namespace, choice: DecoderChoice | None, hearing: Hearing) -> None:
    """Write what is said on standard input as it comes; with --output, the transcript at the end.

    Where neither a reader nor a file is left for the words, it ends: quietly where the reader has left by itself.

    Raises:
        ConfigError, AudioError: the options do not fit, or the sound cannot be heard.
        OutputError: the words cannot be written.
        Interrupted: a signal ended it; what was said by then is written.
    """
    _check_live(options, hearing)
    endpointing = read_endpointing(options)
    recognizer = _load(options, choice)
    shown = LiveTranscript(options.format == "json")
    with Interruption() as interruption:
        reader = _open_pipe(options.rate_hz, interruption, shown, options.output)
        stream = recognizer.stream(reader.format.rate_hz, endpointing)
        follow(stream, reader, shown)
        reader.look_behind()
    if options.output:
        shown.save(Path(options.output), options.format, stream)
    elif shown.is_lost and console.has_reader_left():
        return
    elif shown.is_lost:
        _refuse_unprinted()
    heard = f"{stream.num_samples / stream.rate_hz:.1f} s of audio"
    for text in reader.notes.values():
        console.write_line(f"standard input: {text}")
    if interruption.signal_number:
        place = f"in {options.output}" if options.output else "above"
        interruption.end(f"{heard} had come; what was said in it is {place}")
    console.write_line(heard)


def _open_folder(
    options: argparse.Namespace, paths: Sequence[Path], inputs: Iterable[str | None]
) -> TranscriptFolder | None:
    if not options.output_dir:
        if options.resume:
            raise ConfigError("--resume goes on with the transcripts in a folder; name it with --output_dir")
        return None
    folder = TranscriptFolder(options.output_dir, options.format, paths, inputs, options.resume)
    if folder.num_kept:
        console.write_line(f"{folder.num_kept} of {len(paths)} transcripts are in {folder.folder} already, and stay")
    return folder


@contextlib.contextmanager
def _saying_what_is_written(folder: TranscriptFolder | None) -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, which once MindSpore has run arrives as such (`training/interruption.py`).

    Raises:
        Interrupted: one of them came; says what is written.
    """
    came = signal.SIGINT

    def end(number: int, frame: object) -> NoReturn:
        nonlocal came
        came = signal.Signals(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        text = "nothing is written; with --output_dir each transcript is, as soon as its recording is finished"
        if folder:
            text = (
                f"{folder.num_written} of {len(folder.paths)} transcripts are in {folder.folder}, each whole; "
                "--resume makes the others"
            )
        raise Interrupted(text, came) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _load(options: argparse.Namespace, choice: DecoderChoice | None, hearing: Hearing | None = None) -> Recognizer:
    path, device_target = options.pre_trained_model_path, options.device_target
    return Recognizer.load(path, device_target, choice, hearing, options.weights)


def _check_live(options: argparse.Namespace, hearing: Hearing) -> None:
    if options.audio != [STREAM] or options.output_dir or options.resume:
        raise ConfigError("--stream hears standard input: give - as the only AUDIO, and --output FILE where wanted")
    if hearing != Hearing():
        raise ConfigError(
            "--vad and --channels are for files: a stream ends its utterances by --silence and --longest, and hears "
            "the mean of its channels, or one where they cancel each other; leave them away, or leave --stream away"
        )
    check_output(options, options.output)
    if options.output:
        require_writable(Path(options.output), [options.pre_trained_model_path, options.lm, options.hotwords])


def _open_pipe(rate_hz: int | None, interruption: Interruption, shown: LiveTranscript, output: str | None) -> PcmReader:
    """Standard input, until a signal comes or nobody takes the words any more."""
    try:
        return PcmReader(
            sys.stdin.fileno(), rate_hz, lambda: interruption.signal_number > 0 or (shown.is_lost and not output)
        )
    except AudioError:
        if interruption.signal_number:  # it waited for the header
            interruption.end("no sound had come")
        raise


def _refuse_unprinted() -> NoReturn:
    raise OutputError(f"the text was not printed: {'; '.join(console.trouble())}; use --output FILE")


def _hand_over(run: TranscriptionRun, options: argparse.Namespace) -> None:
    """Print the transcriptions, or write them into the file that was named."""
    text = FORMATS[options.format](run.transcriptions)
    if options.output:
        write_text(Path(options.output), text + "\n")
    elif text and not console.write_line(text, to_stdout=True):
        _refuse_unprinted()


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
