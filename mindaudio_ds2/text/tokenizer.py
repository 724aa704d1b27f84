"""From text to labels and back: characters or units, and the blank. The one place that knows which is which."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.errors import ConfigError, ManifestError
from mindaudio_ds2.network_config import WORD_START, TextConfig
from mindaudio_ds2.text.units import Segmenter


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTranscript:
    """A transcript as the network learns it.

    Attributes:
        labels: `(L,)` int32 ids, without the blank; L is 0 where every character was dropped.
        num_dropped: characters left out that are not among `text.characters`.
    """

    labels: NDArray[np.int32]
    num_dropped: int


@dataclass(frozen=True)
class Tokenizer:
    """What the labels of a `TextConfig` stand for: its characters, or units of one or more of them.

    Attributes:
        config: characters, units, the place of the blank, and how transcripts are treated.

    Raises:
        ConfigError: a character that `letter_case` never leaves in a transcript, or white space other than a space.
    """

    config: TextConfig

    def __post_init__(self) -> None:
        unreachable = [c for c in self.characters if c != " " and self.normalize(c) != c]
        if unreachable:
            raise ConfigError(
                f"text.characters holds {unreachable}, which text.letter_case = {self.config.letter_case!r} and the "
                "joining of white space never leave in a transcript; remove them or change text.letter_case"
            )

    @property
    def characters(self) -> str:
        """All characters of transcripts. Without units, they are the labels in the order of their ids."""
        return self.config.characters

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """V strings, what each label stands for: a character, or a unit in which ▁ begins a word; "" for the blank.

        Raises:
            ConfigError: the units are still in a file.
        """
        symbols = tuple(self.config.units) or tuple(self.characters)
        if self.config.tokenizer and not self.config.units:
            raise ConfigError(
                f"text.tokenizer is {self.config.tokenizer!r}, and its units are read when training begins; name a "
                "checkpoint, or the config.yaml of its run folder"
            )
        return ("", *symbols) if self.config.blank == "first" else (*symbols, "")

    @property
    def size(self) -> int:
        """V, the number of labels, the blank included."""
        return len(self.symbols)

    @property
    def blank_id(self) -> int:
        """Id of the CTC blank: 0, or the last."""
        return 0 if self.config.blank == "first" else self.size - 1

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """V strings, what each label adds to a word; "" for the blank and for what stands for a space alone."""
        return tuple(symbol.removeprefix(self._word_start) for symbol in self.symbols)

    def starts_word(self, label: int) -> bool:
        """Whether a word that was begun ends before this label: a space, or a unit that begins with ▁."""
        return self.symbols[label].startswith(self._word_start)

    @property
    def _word_start(self) -> str:
        return WORD_START if self.config.units else " "

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: label for label, symbol in enumerate(self.symbols) if symbol}

    @cached_property
    def _segmenter(self) -> Segmenter:
        return Segmenter(self.config.units, self.config.unit_scores)

    def describe(self) -> str:
        """For messages: the characters, or how many units there are."""
        return f"{len(self.config.units)} units" if self.config.units else f"characters {self.characters!r}"

    def normalize(self, transcript: str) -> str:
        """Apply `letter_case`, trim, and turn every run of white space into one space. Nothing else is changed."""
        if self.config.letter_case == "upper":
            transcript = transcript.upper()
        elif self.config.letter_case == "lower":
            transcript = transcript.lower()
        return " ".join(transcript.split())

    def encode(self, transcript: str, split: Callable[[str], Sequence[str]] | None = None) -> NDArray[np.int32]:
        """Turn a transcript into labels, after `normalize`.

        Args:
            transcript: what is said.
            split: another way than the likeliest to split a text of known characters into units.

        Returns:
            `(L,)` int32 ids, without the blank. Where `unknown_character` is "drop", unknown characters are missing;
            `encode_transcript` counts them.

        Raises:
            ManifestError: a character outside the alphabet, unless `unknown_character` is "drop".
        """
        unknown = self._find_unknown(transcript)
        if unknown and self.config.unknown_character == "error":
            raise ManifestError(
                f"transcript {transcript!r} holds {sorted(set(unknown))}, not in the alphabet {self.characters!r}; "
                "mend the transcript, add to text.characters, or set text.unknown_character to drop"
            )
        known = "".join(c for c in self.normalize(transcript) if c in self.characters)
        known = self.normalize(known)  # what was dropped may have left two spaces
        symbols = (split or self._segmenter.split)(known) if self.config.units else known
        return np.array([self._ids[symbol] for symbol in symbols], dtype=np.int32)

    def encode_transcript(self, utterance_id: str, transcript: str) -> EncodedTranscript:
        """`encode` for one utterance of a corpus: the error names it, and dropped characters are counted.

        Args:
            utterance_id: its id in the manifest.
            transcript: what is said.

        Returns:
            Its labels, and how many characters were dropped.

        Raises:
            ManifestError: as `encode`.
        """
        try:
            labels = self.encode(transcript)
        except ManifestError as error:
            raise ManifestError(f"utterance {utterance_id!r}: {error}") from None
        return EncodedTranscript(labels, num_dropped=len(self._find_unknown(transcript)))

    def count_unknown(
        self, transcripts: Iterable[str], change: Callable[[str], str] = lambda text: text
    ) -> dict[str, int]:
        """Characters of transcripts that no output can hold, with how often they come, the most frequent first.

        Args:
            transcripts: references that outputs are compared with.
            change: what is done to references and outputs before they are compared.
        """
        known = {" ", *self.characters, *(change(character) for character in self.characters)}
        changed = (change(self.normalize(transcript)) for transcript in transcripts)
        return dict(Counter(c for text in changed for c in text if c not in known).most_common())

    def _find_unknown(self, transcript: str) -> list[str]:
        return [c for c in self.normalize(transcript) if c not in self.characters]

    def decode(self, labels: Iterable[int]) -> str:
        """Turn labels back into text. They hold no blank: what decoding keeps of a path, or what `encode` made."""
        text = "".join(self.symbols[label] for label in labels)
        return " ".join(text.replace(WORD_START, " ").split()) if self.config.units else text
