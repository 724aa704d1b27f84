"""What somebody wants made of their recordings."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindaudio_ds2.corpus.recordings import SpeakerSource
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.text.characters import LetterCase

Start = Literal["auto", "english", "random"]
"""Which weights the training begins with; "auto" takes English where it is installed and its letters suffice."""


@dataclass(frozen=True)
class Choices:
    """What the command line of `prepare.py` says, where each one is explained."""

    source: Path
    output: Path
    base: Path | None = None
    start: Start = "auto"
    dev_share: float = 0.1
    test_share: float = 0.1
    seed: int = 1
    letter_case: LetterCase = "upper"
    remove: str = ""
    characters: str = ""
    speaker_from: SpeakerSource | None = None
    min_duration: float = 0.2
    max_duration: float = 30.0
    max_problem_share: float = 0.01
    workers: int = 4

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers} must be 1 or more")
        if not 0 <= self.max_problem_share <= 1:
            raise ConfigError(f"--max_problem_share {self.max_problem_share:g} must be 0 to 1")
        if not (self.dev_share > 0 and self.test_share > 0 and self.dev_share + self.test_share < 1):
            raise ConfigError(
                f"--dev_share {self.dev_share:g} and --test_share {self.test_share:g} must be above 0 and leave "
                "something to train on"
            )
        if not 0 <= self.min_duration < self.max_duration:
            raise ConfigError(
                f"--min_duration {self.min_duration:g} must be 0 or more and below --max_duration {self.max_duration:g}"
            )
        if self.start == "english" and self.base:
            raise ConfigError("--start english has a YAML of its own; leave --base out")

    @property
    def name(self) -> str:
        """Of the corpus: the folder of the manifests."""
        return self.output.resolve().name

    @property
    def run_dir(self) -> str:
        """The run folder, named after the corpus."""
        return f"runs/{self.name}"

    def clean(self, transcript: str) -> str:
        """A transcript without what is to be removed, its words a space apart."""
        blanks = str.maketrans(dict.fromkeys(unicodedata.normalize("NFC", self.remove), " "))
        return " ".join(transcript.translate(blanks).split())
