"""Dropout between recurrent layers: what is dropped is drawn here, from nothing but seed, epoch and utterance."""

import itertools
from collections.abc import Sequence

import numpy as np
from mindspore import Tensor

from mindaudio_ds2.audio.augment import make_generator
from mindaudio_ds2.config import Config


def draw_dropout(config: Config, epoch: int, utterance_ids: Sequence[str], num_rows: int) -> Tensor:
    """The factors of the recurrent layers' outputs for one batch, the same for all frames of an utterance.

    An utterance's factors depend on seed, epoch and its id alone; so neither a resume, nor another batch around it, nor
    the number of processes changes them. Its second view has factors of its own.

    Args:
        config: number and size of the layers, the share that is dropped, the seed, and how many views there are.
        epoch: counts from 0.
        utterance_ids: of the utterances of the batch.
        num_rows: B, of which those beyond the utterances of each view are empty.

    Returns:
        (N, B, H) float32 for N layers: 0 with the probability `rnn_dropout`, else 1 / (1 - rnn_dropout); zeros in empty
        rows.
    """
    model, num_views = config.model, config.training.num_views
    shape = (model.rnn_num_layers, model.rnn_hidden_size)
    factors = np.zeros((num_views, num_rows // num_views, *shape), np.float32)
    for view, (place, utterance_id) in itertools.product(range(num_views), enumerate(utterance_ids)):
        generator = make_generator(config.seed, epoch, f"dropout {utterance_id}", view)  # not those of its augmentation
        factors[view, place] = generator.random(shape, np.float32) >= model.rnn_dropout
    by_layer = factors.reshape((num_rows, *shape)).transpose(1, 0, 2)
    return Tensor(np.ascontiguousarray(by_layer) / np.float32(1 - model.rnn_dropout))
