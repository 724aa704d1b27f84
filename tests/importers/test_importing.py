"""Imported networks give the numbers of the original code, and what does not fit is said and not written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindaudio_ds2.errors import CheckpointError, OutputError
from tests.importers import foreign
from tests.importers.foreign import DEEPSPEECH_PYTORCH, MINDSPORE, Arrays, Case

pytest.importorskip("torch", reason="PyTorch is an extra")
pytestmark = pytest.mark.usefixtures("mindspore_cpu")

LSTM, LSTM_FORWARD = DEEPSPEECH_PYTORCH[0], DEEPSPEECH_PYTORCH[1]
TOLERANCE = 1e-4


def load_stored(case: Case, what: object) -> Any:
    with np.load(foreign.STORED) as stored:
        return stored[f"{case.key}/{what}"]


def expect_error(source: Path, *words: str, **choices: Any) -> str:
    """The import fails with these words in its message, and leaves nothing behind."""
    from tests.importers.ours import run_import

    before = sorted(source.parent.iterdir())
    with pytest.raises(CheckpointError) as raised:
        run_import(source, **choices)
    message = str(raised.value)
    for word in (str(source), *words):
        assert word in message, message
    assert sorted(source.parent.iterdir()) == before
    return message


# The same numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", DEEPSPEECH_PYTORCH, ids=lambda case: case.key)
def test_a_network_of_deepspeech_pytorch_gives_its_numbers_on_a_padded_batch(case: Case, tmp_path: Path) -> None:
    from tests.importers import ours

    imported = ours.run_import(ours.write(tmp_path, case))
    model = imported.config.model
    assert (model.rnn_type, model.bidirectional) == (case.rnn_type, case.bidirectional)
    assert (model.rnn_num_layers, model.rnn_hidden_size) == (case.num_layers, case.hidden)
    assert case.bidirectional or model.lookahead_frames == case.lookahead
    (actual,) = ours.recognise(tmp_path / "ours.ckpt", *foreign.make_batch())
    for row, log_probs in enumerate(actual):
        np.testing.assert_allclose(log_probs, load_stored(case, row), atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def mindaudio_checkpoint(tmp_path_factory: pytest.TempPathFactory, mindspore_cpu: None) -> Path:
    from tests.importers import ours

    folder = tmp_path_factory.mktemp("mindaudio")
    ours.run_import(ours.write(folder, MINDSPORE), format="mindaudio")
    return folder / "ours.ckpt"


def test_a_network_of_mindaudio_gives_its_numbers_and_padding_changes_only_theirs(mindaudio_checkpoint: Path) -> None:
    """Its network never hears of the lengths; ours gives the same as it when told that all frames are real."""
    from tests.importers import ours

    features, lengths = foreign.make_batch()
    all_real = np.full_like(lengths, features.shape[1])
    masked, unmasked = ours.recognise(mindaudio_checkpoint, features, lengths, all_real)
    for row, log_probs in enumerate(masked):
        np.testing.assert_allclose(log_probs, load_stored(MINDSPORE, row), atol=TOLERANCE, rtol=0)
    padded, unpadded = load_stored(MINDSPORE, "padded"), load_stored(MINDSPORE, len(lengths) - 1)
    np.testing.assert_allclose(unmasked[-1], padded, atol=TOLERANCE, rtol=0)
    assert np.abs(padded[: len(unpadded)] - unpadded).max() > 0.01


# What is derived ------------------------------------------------------------------------------------------------------


def test_the_alphabets_of_both_families_are_their_own(tmp_path: Path) -> None:
    from mindaudio_ds2.text.tokenizer import Tokenizer
    from tests.importers import ours

    for case, choices in ((LSTM, {}), (MINDSPORE, {"format": "model_zoo"})):
        imported = ours.run_import(ours.write(tmp_path, case), **choices)
        tokenizer, labels = Tokenizer(imported.config.text), foreign.make_labels(case.project)
        assert tokenizer.blank_id == labels.index("_")
        assert list(tokenizer.encode("don't go")) == [labels.index(c) for c in "DON'T GO"]
        assert any("alphabet" in line for line in imported.assumed)


@pytest.mark.parametrize(("name", "window"), [("mindaudio", "hann"), ("model_zoo", "hamming")])
def test_the_features_of_the_mindspore_projects_are_their_own(name: str, window: str, tmp_path: Path) -> None:
    from tests.importers import ours

    features = ours.run_import(ours.write(tmp_path, MINDSPORE), format=name).config.features
    assert (features.kind, features.window, features.sample_rate_hz) == ("log_spectrogram", window, 16000)
    assert (features.window_seconds, features.hop_seconds, features.fft_size) == (0.02, 0.01, 320)


def test_settings_in_the_file_are_taken_and_nothing_is_assumed(tmp_path: Path) -> None:
    from tests.importers import ours

    sound = {"sample_rate": 8000, "window": "hann", "window_size": 0.04, "window_stride": 0.0125}
    labels = ["_", *"abcdefghijklmnopqrstuvwxyz", " ", "ß"]
    for settings in (
        {"hyper_parameters": {"labels": labels, "spect_cfg": sound}},
        {"labels": labels, "audio_conf": sound},  # version 2
    ):
        source = ours.write_torch(tmp_path / "theirs.ckpt", foreign.make_weights(LSTM), **settings)
        imported = ours.run_import(source)
        features = imported.config.features
        assert (features.sample_rate_hz, features.window, features.fft_size) == (8000, "hann", 320)
        assert (features.window_seconds, features.hop_seconds) == (0.04, 0.0125)
        assert (imported.config.text.characters, imported.config.text.letter_case) == ("".join(labels[1:]), "lower")
        assert imported.assumed == []


def test_a_blank_in_the_middle_comes_first_and_its_row_with_it(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from tests.importers import ours

    labels = ["'", "_", *foreign.LETTERS, " "]
    imported = ours.run_import(ours.write(tmp_path, LSTM), labels=labels)
    assert (imported.config.text.characters, imported.config.text.blank) == (f"'{foreign.LETTERS} ", "first")
    head, theirs = load_checkpoint(tmp_path / "ours.ckpt").weights["head.weight"], foreign.make_weights(LSTM)
    expected = theirs["fc.0.module.1.weight"][[1, 0, *range(2, 29)]]
    assert np.array_equal(head, expected)


def test_a_saved_training_net_gives_the_same_network(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from tests.importers import ours

    weights = foreign.make_weights(MINDSPORE)
    ours.run_import(ours.write(tmp_path, MINDSPORE), format="mindaudio")
    expected = load_checkpoint(tmp_path / "ours.ckpt").weights
    extra: Arrays = {f"moment{i}.{name}": array * 0 for i in (1, 2) for name, array in weights.items()}
    counters = ("global_step", "learning_rate", "beta1_power", "beta2_power", "scale_sense")
    extra |= {name: np.ones(1, np.float32) for name in counters}
    imported = ours.run_import(ours.write(tmp_path, MINDSPORE, extra | weights), format="mindaudio")
    assert imported.left_out == sorted(extra)
    actual = load_checkpoint(tmp_path / "ours.ckpt").weights
    assert actual.keys() == expected.keys()
    assert all(np.array_equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize("prefix", ["network.", "network.backbone.", "model."])
def test_prefixes_of_wrappers_are_taken_off(prefix: str, tmp_path: Path) -> None:
    from tests.importers import ours

    for case, choices in ((MINDSPORE, {"format": "mindaudio"}), (LSTM, {})):
        weights = {prefix + name: array for name, array in foreign.make_weights(case).items()}
        imported = ours.run_import(ours.write(tmp_path, case, weights), **choices)
        assert imported.num_weights == sum(array.size for array in weights.values())


def test_names_in_small_letters_and_flat_vectors_are_of_the_model_zoo(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from tests.importers import ours

    weights = foreign.make_weights(MINDSPORE)
    ours.run_import(ours.write(tmp_path, MINDSPORE), format="model_zoo")
    expected = load_checkpoint(tmp_path / "ours.ckpt").weights
    small = {name.replace("RNN", "rnn"): array for name, array in weights.items()}
    flat = foreign.to_flat_layers(weights)
    for arrays, choices in ((small, {"format": "model_zoo"}), (flat, {})):
        imported = ours.run_import(ours.write(tmp_path, MINDSPORE, arrays), **choices)
        assert imported.project == "MindSpore's model zoo"
        actual = load_checkpoint(tmp_path / "ours.ckpt").weights
        assert all(np.array_equal(actual[name], expected[name]) for name in expected)


def test_the_yaml_beside_it_is_the_configuration_in_it(tmp_path: Path) -> None:
    from mindaudio_ds2.checkpoint import load_checkpoint
    from mindaudio_ds2.config_reader import read_config
    from tests.importers import ours

    imported = ours.run_import(ours.write(tmp_path, LSTM_FORWARD))
    config = read_config(imported.config_path)
    assert config == imported.config == load_checkpoint(tmp_path / "ours.ckpt").config
    assert config.optimizer == ours.read_template().optimizer


# What is refused ------------------------------------------------------------------------------------------------------


def test_the_two_mindspore_projects_must_be_told_apart(tmp_path: Path) -> None:
    from tests.importers import ours

    source = ours.write(tmp_path, MINDSPORE)
    expect_error(source, "--format mindaudio", "hann", "hamming", "model_zoo")
    expect_error(source, "not of deepspeech.pytorch", "mindaudio", format="deepspeech.pytorch")


def test_all_that_does_not_fit_is_listed_at_once(tmp_path: Path) -> None:
    from tests.importers import ours

    weights = foreign.make_weights(LSTM)
    del weights["rnns.1.rnn.bias_hh_l0_reverse"], weights["conv.seq_module.3.bias"]
    weights["rnns.0.rnn.weight_ih_l0"] = weights["rnns.0.rnn.weight_ih_l0"][:, :672]
    weights["attention.weight"] = np.zeros((3, 3), np.float32)
    weights["fc.0.module.0.bias"][2] = np.nan
    message = expect_error(ours.write(tmp_path, LSTM, weights), "deepspeech.pytorch", "Nothing was written")
    problems = [line.strip() for line in message.splitlines()[1:]]
    assert problems == [
        "missing conv.seq_module.3.bias",
        "missing rnns.1.rnn.bias_hh_l0_reverse",
        "unknown attention.weight",
        "rnns.0.rnn.weight_ih_l0 has shape (20, 672), deepspeech.pytorch's network of this size with 161 bins of "
        "features has (20, 1312)",
        "fc.0.module.0.bias holds values that are not finite",
    ]


@pytest.mark.parametrize("case", [LSTM, LSTM_FORWARD, MINDSPORE], ids=lambda case: case.key)
def test_any_one_weight_that_is_missing_is_named(case: Case, tmp_path: Path) -> None:
    from tests.importers import ours

    choices = {} if case.project == "deepspeech.pytorch" else {"format": "mindaudio"}
    for name in list(foreign.list_shapes(case))[::7]:
        weights = {other: value for other, value in foreign.make_weights(case).items() if other != name}
        expect_error(ours.write(tmp_path, case, weights), f"missing {name}", **choices)


def test_a_network_of_the_first_version_of_deepspeech_pytorch_is_not_taken_for_a_later_one(tmp_path: Path) -> None:
    from tests.importers import ours

    weights = {name.replace("conv.seq_module", "conv"): array for name, array in foreign.make_weights(LSTM).items()}
    weights = {name: array for name, array in weights.items() if "bias_ih" not in name and "bias_hh" not in name}
    expect_error(
        ours.write(tmp_path, LSTM, weights), "missing conv.seq_module.0.weight", "unknown conv.0.weight", "bias_ih_l0"
    )


def test_an_alphabet_of_another_size_is_asked_for(tmp_path: Path) -> None:
    from tests.importers import ours

    weights = foreign.make_weights(LSTM)
    weights["fc.0.module.1.weight"] = np.zeros((35, LSTM.hidden), np.float32)
    source = ours.write(tmp_path, LSTM, weights)
    expect_error(source, "35 outputs", "29 characters", "--alphabet")
    expect_error(source, "35 outputs", "3 characters", labels=["_", "A", "B"])
    imported = ours.run_import(source, labels=["_", *"ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÜÉÈÑ' "])
    assert imported.config.text.letter_case == "upper"


def test_features_of_another_size_are_asked_for(tmp_path: Path) -> None:
    from tests.importers import ours

    weights = foreign.make_weights(LSTM)
    weights["rnns.0.rnn.weight_ih_l0"] = weights["rnns.0.rnn.weight_ih_l0"][:, : 32 * 21]
    weights["rnns.0.rnn.weight_ih_l0_reverse"] = weights["rnns.0.rnn.weight_ih_l0_reverse"][:, : 32 * 21]
    source = ours.write(tmp_path, LSTM, weights)
    expect_error(source, "(20, 672)", "(20, 1312)", "--sample_rate")
    assert ours.run_import(source, sample_rate_hz=8000).config.features.num_bins == 81


def test_a_choice_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    from tests.importers import ours

    sound = {"sample_rate": 16000, "window": "hamming"}
    source = ours.write_torch(
        tmp_path / "theirs.ckpt",
        foreign.make_weights(LSTM),
        hyper_parameters={"labels": foreign.make_labels(LSTM.project), "spect_cfg": sound},
    )
    expect_error(source, "'hamming'", "--window says 'hann'", window="hann")
    expect_error(source, "--alphabet", labels=foreign.make_labels("mindspore"))


def test_a_window_that_we_cannot_compute_is_refused(tmp_path: Path) -> None:
    from tests.importers import ours

    settings = {"hyper_parameters": {"spect_cfg": {"window": "blackman"}}}
    expect_error(ours.write_torch(tmp_path / "theirs.ckpt", foreign.make_weights(LSTM), **settings), "'blackman'")


def test_other_recurrent_cells_are_refused(tmp_path: Path) -> None:
    from tests.importers import ours

    expect_error(ours.write(tmp_path, Case("deepspeech.pytorch", "rnn", True)), "neither LSTM", "nor GRU")


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    from tests.importers import ours

    arrays = {"encoder.weight": np.zeros((3, 3), np.float32), "decoder.weight": np.zeros((3, 3), np.float32)}
    expect_error(ours.write_mindspore(tmp_path / "other.ckpt", arrays), "no DeepSpeech2", "decoder.weight")
    expect_error(ours.write_torch(tmp_path / "other.pth", arrays), "no DeepSpeech2", "encoder.weight")
    expect_error(ours.write_torch(tmp_path / "none.pth", {}), "no weights at all")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    expect_error(tmp_path / "none.ckpt", "does not exist")


def test_our_own_checkpoints_are_recognised(tmp_path: Path) -> None:
    from tests.importers import ours

    ours.run_import(ours.write(tmp_path, LSTM))
    (tmp_path / "ours.ckpt").rename(tmp_path / "done.ckpt")
    expect_error(tmp_path / "done.ckpt", "checkpoint of this package already")


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    from mindaudio_ds2.importers.importing import Choices, import_checkpoint
    from tests.importers import ours

    source = ours.write(tmp_path, LSTM)
    content = source.read_bytes()
    for output in (source, tmp_path / "x" / ".." / "theirs.ckpt", tmp_path / "ours.pth"):
        with pytest.raises(OutputError, match="ends with .ckpt|one of the inputs"):
            import_checkpoint(source, output, ours.read_template(), Choices())
    assert source.read_bytes() == content


def test_a_file_that_claims_a_network_much_larger_than_itself_is_refused_before_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from mindaudio_ds2.importers import importing

    monkeypatch.setattr(importing, "build_network", lambda *_: pytest.fail("it was built"))
    state = {f"rnns.{layer}.rnn.weight_ih_l0": torch.zeros(2) for layer in range(300)}
    state |= {"rnns.0.rnn.weight_hh_l0": torch.zeros(4 * 400, 400), "conv.seq_module.0.weight": torch.zeros(2)}
    torch.save({"state_dict": state}, tmp_path / "claims.ckpt")
    expect_error(tmp_path / "claims.ckpt", "made to fill memory")


def test_a_file_without_checksums_is_called_that(tmp_path: Path) -> None:
    import torch

    from tests.importers import ours

    path = ours.write(tmp_path, LSTM)
    assert ours.run_import(path).has_checksums
    content = torch.load(path, weights_only=False)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert not ours.run_import(path).has_checksums
