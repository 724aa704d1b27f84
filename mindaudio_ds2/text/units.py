"""Units of one or more characters (sentencepiece's unigram model): trained, kept in a file, and found in text.

sentencepiece trains. How a word is split, the most likely way, needs the units and their log-probabilities only, so
that checkpoints carry these and nothing needs the library afterwards.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.files import write_text
from mindaudio_ds2.network_config import WORD_START, TextConfig
from mindaudio_ds2.reading import ReadError, parse_json

KEYS = ("units", "scores", "source")
LARGEST_SIZE = 65536
"""Units, without the blank: more than any CTC network has."""

MOST_REMEMBERED = 200_000
"""Words whose units are kept in memory: more than LibriSpeech has."""


class Segmenter:
    """Splits text into the units that are most likely together.

    Args:
        units: all of them; single characters among them.
        scores: their log-probabilities (nats).
    """

    def __init__(self, units: Sequence[str], scores: Sequence[float]) -> None:
        self._scores = dict(zip(units, scores, strict=True))
        self._longest = max(map(len, units))
        self._splits: dict[str, tuple[str, ...]] = {}  # of words that came before

    def split(self, text: str) -> list[str]:
        """The units of a text of known characters, whose words are parted by single spaces."""
        return [unit for word in text.split() for unit in self._split_word(WORD_START + word)]

    def _split_word(self, word: str) -> tuple[str, ...]:
        if word not in self._splits:
            if len(self._splits) >= MOST_REMEMBERED:
                self._splits.clear()
            self._splits[word] = self._find_best(word)
        return self._splits[word]

    def _find_best(self, word: str) -> tuple[str, ...]:
        """By dynamic programming over the places in a word; of equally likely ways, that with the longest last unit."""
        best: list[tuple[float, int]] = [(0.0, 0)]  # up to each place: log-probability, and where the last unit begins
        for end in range(1, len(word) + 1):
            score, first = -float("inf"), end - 1
            for start in range(max(0, end - self._longest), end):
                unit_score = self._scores.get(word[start:end])
                if unit_score is not None and best[start][0] + unit_score > score:
                    score, first = best[start][0] + unit_score, start
            best.append((score, first))
        units, end = [], len(word)
        while end:
            units.append(word[best[end][1] : end])
            end = best[end][1]
        return tuple(reversed(units))


def train_units(texts: Iterable[str], characters: str, size: int) -> bytes:
    """Train a unigram model.

    Args:
        texts: normalised, of these characters only.
        characters: each becomes a unit, whether it comes in the texts or not; a space is ▁.
        size: how many units, without the blank.

    Returns:
        sentencepiece's model; `list_units` takes it apart.

    Raises:
        ConfigError: sentencepiece is not installed, or the size is impossible with these texts.
    """
    try:
        import sentencepiece
    except ImportError:
        raise ConfigError("units are trained by sentencepiece; pip install 'mindaudio_ds2[tokenizer]'") from None
    counts = Counter(word for text in texts for word in text.split())
    if not counts:
        raise ConfigError("the texts hold no words; name others")
    single = characters.replace(" ", "")
    if size < len(single) + 1:
        raise ConfigError(f"--size {size} is too small: {len(single)} characters and ▁ are units already")
    if size > LARGEST_SIZE:
        raise ConfigError(f"--size {size} is too large: CTC with more than {LARGEST_SIZE:,} units is of no use")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{word}\t{count}" for word, count in sorted(counts.items())),
            input_format="tsv",
            model_writer=model,
            model_type="unigram",
            vocab_size=size + 1,  # <unk>, which has no label
            required_chars=single,
            character_coverage=1.0,
            normalization_rule_name="identity",  # `Tokenizer.normalize` does it
            max_sentence_length=2**20,  # bytes; sentencepiece passes longer ones over
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            num_threads=1,  # the same units every time
            minloglevel=2,
        )
    except RuntimeError as error:
        most = re.search(r"value <= (\d+)", str(error))
        remedy = f"these texts give at most {int(most[1]) - 1}; choose less, or take more text" if most else str(error)
        raise ConfigError(f"--size {size} is impossible: {remedy}") from None
    return model.getvalue()


def list_units(model: bytes) -> tuple[list[str], list[float]]:
    """Units and their log-probabilities (nats) of what `train_units` has made."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = [i for i in range(processor.get_piece_size()) if not processor.is_unknown(i)]
    return [processor.id_to_piece(i) for i in ids], [float(f"{processor.get_score(i):.9g}") for i in ids]


def write_units(path: Path, model: bytes, source: Sequence[str]) -> None:
    """Write a tokenizer's file, JSON.

    Args:
        path: where to.
        model: of `train_units`.
        source: what it was trained on, for people.

    Raises:
        OutputError: it cannot be written.
    """
    units, scores = list_units(model)
    row = dict(zip(KEYS, (units, scores, list(source)), strict=True))
    write_text(path, json.dumps(row, ensure_ascii=False, indent=0) + "\n")


def read_units(text: TextConfig) -> TextConfig:
    """A configuration with the units of the file that it names; as it is where it names none, or has them already.

    Raises:
        ConfigError: the file cannot be read, is none of ours, or its units do not fit `text.characters`.
    """
    if not text.tokenizer or text.units:
        return text
    if not Path(text.tokenizer).is_file():
        raise ConfigError(f"text.tokenizer {text.tokenizer} is no file; name one that mindaudio-ds2 tokenizer made")
    try:
        row: Any = parse_json(Path(text.tokenizer).read_text(encoding="utf-8"))
        held = row if isinstance(row, dict) else {}
        units, scores = held.get("units"), held.get("scores")
        if not (isinstance(units, list) and isinstance(scores, list) and units):
            raise ValueError("it has no lists of units and scores")
    except (OSError, ReadError, ValueError) as error:
        raise ConfigError(
            f"text.tokenizer {text.tokenizer} is no tokenizer's file ({error}); make one with mindaudio-ds2 tokenizer"
        ) from None
    try:
        return TextConfig(**{**vars(text), "units": units, "unit_scores": scores})
    except ConfigError as error:
        raise ConfigError(
            f"text.tokenizer {text.tokenizer} does not fit: {error}; make one for this YAML, with "
            "mindaudio-ds2 tokenizer -c"
        ) from None
