"""`POST /v1/subtitles`: words with times to SRT or WebVTT, by the rules of `transcript_formats`, for the page."""

import math
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.reading import parse_json
from mindaudio_ds2.serving.limits import Refusal
from mindaudio_ds2.transcript_formats import as_srt, as_vtt
from mindaudio_ds2.transcription import Transcription

FORMATS = {"srt": (as_srt, "application/x-subrip"), "vtt": (as_vtt, "text/vtt")}
MOST_BYTES = 16 * 2**20
LONGEST_WORD, LATEST_SECONDS = 1000, 1e6


async def make_subtitles(request: Request) -> Response:
    """Answer one request: `{"format": "srt", "words": [{"text", "start_seconds", "end_seconds"}]}`."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_BYTES:
            raise Refusal(413, "too_many_words", f"at most {MOST_BYTES // 2**20} MiB of words are taken")
    try:
        row = parse_json(content.decode())
        write, kind = FORMATS[row["format"]]
        words = tuple(map(_read_word, row["words"]))
    except (ValueError, KeyError, TypeError) as error:
        message = (
            'expected {"format": "srt" or "vtt", "words": [{"text", "start_seconds", "end_seconds"}]} with times that '
            f"do not run back ({type(error).__name__}: {str(error)[:100]})"
        )
        raise Refusal(400, "invalid_words", message) from None
    for word, following in zip(words, words[1:], strict=False):
        if following.start_seconds < word.start_seconds:
            raise Refusal(400, "invalid_words", f"{following.text[:100]!r} begins before the word in front of it")
    text = " ".join(word.text for word in words)
    seconds = words[-1].end_seconds if words else 0.0
    found = Transcription(Path(), seconds, Hypothesis(text, 0.0, words), "")
    return PlainTextResponse(write([found]), media_type=kind)


def _read_word(row: Any) -> Word:
    text, start, end = row["text"], float(row["start_seconds"]), float(row["end_seconds"])
    if not (isinstance(text, str) and text.split() == [text] and len(text) <= LONGEST_WORD):
        raise ValueError(f"{str(text)[:50]!r} is no word")
    if not (0 <= start <= end <= LATEST_SECONDS and math.isfinite(end)):
        raise ValueError(f"{text!r} lasts from {start} to {end}")
    return Word(text, start, end, 1.0)
