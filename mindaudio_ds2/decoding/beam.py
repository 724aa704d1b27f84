"""CTC prefix beam search with an n-gram language model and hotwords: the C++ of `ops/csrc/beam.cpp`, called from here.

Where there is no compiler, `beam_reference.py` searches the same way in Python.

The score of a text is log p(text | sound), summed over the paths kept, plus weight * ln p(text) of the language model,
plus `bonus` for each word, `unknown` for each word unknown to the model and to the hotwords, and the worth of each
hotword, which `hotwords.py` explains. While a word is being spelt, it has its bonus already, and is charged the
weighted unigram score of the likeliest word that begins so (look-ahead), or `unknown` where none does. Of prefixes that
go on alike `num_best` are kept; a word's confidence counts what was dropped beside it.
Where there is a prior weight, the labels' own frequency is divided out of p first: `label_prior.py`.
"""

import ctypes
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.decoding.beam_language import Language
from mindaudio_ds2.decoding.beam_reference import Spoken
from mindaudio_ds2.decoding.beam_settling import SettlingStream
from mindaudio_ds2.decoding.confidence import Calibration
from mindaudio_ds2.decoding.hotwords import (
    LARGEST_WEIGHT,
    Hotword,
    Phrase,
    check_hotwords,
    find_spellings,
    weigh,
)
from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.decoding.label_prior import LabelPrior, PriorDivision
from mindaudio_ds2.decoding.language_model import SPACE, SPECIAL_WORDS, LanguageModel, check_words
from mindaudio_ds2.errors import ConfigError, LanguageModelError
from mindaudio_ds2.text.tokenizer import Tokenizer

NO_LABEL = 0xFFFFFFFF
LARGEST_PRIOR_WEIGHT = 10.0
"""Bayes asks for 1; with 10, no frame says anything but the rarest labels."""
WIDEST, MOST_HYPOTHESES = 10_000, 1_000
"""With them a frame, and the end, take a second at worst; on dev, a beam of 1000 was half a point better than 300."""

PREFIXES_AT_A_TIME = 2_000
"""So many prefixes, of a frame or several, are searched in C++ before Python looks whether it shall end."""


@dataclass(frozen=True)
class BeamSettings:
    """How wide the search is, and what counts beside the sound. Scores are natural logarithms (nats).

    Attributes:
        beam_width: prefixes kept after each frame, from 1 to `WIDEST`.
        num_best: hypotheses returned, from 1 to `MOST_HYPOTHESES`, and prefixes kept of those that go on alike: for
            more of them the beam should be wider.
        token_threshold: labels less likely than this in a frame are not tried there; the likeliest always is.
        beam_threshold: prefixes are dropped that are worse than the best by more than this; positive.
        weight: of the language model, not negative.
        bonus: added for each word.
        unknown: added for each word that the language model does not know; a penalty where negative.
        prior_weight: each label's probability in a frame is divided by its prior to this power, see `label_prior.py`;
            not negative, and 0 leaves the network's probabilities alone.
    """

    beam_width: int = 100
    num_best: int = 1
    token_threshold: float = -9.0
    beam_threshold: float = 16.0
    weight: float = 1.0
    bonus: float = 1.0
    unknown: float = -10.0
    prior_weight: float = 0.0

    def __post_init__(self) -> None:
        if not (1 <= self.beam_width <= WIDEST and 1 <= self.num_best <= MOST_HYPOTHESES):
            raise ConfigError(
                f"the beam width {self.beam_width} must be from 1 to {WIDEST:,}, and the number of hypotheses "
                f"{self.num_best} from 1 to {MOST_HYPOTHESES:,}; from some hundred on, more finds next to nothing"
            )
        if not (self.beam_threshold > 0 and self.token_threshold <= 0 and self.weight >= 0):
            raise ConfigError(
                f"the beam threshold {self.beam_threshold} must be positive, the token threshold "
                f"{self.token_threshold} not, the weight {self.weight} not negative"
            )
        if not (np.abs([self.weight, self.bonus, self.unknown]) <= LARGEST_WEIGHT).all():
            raise ConfigError(
                f"weight {self.weight}, bonus {self.bonus} and unknown {self.unknown} must be from "
                f"{-LARGEST_WEIGHT:,.0f} to {LARGEST_WEIGHT:,.0f}"
            )
        if not 0 <= self.prior_weight <= LARGEST_PRIOR_WEIGHT:
            raise ConfigError(f"the prior weight {self.prior_weight} must be from 0 to {LARGEST_PRIOR_WEIGHT:g}")


