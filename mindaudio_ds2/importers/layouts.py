"""What the networks of other projects are in terms of ours, and what they call their weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mindaudio_ds2.network_config import ModelConfig

_LETTERS = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
_STATISTICS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}

_CONVOLUTIONS: dict[str, Any] = {
    "conv_channels": [32, 32],
    "conv_kernel_frequency": [41, 21],
    "conv_kernel_time": [11, 11],
    "conv_stride_frequency": [2, 2],
    "conv_stride_time": [2, 1],
    "rnn_initialization": "uniform",
    "rnn_dropout": 0.0,
    "head_bias": False,
    "batch_norm_momentum": 0.9,
    "batch_norm_epsilon": 1e-5,
}


@dataclass(frozen=True)
class Layout:
    """A project's network.

    Attributes:
        project: what it is called in messages.
        model: the values of `ModelConfig` that are the same in all its networks.
        labels: its own alphabet in the order of the ids, `_` for the blank; files rarely hold theirs.
        window: window function of its features, where the file does not tell.
        name_weight: from the name of a weight in `DeepSpeech2.weights()` to its own.
    """

    project: str
    model: Mapping[str, Any]
    labels: tuple[str, ...]
    window: str
    name_weight: Callable[[str], str]


def _name_for_deepspeech_pytorch(name: str) -> str:
    match name.split("."):
        case ["convs", i, "conv", kind]:
            return f"conv.seq_module.{3 * int(i)}.{kind}"
        case ["convs", i, "batch_norm", statistic]:
            return f"conv.seq_module.{3 * int(i) + 1}.{_STATISTICS[statistic]}"
        case ["rnns", i, direction, kind]:
            return f"rnns.{i}.rnn.{kind}{_name_direction(direction)}"
        case ["rnn_batch_norms", i, statistic]:  # the first layer has none, so theirs are numbered from 1
            return f"rnns.{int(i) + 1}.batch_norm.module.{_STATISTICS[statistic]}"
        case ["lookahead", "conv", "weight"]:
            return "lookahead.0.conv.weight"
        case ["head_batch_norm", statistic]:
            return f"fc.0.module.0.{_STATISTICS[statistic]}"
        case ["head", "weight"]:
            return "fc.0.module.1.weight"
    raise AssertionError(f"deepspeech.pytorch has no weight {name}")


def _name_for_mindspore(name: str) -> str:
    match name.split("."):
        case ["convs", i, "conv", kind]:
            return f"conv.conv{int(i) + 1}.{kind}"
        case ["convs", i, "batch_norm", statistic]:
            return f"conv.bn{int(i) + 1}.{statistic}"
        case ["rnns", i, direction, kind]:
            return f"RNN.lstms.{i}.{kind}{_name_direction(direction)}"
        case ["head", "weight"]:
            return "fc.module.weight"
    raise AssertionError(f"MindAudio has no weight {name}")


def _name_direction(direction: str) -> str:
    return "_reverse" if direction == "backward_rnn" else ""


_MINDSPORE: dict[str, Any] = {
    **_CONVOLUTIONS,
    "conv_bias": False,
    "activation": "tanh",
    "rnn_type": "lstm",
    "bidirectional": True,
    "rnn_batch_norm": False,
    "head_batch_norm": False,
}
_MINDSPORE_LABELS = ("'", *_LETTERS, " ", "_")

LAYOUTS = {
    "deepspeech.pytorch": Layout(
        "deepspeech.pytorch",
        {
            **_CONVOLUTIONS,
            "conv_bias": True,
            "activation": "clipped_relu",
            "rnn_batch_norm": True,
            "head_batch_norm": True,
        },
        ("_", "'", *_LETTERS, " "),
        "hamming",
        _name_for_deepspeech_pytorch,
    ),
    "mindaudio": Layout("MindAudio", _MINDSPORE, _MINDSPORE_LABELS, "hann", _name_for_mindspore),
    "model_zoo": Layout("MindSpore's model zoo", _MINDSPORE, _MINDSPORE_LABELS, "hamming", _name_for_mindspore),
}
"""By the name of a format. MindAudio and the model zoo have the same network and differ in the window alone: MindAudio
always computes with hann, whatever its YAML says; the model zoo trains with hamming."""


def find_differences(model: ModelConfig, layout: Layout) -> list[str]:
    """Where a network of ours computes something that a project's cannot; empty if it can.

    A missing bias of the convolutions is no difference: zeros do the same.
    """
    alike = {"batch_norm_momentum", "rnn_dropout"}  # of training only
    if layout.model["conv_bias"]:
        alike.add("conv_bias")
    return [
        f"model.{key} is {getattr(model, key)!r}, {layout.project} has {value!r}"
        for key, value in layout.model.items()
        if key not in alike and getattr(model, key) != value
    ]
