"""`POST /v1/subtitles`: words with times to SRT or WebVTT, by the rules of `transcript_formats`, for the page."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.reading import parse_json
from mindaudio_ds2.serving.limits import Refusal, require_no_query
from mindaudio_ds2.transcript_formats import as_srt, as_vtt
from mindaudio_ds2.transcription import Transcription

FORMATS = {"srt": (as_srt, "application/x-subrip"), "vtt": (as_vtt, "text/vtt")}
MOST_BYTES = 16 * 2**20
LONGEST_WORD, LATEST_SECONDS = 1000, 1e6


async def make_subtitles(request: Request) -> Response:
    """Answer one request: `{"format": "srt", "words": [{"text", "start_seconds", "end_seconds"}]}`."""
    require_no_query(request, "the body")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_BYTES:
            raise Refusal(413, "too_many_words", f"at most {MOST_BYTES // 2**20} MiB of words are taken")
    try:
        row = parse_json(content.decode())
    except ValueError:
        raise _refuse("the body is no JSON") from None
    if not isinstance(row, dict) or row.get("format") not in tuple(FORMATS):
        raise _refuse("`format` must be srt or vtt")
    if not isinstance(row.get("words"), list):
        raise _refuse("`words` must be a list")
    write, kind = FORMATS[row["format"]]
    words = tuple(_read_word(number, word) for number, word in enumerate(row["words"], 1))
    for word, following in zip(words, words[1:], strict=False):
        if following.start_seconds < word.start_seconds:
            raise Refusal(400, "invalid_words", f"{following.text[:100]!r} begins before the word in front of it")
    text = " ".join(word.text for word in words)
    seconds = words[-1].end_seconds if words else 0.0
    found = Transcription(Path(), seconds, Hypothesis(text, 0.0, words), "")
    return PlainTextResponse(write([found]), media_type=kind)


def _refuse(problem: str) -> Refusal:
    expected = '{"format": "srt", "words": [{"text": "so", "start_seconds": 0.5, "end_seconds": 0.7}]}'
    return Refusal(400, "invalid_words", f"{problem}; send such as {expected}")


def _read_word(number: int, row: Any) -> Word:
    """A word, counted from 1 for what is wrong with it.

    Raises:
        Refusal: it is none, or its times cannot be.
    """
    if not isinstance(row, dict):
        raise _refuse(f"word {number} must be an object with text, start_seconds and end_seconds")
    text = row.get("text")
    if not (isinstance(text, str) and text.split() == [text] and len(text) <= LONGEST_WORD):
        raise _refuse(f"`text` of word {number} must be a word without spaces of at most {LONGEST_WORD} characters")
    start, end = _read_time(number, row, "start_seconds"), _read_time(number, row, "end_seconds")
    if end < start:
        raise _refuse(f"word {number} ends before it begins")
    return Word(text, start, end, 1.0)


def _read_time(number: int, row: dict[str, Any], name: str) -> float:
    seconds = row.get(name)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LATEST_SECONDS:
        raise _refuse(f"`{name}` of word {number} must be a number from 0 to {LATEST_SECONDS:.0f}")
    return float(seconds)
