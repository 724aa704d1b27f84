"""Plain texts of Project Gutenberg as sentences a line, written as LibriSpeech's transcripts are."""

import re
import unicodedata
from pathlib import Path

TITLES = {"Mr": "Mister", "Mrs": "Missus", "Dr": "Doctor", "St": "Saint", "Capt": "Captain", "Col": "Colonel"}
TITLES |= {"Gen": "General", "Lieut": "Lieutenant", "Rev": "Reverend", "Prof": "Professor", "Messrs": "Messrs"}

HEADER = re.compile(r"\*\*\* ?START OF TH[^\n]*\n|\*END\*? ?THE SMALL PRINT[^\n]*\n")
LICENCE = re.compile(r"\*\*\* ?END OF TH|End of (the|this) Project Gutenberg", re.IGNORECASE)
ASCII = str.maketrans(
    {"’": "'", "‘": "'", "`": "'", "—": " - ", "–": " - ", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe"}
)
ASCII |= str.maketrans({"“": '"', "”": '"', "_": "", "\r": "", "ø": "o", "ß": "ss"})
NOTE = re.compile(r"\[(?:Illustration|Footnote|Sidenote|Transcriber|\d)[^\]]{0,400}\]", re.IGNORECASE)
TITLE = re.compile(rf"\b({'|'.join(sorted(TITLES, reverse=True))})\b\.?(?= *\n? *[A-Z])")
INITIAL = re.compile(r"\b([A-HJ-Z])\.")
SENTENCE_END = re.compile(r"\n\s*\n|(?<=[.!?])[\"')\]]*(?:\s+|--)(?=[\"'(]*[A-Z\d])")
STRANGE = re.compile(r"[\d<>|=+@/\\]|\b[IVXLC]{2,}\b|(?i:gutenberg|etext|transcriber)")
"""Numbers in figures or Roman ones (in small letters they are words), tables, and words about the file."""

SEPARATORS = re.compile(r"[^A-Z'\n]+")
APOSTROPHES = re.compile(r"(?<![A-Z])'+|'+(?![A-Z])")


def read_book(path: Path) -> str:
    """A book's text; what is not UTF-8 is taken for Windows-1252."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def list_sentences(text: str) -> tuple[list[str], int]:
    """Sentences of a book in capitals, and how many were left out for numbers or tables in them."""
    header = HEADER.search(text, 0, len(text) // 3)
    licence = LICENCE.search(text, len(text) // 2)
    text = text[header.end() if header else 0 : licence.start() if licence else len(text)]
    text = unicodedata.normalize("NFKD", text.translate(ASCII)).encode("ascii", "ignore").decode()
    text = TITLE.sub(lambda found: TITLES[found[1]], NOTE.sub(" ", text))
    parts = SENTENCE_END.split(INITIAL.sub(r"\1 ", text))
    plain = [part.replace("\n", " ") for part in parts if not STRANGE.search(part)]
    written = APOSTROPHES.sub(" ", SEPARATORS.sub(" ", "\n".join(plain).upper()))
    sentences = [" ".join(line.split()) for line in written.split("\n")]
    return [sentence for sentence in sentences if sentence], len(parts) - len(plain)
