"""Requests and messages that something is wrong with: for a server that must answer, and must not fail."""

import json
import random
from typing import Any

PATH = "/v1/audio/transcriptions"


def mutate(content: bytes, chooser: random.Random) -> bytes:
    """Change, cut, double or insert bytes at one to eight places."""
    mutated = bytearray(content)
    for _ in range(chooser.randint(1, 8)):
        place = chooser.randrange(len(mutated) + 1)
        kind = chooser.randrange(4)
        if kind == 0 and place < len(mutated):
            mutated[place] = chooser.randrange(256)
        elif kind == 1:
            del mutated[place : place + chooser.randint(1, 200)]
        elif kind == 2:
            mutated[place:place] = chooser.randbytes(chooser.randint(1, 20))
        else:
            mutated[place:place] = mutated[: chooser.randint(1, 100)]
    return bytes(mutated)


def make_form(sound: bytes) -> bytes:
    """A form with a file, its parts between `--x`."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return head + sound + b"\r\n--x--\r\n"


def make_request(sound: bytes, chooser: random.Random) -> bytes:
    """A whole HTTP request, of which the form is broken, and sometimes the head as well."""
    body = mutate(make_form(sound), chooser)
    lines = (
        f"POST {PATH} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        "Content-Type: multipart/form-data; boundary=x",
        f"Content-Length: {len(body)}",
    )
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    return (mutate(head, chooser) if chooser.random() < 0.5 else head) + body


def make_message(samples: bytes, chooser: random.Random) -> str | bytes:
    """A message of a live stream that makes no sense, or little."""
    rates = [0, -1, 8000, 1e9, 10**30, 44100, "16000"]
    choices: list[Any] = [
        lambda: chooser.randbytes(chooser.randrange(2000)),
        lambda: samples[: chooser.randrange(len(samples))],
        lambda: '{"type": "finish"}',
        lambda: json.dumps({"type": chooser.choice(["start", "finish", "", None, 3]), "x": [1]}),
        lambda: "".join(chr(chooser.randrange(1, 0xD000)) for _ in range(chooser.randrange(100))),
        lambda: json.dumps({"type": "start", "sample_rate_hz": chooser.choice(rates)}),
    ]
    message: str | bytes = chooser.choice(choices)()
    return message
