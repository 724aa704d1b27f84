"""Characters, label ids and the blank: the one place that knows which is which."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.config import TextConfig
from mindaudio_ds2.errors import ConfigError, ManifestError


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTranscript:
    """A transcript as the network learns it.

    Attributes:
        labels: `(L,)` int32 ids, without the blank; L is 0 where every character was dropped.
        num_dropped: characters left out because the alphabet has no id for them.
    """

    labels: NDArray[np.int32]
    num_dropped: int


@dataclass(frozen=True)
class Alphabet:
    """The characters of a `TextConfig` with their ids.

    Attributes:
        config: the characters, the place of the blank, and how transcripts are treated.

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
        """All characters in the order of their ids, without the blank."""
        return self.config.characters

    @property
    def size(self) -> int:
        """V, the number of ids, the blank included."""
        return len(self.characters) + 1

    @property
    def blank_id(self) -> int:
        """Id of the CTC blank: 0, or the last."""
        return 0 if self.config.blank == "first" else len(self.characters)

    @cached_property
    def _ids(self) -> dict[str, int]:
        first = 1 if self.config.blank == "first" else 0
        return {character: first + place for place, character in enumerate(self.characters)}

    @cached_property
    def _characters_by_id(self) -> dict[int, str]:
        return {label: character for character, label in self._ids.items()}

    def normalize(self, transcript: str) -> str:
        """Apply `letter_case`, trim, and turn every run of white space into one space. Nothing else is changed."""
        if self.config.letter_case == "upper":
            transcript = transcript.upper()
        elif self.config.letter_case == "lower":
            transcript = transcript.lower()
        return " ".join(transcript.split())

    def encode(self, transcript: str) -> NDArray[np.int32]:
        """Turn a transcript into labels, after `normalize`.

        Args:
            transcript: what is said.

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
        known = "".join(c for c in self.normalize(transcript) if c in self._ids)
        known = self.normalize(known)  # what was dropped may have left two spaces
        return np.array([self._ids[c] for c in known], dtype=np.int32)

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
        return [c for c in self.normalize(transcript) if c not in self._ids]

    def decode(self, labels: Iterable[int]) -> str:
        """Turn labels back into text. They hold no blank: what decoding keeps of a path, or what `encode` made."""
        return "".join(self._characters_by_id[int(label)] for label in labels)
