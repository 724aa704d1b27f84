"""Checkpoints: bit-exact, or an error that says what is wrong with them; never half a file."""

import copy
import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.config import Config
from mindaudio_ds2.config_reader import from_mapping, read_config
from mindaudio_ds2.errors import CheckpointError, OutputError

pytestmark = pytest.mark.usefixtures("mindspore_cpu")

ROOT = Path(__file__).resolve().parent.parent


def make_config(**changes: Any) -> Config:
    """A complete configuration with a small network."""
    from tests import cells

    config = read_config(ROOT / "hparams" / "deepspeech2.yaml")
    return dataclasses.replace(config, model=dataclasses.replace(cells.SMALL, **changes))


def save(path: Path, config: Config | None = None, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write a checkpoint of random weights and optimiser state; what should be read from it, by name."""
    from mindspore import Tensor

    from mindaudio_ds2.checkpoint import build_network, save_checkpoint
    from mindaudio_ds2.training.compiled.optimizer import Adam

    config = config or make_config()
    network = build_network(config)
    optimizer = Adam(network.trainable_params(), config.optimizer)
    generator = np.random.default_rng(1)
    for parameter in [*network.weights().values(), *optimizer.state().values()]:
        parameter.set_data(Tensor(generator.normal(size=parameter.shape).astype(np.float32)))
    save_checkpoint(path, config, network.weights(), optimizer.state(), state or {"step": 3})
    parts = {"weights": network.weights(), "optimizer": optimizer.state()}
    return {part: {name: p.asnumpy().copy() for name, p in values.items()} for part, values in parts.items()}


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same_bits(actual: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (array.dtype, array.shape), name
        assert actual[name].tobytes() == array.tobytes(), name


# Round trip -----------------------------------------------------------------------------------------------------------


def test_everything_comes_back_bit_by_bit(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    config = make_config()
    config = dataclasses.replace(config, text=dataclasses.replace(config.text, characters="'ABCÄÖÜ文 "))
    state = {"step": 7, "loss_sum": 0.1 + 0.2, "best_wer": float("inf"), "fingerprint": "0f", "note": "Grüße"}
    expected = save(tmp_path / "last.ckpt", config, state)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    assert checkpoint.config == config
    assert checkpoint.state == state
    assert_same_bits(checkpoint.weights, expected["weights"])
    assert_same_bits(checkpoint.optimizer, expected["optimizer"])


def test_values_at_the_edge_of_float32_come_back(tmp_path: Path) -> None:
    from mindspore import Parameter, Tensor

    from mindaudio_ds2.checkpoint import load_checkpoint, save_checkpoint

    values = np.array([0.0, -0.0, 1e-45, -3.4028235e38, np.inf, 1 / 3], np.float32)
    weights = {"a.b": Parameter(Tensor(values), name="other"), "scalar": Parameter(Tensor(np.float32(0.1)))}
    save_checkpoint(tmp_path / "x.ckpt", make_config(), weights, {}, {})
    checkpoint = load_checkpoint(tmp_path / "x.ckpt")
    assert_same_bits(checkpoint.weights, {"a.b": values, "scalar": np.array(0.1, np.float32)})
    assert (checkpoint.optimizer, checkpoint.state) == ({}, {})


def test_a_network_is_restored_from_its_checkpoint_alone(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network

    expected = save(tmp_path / "best.ckpt", make_config(rnn_hidden_size=5, bidirectional=False))
    network = restore_network(load_checkpoint(tmp_path / "best.ckpt"), "best.ckpt")
    assert_same_bits({name: p.asnumpy() for name, p in network.weights().items()}, expected["weights"])
    assert not network.training


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1j])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path: Path, odd: complex) -> None:
    from mindaudio_ds2.checkpoint import fill
    from tests import cells

    network = cells.make_network()
    arrays = {name: parameter.asnumpy().copy() for name, parameter in network.weights().items()}
    before, name = cells.read(network), next(iter(arrays))
    arrays[name] = arrays[name] + np.asarray(odd, dtype=np.complex64 if odd == 1j else np.float32)
    with pytest.raises(CheckpointError, match=f"{name} is complex, or holds NaN or infinity"):
        fill(network.weights(), arrays, "odd.ckpt")
    assert_same_bits(cells.read(network), before)


def test_a_checkpoint_of_a_network_inside_a_training_step_fits_a_bare_one(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import build_network, load_checkpoint, restore_network, save_checkpoint
    from mindaudio_ds2.model.deepspeech2 import Recognizer
    from mindaudio_ds2.training.compiled.loss import CTCLoss
    from mindaudio_ds2.training.compiled.loss_scale import LossScale
    from mindaudio_ds2.training.compiled.optimizer import Adam
    from mindaudio_ds2.training.compiled.step import TrainStep

    config = make_config()
    network = build_network(config)
    optimizer = Adam(network.trainable_params(), config.optimizer)
    wrapped = TrainStep(network, CTCLoss(0), optimizer, 1.0, LossScale(make_config().precision)), Recognizer(network)
    save_checkpoint(tmp_path / "last.ckpt", config, network.weights(), optimizer.state(), {})
    restored = restore_network(load_checkpoint(tmp_path / "last.ckpt"), "last.ckpt")
    for name, parameter in network.weights().items():
        assert np.array_equal(restored.weights()[name].asnumpy(), parameter.asnumpy()), name
    assert wrapped


def test_saving_again_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint

    path = tmp_path / "runs" / "new" / "last.ckpt"
    for step in (1, 2):
        save(path, state={"step": step})
    assert load_checkpoint(path).state == {"step": 2}
    assert list_files(path.parent) == ["last.ckpt"]


def test_a_checkpoint_can_be_read_by_others_and_overwritten_by_its_owner(tmp_path: Path) -> None:
    save(tmp_path / "last.ckpt")
    assert stat.S_IMODE((tmp_path / "last.ckpt").stat().st_mode) == 0o644


def test_the_running_network_is_not_disturbed_by_saving(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import save_checkpoint
    from tests import cells

    network = cells.make_network()
    before = cells.read(network)
    save_checkpoint(tmp_path / "last.ckpt", make_config(), network.weights(), {}, {})
    assert_same_bits(cells.read(network), before)


# Damage ---------------------------------------------------------------------------------------------------------------


def expect_error(path: Path, *words: str) -> str:
    from mindaudio_ds2.checkpoint import load_checkpoint

    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(path)
    message = str(raised.value)
    assert str(path) in message
    for word in words:
        assert word in message
    return message


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, mindspore_cpu: None) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "last.ckpt"
    save(path)
    return path.read_bytes()


def find_entry_ends(content: bytes) -> list[int]:
    """Where each of the file's protobuf entries ends: cut there, it is a sound but smaller protobuf file."""
    ends, place = [], 0
    while content[place : place + 1] == b"\x0a":  # field 1, length-delimited
        length = shift = 0
        while True:
            place += 1
            length |= (content[place] & 0x7F) << shift
            shift += 7
            if content[place] < 0x80:
                break
        place += 1 + length
        ends.append(place)
    return ends


def test_a_truncated_file_is_called_damaged_wherever_it_ends(whole: bytes, tmp_path: Path) -> None:
    ends = find_entry_ends(whole)
    assert len(ends) > 50
    assert whole[ends[-1] :].startswith(b"crc_num")
    cuts = {1, 7, 100, len(whole) // 3, len(whole) // 2, len(whole) - 1000}
    cuts |= {ends[0], ends[5], ends[20], ends[-2]} | set(range(ends[-1], len(whole)))
    path = tmp_path / "last.ckpt"
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        expect_error(path, "damaged", "use another one")


def test_a_flipped_bit_is_noticed_wherever_it_is(whole: bytes, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    places = [*range(4), *generator.integers(0, len(whole), 30).tolist(), *range(len(whole) - 20, len(whole))]
    path = tmp_path / "last.ckpt"
    for place in places:
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(spoiled)
        expect_error(path, "damaged", "use another one")


def test_bytes_after_the_end_are_noticed(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(whole + b"\0" * 100)
    expect_error(path, "damaged")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is no checkpoint\n" * 100, bytes(5000), b"RIFF\x00\x00\x00\x00WAVE"],
    ids=["empty", "text", "zeros", "sound"],
)
def test_a_file_that_is_no_checkpoint_is_called_that(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    expect_error(path, "damaged, or was not written by this package", "use another one")


def test_a_missing_file_and_a_folder_are_told_from_a_damaged_one(tmp_path: Path) -> None:
    expect_error(tmp_path / "none.ckpt", "does not exist")
    expect_error(tmp_path, "is a folder without best.ckpt")


@pytest.mark.parametrize("crc_check", [True, False], ids=["with checksum", "without checksum"])
def test_a_checkpoint_of_another_program_is_called_foreign(crc_check: bool, tmp_path: Path) -> None:
    import mindspore as ms
    from mindspore import nn

    path = tmp_path / "foreign.ckpt"
    ms.save_checkpoint(nn.Dense(3, 4), str(path), crc_check=crc_check)
    expect_error(path, "not written by this package")


def save_with_entry(path: Path, entry: Any) -> None:
    import mindspore as ms
    from mindspore import Tensor

    from mindaudio_ds2.checkpoint import ENTRY

    rows = [{"name": "head.weight", "data": Tensor(np.zeros(2, np.float32))}]
    ms.save_checkpoint(rows, str(path), append_dict={ENTRY: json.dumps(entry)}, crc_check=True)


def test_another_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import FORMAT_VERSION

    path = tmp_path / "new.ckpt"
    save_with_entry(path, {"format_version": FORMAT_VERSION + 1, "something": "else"})
    expect_error(path, f"format {FORMAT_VERSION + 1}", f"to {FORMAT_VERSION}", "package version")


KEYS_OF_8 = ("features.normalization", "features.corpus_mean", "features.corpus_deviation")
KEYS_OF_9 = ("data.root", "batching.num_workers")
KEYS_OF_11 = ("text.tokenizer", "text.units", "text.unit_scores")
KEYS_OF_12 = ("training.teacher", "training.teacher_weight")
KEYS_OF_13 = ("training.prune_share", "training.prune_end_share")
KEYS_OF_14 = ("augmentation.unit_sampling",)


@pytest.mark.parametrize("version", [7, 8, 9, 10, 11, 12, 13])
@pytest.mark.parametrize("name", ["deepspeech2_mini", "synthetic"])
def test_older_formats_are_read_with_what_they_did_not_know_switched_off(
    version: int, name: str, tmp_path: Path
) -> None:
    from mindaudio_ds2.checkpoint import AUGMENTATION_NEW_IN_10, load_checkpoint
    from mindaudio_ds2.config import to_mapping

    mapping = to_mapping(read_config(ROOT / "hparams" / f"{name}.yaml"))
    mapping["features"]["normalization"] = "utterance"
    mapping["augmentation"] |= AUGMENTATION_NEW_IN_10
    now = from_mapping(copy.deepcopy(mapping), "as they trained")
    later = {8: KEYS_OF_8, 9: KEYS_OF_9, 11: KEYS_OF_11, 12: KEYS_OF_12, 13: KEYS_OF_13, 14: KEYS_OF_14}
    for key in (key for first, keys in later.items() if version < first for key in keys):
        section, name_in_it = key.split(".")
        del mapping[section][name_in_it]
    if version < 11:
        del mapping["decoding"]
    for key in AUGMENTATION_NEW_IN_10 if version < 10 else ():
        del mapping["augmentation"][key]
    save_with_entry(tmp_path / "old.ckpt", {"format_version": version, "config": mapping, "state": {"step": 3}})
    checkpoint = load_checkpoint(tmp_path / "old.ckpt")
    assert checkpoint.config == now
    assert checkpoint.state == {"step": 3}


def test_a_key_that_an_older_format_should_have_is_missed(tmp_path: Path) -> None:
    from mindaudio_ds2.config import to_mapping

    mapping = to_mapping(make_config())
    del mapping["augmentation"]["num_time_masks"]
    save_with_entry(tmp_path / "old.ckpt", {"format_version": 7, "config": mapping, "state": {}})
    expect_error(tmp_path / "old.ckpt", "configuration", "augmentation.num_time_masks")


@pytest.mark.parametrize("version", [0, -1, 6, 7.5, "7", None])
def test_a_format_that_was_never_released_is_refused(version: object, tmp_path: Path) -> None:
    save_with_entry(tmp_path / "odd.ckpt", {"format_version": version, "config": {}, "state": {}})
    expect_error(tmp_path / "odd.ckpt", f"format {version}", "package version")


def test_a_configuration_of_another_version_is_refused_with_its_key(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import FORMAT_VERSION
    from mindaudio_ds2.config import to_mapping

    mapping = to_mapping(make_config())
    mapping["model"]["num_heads"] = 8
    path = tmp_path / "new.ckpt"
    save_with_entry(path, {"format_version": FORMAT_VERSION, "config": mapping, "state": {}})
    expect_error(path, "configuration", "model.num_heads")


# Weights that do not fit ----------------------------------------------------------------------------------------------


def test_all_that_does_not_fit_is_listed_and_nothing_is_changed(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import build_network, fill, load_checkpoint

    save(tmp_path / "wide.ckpt", make_config(rnn_hidden_size=11, head_bias=True))
    network = build_network(make_config(conv_bias=True))
    before = {name: p.asnumpy().copy() for name, p in network.weights().items()}
    with pytest.raises(CheckpointError) as raised:
        fill(network.weights(), load_checkpoint(tmp_path / "wide.ckpt").weights, "wide.ckpt")
    lines = str(raised.value).splitlines()
    assert "wide.ckpt does not fit" in lines[0]
    assert "configuration it was trained with" in lines[0]
    problems = [line.strip() for line in lines[1:]]
    assert "missing convs.0.conv.bias" in problems
    assert "missing convs.1.conv.bias" in problems
    assert "unknown head.bias" in problems
    assert "head.weight has shape (29, 11), the network's has (29, 8)" in problems
    # every weight of a recurrent layer, the norm between the two and that of the head, and the output layer
    assert sum("has shape" in problem for problem in problems) == 2 * 2 * 4 + 4 + 4 + 1
    assert len(problems) == 3 + 25
    for name, parameter in network.weights().items():
        assert np.array_equal(parameter.asnumpy(), before[name])


def test_a_checkpoint_at_odds_with_its_own_configuration_is_refused(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint, restore_network

    save(tmp_path / "last.ckpt")
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    without = {name: array for name, array in checkpoint.weights.items() if name != "head.weight"}
    with pytest.raises(CheckpointError, match=r"last\.ckpt does not fit(.|\n)*missing head\.weight"):
        restore_network(dataclasses.replace(checkpoint, weights=without), "last.ckpt")


# Trouble while saving -------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match=r"cannot write .*file/run/last\.ckpt"):
        save(tmp_path / "file" / "run" / "last.ckpt")
    assert list_files(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error_with_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with pytest.raises(OutputError, match=r"cannot write .*locked/last\.ckpt"):
        save(folder / "last.ckpt")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from mindaudio_ds2.machine import runtime
runtime.start("CPU", seed=1)
from mindaudio_ds2.errors import OutputError
from tests.test_checkpoint import save
path = Path(sys.argv[1])
save(path, state={"step": 1})
limit = path.stat().st_size // int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    save(path, state={"step": 2})
except OutputError as error:
    print("OutputError:", error)
"""


@pytest.mark.parametrize("share", [2, 1000], ids=["half is written", "next to nothing is written"])
def test_a_full_disk_leaves_the_old_checkpoint_whole_and_nothing_else(share: int, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: to the program writing is what fails in either."""
    from mindaudio_ds2.checkpoint import load_checkpoint

    path = tmp_path / "last.ckpt"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(share)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"OutputError: cannot write {path}: "), done.stdout
    assert "unchanged" in done.stdout
    assert load_checkpoint(path).state == {"step": 1}
    assert list_files(tmp_path) == ["last.ckpt"]