@functools.lru_cache(maxsize=4)
def _load(library: Path) -> Any:
    loaded = ctypes.CDLL(str(library))
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    loaded.ds2_decoder_open.argtypes = [
        *(ctypes.c_char_p, pointer, number, pointer, pointer, number, pointer),
        *(number, pointer, pointer, pointer, size),
    ]
    loaded.ds2_decoder_open.restype = loaded.ds2_stream_open.restype = pointer
    for function in (loaded.ds2_decoder_close, loaded.ds2_stream_open, loaded.ds2_stream_close):
        function.argtypes = [pointer]
    loaded.ds2_stream_feed.argtypes = [pointer, pointer, number]
    loaded.ds2_stream_read.argtypes = [pointer, number, *[pointer] * 4]
    loaded.ds2_stream_settle.argtypes = [pointer]
    loaded.ds2_stream_take.argtypes = [pointer] * 5
    loaded.ds2_model_score.argtypes = [pointer, size, pointer, ctypes.c_int64, pointer]
    return loaded


def score_words(model: LanguageModel, words: NDArray[np.uint32], library: Path) -> NDArray[np.float64]:
    """log10 of each of `(N,)` words of sentences that end with 2 (</s>)."""
    scores = np.empty(len(words))
    words = np.ascontiguousarray(words, np.uint32)
    data, size = model.bytes.ctypes.data, len(model.bytes)
    if not _load(library).ds2_model_score(data, size, words.ctypes.data, len(words), scores.ctypes.data):
        raise LanguageModelError(f"{model.path} is damaged; build it again")
    return scores


