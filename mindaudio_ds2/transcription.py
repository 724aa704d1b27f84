"""What comes of transcribing: values for programs, and for the writers of `transcript_formats`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mindaudio_ds2.decoding.hypothesis import Hypothesis, Word
from mindaudio_ds2.decoding.segments import Segment, split_at_pauses


class Span(NamedTuple):
    """A part of a recording (seconds from its start)."""

    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Transcription:
    """A recording, or one channel of it, and what was recognised in it.

    Attributes:
        path: as it was given, or as it was found in a folder; empty (".") for samples.
        duration_seconds: of the recording; 0 where it could not be read.
        hypothesis: None where the recording could not be read.
        problem: why it could not; empty otherwise.
        notes: what is strange about the sound, a line each; where all channels are heard apart, with the first.
        others: the next best hypotheses, where the decoder keeps some and one segment holds all of the speech.
        channel: its number from 1, where one was chosen or all are heard apart; else None.
        recognized: what the network has heard, in order. Neighbours that were cut within speech, and heard with what
            is around the cut, touch there.
        silences: what it has not, because there is nothing to hear. With `recognized`, every second of the recording,
            each once.
    """

    path: Path
    duration_seconds: float
    hypothesis: Hypothesis | None
    problem: str
    notes: tuple[str, ...] = ()
    others: tuple[Hypothesis, ...] = ()
    channel: int | None = None
    recognized: tuple[Span, ...] = ()
    silences: tuple[Span, ...] = ()

    @property
    def text(self) -> str:
        """The words, with one space between them; empty where the recording could not be read."""
        return self.hypothesis.text if self.hypothesis else ""

    @property
    def words(self) -> tuple[Word, ...]:
        """The words with their times and confidence."""
        return self.hypothesis.words if self.hypothesis else ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The words in groups between pauses."""
        return split_at_pauses(self.words)

    @property
    def score(self) -> float:
        """Natural log probability, see `Hypothesis`; NaN where the recording could not be read."""
        return self.hypothesis.score if self.hypothesis else math.nan


@dataclass(frozen=True)
class TranscriptionRun:
    """All recordings of one call, in the order given, what they took, and how long those last that were read."""

    transcriptions: tuple[Transcription, ...]
    wall_seconds: float
    audio_seconds: float

    @property
    def problems(self) -> list[str]:
        """One line for each recording that could not be read."""
        return [t.problem for t in self.transcriptions if t.problem]

    @property
    def notes(self) -> list[str]:
        """What is strange about the recordings that were read, a line each."""
        return [note for t in self.transcriptions for note in t.notes]
