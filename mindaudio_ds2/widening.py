"""Making the recurrent layers of a trained network wider: it hears the same as before (Net2Net, arXiv:1511.05641)."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.checkpoint import (
    build_network,
    fill,
    find_longest_seconds,
    load_checkpoint,
    require_fitting,
    save_checkpoint,
)
from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.model.arithmetic import GATES


def widen_checkpoint(source: str | Path, output: str | Path, hidden_size: int) -> Config:
    """Write `output`, a checkpoint of the network in `source` with more units in each recurrent layer.

    The units that come in have random weights, and nothing that was there listens to them yet: all weights that lead
    from them to the others are zero, until training moves them. So the wider network's logits are the old one's.

    Args:
        source: a checkpoint, or a model's name.
        output: ends with `.ckpt`.
        hidden_size: units of each layer and direction afterwards.

    Returns:
        The wider network's configuration.

    Raises:
        CheckpointError: `source` cannot be used.
        ConfigError: it has so many units already.
        OutputError: `output` cannot be written.
    """
    output = Path(output)
    source = models.require_checkpoint(source)
    models.require_new_checkpoint(output, source)
    checkpoint = load_checkpoint(source)
    model = checkpoint.config.model
    if hidden_size <= model.rnn_hidden_size:
        raise ConfigError(
            f"hidden_size is {hidden_size}, and the layers of {source} have {model.rnn_hidden_size} units; choose more"
        )
    narrow = require_fitting(checkpoint, str(source))
    wide = dataclasses.replace(model, rnn_hidden_size=hidden_size)
    config = dataclasses.replace(checkpoint.config, model=wide, run_dir=f"runs/{output.stem}")
    network = build_network(config)
    weights = {
        name: embed(name, narrow[name], parameter.asnumpy(), GATES[model.rnn_type])
        for name, parameter in network.weights().items()
    }
    fill(network.weights(), weights, str(source))
    save_checkpoint(output, config, network.weights(), {}, {"longest_seconds": find_longest_seconds(checkpoint)})
    return config


def embed(name: str, old: NDArray[np.float32], fresh: NDArray[np.float32], num_gates: int) -> NDArray[np.float32]:
    """A weight of the wider network.

    Args:
        name: as in `DeepSpeech2.weights()`.
        old: that of the narrow network.
        fresh: that of the wide one, untrained.
        num_gates: whose rows follow each other in the weights of a recurrent layer.
    """
    if old.shape == fresh.shape:
        return old
    wide = fresh.copy()
    num_blocks = num_gates if name.startswith("rnns.") else 1
    rows, old_rows = (array.reshape(num_blocks, -1, *array.shape[1:]) for array in (wide, old))
    num_kept = old_rows.shape[1]
    rows[:, :num_kept] = 0
    if old.ndim == 1:
        rows[:, :num_kept] = old_rows
    else:
        rows[:, :num_kept, : old.shape[1]] = old_rows
    return wide