class BeamDecoder:
    """A beam search, ready for utterances; used by any number of threads at once.

    Args:
        tokenizer: what the labels stand for.
        seconds_per_frame: distance between output frames (seconds).
        settings: width and weights.
        library: the native kernels, of `ops.library.find_kernels`; None searches in Python, which is slow.
        model: the language model, or None.
        hotwords: names and phrases to expect, spelt as the labels spell.
        calibration: turns raw confidences into probabilities, or None.
        label_prior: of these labels; None will do where the prior weight is 0.

    Raises:
        LanguageModelError: a model or hotwords that these labels cannot spell; a prior that is missing, or of others.
    """

    _handle: int | None = None

    def __init__(
        self,
        tokenizer: Tokenizer,
        seconds_per_frame: float,
        settings: BeamSettings,
        library: Path | None,
        *,
        model: LanguageModel | None = None,
        hotwords: Sequence[Hotword] = (),
        calibration: Calibration | None = None,
        label_prior: LabelPrior | None = None,
    ) -> None:
        self.tokenizer, self.settings, self.model = tokenizer, settings, model
        self.seconds_per_frame, self.calibration = seconds_per_frame, calibration
        self.division = PriorDivision(tokenizer, label_prior, settings.prior_weight)
        hotwords = check_hotwords(tokenizer, hotwords)
        self.spellings = find_spellings(hotwords)
        if model:
            check_words(tokenizer, model.words[len(SPECIAL_WORDS) :], model.path)
        phrases = weigh(hotwords, model, settings.weight)
        labels = _number_labels(tokenizer, model)
        if library is None:
            self._language = Language(tokenizer, settings, model, phrases, labels)
            return
        self._library = _load(library)
        self._open(phrases, labels)

    def _open(self, phrases: Sequence[Phrase], labels: Sequence[int]) -> None:
        tokenizer, settings, model = self.tokenizer, self.settings, self.model
        texts = [text.encode() for text in (*tokenizer.texts, *(phrase.text for phrase in phrases))]
        ends = np.cumsum([len(text) for text in texts]).astype(np.int64)
        starts_word = np.array([tokenizer.starts_word(label) for label in range(tokenizer.size)], np.uint8)
        words = np.array(labels, np.uint32)
        numbers = [settings.beam_width, settings.num_best, settings.token_threshold, settings.beam_threshold]
        numbers += [settings.weight, settings.bonus, settings.unknown]
        flat, worths = np.array(numbers, np.float64), np.array([phrase.worth for phrase in phrases], np.float64)
        lent = np.array([value for phrase in phrases for value in phrase.lent], np.float64)
        self._handle = self._library.ds2_decoder_open(
            *(b"".join(texts), ends.ctypes.data, tokenizer.size, starts_word.ctypes.data, words.ctypes.data),
            *(tokenizer.blank_id, flat.ctypes.data, len(phrases), worths.ctypes.data, lent.ctypes.data),
            *((model.bytes.ctypes.data, len(model.bytes)) if model else (None, 0)),
        )
        if not self._handle:
            raise LanguageModelError(f"{model.path if model else 'the language model'} is damaged; build it again")

    def __del__(self) -> None:
        if self._handle:
            self._library.ds2_decoder_close(self._handle)

    def start(self) -> "BeamStream":
        """A new utterance, to be fed in chunks."""
        if not self._handle:
            return BeamStream(self, SettlingStream(self._language))
        return BeamStream(self, _NativeStream(self._library, self._handle))

    def decode(self, log_probs: NDArray[np.float32]) -> list[Hypothesis]:
        """Decode one utterance.

        Args:
            log_probs: `(S, V)` float32 natural log probabilities.

        Returns:
            The best hypotheses, best first; at least one.
        """
        stream = self.start()
        stream.feed(log_probs)
        return stream.finish()

    def decode_batch(
        self, log_probs: NDArray[np.float32], lengths: NDArray[np.int32], num_threads: int = 1
    ) -> list[list[Hypothesis]]:
        """Decode `(B, S, V)` with `(B,)` valid frames; threads share the utterances and change no result.

        An exception, such as Ctrl-C, ends all threads within a frame.
        """
        should_stop = threading.Event()

        def decode(rows: NDArray[np.float32]) -> list[Hypothesis]:
            stream = self.start()
            stream.feed(rows, should_stop)
            return stream.finish()

        with ThreadPoolExecutor(num_threads) as pool:
            try:
                return list(pool.map(decode, [rows[:n] for rows, n in zip(log_probs, lengths, strict=True)]))
            except BaseException:
                should_stop.set()  # the pool waits for what is running
                raise


