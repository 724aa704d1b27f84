"""Transcripts split into units anew in each epoch: `augmentation.unit_sampling`."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2.audio.draws import make_generator
from mindaudio_ds2.config import Config
from mindaudio_ds2.text.sampling import SplitSampler, split_into_characters
from mindaudio_ds2.text.tokenizer import Tokenizer


class UnitDraws:
    """Draws labels. They depend on seed, epoch, the utterance's id and its text alone.

    Args:
        config: the whole run.
    """

    def __init__(self, config: Config) -> None:
        self.is_on = config.augmentation.unit_sampling > 0
        self._config, self._tokenizer = config, Tokenizer(config.text)

    @cached_property
    def _sampler(self) -> SplitSampler:
        text = self._config.text
        return SplitSampler(text.units, text.unit_scores, self._config.augmentation.unit_sampling)

    def draw(self, epoch: int, utterance_id: str, transcript: str) -> NDArray[np.int32]:
        """Labels of a transcript in an epoch, (L,) int32.

        Args:
            epoch: counts from 0.
            utterance_id: whose they are; of joined utterances the first one's.
            transcript: what is said.
        """
        generator = make_generator(self._config.seed, epoch, f"units {utterance_id}")  # not that of its augmentation
        return self._tokenizer.encode(transcript, lambda text: self._sampler.split(text, generator))

    def list_longest(self, transcript: str) -> NDArray[np.int32]:
        """The most labels that can ever be drawn, (L,) int32. No split needs more frames than this one."""
        return self._tokenizer.encode(transcript, split_into_characters)
