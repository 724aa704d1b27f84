"""Dropout between recurrent layers: what is dropped is drawn here, from nothing but seed, epoch and utterance."""

from collections.abc import Sequence

import numpy as np
from mindspore import Tensor

from mindaudio_ds2.audio.augment import make_generator
from mindaudio_ds2.config import ModelConfig


def draw_dropout(config: ModelConfig, seed: int, epoch: int, utterance_ids: Sequence[str], num_rows: int) -> Tensor:
    """The factors of the recurrent layers' outputs for one batch, the same for all frames of an utterance.

    An utterance's factors depend on seed, epoch and its id alone; so neither a resume, nor another batch around it, nor
    the number of processes changes them.

    Args:
        config: number and size of the layers, and the share that is dropped.
        seed: of the run.
        epoch: counts from 0.
        utterance_ids: of the utterances of the batch.
        num_rows: B, of which those beyond the utterances are empty.

    Returns:
        (N, B, H) float32 for N layers: 0 with the probability `rnn_dropout`, else 1 / (1 - rnn_dropout); zeros in empty
        rows.
    """
    shape = (config.rnn_num_layers, config.rnn_hidden_size)
    factors = np.zeros((num_rows, *shape), np.float32)
    for place, utterance_id in enumerate(utterance_ids):
        generator = make_generator(seed, epoch, f"dropout {utterance_id}")  # not the numbers of its augmentation
        factors[place] = generator.random(shape, np.float32) >= config.rnn_dropout
    return Tensor(np.ascontiguousarray(factors.transpose(1, 0, 2)) / np.float32(1 - config.rnn_dropout))