class BeamStream:
    """One utterance on its way; made by `BeamDecoder.start`. Any cut into chunks gives the same result."""

    def __init__(self, decoder: BeamDecoder, search: "SettlingStream | _NativeStream") -> None:
        self._decoder, self._search = decoder, search  # the decoder outlives its streams

    def feed(self, log_probs: NDArray[np.float32], should_stop: threading.Event | None = None) -> None:
        """Go on with `(S, V)` float32 log probabilities; S may be 0.

        Args:
            log_probs: as above.
            should_stop: may be set by another thread.

        Raises:
            CancelledError: it was set.
        """
        num_labels = self._decoder.tokenizer.size
        assert log_probs.ndim == 2, f"expected (S, {num_labels}), found {log_probs.shape}"
        assert log_probs.shape[1] == num_labels, f"expected (S, {num_labels}), found {log_probs.shape}"
        log_probs = np.ascontiguousarray(log_probs, np.float32)
        assert not np.isnan(log_probs).any(), "log probabilities are not numbers"
        log_probs = self._decoder.division.apply(log_probs)
        size = max(1, PREFIXES_AT_A_TIME // self._decoder.settings.beam_width)
        for first in range(0, len(log_probs), size):  # Python answers Ctrl-C between two calls of C++ only
            if should_stop and should_stop.is_set():
                raise CancelledError
            self._search.feed(log_probs[first : first + size])

    def read(self) -> list[Hypothesis]:
        """What has been recognised so far, best first; the last word may be unfinished."""
        return self._list(self._search.read(is_finished=False))

    def finish(self) -> list[Hypothesis]:
        """The end of the sentence: the best hypotheses, best first."""
        return self._list(self._search.read(is_finished=True))

    def settle(self) -> None:
        """Decide for the best hypothesis up to its last whole word: what disagrees with it is dropped."""
        self._search.settle()

    def take(self) -> tuple[Word, ...]:
        """The words that nothing can change any more, each once; `read` and `finish` no longer have them.

        They are what all prefixes kept have in common, but for the last word. The search goes on as it would have.
        """
        return self._describe(self._search.take()).words

    def _list(self, found: Sequence[Spoken]) -> list[Hypothesis]:
        """Each text once, with its best score: two may differ in what only sounds like a hotword."""
        best: dict[str, Hypothesis] = {}
        for hypothesis in map(self._describe, found):
            best.setdefault(hypothesis.text, hypothesis)
        return list(best.values())

    def _describe(self, spoken: Spoken) -> Hypothesis:
        spellings = self._decoder.spellings
        text = " ".join(spellings.get(word, word) for word in spoken.text.split(" "))
        return Hypothesis(text, spoken.score, tuple(map(self._make_word, text.split(), spoken.rows)))

    def _make_word(self, text: str, row: NDArray[np.float64]) -> Word:
        seconds, calibration = self._decoder.seconds_per_frame, self._decoder.calibration
        raw = min(float(row[2] * np.exp(row[3])), 1.0)
        return Word(text, row[0] * seconds, row[1] * seconds, calibration.apply(raw) if calibration else raw)


class _NativeStream:
    """The same as `SettlingStream`, in C++."""

    def __init__(self, library: Any, decoder: int) -> None:
        self._library = library
        self._handle = library.ds2_stream_open(decoder)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.ds2_stream_close(self._handle)

    def feed(self, log_probs: NDArray[np.float32]) -> None:
        self._library.ds2_stream_feed(self._handle, log_probs.ctypes.data, len(log_probs))

    def read(self, *, is_finished: bool) -> list[Spoken]:
        return self._collect(lambda *outputs: self._library.ds2_stream_read(self._handle, int(is_finished), *outputs))

    def settle(self) -> None:
        self._library.ds2_stream_settle(self._handle)

    def take(self) -> Spoken:
        (settled,) = self._collect(lambda *outputs: self._library.ds2_stream_take(self._handle, *outputs))
        return settled

    def _collect(self, call: Callable[..., None]) -> list[Spoken]:
        text, numbers = ctypes.c_void_p(), ctypes.c_void_p()
        num_bytes, num_numbers = ctypes.c_int64(), ctypes.c_int64()
        outputs = [ctypes.byref(value) for value in (text, num_bytes, numbers, num_numbers)]
        call(*outputs)
        lines = ctypes.string_at(text.value or 0, num_bytes.value).decode().split("\n")[:-1]
        flat = np.frombuffer(ctypes.string_at(numbers.value or 0, 8 * num_numbers.value), np.float64)
        found, place = [], 0
        for line in lines:
            end = place + 3 + 4 * int(flat[place + 2])
            found.append(Spoken(line, float(flat[place]), flat[place + 3 : end].reshape(-1, 4)))
            place = end
        return found


def _number_labels(tokenizer: Tokenizer, model: LanguageModel | None) -> list[int]:
    """The number of each label in a model that scores labels."""
    if not model or not model.scores_labels:
        return [NO_LABEL] * tokenizer.size
    return [model.find(SPACE if symbol == " " else symbol) for symbol in tokenizer.symbols]
