"""A request's form, with its file in a temporary file that has no name; bounded in size, time and number of fields."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from tempfile import SpooledTemporaryFile
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from mindaudio_ds2.serving.limits import Limits, Refusal

MOST_FIELDS = 32
LONGEST_FIELD_BYTES = 64 * 1024
FORM_BYTES = 256 * 1024
"""What a body may hold beside its file."""

DRAINED_BYTES, DRAIN_SECONDS = 64 * 2**20, 10.0
"""How much of a body that is too large is read on, so that its sender comes to read the answer."""


class _BoundedBody:
    """Receives a body within its limits.

    Args:
        receive: gives its messages.
        limits: of size and time.
        end: what a whole form ends with.

    Attributes:
        has_form_end: whether that has come.
    """

    def __init__(self, receive: Callable[[], Awaitable[Message]], limits: Limits, end: bytes) -> None:
        self._receive, self._limits = receive, limits
        self._form_end, self._tail = end, b""
        self.has_form_end = False
        self._end = time.monotonic() + limits.upload_seconds
        self._num_bytes = 0

    async def __call__(self) -> Message:
        seconds = min(self._limits.idle_seconds, self._end - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, seconds))
        except (TimeoutError, asyncio.TimeoutError):
            raise Refusal(
                408,
                "upload_too_slow",
                f"the upload paused for {self._limits.idle_seconds:g} s or took more than "
                f"{self._limits.upload_seconds:g} s; send it again over a better line, or a compressed file",
            ) from None
        body = message.get("body", b"")
        self.has_form_end |= self._form_end in self._tail + body
        self._tail = (self._tail + body)[-len(self._form_end) :]
        self._num_bytes += len(body)
        if self._num_bytes > self._limits.max_upload_bytes + FORM_BYTES:
            raise complain_of_size(self._limits)
        return message


def complain_of_size(limits: Limits) -> Refusal:
    """The answer to a body that is too large."""
    size = limits.max_upload_bytes / 2**20
    message = f"the file is larger than {size:g} MiB; send it compressed (FLAC, Opus), or in parts"
    return Refusal(413, "file_too_large", message, "file")


async def receive_form(request: Request, limits: Limits) -> FormData:
    """The fields of a form. The caller closes it.

    Raises:
        Refusal: it is no form, too large, too slow, or cut off.
        starlette.requests.ClientDisconnect: the client went away.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refusal(415, "no_form", f"send the file as multipart/form-data, found {kind[:100]!r}", "file")
    expects = "expect" in request.headers
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limits.max_upload_bytes + FORM_BYTES:
        if not expects:
            await _drain(request)
        raise complain_of_size(limits)
    try:
        boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
        body = _BoundedBody(request.receive, limits, b"--" + boundary + b"--")
        form = await Request(request.scope, body).form(
            max_files=1, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD_BYTES
        )
        if body.has_form_end:
            return form
        await form.close()
        message = "the upload was cut off: its form has no end; send all of it again"
        raise Refusal(400, "upload_cut_off", message, "file")
    except HTTPException as error:
        raise Refusal(400, "invalid_form", f"the form cannot be read: {error.detail}") from None
    except Refusal as refusal:
        if refusal.status == 413:
            await _drain(request)
        raise
    except OSError as error:
        message = f"the upload cannot be kept: {error.strerror or error}; tell who runs this server"
        raise Refusal(507, "no_space", message) from error
    except (ValueError, LookupError) as error:  # what parsers of headers answer to garbage
        raise Refusal(400, "invalid_form", f"the form cannot be read: {error}") from None


async def _drain(request: Request) -> None:
    """Read on for a while: a client that is still writing does not see an answer."""
    left = DRAINED_BYTES
    with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
        end = time.monotonic() + DRAIN_SECONDS
        while left > 0 and (seconds := end - time.monotonic()) > 0:
            message = await asyncio.wait_for(request.receive(), seconds)
            left -= len(message.get("body", b""))
            if not message.get("more_body"):
                return


def take_file(form: FormData) -> tuple[SpooledTemporaryFile[bytes], str]:
    """The uploaded file, on the disk, and its name.

    Raises:
        Refusal: there is none, or it is empty.
    """
    upload: Any = form.get("file")
    if not isinstance(upload, UploadFile):
        raise Refusal(400, "missing_file", "the form has no file; send one as the field `file`", "file")
    if not upload.size:
        raise Refusal(400, "empty_file", "the file is empty; send one that holds sound", "file")
    name = (upload.filename or "file").replace("\\", "/").rpartition("/")[2]
    spooled: Any = upload.file
    return spooled, name or "file"
