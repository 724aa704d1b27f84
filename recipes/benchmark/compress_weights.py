#!/usr/bin/env python3
"""Write a checkpoint whose matrices have a lower rank, zeros or few different values, to see what that costs in WER.

python recipes/benchmark/compress_weights.py runs/an4/best.ckpt --rank_share 0.5 --output runs/an4_rank/best.ckpt
python recipes/benchmark/compress_weights.py runs/an4/best.ckpt --prune_share 0.5 --output runs/an4_pruned/best.ckpt
python recipes/benchmark/compress_weights.py runs/an4/best.ckpt --shared_bits 8 --output runs/an4_shared/best.ckpt
python eval.py --pre_trained_model_path runs/an4_shared/best.ckpt

The matrices are those of recurrent layers and of the output layer. They are written as they come out of the
compression, in full, so every command takes the checkpoint. The script says how many bytes would do: two factors in
float32 for a lower rank; for shared values a table of them for each matrix, and a whole number for each weight (Han et
al. 2015, arXiv:1510.00149); for zeros, which are the smallest weights of each matrix, a bit for each, and the others in
float32. What is asked for together is done in this order: rank, zeros, values; zeros are among the values then.
"""

import argparse
from pathlib import Path

import numpy as np
from mindspore import Parameter, Tensor
from numpy.typing import NDArray

from mindaudio_ds2 import models
from mindaudio_ds2.checkpoint import load_checkpoint, save_checkpoint
from mindaudio_ds2.errors import ConfigError, exit_on_error
from mindaudio_ds2.machine import runtime
from mindaudio_ds2.training.pruning import PRUNED, find_kept

FLOAT_BYTES = 4
MOST_ROUNDS = 100

Floats = NDArray[np.float32]


def lower_rank(matrix: Floats, share: float) -> tuple[Floats, int]:
    """The nearest matrix of a lower rank, and its rank: the share of the smaller side, at least 1."""
    left, sizes, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    rank = max(1, round(share * len(sizes)))
    return ((left[:, :rank] * sizes[:rank]) @ right[:rank]).astype(np.float32), rank


def share_values(matrix: Floats, num_values: int) -> Floats:
    """Each weight replaced by the nearest of so many values, which k-means finds (Lloyd 1982), from quantiles."""
    flat = np.sort(matrix, axis=None).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(flat)])
    centres = np.unique(np.quantile(flat, (np.arange(num_values) + 0.5) / num_values))
    for _ in range(MOST_ROUNDS):
        edges = np.searchsorted(flat, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [flat.size]])
        counts = np.diff(bounds)
        moved = np.where(counts > 0, np.diff(sums[bounds]) / np.maximum(counts, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, matrix.astype(np.float64))
    shared: Floats = centres[nearest].astype(np.float32)
    return shared


def compress(
    matrix: Floats, rank_share: float | None, shared_bits: int | None, prune_share: float | None = None
) -> tuple[Floats, float]:
    """A matrix after what was asked for, and the bytes that it would take."""
    num_bytes = float(FLOAT_BYTES * matrix.size)
    if rank_share is not None:
        matrix, rank = lower_rank(matrix, rank_share)
        num_bytes = float(FLOAT_BYTES * rank * sum(matrix.shape))
    if prune_share is not None:
        is_kept = find_kept(matrix, prune_share)
        matrix = matrix * is_kept
        num_bytes = matrix.size / 8 + float(FLOAT_BYTES * is_kept.sum())
    if shared_bits is not None:
        matrix = share_values(matrix, 2**shared_bits)
        num_bytes = FLOAT_BYTES * 2**shared_bits + matrix.size * shared_bits / 8
    return matrix, num_bytes


def compress_checkpoint(
    source: Path,
    output: Path,
    rank_share: float | None,
    shared_bits: int | None,
    prune_share: float | None = None,
) -> str:
    """Write the checkpoint; returns what a person should know of it.

    Raises:
        CheckpointError, OutputError: as they say.
        ConfigError: a number that is impossible, or none.
    """
    if rank_share is None and shared_bits is None and prune_share is None:
        raise ConfigError("nothing would change: give --rank_share, --prune_share or --shared_bits")
    if prune_share is not None and not 0 < prune_share < 1:
        raise ConfigError(f"prune_share is {prune_share}; choose above 0, below 1")
    if rank_share is not None and not 0 < rank_share <= 1:
        raise ConfigError(f"rank_share is {rank_share}; choose above 0, at most 1")
    if shared_bits is not None and not 1 <= shared_bits <= 16:
        raise ConfigError(f"shared_bits is {shared_bits}; choose 1 to 16")
    source = models.require_checkpoint(source)
    models.require_new_checkpoint(output, source)
    checkpoint = load_checkpoint(source)
    weights, before, after, errors = {}, 0, 0.0, []
    for name, array in checkpoint.weights.items():
        compressed, num_bytes = array, float(FLOAT_BYTES * array.size)
        if PRUNED.fullmatch(name):
            compressed, num_bytes = compress(array, rank_share, shared_bits, prune_share)
            errors.append(float(np.linalg.norm(compressed - array) / np.linalg.norm(array)))
        before, after = before + FLOAT_BYTES * array.size, after + num_bytes
        weights[name] = Parameter(Tensor(compressed), name=name)
    save_checkpoint(output, checkpoint.config, weights, {}, checkpoint.state)
    return (
        f"{output}: {after / 2**20:.2f} MiB would do, {before / 2**20:.2f} MiB before ({after / before:.0%}); matrices "
        f"differ by {min(errors):.1%} to {max(errors):.1%} of their norm"
    )


@exit_on_error
def main() -> None:
    """Compress, say what it would save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="X.ckpt", help="of a trained network (path)")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT.ckpt", help="to be written (path)")
    parser.add_argument("--rank_share", type=float, metavar="SHARE", help="rank over the smaller side (0 to 1)")
    parser.add_argument("--shared_bits", type=int, metavar="N", help="2 ** N values for each matrix (bits)")
    parser.add_argument("--prune_share", type=float, metavar="SHARE", help="of each matrix set to zero (0 to 1)")
    options = parser.parse_args()
    runtime.start("CPU", 0)
    asked = (options.rank_share, options.shared_bits, options.prune_share)
    print(compress_checkpoint(options.checkpoint, options.output, *asked))


if __name__ == "__main__":
    main()
