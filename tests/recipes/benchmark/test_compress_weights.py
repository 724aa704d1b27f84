"""Matrices of a lower rank or of few values, as a study of what they cost."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from mindaudio_ds2.errors import ConfigError, OutputError

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

MATRIX = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)


def test_a_lower_rank_is_the_nearest_of_that_rank() -> None:
    from recipes.benchmark.compress_weights import compress, lower_rank

    sizes = np.linalg.svd(MATRIX, compute_uv=False)
    lower, rank = lower_rank(MATRIX, 0.5)
    assert rank == np.linalg.matrix_rank(lower) == 6
    assert np.linalg.norm(MATRIX - lower) == pytest.approx(np.sqrt((sizes[6:] ** 2).sum()), rel=1e-5)
    np.testing.assert_allclose(lower_rank(MATRIX, 1.0)[0], MATRIX, atol=1e-5)
    assert compress(MATRIX, 0.5, None)[1] == 4 * 6 * (30 + 12)


def test_values_are_shared_as_well_as_scipy_shares_them() -> None:
    from recipes.benchmark.compress_weights import compress, share_values

    shared = share_values(MATRIX, 8)
    assert len(np.unique(shared)) == 8
    flat = MATRIX.reshape(-1, 1).astype(np.float64)
    centres, labels = kmeans2(
        flat, np.quantile(flat, (np.arange(8) + 0.5) / 8).reshape(-1, 1), iter=200, minit="matrix"
    )
    theirs = np.square(flat - centres[labels]).sum()
    assert np.square(MATRIX - shared).sum() == pytest.approx(theirs, rel=0.01)
    assert compress(MATRIX, None, 3)[1] == 4 * 8 + 360 * 3 / 8
    few = np.repeat(np.array([[0.0, 1.0, 2.5]], np.float32), 4, axis=0)
    assert np.array_equal(share_values(few, 256), few)


def test_the_smallest_become_zero() -> None:
    from recipes.benchmark.compress_weights import compress

    pruned, num_bytes = compress(MATRIX, None, None, 0.75)
    assert np.count_nonzero(pruned) == 90
    assert np.abs(pruned[pruned != 0]).min() > np.abs(MATRIX[pruned == 0]).max()
    assert np.array_equal(pruned[pruned != 0], MATRIX[pruned != 0])
    assert num_bytes == 360 / 8 + 4 * 90


def test_only_the_large_matrices_change(finished_run: Path, tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from recipes.benchmark.compress_weights import compress_checkpoint

    source, output = finished_run / "best.ckpt", tmp_path / "runs" / "shared.ckpt"
    assert "MiB would do" in compress_checkpoint(source, output, 0.5, 4)
    before, after = (load_checkpoint(path) for path in (source, output))
    assert after.config == before.config
    for name, array in after.weights.items():
        is_large = name == "head.weight" or ".weight_" in name
        assert np.array_equal(array, before.weights[name]) != is_large
        assert not is_large or len(np.unique(array)) <= 16


def test_the_network_itself_is_never_written_over(finished_run: Path, tmp_path: Path) -> None:
    from recipes.benchmark.compress_weights import compress_checkpoint

    source = Path(shutil.copy(finished_run / "best.ckpt", tmp_path / "best.ckpt"))
    content = source.read_bytes()
    for output in (source, tmp_path / "x.onnx"):
        with pytest.raises(OutputError, match="ends with .ckpt|one of the inputs"):
            compress_checkpoint(source, output, None, 4)
    with pytest.raises(OutputError, match="cannot write"):
        compress_checkpoint(source, source / "below.ckpt", None, 4)
    with pytest.raises(ConfigError, match="give --rank_share, --prune_share or --shared_bits"):
        compress_checkpoint(source, tmp_path / "same.ckpt", None, None)
    with pytest.raises(ConfigError, match=r"prune_share is 1\.0; choose above 0, below 1"):
        compress_checkpoint(source, tmp_path / "same.ckpt", None, None, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]
    assert source.read_bytes() == content
