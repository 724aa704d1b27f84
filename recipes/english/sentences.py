"""What is said: passages drawn from novels, and how their letters and words are distributed.

The text has one sentence a line, in capitals A to Z and apostrophes, plain or gzipped. Whatever overlaps a recording to
be scored must not be in it; `separation.py` proves that of the manifests.
"""

import gzip
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mindaudio_ds2.errors import ManifestError

LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")
FEWEST_WORDS, MOST_WORDS = 4, 45
"""As in LibriSpeech, where 35 words are usual; 45 take 12 to 18 s."""

PAUSES_BEFORE = frozenset({"AND", "BUT", "OR", "FOR", "WHICH", "WHO", "WHEN", "WHERE", "WHILE", "IF", "AS", "THOUGH"})
PAUSE_PROBABILITY = 0.25


def read_sentences(paths: Sequence[Path]) -> list[str]:
    """All lines of the files that hold letters only, in order.

    Raises:
        ManifestError: a file is missing or unreadable, or more than one line in a hundred has other characters.
    """
    lines: list[str] = []
    for path in paths:
        try:
            with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as f:
                lines += [" ".join(line.split()) for line in f]
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ManifestError(f"text {path} cannot be read: {error}; name a text, one sentence a line") from error
    sentences = [line for line in lines if line and LETTERS.issuperset(line)]
    num_strange = sum(bool(line) for line in lines) - len(sentences)
    if not sentences or num_strange > 0.01 * len(sentences):
        raise ManifestError(
            f"{num_strange} of {len(lines)} lines hold other characters than A to Z, apostrophe and space; "
            "write the text in capitals and numbers in words"
        )
    return sentences


def draw_passage(sentences: Sequence[str], rng: random.Random) -> list[str]:
    """Sentences that follow each other, of a drawn number of words in all: the last is cut where it goes beyond."""
    num_wanted = rng.randint(FEWEST_WORDS, MOST_WORDS)
    place = rng.randrange(len(sentences))
    passage: list[str] = []
    while num_wanted > 0 and place < len(sentences):
        words = sentences[place].split()[:num_wanted]
        passage.append(" ".join(words))
        num_wanted -= len(words)
        place += 1
    return passage


def punctuate(passage: Sequence[str], rng: random.Random) -> str:
    """Write a passage as a voice wants it: small letters, a full stop after each sentence, a comma here and there."""
    written = []
    for sentence in passage:
        words = [word if word == "I" or word.startswith("I'") else word.lower() for word in sentence.split()]
        for place in range(2, len(words) - 1):
            if words[place].upper() in PAUSES_BEFORE and rng.random() < PAUSE_PROBABILITY:
                words[place - 1] += ","
        written.append(" ".join(words).capitalize() if words[0] != "I" else " ".join(words))
    return ". ".join(written).replace(" i ", " I ").replace(" i'", " I'") + "."


def describe(transcripts: Iterable[str]) -> dict[str, object]:
    """Counts of words and the share of each letter, for comparison with other speech."""
    words: Counter[str] = Counter()
    for transcript in transcripts:
        words.update(transcript.split())
    letters: Counter[str] = Counter()
    for word, num in words.items():
        for letter in word:
            letters[letter] += num
    num_letters = max(letters.total(), 1)
    return {
        "num_words": words.total(),
        "num_different_words": len(words),
        "words_heard_once": sum(num == 1 for num in words.values()),
        "letters_a_word": round(letters.total() / max(words.total(), 1), 3),
        "most_frequent_words": {word: round(num / words.total(), 4) for word, num in words.most_common(10)},
        "letter_shares": {letter: round(letters[letter] / num_letters, 5) for letter in sorted(LETTERS - {" "})},
    }
