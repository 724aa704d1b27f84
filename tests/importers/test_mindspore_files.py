"""Files of MindSpore that others wrote: flat layers of old versions, damage, files that are no checkpoints."""

from pathlib import Path

import numpy as np
import pytest

from mindaudio_ds2.errors import CheckpointError
from tests.importers import foreign
from tests.importers.foreign import MINDSPORE

pytestmark = pytest.mark.usefixtures("mindspore_cpu")


def test_flat_layers_are_split_into_the_parts_they_were_made_of() -> None:
    from mindaudio_ds2.importers.mindspore_files import split_flat_layers

    weights = foreign.make_weights(MINDSPORE)
    split = split_flat_layers(foreign.to_flat_layers(weights), "x.ckpt")
    assert split.keys() == weights.keys()
    assert all(np.array_equal(split[name], array) for name, array in weights.items())


def test_a_flat_layer_in_the_order_of_cudnn_gives_the_numbers_of_its_parts() -> None:
    """Matrices of layer 1 counted through by hand: rows are gates times units, forward comes before backward."""
    from mindaudio_ds2.importers.mindspore_files import split_flat_layers

    hidden, rows = 2, 8
    arrays = {
        "fc.module.weight": np.zeros((3, hidden), np.float32),
        "RNN.weight1": np.arange(2 * rows * (2 * hidden + 2), dtype=np.float32),
    }
    split = split_flat_layers(arrays, "x.ckpt")
    starts = {
        "weight_ih_l0": 0, "weight_hh_l0": 16, "weight_ih_l0_reverse": 32, "weight_hh_l0_reverse": 48,
        "bias_ih_l0": 64, "bias_hh_l0": 72, "bias_ih_l0_reverse": 80, "bias_hh_l0_reverse": 88,
    }  # fmt: skip
    for part, start in starts.items():
        assert split[f"RNN.lstms.1.{part}"].reshape(-1)[0] == start, part
    assert split["RNN.lstms.1.weight_hh_l0"][1].tolist() == [18, 19]


def test_flat_layers_of_another_size_are_refused() -> None:
    from mindaudio_ds2.importers.mindspore_files import split_flat_layers

    flat = foreign.to_flat_layers(foreign.make_weights(MINDSPORE))
    hidden = MINDSPORE.hidden
    on_cpu = {**flat, "RNN.weight1": flat["RNN.weight1"][: -2 * 4 * hidden]}  # one bias for each gate
    for arrays in (on_cpu, {**flat, "RNN.weight0": flat["RNN.weight0"][:-3]}):
        with pytest.raises(CheckpointError, match="CPU"):
            split_flat_layers(arrays, "x.ckpt")
    del flat["fc.module.weight"]
    with pytest.raises(CheckpointError, match=r"missing fc\.module\.weight"):
        split_flat_layers(flat, "x.ckpt")


@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_truncated_file_is_never_taken_for_a_whole_one(has_checksum: bool, tmp_path: Path) -> None:
    import mindspore as ms
    from mindspore import Tensor

    from mindaudio_ds2.importers.importing import Choices, import_checkpoint
    from tests.importers import ours

    path = tmp_path / "theirs.ckpt"
    rows = [{"name": name, "data": Tensor(array)} for name, array in foreign.make_weights(MINDSPORE).items()]
    ms.save_checkpoint(rows, str(path), crc_check=has_checksum)
    content = path.read_bytes()
    for cut in (0, 1, 100, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match=r"theirs\.ckpt"):
            import_checkpoint(path, tmp_path / "ours.ckpt", ours.read_template(), Choices("mindaudio"))
        assert [file.name for file in tmp_path.iterdir()] == ["theirs.ckpt"]


@pytest.mark.parametrize("content", [b"hello, no checkpoint\n" * 50, bytes(5000), b"RIFF\0\0\0\0WAVE"])
def test_a_file_that_is_no_checkpoint_is_called_that(content: bytes, tmp_path: Path) -> None:
    from mindaudio_ds2.importers.source import read_source

    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.ckpt") as raised:
        read_source(path)
    assert "damaged" in str(raised.value) or "no DeepSpeech2" in str(raised.value)
    path.rename(tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match=r"ends? with \.ckpt"):
        read_source(tmp_path / "x.bin")
