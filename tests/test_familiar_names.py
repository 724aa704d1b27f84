import pytest

from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.familiar_names import say_in_words, say_type, suggest, translate
from mindaudio_ds2.hparams import find_hparams
from mindaudio_ds2.yaml_reader import parse_yaml

KEYS = [
    "training.epochs",
    "batching.max_batch_utterances",
    "schedule.peak_learning_rate",
    "precision.compute",
    "resume",
]


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (["--epochs", "3"], ["--training.epochs", "3"]),
        (["--batch_size=8"], ["--batching.max_batch_utterances=8"]),
        (["--learning_rate", "1e-3", "--resume"], ["--schedule.peak_learning_rate", "1e-3", "--resume"]),
        (["--precision", "16-mixed"], ["--precision.compute", "fp16"]),
        (["--precision=bf16-mixed"], ["--precision.compute=bf16"]),
    ],
)
def test_options_of_others_with_one_meaning_are_ours(given: list[str], ours: list[str]) -> None:
    assert translate(given, KEYS) == ours


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--num_gpus", "-1"], "device_target"),
        (["--gpus", "2"], "mpirun"),
        (["--data_path", "d"], "data.train_manifest"),
        (["--checkpoint_path", "x.ckpt"], "pre_trained_model_path"),
        (["--precision", "8"], "16-mixed"),
    ],
)
def test_options_of_others_with_several_meanings_name_ours(given: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        translate(given, KEYS)


def test_a_slip_of_the_finger_is_told() -> None:
    assert suggest("epoch", KEYS) == "; did you mean training.epochs?"
    assert suggest("trainig.epochs", KEYS) == "; did you mean training.epochs?"
    assert suggest("colour", KEYS) == ""


def test_types_are_said_in_words() -> None:
    message = "Parser key \"a.b\":\n  Expected a <class 'int'>. Got value: ten"
    assert say_in_words(message, {"a.b": say_type(int)}) == "a.b must be a whole number, found 'ten'"
    assert say_in_words(message, {}) == message


def test_a_value_is_shown_as_it_was_written() -> None:
    mapping = parse_yaml(find_hparams("an4").read_text(encoding="utf-8"))
    with pytest.raises(ConfigError, match="seed must be a whole number, found 'yes'"):
        from_mapping({**mapping, "seed": "yes"}, "an4.yaml")
