"""What a prefix of the beam search is worth beside its sound, in Python: words, language model and hotwords.

`append` and `end_word` of `ops/csrc/beam.cpp`, line for line, and the matching of `ops/csrc/hotwords.h`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mindaudio_ds2.decoding.hotwords import Phrase
from mindaudio_ds2.decoding.language_model import LanguageModel
from mindaudio_ds2.text.tokenizer import Tokenizer

IMPOSSIBLE = -math.inf
LN10 = math.log(10)
UNKNOWN, SENTENCE_END = 0, 2
ALIKE_LABELS = 4


class Rival(NamedTuple):
    """Labels of a prefix, counted from its end, in whose place another had something else; see `ops/csrc/beam.h`."""

    first_back: int
    end_back: int
    touch: int


@dataclass(frozen=True, eq=False)
class Prefix:
    """What has been written, and what the language says to it (nats): for whole words, and for the word begun.

    Beside it stand the log odds of prefixes that were dropped because nothing later could tell them from this one.
    """

    parent: "Prefix | None" = None
    label: int = -1
    length: int = 0
    tail: tuple[int, ...] = ()
    rivals: dict[Rival, float] = field(default_factory=dict)
    state: int = 0
    spelt: str = ""
    hot: bytes | None = b""
    settled: float = 0.0
    pending: float = 0.0
    at_word_start: bool = True

    @property
    def fusion(self) -> float:
        """All that counts beside the sound."""
        return self.settled + self.pending


class Phrases:
    """Hotwords: see `ops/csrc/hotwords.h`. A state is what has been spelt of phrases since a word began, or None."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self._lent: dict[bytes, float] = {}
        self._worth: dict[bytes, float] = {}
        self.words = {word for phrase in phrases for word in phrase.text.split()}
        for phrase in phrases:
            spelt = phrase.text.encode()
            self._worth[spelt] = self._worth.get(spelt, 0.0) + phrase.worth
            for size, lent in enumerate(phrase.lent, 1):
                self._lent[spelt[:size]] = max(self._lent.get(spelt[:size], lent), lent)

    def step(self, state: bytes | None, text: bytes) -> bytes | None:
        """The state after more of the text."""
        for at in range(len(text)):
            byte = text[at : at + 1]
            longer = (suffix + byte for suffix in _list_suffixes(state))
            state = next((one for one in longer if one in self._lent), b"" if byte == b" " else None)
        return state

    def lend(self, state: bytes | None) -> float:
        """What a phrase begun is given in advance."""
        return self._lent.get(state or b"", 0.0)

    def value(self, state: bytes | None) -> float:
        """What the phrases that end here are worth together."""
        return sum(self._worth.get(suffix, 0.0) for suffix in _list_suffixes(state))

    def begins_word(self, spelt: str) -> bool:
        """Whether a word of a phrase begins so."""
        return any(word.startswith(spelt) for word in self.words)


def _list_suffixes(state: bytes | None) -> Iterator[bytes]:
    """A state and its ends that begin with a word, longest first."""
    while state is not None:
        yield state
        _, space, rest = state.partition(b" ")
        state = rest if space else None


class Language:
    """What a prefix is worth beside its sound.

    Args:
        tokenizer: what the labels stand for.
        settings: a `beam.BeamSettings`.
        model: the language model, or None.
        phrases: hotwords.
        words: the number of each label in a model that scores labels.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: Any,
        model: LanguageModel | None,
        phrases: Sequence[Phrase],
        words: Sequence[int],
    ) -> None:
        self.tokenizer, self.settings, self.model, self.phrases = tokenizer, settings, model, Phrases(phrases)
        self._label_words = words

    def start(self) -> Prefix:
        """Nothing written."""
        return Prefix(state=self.model.start() if self.model else 0)

    def append(self, prefix: Prefix, label: int) -> Prefix:
        """One label more."""
        text, model = self.tokenizer.texts[label], self.model
        tail = (*prefix.tail, label)[-ALIKE_LABELS:]
        longer = replace(prefix, parent=prefix, label=label, length=prefix.length + 1, tail=tail, rivals={})
        if self.tokenizer.starts_word(label) and not prefix.at_word_start:
            longer = self.end_word(longer)
        if model and model.scores_labels:
            longer = self._score(longer, self._label_words[label])
        if not text:
            return longer
        spelt, hot = longer.spelt + text, self.phrases.step(longer.hot, text.encode())
        pending = self._foresee(spelt) + self.phrases.lend(hot)
        return replace(longer, spelt=spelt, hot=hot, pending=pending, at_word_start=False)

    def _foresee(self, spelt: str) -> float:
        """What the word begun will cost at least, as far as that is known; see `foresee` of `ops/csrc/beam.cpp`."""
        model, settings = self.model, self.settings
        if not model or model.scores_labels:
            return float(settings.bonus)
        ahead, unknown = model.look_ahead(spelt), model.score_alone(UNKNOWN)
        strange = 0.0
        if self.phrases.begins_word(spelt):
            ahead = max(ahead, unknown)
        elif ahead == IMPOSSIBLE:
            ahead, strange = unknown, settings.unknown
        return float(settings.bonus + strange + settings.weight * LN10 * ahead)

    def find_future(self, prefix: Prefix) -> tuple[object, ...]:
        """Equal for prefixes that go on alike."""
        model, spelt = self.model, prefix.spelt
        is_known = model and not model.scores_labels and model.look_ahead(spelt) > IMPOSSIBLE
        known, hot = spelt if is_known else None, spelt if self.phrases.begins_word(spelt) else None
        return prefix.state, prefix.tail, prefix.hot, prefix.at_word_start, known, hot

    def _score(self, prefix: Prefix, word: int) -> Prefix:
        assert self.model is not None
        state, log10_prob = self.model.score(prefix.state, word)
        return replace(prefix, state=state, settled=prefix.settled + self.settings.weight * LN10 * log10_prob)

    def end_word(self, prefix: Prefix) -> Prefix:
        """The word begun is whole."""
        settled = prefix.settled + self.settings.bonus + self.phrases.value(prefix.hot)
        ended = replace(prefix, settled=settled)
        if self.model and not self.model.scores_labels:
            word = self.model.find(prefix.spelt)
            ended = self._score(ended, word)
            if word == 0 and prefix.spelt not in self.phrases.words:
                ended = replace(ended, settled=ended.settled + self.settings.unknown)
        hot = self.phrases.step(prefix.hot, b" ")
        return replace(ended, spelt="", hot=hot, pending=self.phrases.lend(hot), at_word_start=True)

    def end(self, prefix: Prefix, *, is_finished: bool) -> float:
        """What the text is worth if it ends here; one that goes on is not charged for its end."""
        if not prefix.at_word_start:
            prefix = self.end_word(prefix)
        if is_finished and self.model:
            prefix = self._score(prefix, SENTENCE_END)
        return prefix.settled
