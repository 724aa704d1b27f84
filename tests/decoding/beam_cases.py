"""Small inputs for the beam search, an independent answer by enumeration, and ARPA files to go with them."""

import gzip
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.arpa import read_arpa
from mindaudio_ds2.decoding.beam import BeamSettings
from mindaudio_ds2.decoding.language_model import LanguageModel, NgramTables, write_language_model
from mindaudio_ds2.network_config import TextConfig
from mindaudio_ds2.text.tokenizer import Tokenizer

EVERYTHING = {"beam_width": 10_000, "num_best": 1000, "token_threshold": -math.inf, "beam_threshold": math.inf}

ARPA = r"""
\data\
ngram 1=6
ngram 2=5
ngram 3=2

\1-grams:
-2.0	<unk>	0
-99	<s>	-0.4
-1.0	</s>
-0.8	A	-0.3
-0.9	AB	-0.2
-1.1	B	-0.1

\2-grams:
-0.3	<s> A	-0.15
-0.7	A B	-0.05
-0.6	A AB
-0.5	AB </s>
-0.4	B A	-0.2

\3-grams:
-0.1	<s> A B
-0.2	A B A

\end\
"""


def make_tokenizer(characters: str, blank: str = "first", units: Sequence[str] = ()) -> Tokenizer:
    """With units of equal scores, where there are any."""
    text = TextConfig(characters, blank, "upper", "error", None, list(units), [-1.0] * len(units))  # type: ignore[arg-type]
    return Tokenizer(text)


def make_model(folder: Path, arpa: str = ARPA, *, scores_labels: bool = False) -> LanguageModel:
    (folder / "tiny.arpa").write_text(arpa, encoding="utf-8")
    return store(folder / "tiny.lm", read_arpa(folder / "tiny.arpa"), scores_labels=scores_labels)


def store(path: Path, tables: NgramTables, *, scores_labels: bool = False) -> LanguageModel:
    write_language_model(path, tables, {}, scores_labels=scores_labels)
    return LanguageModel(path)


def write_arpa(path: Path, tables: NgramTables) -> None:
    """Write tables as text, for KenLM to read."""
    starts = np.cumsum([0, *tables.counts])
    parents = np.repeat(np.arange(len(tables.backoff)), np.diff(tables.first_child.astype(np.int64)))
    spelt = [tables.words[word] for word in tables.word]
    for node in range(tables.counts[0], len(spelt)):
        spelt[node] = f"{spelt[parents[node - tables.counts[0]]]} {spelt[node]}"
    lines = ["\\data\\", *(f"ngram {order}={count}" for order, count in enumerate(tables.counts, 1))]
    for order in range(1, len(tables.counts) + 1):
        lines += ["", f"\\{order}-grams:"]
        for node in range(starts[order - 1], starts[order]):
            backoff = f"\t{tables.backoff[node]:.9g}" if node < len(tables.backoff) else ""
            lines.append(f"{tables.log10_prob[node]:.9g}\t{spelt[node]}{backoff}")
    text = "\n".join([*lines, "", "\\end\\", ""]).encode()
    path.write_bytes(gzip.compress(text, 1) if path.suffix == ".gz" else text)


def make_log_probs(seed: int, num_frames: int, num_labels: int, sharpness: float = 1.0) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).standard_normal((num_frames, num_labels)) * sharpness
    log_probs: NDArray[np.float32] = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    return log_probs


def add_language(text: str, settings: BeamSettings, model: LanguageModel | None, hotwords: dict[str, float]) -> float:
    """What a whole text is worth beside its sound, from the definition."""
    words = text.split()
    total = settings.bonus * len(words)
    spoken = f" {text} "
    for phrase, weight in hotwords.items():
        at = spoken.find(f" {phrase} ")
        while at >= 0:
            total += weight
            at = spoken.find(f" {phrase} ", at + 1)
    if model:
        total += settings.weight * math.log(10) * model.score_sentence(text)
        known = {word for phrase in hotwords for word in phrase.split()}
        total += settings.unknown * sum(model.find(word) == 0 and word not in known for word in words)
        total += sum(refund(words[place], settings, model) for place in find_hot_places(words, hotwords))
    return total


def refund(word: str, settings: BeamSettings, model: LanguageModel) -> float:
    """What the model takes for a word by itself, beyond what it takes for one on average."""
    scores = {word: model.score(0xFFFFFFFF, number)[1] for number, word in enumerate(model.words)}
    usual = sum(10**score * score for score in scores.values()) / sum(10**score for score in scores.values())
    return max(settings.weight * math.log(10) * (usual - scores.get(word, scores["<unk>"])), 0.0)


def find_hot_places(words: Sequence[str], hotwords: dict[str, float]) -> set[int]:
    """Places of the words that stand in a hotword, each once, whatever hotwords it stands in."""
    places: set[int] = set()
    for phrase in map(str.split, hotwords):
        for first in range(len(words)):
            if list(words[first : first + len(phrase)]) == phrase:
                places.update(range(first, first + len(phrase)))
    return places


def enumerate_texts(
    log_probs: NDArray[np.float32],
    tokenizer: Tokenizer,
    settings: BeamSettings,
    model: LanguageModel | None = None,
    hotwords: dict[str, float] | None = None,
) -> dict[str, float]:
    """The score of every text that has a path, by going through all paths."""
    sums: dict[str, float] = {}
    for path in itertools.product(range(tokenizer.size), repeat=len(log_probs)):
        labels = [label for label, _ in itertools.groupby(path) if label != tokenizer.blank_id]
        spelt = "".join(" " * tokenizer.starts_word(label) + tokenizer.texts[label] for label in labels)
        text = " ".join(spelt.split())
        sums[text] = sums.get(text, 0.0) + math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    return {text: math.log(p) + add_language(text, settings, model, hotwords or {}) for text, p in sums.items()}
