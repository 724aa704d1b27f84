import ast
import contextlib
import copy
import dataclasses
import functools
import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from mindaudio_ds2.config import Config, to_mapping
from mindaudio_ds2.config_reader import from_mapping, override, parse_command_line, read_config
from mindaudio_ds2.errors import ConfigError
from mindaudio_ds2.network_config import FeatureConfig, ModelConfig

ROOT = Path(__file__).resolve().parent.parent
YAML_PATH = ROOT / "hparams" / "deepspeech2.yaml"
COMPLETE = to_mapping(read_config(YAML_PATH))
SECTIONS = [field for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)]


def change(key: str, value: object) -> dict[str, Any]:
    """The complete mapping with one key, given by its dotted path, set to another value."""
    changed = copy.deepcopy(COMPLETE)
    *sections, name = key.split(".")
    section = changed
    for each in sections:
        section = section[each]
    section[name] = value
    return changed


def remove(key: str) -> dict[str, Any]:
    changed = change(key, None)
    section, _, name = key.rpartition(".")
    del (changed[section] if section else changed)[name]
    return changed


def write_yaml(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def flatten(mapping: dict[str, Any]) -> dict[str, Any]:
    """By dotted path: a key of a section is below it, and whatever is its value is whole."""
    return {
        f"{name}.{key}" if isinstance(section, dict) else name: value
        for name, section in mapping.items()
        for key, value in (section.items() if isinstance(section, dict) else [("", section)])
    }


def parse(*arguments: str, default_path: Path | None = YAML_PATH) -> tuple[Config | None, Any]:
    def add_options(parser: ArgumentParser) -> None:
        parser.add_argument("--resume", action="store_true", help="go on")

    return parse_command_line("Train.", arguments, add_options, default_path)


def parse_config(*arguments: str) -> Config:
    parsed, _ = parse(*arguments)
    assert parsed is not None
    return parsed


# The four errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["colour", "model.num_layers", "features.extra"])
def test_an_unknown_key_is_named_with_its_path_and_file(key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_mapping(change(key, 1), "some.yaml")
    assert "some.yaml" in str(raised.value)
    assert f"unknown key {key};" in str(raised.value)


@pytest.mark.parametrize("key", ["seed", "features", "model.rnn_type", "data.feature_cache_dir"])
def test_a_missing_key_is_named_with_its_path_and_file(key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_mapping(remove(key), "some.yaml")
    assert "some.yaml" in str(raised.value)
    assert f"missing key {key};" in str(raised.value)


def test_all_missing_keys_are_named_at_once() -> None:
    incomplete = remove("model.rnn_type")
    del incomplete["training"]["epochs"]
    with pytest.raises(ConfigError, match=r"model\.rnn_type, training\.epochs"):
        from_mapping(incomplete, "some.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run_dir", 5),
        ("seed", "one"),
        ("seed", 1.5),
        ("seed", True),
        ("seed", None),
        ("device_target", "TPU"),
        ("data.feature_cache_dir", 5),
        ("data.min_duration_seconds", "short"),
        ("text.characters", 123),
        ("text.blank", "middle"),
        ("features.fft_size", 320.5),
        ("features.kind", "mel"),
        ("features.window_seconds", None),
        ("batching.bucket_edges_seconds", 5.0),
        ("batching.bucket_edges_seconds", ["long"]),
        ("batching.sortagrad", 1),
        ("model.conv_channels", 32),
        ("model.conv_channels", [32.5, 32]),
        ("model.conv_bias", "perhaps"),
        ("optimizer.betas", [0.9]),
        ("optimizer.betas", 0.9),
        ("schedule.name", "step"),
        ("training.epochs", 1.5),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_path_and_file(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as raised:
        from_mapping(change(key, value), "some.yaml")
    assert key in str(raised.value)
    assert "some.yaml" in str(raised.value)


def find_key_of_each_type() -> list[str]:
    """One key of each type that the configuration knows."""
    keys: dict[str, str] = {}
    classes: list[tuple[str, Any]] = [("", Config), *((field.name, field.type) for field in SECTIONS)]
    for section, cls in classes:
        for field in dataclasses.fields(cls):
            if not dataclasses.is_dataclass(field.type):
                keys.setdefault(str(field.type), f"{section}.{field.name}".strip("."))
    return list(keys.values())


@pytest.mark.parametrize("value", [["a"], {"a": "b"}, "x", 0.5, True, None, [[1]]], ids=str)
def test_whatever_is_wrong_is_told_in_one_line_of_words(value: object) -> None:
    for key in find_key_of_each_type():
        try:
            from_mapping(change(key, value), "some.yaml")
        except ConfigError as error:
            told = str(error)
            assert re.match(rf"(some\.yaml: {key} must be .*, found )|[\w.]+ is .*, which is impossible: ", told), told
            assert not re.search(r"\n|<class|Parser key|Union|NoneType|required", told), told


@pytest.mark.parametrize("value", [None, 3, "features.yaml", ["fft_size"]])
def test_a_section_that_is_no_mapping_is_named_with_its_value(value: object) -> None:
    with pytest.raises(ConfigError) as raised:
        from_mapping(change("features", value), "some.yaml")
    assert f"some.yaml: features is {value!r}, but must be a mapping" in str(raised.value)


IMPOSSIBLE = [
    ("seed", -1),
    ("data.min_duration_seconds", -0.1),
    ("data.min_duration_seconds", 30.0),
    ("data.max_excluded_share", 1.5),
    ("data.max_excluded_share", -0.5),
    ("text.characters", ""),
    ("text.characters", "ABCA"),
    ("features.sample_rate_hz", 0),
    ("features.hop_seconds", 0.0),
    ("features.window_seconds", 0.00001),
    ("features.fft_size", 319),
    ("features.num_mel_bands", 0),
    ("features.num_mel_bands", 161),
    ("augmentation.speed_probability", 1.1),
    ("augmentation.speed_probability", -0.1),
    ("augmentation.speed_range", [0.4, 1.1]),
    ("augmentation.speed_range", [0.9, 2.1]),
    ("augmentation.speed_range", [1.1, 0.9]),
    ("augmentation.speed_num_factors", 1),
    ("augmentation.speed_num_factors", -3),
    ("augmentation.shift_probability", 2.0),
    ("augmentation.max_shift_seconds", -0.1),
    ("augmentation.rir_probability", -1.0),
    ("augmentation.rir_path", ""),
    ("augmentation.noise_probability", 1.01),
    ("augmentation.noise_path", ""),
    ("augmentation.noise_snr_range_db", [20.0, 5.0]),
    ("augmentation.noise_snr_range_db", [-40.0, 5.0]),
    ("augmentation.gain_probability", -0.5),
    ("augmentation.gain_range_db", [6.0, -10.0]),
    ("augmentation.gain_range_db", [0.0, 61.0]),
    ("training.frozen_norm_share", -0.1),
    ("training.frozen_norm_share", 1.1),
    ("augmentation.join_probability", 1.5),
    ("augmentation.join_max_utterances", 1),
    ("augmentation.join_max_seconds", 0.0),
    ("augmentation.tempo_range", [0.4, 1.0]),
    ("augmentation.silence_range_seconds", [-0.1, 1.0]),
    ("augmentation.silence_level_range_db", [-60.0, 1.0]),
    ("augmentation.synthetic_rir_range_seconds", [0.0, 1.0]),
    ("augmentation.synthetic_noise_kinds", []),
    ("augmentation.clip_range_db", [-1.0, 3.0]),
    ("augmentation.low_pass_range_hz", [50.0, 3000.0]),
    ("augmentation.telephone_probability", -0.1),
    ("augmentation.codecs", []),
    ("augmentation.codec_range_kbps", [4.0, 16.0]),
    ("augmentation.vtlp_probability", -0.5),
    ("augmentation.vtlp_range", [0.6, 1.1]),
    ("augmentation.vtlp_range", [1.1, 0.9]),
    ("augmentation.time_warp_probability", 1.5),
    ("augmentation.max_time_warp_share", 0.21),
    ("augmentation.max_time_warp_share", -0.01),
    ("augmentation.mask_probability", 1.5),
    ("augmentation.num_frequency_masks", -1),
    ("augmentation.max_frequency_mask_share", 1.1),
    ("augmentation.num_time_masks", -1),
    ("augmentation.max_time_mask_share", -0.1),
    ("batching.bucket_edges_seconds", []),
    ("batching.bucket_edges_seconds", [0.0, 40.0]),
    ("batching.bucket_edges_seconds", [20.0, 10.0, 40.0]),
    ("batching.bucket_edges_seconds", [10.0, 10.0, 40.0]),
    ("batching.bucket_edges_seconds", [10.0, 29.9]),
    ("batching.max_batch_utterances", 0),
    ("batching.max_batch_padded_seconds", 0.0),
    ("batching.max_batch_padded_seconds", 29.9),
    ("batching.prefetch_batches", 0),
    ("model.conv_channels", []),
    ("model.conv_channels", [32, 0]),
    ("model.conv_kernel_frequency", [41]),
    ("model.conv_kernel_time", [11, 10]),
    ("model.conv_stride_frequency", [2, 2, 2]),
    ("model.conv_stride_time", [2, 0]),
    ("model.rnn_num_layers", 0),
    ("model.rnn_hidden_size", 0),
    ("model.lookahead_frames", 0),
    ("model.rnn_dropout", -0.1),
    ("model.rnn_dropout", 1.0),
    ("model.batch_norm_momentum", 1.0),
    ("model.batch_norm_momentum", -0.1),
    ("model.batch_norm_epsilon", 0.0),
    ("optimizer.betas", [0.9, 1.0]),
    ("optimizer.betas", [-0.1, 0.9]),
    ("optimizer.momentum", 1.0),
    ("optimizer.momentum", -0.1),
    ("optimizer.epsilon", 0.0),
    ("optimizer.weight_decay", -1e-3),
    ("optimizer.max_gradient_norm", 0.0),
    ("schedule.peak_learning_rate", 0.0),
    ("schedule.final_learning_rate", -1e-9),
    ("schedule.final_learning_rate", 1.0),
    ("schedule.warmup_epochs", -1.0),
    ("schedule.decay_per_epoch", 0.0),
    ("schedule.decay_per_epoch", 1.1),
    ("schedule.plateau_patience_epochs", 0),
    ("schedule.plateau_factor", 0.0),
    ("schedule.plateau_factor", 1.1),
    ("training.epochs", 0),
    ("training.early_stopping_epochs", -1),
    ("training.max_bad_steps", -1),
    ("training.checkpoint_every_minutes", 0.0),
    ("training.keep_every_epochs", -1),
    ("precision.loss_scale", 0.5),
    ("precision.loss_scale", 1000.0),
    ("precision.loss_scale", 2.0**25),
    ("precision.loss_scale_window", -1),
    ("training.ema_decay", -0.1),
    ("training.ema_decay", 1.0),
    ("training.average_best", -1),
    ("training.average_best", 1),
    ("training.label_smoothing", -0.1),
    ("training.label_smoothing", 1.0),
    ("training.consistency_weight", -0.1),
    ("training.teacher", ""),
    ("training.teacher_weight", 0.0),
    ("training.teacher_weight", 1.1),
    ("training.prune_share", -0.1),
    ("training.prune_share", 1.0),
    ("training.prune_end_share", 0.0),
    ("training.prune_end_share", 1.1),
    ("training.learning_rate_factors", {"head": 0.0}),
]


@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE)
def test_an_impossible_value_is_named_with_its_path_and_a_remedy(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=r"which is impossible: .+") as raised:
        from_mapping(change(key, value), "some.yaml")
    if key != "model.conv_channels":  # without channels, which of the lists is wrong is anybody's guess
        assert str(raised.value).startswith(f"{key} is ")


@pytest.mark.parametrize("key", [key for key, value in flatten(COMPLETE).items() if isinstance(value, float)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_named_with_its_path(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        from_mapping(change(key, value), "some.yaml")


# Files ----------------------------------------------------------------------------------------------------------------


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    text = yaml.safe_dump(change("optimizer.epsilon", "EPSILON")).replace("EPSILON", "1e-3")
    assert "epsilon: 1e-3" in text
    assert yaml.safe_load(text)["optimizer"]["epsilon"] == "1e-3"  # the trap: PyYAML alone reads text
    assert read_config(write_yaml(tmp_path, text)).optimizer.epsilon == 0.001


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "3", "- seed", "seed: [1", "\tseed: 1", "a: b: c"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"some\.yaml"):
        read_config(write_yaml(tmp_path, text))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_bytes(b"seed: \xff\xfe")
    with pytest.raises(ConfigError, match=r"some\.yaml is not readable YAML"):
        read_config(tmp_path / "some.yaml")


def test_a_folder_in_place_of_a_file_is_named_and_what_to_give(tmp_path: Path) -> None:
    for folder, remedy in ((tmp_path / "an4", "did you mean -c an4?"), (tmp_path / "runs", "name a file with -c, or")):
        folder.mkdir()
        with pytest.raises(ConfigError) as raised:
            parse("-c", str(folder))
        assert f"{folder} is a folder, and a YAML is expected here; {remedy}" in str(raised.value)
    (tmp_path / "runs" / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"is a folder.*; give -c .*runs/config\.yaml"):
        parse("-c", str(tmp_path / "runs"))


@pytest.mark.parametrize(
    ("named", "meant"),
    [("an44", "did you mean -c an4?"), ("hparams/an44.yaml", "did you mean -c an4?"), ("x", "or one of an4, ")],
)
def test_a_name_that_no_yaml_has_is_answered_with_those_there_are(named: str, meant: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse("-c", named)
    assert str(raised.value).startswith(f"{named} does not exist; ")
    assert meant in str(raised.value)


def test_config_survives_the_way_to_yaml_and_back() -> None:
    read = read_config(YAML_PATH)
    assert from_mapping(yaml.safe_load(yaml.safe_dump(to_mapping(read))), "memory") == read


def test_a_section_survives_the_way_to_plain_values_and_back() -> None:
    features = read_config(YAML_PATH).features
    assert from_mapping(to_mapping(features), "checkpoint", FeatureConfig) == features


def test_config_cannot_be_written_to() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_config(YAML_PATH).seed = 2  # type: ignore[misc]


# The command line -----------------------------------------------------------------------------------------------------


def test_without_overrides_the_file_is_what_runs() -> None:
    assert parse_config() == read_config(YAML_PATH)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "7", 7),
        ("device_target", "GPU", "GPU"),
        ("data.feature_cache_dir", "cache", "cache"),
        ("data.feature_cache_dir", "null", None),
        ("text.characters", "ab ", "ab "),
        ("features.window", "hann", "hann"),
        ("batching.bucket_edges_seconds", "[10, 40]", [10.0, 40.0]),
        ("model.bidirectional", "false", False),
        ("model.conv_channels", "[16, 24]", [16, 24]),
        ("optimizer.betas", "[0.8, 0.95]", (0.8, 0.95)),
        ("schedule.peak_learning_rate", "1e-3", 0.001),
        ("training.freeze", "[convs, rnns.0]", ["convs", "rnns.0"]),
        ("training.learning_rate_factors", "{rnns.0: 0.1, head: 10}", {"rnns.0": 0.1, "head": 10.0}),
    ],
)
def test_any_key_can_be_overridden(key: str, text: str, value: object) -> None:
    expected = flatten(COMPLETE) | {key: list(value) if isinstance(value, tuple) else value}
    assert flatten(to_mapping(parse_config(f"--{key}", text))) == expected


def test_a_mapping_is_overridden_as_a_whole_or_by_one_of_its_names(tmp_path: Path) -> None:
    key = "training.learning_rate_factors"
    path = write_yaml(tmp_path, yaml.safe_dump(change(key, {"convs": 0.5, "head": 2})))
    assert parse_config("-c", str(path)).training.learning_rate_factors == {"convs": 0.5, "head": 2.0}
    whole = parse_config("-c", str(path), f"--{key}", "{rnns: 3}")
    assert whole.training.learning_rate_factors == {"rnns": 3.0}
    single = parse_config("-c", str(path), f"--{key}.head", "4")
    assert single.training.learning_rate_factors == {"convs": 0.5, "head": 4.0}
    for bad in ({"convs": "half"}, {"convs": math.inf}, ["convs"]):
        with pytest.raises(ConfigError, match=key):
            from_mapping(change(key, bad), "some.yaml")


def test_the_last_override_wins_over_the_file_named_after_it() -> None:
    assert parse_config("--seed", "3", "-c", str(YAML_PATH), "--seed", "4").seed == 4


@pytest.mark.parametrize(
    ("key", "text"), [("model.rnn_type", "rnn"), ("seed", "x"), ("features.fft_size", "100"), ("training.epochs", "0")]
)
def test_a_bad_override_is_named_with_its_path(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=key):
        parse(f"--{key}", text)


@pytest.mark.parametrize("option", ["--colour", "--model.num_layers", "--see", "--model.rnn"])
def test_an_unknown_option_is_named_and_never_taken_for_a_longer_one(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        parse(option, "3")


def test_the_file_must_be_right_before_anything_overrides_it(tmp_path: Path) -> None:
    path = write_yaml(tmp_path, yaml.safe_dump(remove("seed")))
    with pytest.raises(ConfigError, match="missing key seed"):
        parse("-c", str(path), "--seed", "1")


def test_the_verbs_own_options_stand_beside_the_config() -> None:
    parsed, options = parse("--resume", "--seed", "2")
    assert parsed is not None
    assert (options.resume, parsed.seed) == (True, 2)


def test_without_a_file_the_keys_that_are_given_are_changes_to_a_checkpoint() -> None:
    parsed, options = parse("--seed", "5", "--data.root", "null", "--model.conv_channels", "[4]", default_path=None)
    assert parsed is None
    assert options.changes == {"seed": 5, "data.root": None, "model.conv_channels": [4]}
    config = from_mapping(COMPLETE, "some.yaml")
    assert override(config, {"seed": 5, "batching.sortagrad": False}) == dataclasses.replace(
        config, seed=5, batching=dataclasses.replace(config.batching, sortagrad=False)
    )
    with pytest.raises(ConfigError, match="model.conv_kernel_frequency is"):
        override(config, options.changes)  # two layers have two strides each
    with pytest.raises(ConfigError, match="model.conv_channels cannot be changed"):
        override(config, options.changes, ("model",))


@functools.cache
def show_help(*section: str) -> str:
    """The words of a page of help, with single spaces."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit) as raised:
        parse("--help", *section)
    assert raised.value.code == 0
    return " ".join(shown.getvalue().split())


@pytest.mark.parametrize("section", ["", *(field.name for field in SECTIONS)])
def test_help_says_types_in_words(section: str) -> None:
    types = re.findall(r"\(type: ([^()]*?)(?:, default|\))", show_help(*filter(None, [section])))
    assert types
    words = (
        r"(an? |or |and |list of |mapping of |to |such as |whole |\d )*(numbers?|texts?|null|true or false|one of .*)"
    )
    assert not [text for text in types if not re.match(words, text)]
    assert not [text for text in types if re.search(r"[\[\]<>']|class|Literal|\bint\b|\bstr\b", text)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--order", "x"], "order must be one of 1, 2, 3, found 'x'"),
        (["--count", "x"], "count must be a whole number, found 'x'"),
        (["--optimizer.betas", "[1]"], "optimizer.betas must be a list of 2 numbers, found '[1]'"),
        (["--training.learning_rate_factors", "5"], "must be a mapping of texts to numbers, such as {name: 0.3}"),
    ],
)
def test_a_wrong_type_is_told_in_words(arguments: list[str], words: str) -> None:
    def add_options(parser: ArgumentParser) -> None:
        parser.add_argument("--order", type=int, choices=[1, 2, 3], help="go on")
        parser.add_argument("--count", type=int, help="go on")

    with pytest.raises(ConfigError) as raised:
        parse_command_line("Train.", arguments, add_options, YAML_PATH)
    assert words in str(raised.value)


def test_a_verb_that_needs_no_file_gets_no_config() -> None:
    parsed, options = parse("--resume", default_path=None)
    assert parsed is None
    assert options.changes == {}
    assert options.resume


def find_field_texts() -> dict[str, str]:
    """The text below every field of the configuration by the field's dotted key, read from the sources."""
    sources = sorted((ROOT / "mindaudio_ds2").glob("*config.py"))
    nodes = [node for path in sources for node in ast.parse(path.read_text(encoding="utf-8")).body]
    sections = {field.type: field.name for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)}
    prefixes = {cls.__name__: f"{name}." for cls, name in sections.items() if isinstance(cls, type)} | {"Config": ""}
    texts = {}
    for node in nodes:
        if not (isinstance(node, ast.ClassDef) and node.name in prefixes):
            continue
        for field, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(field.target, ast.Name):
                assert isinstance(below.value, ast.Constant)
                texts[prefixes[node.name] + field.target.id] = str(below.value.value)
    return texts


def test_help_lists_every_key_with_its_text() -> None:
    words = " ".join([show_help(), *(show_help(field.name) for field in SECTIONS)])
    texts = find_field_texts()
    assert texts.keys() == flatten(COMPLETE).keys()
    for key, text in texts.items():
        assert f"--{key} " in words, key
        assert " ".join(text.split()) in words, key


def test_the_text_of_every_key_with_a_unit_in_its_name_says_the_unit() -> None:
    for key, text in find_field_texts().items():
        unit = key.rpartition("_")[2]
        if unit in ("seconds", "minutes", "epochs", "frames", "hz"):
            assert f"({unit})" in text.lower() or f"{unit})" in text.lower(), key


# The formulas ---------------------------------------------------------------------------------------------------------


def count_positions(length: int, kernel: int, stride: int) -> int:
    """How often a kernel fits onto a padded line, by walking along it."""
    padding = kernel // 2
    return len(range(-padding, length + padding - kernel + 1, stride))


@pytest.mark.parametrize("strides", [[1, 1], [2, 1], [2, 2], [3, 2], [1, 3]])
@pytest.mark.parametrize("kernels", [[11, 11], [5, 3], [1, 21]])
def test_output_lengths_are_those_of_the_convolutions(kernels: list[int], strides: list[int]) -> None:
    model = dataclasses.replace(
        read_config(YAML_PATH).model,
        conv_kernel_time=kernels,
        conv_stride_time=strides,
        conv_kernel_frequency=kernels,
        conv_stride_frequency=strides,
    )
    for length in range(1, 201):
        expected = length
        for kernel, stride in zip(kernels, strides, strict=True):
            expected = count_positions(expected, kernel, stride)
        assert model.num_output_frames(length) == expected
        assert model.num_output_bins(length) == expected
    assert model.time_stride == strides[0] * strides[1]


def test_the_paper_sized_network_has_the_published_sizes() -> None:
    """161 bins become 81 and 41, as in deepspeech.pytorch and MindAudio: 32 x 41 = 1312 inputs to the first LSTM."""
    read = read_config(YAML_PATH)
    assert read.features.num_bins == 161
    assert read.model.conv_channels[-1] * read.model.num_output_bins(161) == 1312
    assert read.model.num_output_frames(1500) == 750


def make_features(**changes: Any) -> FeatureConfig:
    return dataclasses.replace(read_config(YAML_PATH).features, **changes)


def test_mel_features_have_one_bin_a_band() -> None:
    assert make_features(kind="log_mel", num_mel_bands=64).num_bins == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus_mean": [0.0] * 161, "corpus_deviation": [1.0] * 161}, r"features\.corpus_mean is \[0"),
        ({"normalization": "corpus", "corpus_mean": [0.0] * 161}, r"features\.corpus_deviation is \[\]"),
        ({"normalization": "corpus", "corpus_mean": [0.0], "corpus_deviation": [1.0]}, r"features\.corpus_mean is"),
        (
            {"normalization": "corpus", "corpus_mean": [0.0] * 161, "corpus_deviation": [0.0] * 161},
            r"features\.corpus_deviation is",
        ),
    ],
)
def test_statistics_that_do_not_fit_the_bands_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_features(**changes)


def test_there_is_a_frame_around_every_hop_inside_the_audio() -> None:
    features = make_features()
    for num_samples in range(1, 2000):
        centres = range(0, num_samples + 1, features.hop_samples)
        assert features.num_frames(num_samples / 16000) == len(centres)


@given(
    num_samples=st.integers(1, 3 * 3600 * 48000),
    recorded_hz=st.sampled_from([8000, 11025, 16000, 22050, 32000, 44100, 48000]),
)
def test_frames_are_counted_exactly_for_audio_of_any_rate_and_length(num_samples: int, recorded_hz: int) -> None:
    num_resampled = -(-num_samples * 16000 // recorded_hz)
    assert FEATURES.num_frames(num_samples / recorded_hz) == 1 + num_resampled // 160


FEATURES = make_features()


def test_model_config_is_complete_without_a_file() -> None:
    """What a checkpoint holds is enough to build the network's configuration."""
    model = from_mapping(COMPLETE["model"], "checkpoint", ModelConfig)
    assert isinstance(model, ModelConfig)
