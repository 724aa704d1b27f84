"""Serve a trained network: OpenAI's transcription interface, live streams, and a page for the browser.

mindaudio-ds2 serve runs/an4/best.ckpt
mindaudio-ds2 serve model.onnx --port 9000 --decoder beam --lm en.lm
mindaudio-ds2 serve model.onnx --host 0.0.0.0 --token @token.txt --allowed_host speech.example.org
"""

import argparse
import math
from pathlib import Path
from typing import Any

from mindaudio_ds2 import console, models
from mindaudio_ds2.commands._command import Command, Parser, add_weights_option
from mindaudio_ds2.decoding.choice import add_decoding_options, find_choice, read_choice, refuse_nbest
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.machine import runtime

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_options(parser: Parser) -> None:
    """The command's own options."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="checkpoint, .onnx or a model's name (default: english)"
    )
    parser.add_argument("--name", help="of the model for clients (default: the file's, or its run folder's)")
    parser.add_argument("--device_target", default="CPU", choices=["CPU", "GPU", "Ascend"], help="default: CPU")
    add_weights_option(parser)
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one (default: 8000)")
    parser.add_argument("--token", help="that requests must show; @FILE reads it from a file (default: none)")
    parser.add_argument(
        "--allowed_host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name by which clients may call the server",
    )
    parser.add_argument("--workers", type=int, help="batches of an .onnx computed at a time (count; default: cores)")
    parser.add_argument("--max_upload_mb", type=float, default=100, help="size of a file (MiB; default: 100)")
    parser.add_argument(
        "--max_minutes", type=float, default=60, help="duration of a file or a stream (min; default: 60)"
    )
    parser.add_argument("--max_files", type=int, default=16, help="files taken at a time (count; default: 16)")
    parser.add_argument("--max_streams", type=int, default=8, help="live streams at a time (count; default: 8)")
    parser.add_argument(
        "--requests_per_minute", type=int, default=240, help="of one address; 0 for no limit (count; default: 240)"
    )
    parser.add_argument(
        "--grace_seconds", type=float, default=30, help="for work to end after a signal (s; default: 30)"
    )
    add_decoding_options(parser, has_nbest=False)


def run(options: argparse.Namespace) -> None:
    """Load, serve."""
    runtime.require_one_process("mindaudio-ds2 serve")
    refuse_nbest(options, "answers hold one text; leave --nbest away")
    model = models.find_file(options.model, "recognition" if options.weights == "fp32" else "weights")
    choice = read_choice(options, model)
    token = _read_token(options.token)
    if options.host not in LOOPBACK and token is None:
        console.write_line(f"warning: {options.host} can be reached by others, and without --token anybody may ask")
    try:
        from mindaudio_ds2.serving.guard import Access
        from mindaudio_ds2.serving.limits import Limits
        from mindaudio_ds2.serving.server import ServerOptions, serve
    except ModuleNotFoundError as error:
        raise ConfigError(f"serving needs {error.name}; `pip install 'mindaudio_ds2[serve]'` brings it") from error
    limits = Limits(
        max_upload_bytes=_count_bytes(options.max_upload_mb),
        max_file_seconds=60 * options.max_minutes,
        max_stream_seconds=60 * options.max_minutes,
        max_files=options.max_files,
        max_streams=options.max_streams,
        requests_per_minute=options.requests_per_minute,
    )
    names = ("name", "device_target", "weights", "host", "port", "grace_seconds")
    chosen: dict[str, Any] = {name: getattr(options, name) for name in names}
    access = Access(token, frozenset(name.lower() for name in options.allowed_host))
    serve(ServerOptions(model, **chosen, num_workers=options.workers), choice or find_choice(model), limits, access)


def _count_bytes(size_mb: float) -> int:
    if not math.isfinite(size_mb):
        raise ConfigError(f"--max_upload_mb must be a number, found {size_mb:g}")
    return round(size_mb * 2**20)


def _read_token(text: str | None) -> str | None:
    if text is None:
        return None
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--token {text}: the file cannot be read: {error}") from None
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigError("--token must be printable ASCII without spaces, and not empty")
    return text


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
